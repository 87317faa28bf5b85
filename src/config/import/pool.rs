//! One pool of php-fpm: who its workers are, its pages, its logs, and whatever is a setting of the same meaning. Its socket is in
//! `listen`, its processes in `process`, its environment and PHP's settings in `php_ini`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::error::{Cause, Error};
use super::super::keys::{self, Kind, Section as Table};
use super::super::values::show_duration;
use super::directives::{DIRECTIVES, Directive, Meaning, Scope};
use super::draft::{PoolDraft, Value};
use super::files::{Given, Section, error};
use super::flavour::Flavour;
use super::{listen, php_ini, process};
use crate::ids::PoolName;
use crate::status::access::Format;

/// What a pool has from `[global]`, in fpmd's way.
#[derive(Debug, Clone, Default)]
pub(super) struct Inherited {
    pub priority: Option<i64>,
    pub files: Option<i64>,
    pub core: Option<String>,
    pub stop_timeout: Option<String>,
}

/// What is common to all pools.
pub(super) struct Surroundings<'a> {
    pub flavour: &'a Flavour,
    pub command: String,
    pub inherited: Inherited,
}

/// A pool on its way.
pub(super) struct Pool<'a> {
    pub section: &'a Section,
    pub around: &'a Surroundings<'a>,
    pub draft: PoolDraft,
    /// Where its relative paths start.
    pub prefix: PathBuf,
}

/// Translates a pool; what is wrong with it is added to `errors`.
pub(super) fn translate(
    name: PoolName,
    section: &Section,
    around: &Surroundings<'_>,
    errors: &mut Vec<Error>,
) -> PoolDraft {
    let prefix = around.flavour.prefix.clone();
    let mut pool = Pool { section, around, draft: PoolDraft::new(name), prefix };
    if let Some(given) = pool.last("prefix") {
        pool.prefix = pool.prefix.join(pool.text(given));
    }
    if pool.draft.name.as_str() != section.name {
        pool.draft.own.remark(&format!("php-fpm's name of this pool: {}", section.name));
    }
    for directive in
        DIRECTIVES.iter().filter(|directive| matches!(directive.scope, Scope::Pool | Scope::Listed))
    {
        for given in pool.all_or_last(directive) {
            errors.extend(pool.plain(directive, given).err());
        }
    }
    listen::translate(&mut pool, errors);
    process::translate(&mut pool, errors);
    php_ini::translate(&mut pool, errors);
    errors.extend(pool.access_log().err());
    errors.extend(pool.slow_log().err());
    pool.rest();
    pool.draft
}

