//! The `[fcgi-program:x]` sections of supervisord as pools. What supervisord lets a whole program have, such as its other kinds of
//! programs, groups and web interface, is not fpmd's business and stays behind. fpmctl(8), `import supervisord`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::super::error::{Cause, Error, Errors};
use super::super::host::Host;
use super::super::values;
use super::draft::{Draft, PoolDraft, Value};
use super::files::error;
use super::ini::Variables;
use super::sections::{self, Entry, Section, fill};
use super::shell::{assignments, words as shell_words};
use super::words;
use crate::ids::{Signal, Uid};

const FCGI: &str = "fcgi-program:";

/// Settings without an equal, and why.
const NOTHING: &[(&str, &str)] = &[
    ("process_name", "fpmd's workers are known by their pids"),
    ("numprocs_start", "fpmd's workers are known by their pids"),
    ("priority", "pools start together"),
    ("startsecs", "a worker counts as started when it waits for its first request; see start_timeout"),
    ("startretries", "fpmd never gives up; it waits longer and longer"),
    ("exitcodes", "exit 0 is a recycled worker, everything else a crash; both are replaced"),
    ("stopasgroup", "fpmd ends what a worker leaves behind"),
    ("killasgroup", "fpmd ends what a worker leaves behind"),
    ("redirect_stderr", "both go to fpmd's log"),
    ("stdout_logfile", "what workers write goes to fpmd's log, a setting of [global]"),
    ("stdout_logfile_maxbytes", "logrotate and fpmctl reopen take its place"),
    ("stdout_logfile_backups", "logrotate and fpmctl reopen take its place"),
    ("stdout_capture_maxbytes", "there are no events"),
    ("stdout_events_enabled", "there are no events"),
    ("stdout_syslog", "what workers write goes to fpmd's log, a setting of [global]"),
    ("stderr_logfile", "what workers write goes to fpmd's log, a setting of [global]"),
    ("stderr_logfile_maxbytes", "logrotate and fpmctl reopen take its place"),
    ("stderr_logfile_backups", "logrotate and fpmctl reopen take its place"),
    ("stderr_capture_maxbytes", "there are no events"),
    ("stderr_events_enabled", "there are no events"),
    ("stderr_syslog", "what workers write goes to fpmd's log, a setting of [global]"),
    ("serverurl", "fpmctl talks over fpmd's control socket"),
];

/// Settings that become something.
const TRANSLATED: [&str; 14] = [
    "socket",
    "socket_backlog",
    "socket_owner",
    "socket_mode",
    "command",
    "numprocs",
    "autostart",
    "autorestart",
    "stopsignal",
    "stopwaitsecs",
    "user",
    "environment",
    "directory",
    "umask",
];

/// Translates `files` and what they include.
///
/// # Errors
/// Every mistake in the sections that are translated.
pub fn translate(
    files: &[PathBuf],
    directory: &Path,
    variables: Variables<'_>,
    host: &dyn Host,
) -> Result<Draft, Errors> {
    let (sections, mut errors) = sections::read(files, directory, host);
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut draft = Draft::new(head(&names, &sections));
    let daemon = sections.iter().find(|section| section.name == "supervisord");
    for section in &sections {
        let Some(name) = section.name.strip_prefix(FCGI) else { continue };
        let pool = PoolDraft::new(draft.free_name(name.trim()));
        let mut program = Program { section, daemon, name: name.trim(), variables, host, pool };
        program.translate(&mut errors);
        draft.pools.push(program.pool);
    }
    if draft.pools.is_empty() && errors.is_empty() {
        let place = super::super::error::Place { file: names.join(", ").as_str().into(), position: None };
        errors.push(error(&place, "", Cause::Missing("there is no section [fcgi-program:NAME]".into())));
    }
    match Errors::sorted(errors) {
        Some(errors) => Err(errors),
        None => Ok(draft),
    }
}

fn head(names: &[String], sections: &[Section]) -> Vec<String> {
    let mut head = vec![
        format!(
            "Written by fpmctl import supervisord from {}. fpmd --check --config FILE tests it.",
            names.join(", ")
        ),
        "A program that serves several requests at once, with threads or an event loop, needs concurrency."
            .to_owned(),
    ];
    let others: Vec<String> = sections
        .iter()
        .filter(|section| section.name.starts_with("program:") || section.name.starts_with("eventlistener:"))
        .map(|section| format!("[{}]", section.name))
        .collect();
    if !others.is_empty() {
        head.push(format!(
            "They have no listening socket, so they stay with supervisord: {}.",
            others.join(", ")
        ));
    }
    head
}

/// A section on its way.
struct Program<'a> {
    section: &'a Section,
    /// `[supervisord]`
    daemon: Option<&'a Section>,
    name: &'a str,
    variables: Variables<'a>,
    host: &'a dyn Host,
    pool: PoolDraft,
}

impl Program<'_> {
    fn translate(&mut self, errors: &mut Vec<Error>) {
        let done = [
            self.socket(),
            self.access(),
            self.command(),
            self.numbers(),
            self.identity(),
            self.places(),
            self.environment(),
            self.stopping(),
            self.output(),
        ];
        errors.extend(done.into_iter().filter_map(Result::err));
        for option in &self.section.options {
            if let Some((_, why)) = NOTHING.iter().find(|(name, _)| *name == option.name) {
                self.pool.own.note(&option.line(), why);
            } else if !TRANSLATED.contains(&option.name.as_str()) {
                self.pool.own.note(&option.line(), "supervisord does not know it either");
            }
        }
    }

    /// The value with its expressions filled in.
    fn text(&self, option: &Entry) -> Result<String, Error> {
        let here = self.section.here.to_string_lossy();
        let names =
            [("here", &*here), ("program_name", self.name), ("group_name", self.name), ("process_num", "0")];
        fill(&option.value, &names, self.variables).map_err(|sentence| option.wrong(sentence))
    }

    fn given(&self, name: &str) -> Result<Option<(&Entry, String)>, Error> {
        self.section.last(name).map(|option| Ok((option, self.text(option)?))).transpose()
    }

    fn missing(&self, name: &str) -> Error {
        error(&self.section.place, name, Cause::Missing(format!("[{}] has to have it", self.section.name)))
    }

    fn socket(&mut self) -> Result<(), Error> {
        let Some((option, text)) = self.given("socket")? else { return Err(self.missing("socket")) };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(option.wrong(format!("'{text}' has no absolute path behind unix://")));
            }
            self.pool.own.set("listen", Value::of(path));
            return Ok(());
        }
        let place = text.strip_prefix("tcp://").and_then(|place| place.rsplit_once(':'));
        let place =
            place.and_then(|(host, port)| Some((host, port.parse::<u16>().ok().filter(|port| *port > 0)?)));
        let Some((host, port)) = place else {
            return Err(option.wrong(format!("'{text}' is neither tcp://HOST:PORT nor unix:///PATH")));
        };
        match (host, format!("{host}:{port}").parse::<SocketAddr>()) {
            (_, Ok(address)) => self.pool.own.set("listen", Value::of(address.to_string())),
            ("" | "*", _) => self.pool.own.set("listen", Value::Number(i64::from(port))),
            (host, Err(_)) => {
                let comment = format!(
                    "supervisord's was {text}; fpmd looks up no names. Write the address of {host} here."
                );
                let comment = if host == "localhost" { "" } else { &comment };
                self.pool.own.set_with("listen", Value::Text(format!("127.0.0.1:{port}")), comment);
            }
        }
        Ok(())
    }

    /// Owner and mode of a Unix socket, which are the user's and 0700 where nothing is said.
    fn access(&mut self) -> Result<(), Error> {
        if let Some((option, text)) = self.given("socket_backlog")? {
            let backlog = text.parse().ok().filter(|backlog| *backlog > 0);
            let backlog =
                backlog.ok_or_else(|| option.wrong(format!("'{text}' is not a number of connections")))?;
            self.pool.own.set("listen_backlog", Value::Number(backlog));
        }
        let is_unix =
            matches!(self.pool.own.value("listen"), Some(Value::Text(text)) if text.starts_with('/'));
        if !is_unix {
            for name in ["socket_owner", "socket_mode"] {
                if let Some(option) = self.section.last(name) {
                    self.pool.own.note(&option.line(), "it is about Unix sockets, and this pool has TCP");
                }
            }
            return Ok(());
        }
        let mode = match self.given("socket_mode")? {
            Some((option, text)) => values::mode(&text).map_err(|sentence| option.wrong(sentence))?,
            None => 0o700,
        };
        self.pool.own.set("listen_mode", Value::Text(values::show_mode(mode)));
        let owner = self.given("socket_owner")?.map(|(_, text)| text);
        let Some(owner) = owner.or(self.user()?) else { return Ok(()) };
        let (user, group) = match owner.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group.to_owned())),
            None => (owner.clone(), self.primary_group(&owner)),
        };
        self.pool.own.set("listen_owner", Value::Text(user));
        if let Some(group) = group {
            self.pool.own.set("listen_group", Value::Text(group));
        }
        Ok(())
    }

    /// By its name where it is called like the user.
    fn primary_group(&self, user: &str) -> Option<String> {
        let gid = self.host.user(user).ok().flatten()?.gid?;
        let of_same_name = self.host.group(user).ok().flatten().filter(|group| group.gid == gid);
        Some(of_same_name.map_or_else(|| gid.0.to_string(), |group| group.name))
    }

    /// The words as a shell would cut them; the program is looked for as supervisord does.
    fn command(&mut self) -> Result<(), Error> {
        let Some((option, text)) = self.given("command")? else { return Err(self.missing("command")) };
        let mut words = shell_words(&text).map_err(|sentence| option.wrong(sentence))?;
        let Some(program) = words.first_mut() else { return Err(option.wrong("is empty")) };
        if !program.starts_with('/') {
            let path = (self.variables)("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
            let bare = !program.contains('/');
            let places = path.split(':').filter(|place| place.starts_with('/'));
            let mut candidates = places.map(|place| Path::new(place).join(&*program));
            let found = candidates.find(|candidate| bare && self.host.executable(None, candidate).is_ok());
            let Some(found) = found else {
                return Err(option.wrong(format!("cannot find '{program}'; write its absolute path")));
            };
            *program = found.to_string_lossy().into_owned();
        }
        if option.value.contains("%(process_num)") {
            let why = "all workers of a pool have one command; it is that of process 0 here";
            self.pool.own.note("%(process_num)", why);
        }
        self.pool.own.set("command", Value::List(words));
        Ok(())
    }

    fn numbers(&mut self) -> Result<(), Error> {
        let workers = match self.given("numprocs")? {
            None => 1,
            Some((option, text)) => {
                let number = text.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| option.wrong(format!("'{text}' is not a number of processes")))?
            }
        };
        self.pool.pm.set("mode", Value::of("static"));
        self.pool.pm.set("max_children", Value::Number(workers));
        for (name, why) in [
            ("autostart", "every pool starts with fpmd; fpmctl stop ends one"),
            (
                "autorestart",
                "fpmd always replaces a worker that ends; a worker that exits with 0 counts as recycled",
            ),
        ] {
            let Some((option, text)) = self.given(name)? else { continue };
            if !words::flag(&text).unwrap_or(name == "autorestart" && text == "unexpected") {
                self.pool.own.note(&option.line(), why);
            }
        }
        Ok(())
    }

    /// The section's user, or that of `[supervisord]`.
    fn user(&self) -> Result<Option<String>, Error> {
        if let Some((_, text)) = self.given("user")? {
            return Ok(Some(text));
        }
        self.daemon.and_then(|daemon| daemon.last("user")).map(|option| self.text(option)).transpose()
    }

    fn identity(&mut self) -> Result<(), Error> {
        match self.user()? {
            Some(user) => self.pool.own.set("user", Value::Text(user)),
            None if self.host.uid() == Uid(0) => {
                let comment = "There is no user: started by root, the program is root's. Better write somebody else here.";
                self.pool.own.set_with("user", Value::of("root"), comment);
            }
            None => {}
        }
        Ok(())
    }

    fn places(&mut self) -> Result<(), Error> {
        if let Some((_, text)) = self.given("directory")? {
            let path = self.section.here.join(text).to_string_lossy().into_owned();
            self.pool.own.set("directory", Value::Text(path));
        }
        if let Some((option, text)) = self.given("umask")? {
            let bits = values::mode(&text).map_err(|sentence| option.wrong(sentence))?;
            self.pool.own.set("umask", Value::Text(values::show_mode(bits)));
        }
        Ok(())
    }

    /// supervisord's own environment, that of `[supervisord]`, and the section's.
    fn environment(&mut self) -> Result<(), Error> {
        self.pool.own.set("clear_env", Value::Flag(false));
        let mut set = BTreeMap::new();
        let daemon = self.daemon.and_then(|daemon| daemon.last("environment"));
        for option in daemon.into_iter().chain(self.section.last("environment")) {
            let pairs = assignments(&self.text(option)?).map_err(|sentence| option.wrong(sentence))?;
            set.extend(pairs);
        }
        if !set.is_empty() {
            self.pool.own.set("env", Value::Variables(set));
        }
        Ok(())
    }

    fn stopping(&mut self) -> Result<(), Error> {
        if let Some((option, text)) = self.given("stopsignal")? {
            let signal =
                Signal::parse(&text).ok_or_else(|| option.wrong(format!("'{text}' is not a signal")))?;
            self.pool.own.set("stop_signal", Value::Text(signal.to_string()));
        }
        if let Some((option, text)) = self.given("stopwaitsecs")? {
            let seconds =
                text.parse().map_err(|_| option.wrong(format!("'{text}' is not a number of seconds")))?;
            let time = values::show_duration(std::time::Duration::from_secs(seconds));
            let comment = "stopwaitsecs: how long the request in a worker may go on that has to end.";
            self.pool.own.set_with("stop_timeout", Value::Text(time), comment);
        }
        Ok(())
    }

    /// Thrown away by supervisord, and so by fpmd.
    fn output(&mut self) -> Result<(), Error> {
        let mut nowhere = 0;
        for name in ["stdout_logfile", "stderr_logfile"] {
            if let Some((_, text)) = self.given(name)? {
                nowhere += u32::from(matches!(text.as_str(), "NONE" | "/dev/null"));
            }
        }
        if nowhere == 2 {
            self.pool.own.set("catch_workers_output", Value::Flag(false));
        }
        Ok(())
    }
}