impl<'a> Pool<'a> {
    /// The directive of this name that counts: the last one.
    pub(super) fn last(&self, name: &str) -> Option<&'a Given> {
        self.section.given.iter().rfind(|given| given.name == name)
    }

    /// Every directive of this name with brackets, of each key the first one, which wins in php-fpm.
    pub(super) fn keyed(&self, name: &str) -> Vec<&'a Given> {
        let mut found: Vec<&Given> = Vec::new();
        for given in self.section.given.iter().filter(|given| given.name == name) {
            let repeats = |other: &&Given| other.index == given.index;
            // An extension is loaded, not set.
            let loads = given.index.as_deref().is_some_and(|key| key.ends_with("extension"));
            if loads || !found.iter().any(repeats) {
                found.push(given);
            }
        }
        found
    }

    fn all_or_last(&self, directive: &Directive) -> Vec<&'a Given> {
        match directive.scope {
            Scope::Listed => self.section.given.iter().filter(|given| given.name == directive.name).collect(),
            Scope::Global | Scope::Pool | Scope::Both | Scope::Keyed => {
                self.last(directive.name).into_iter().collect()
            }
        }
    }

    /// The value with `$pool` filled in.
    pub(super) fn text(&self, given: &Given) -> String {
        given.value.text.replace("$pool", &self.section.name)
    }

    /// The value as an absolute path; `None` where it is empty.
    pub(super) fn path(&self, given: &Given) -> Option<String> {
        let text = self.text(given);
        let text = text
            .strip_prefix("$prefix")
            .map_or(text.clone(), |rest| format!("{}{rest}", self.prefix.display()));
        (!text.is_empty()).then(|| self.prefix.join(Path::new(&text)).to_string_lossy().into_owned())
    }

    pub(super) fn missing(&self, name: &str, sentence: &str) -> Error {
        error(&self.section.place, name, Cause::Missing(sentence.to_owned()))
    }

    /// A directive whose meaning is in the table.
    fn plain(&mut self, directive: &Directive, given: &Given) -> Result<(), Error> {
        match directive.meaning {
            Meaning::Text(name) => {
                let text = self.text(given);
                if !text.is_empty() {
                    self.draft.own.set(name, Value::Text(text));
                }
            }
            Meaning::Path(name) => {
                if let Some(path) = self.path(given) {
                    self.draft.own.set(name, Value::Text(path));
                }
            }
            Meaning::Number(name) => {
                let number = in_range(given, Table::Pool, name)?;
                self.draft.own.set(name, Value::Number(number));
            }
            Meaning::Time(name) => {
                let seconds = given.time()?;
                if seconds > 0 {
                    self.draft.own.set(name, time(seconds));
                }
            }
            Meaning::Flag(name) => self.draft.own.set(name, Value::Flag(given.flag()?)),
            Meaning::Nothing(why) => self.draft.own.note(&given.line(), why),
            Meaning::Special => {}
        }
        Ok(())
    }

    fn access_log(&mut self) -> Result<(), Error> {
        let Some(given) = self.last("access.log") else {
            if let Some(format) = self.last("access.format") {
                self.draft.own.note(&format.line(), "there is no access.log that would have it");
            }
            return Ok(());
        };
        let Some(path) = self.path(given) else { return Ok(()) };
        self.draft.own.set("access_log", Value::Text(path));
        let Some(given) = self.last("access.format") else { return Ok(()) };
        let format = self.text(given);
        match Format::parse(&format) {
            Ok(_) => self.draft.own.set("access_format", Value::Text(format)),
            Err(sentence) => return Err(given.wrong(sentence)),
        }
        Ok(())
    }

    /// Both or neither in fpmd; in php-fpm a file without a time is never written.
    fn slow_log(&mut self) -> Result<(), Error> {
        let after = self.last("request_slowlog_timeout").map(|given| given.time().map(|time| (given, time)));
        let after = after.transpose()?.filter(|(_, seconds)| *seconds > 0);
        let file = self.last("slowlog").and_then(|given| self.path(given).map(|path| (given, path)));
        let terminate = self.last("request_terminate_timeout").map_or(Ok(0), Given::time)?;
        match (file, after) {
            (Some((_, path)), Some((given, seconds))) => {
                if terminate > 0 && seconds > terminate {
                    return Err(given.wrong("is longer than request_terminate_timeout"));
                }
                self.draft.own.set("slowlog", Value::Text(path));
                self.draft.own.set("request_slowlog_timeout", time(seconds));
            }
            (None, Some((given, _))) => return Err(given.wrong("needs a slowlog")),
            (Some((given, _)), None) => {
                let why = "request_slowlog_timeout is 0, so no request is slow";
                self.draft.own.note(&given.line(), why);
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// What is left: the chroot, extensions, patience.
    fn rest(&mut self) {
        if let Some(path) = self.last("chroot").and_then(|given| self.path(given)) {
            let comment = "The command is started inside: php-cgi and its libraries have to be there, which php-fpm, \
                           being started outside, did not need.";
            self.draft.own.set_with("chroot", Value::Text(path), comment);
        }
        if let Some(given) = self.last("security.limit_extensions") {
            let why = "php-cgi runs every file that it is given; have the web server pass on these only";
            self.draft.own.note(&given.line(), why);
        }
        if let Some(timeout) = &self.around.inherited.stop_timeout {
            let comment = "process_control_timeout, which is for the requests of all pools in php-fpm.";
            self.draft.own.set_with("stop_timeout", Value::of(timeout), comment);
        }
        if self.draft.own.value("user").is_none() {
            let comment =
                "php-fpm had no user for this pool, so it was not started by root: nor can fpmd be.";
            self.draft.own.remark(comment);
        }
    }
}

/// Seconds as a setting.
pub(super) fn time(seconds: i64) -> Value {
    Value::Text(show_duration(Duration::from_secs(seconds.unsigned_abs())))
}

/// A number in the range of our setting.
pub(super) fn in_range(given: &Given, section: Table, name: &str) -> Result<i64, Error> {
    let number = given.number()?;
    match keys::find(section, name).map(|key| key.kind) {
        Some(Kind::Whole(least, most)) if !(least..=most).contains(&number) => {
            Err(given.wrong(format!("{number} is out of range; fpmd's {name} is {least} to {most}")))
        }
        _ => Ok(number),
    }
}
