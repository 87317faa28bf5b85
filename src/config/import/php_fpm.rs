//! A php-fpm configuration as one of fpmd's: the daemon's part, and what is common to all pools. `directives` is the table of
//! what becomes what, `pool` translates one pool. fpmctl(8), `import php-fpm`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::error::{Cause, Error, Errors};
use super::super::host::Host;
use super::super::nearest::nearest;
use super::super::values::show_duration;
use super::directives::{self, DIRECTIVES, Meaning, Scope};
use super::draft::{Draft, Part, PoolDraft, Value};
use super::files::{Files, Given, Reader, error};
use super::flavour::Flavour;
use super::ini::Variables;
use super::pool::{self, Inherited, Surroundings};

/// What is not in the files.
pub struct Options<'a> {
    /// The workers' program; `None` is the php-cgi that belongs to the php-fpm of these files.
    pub command: Option<String>,
    /// php-fpm's prefix; `None` is guessed from where the files are.
    pub prefix: Option<PathBuf>,
    /// The working directory, absolute.
    pub directory: PathBuf,
    /// php-fpm's environment.
    pub variables: Variables<'a>,
}

/// Translates `files`, one after the other as if they were one.
///
/// # Errors
/// Everything that php-fpm would not start with, and what fpmd cannot express without a decision.
pub fn translate(files: &[PathBuf], options: &Options<'_>, host: &dyn Host) -> Result<Draft, Errors> {
    let first = options.directory.join(files.first().map_or(Path::new(""), PathBuf::as_path));
    let flavour = Flavour::of(&first, options.prefix.as_deref());
    let reader = Reader {
        host,
        variables: options.variables,
        directory: &options.directory,
        prefix: &flavour.prefix,
        guessed: options.prefix.is_none(),
    };
    let mut found = reader.read(files);
    check_names(&mut found);
    let mut errors = std::mem::take(&mut found.errors);
    let mut draft = Draft::new(head(files, &found));
    let inherited = global(&mut draft.global, &found.global, &flavour, &mut errors);
    let around = Surroundings {
        flavour: &flavour,
        command: options.command.clone().unwrap_or_else(|| flavour.command(host)),
        inherited,
    };
    for section in &found.pools {
        let name = draft.free_name(&section.name);
        draft.pools.push(pool::translate(name, section, &around, &mut errors));
    }
    check_sockets(&found, &mut errors);
    bound_processes(&mut draft, &found);
    if found.pools.is_empty() && errors.is_empty() {
        let cause = Cause::Missing(
            "there is no pool in these files, which are php-fpm.conf or its pool.d/*.conf".into(),
        );
        let file = files.first().map_or_else(String::new, |file| file.display().to_string());
        let place = super::super::error::Place { file: file.as_str().into(), position: None };
        errors.push(error(&place, "", cause));
    }
    match Errors::sorted(errors) {
        Some(errors) => Err(errors),
        None => Ok(draft),
    }
}

/// What everybody has to know who reads the result.
fn head(files: &[PathBuf], found: &Files) -> Vec<String> {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut head = vec![
        format!("Written by fpmctl import php-fpm from {}. fpmd --check --config FILE tests it.", names.join(", ")),
        "The workers are php-cgi: the same PHP, without fastcgi_finish_request() and fpm_get_status(). It runs \
         whatever file the web server names in SCRIPT_FILENAME, where php-fpm takes .php and .phar only \
         (security.limit_extensions): have the web server pass on nothing else."
            .to_owned(),
    ];
    head.extend(found.warnings.iter().cloned());
    let all = found.pools.iter().flat_map(|pool| &pool.given).chain(&found.global);
    let variables: BTreeSet<String> =
        all.flat_map(|given| &given.value.variables).map(|name| format!("${{{name}}}")).collect();
    if !variables.is_empty() {
        let names: Vec<String> = variables.into_iter().collect();
        head.push(format!("Filled in as they were in the environment of fpmctl: {}.", names.join(", ")));
    }
    head
}

/// Names that do not exist, and places where they cannot stand: php-fpm does not start with either.
fn check_names(found: &mut Files) {
    let pools = found.pools.iter().flat_map(|pool| &pool.given).map(|given| (true, given));
    let all = found.global.iter().map(|given| (false, given)).chain(pools);
    let faults: Vec<Error> = all
        .filter_map(|(in_pool, given)| match directives::find(&given.name) {
            Some(directive) => {
                directive.scope.fault(in_pool, given.index.as_deref()).map(|fault| given.wrong(fault))
            }
            None => {
                let near = nearest(&given.name, DIRECTIVES.iter().map(|directive| directive.name));
                let hint = near.map(|name| format!("did you mean '{name}'?"));
                let cause = Cause::Unknown { what: "directive of php-fpm", hint };
                Some(error(&given.place, &given.key(), cause))
            }
        })
        .collect();
    found.errors.extend(faults);
}

/// Translates `[global]` and returns what the pools have from it.
fn global(part: &mut Part, given: &[Given], flavour: &Flavour, errors: &mut Vec<Error>) -> Inherited {
    let mut inherited = Inherited::default();
    for directive in
        DIRECTIVES.iter().filter(|directive| matches!(directive.scope, Scope::Global | Scope::Both))
    {
        // The last one wins, as in php-fpm.
        let Some(given) = given.iter().rfind(|given| given.name == directive.name) else { continue };
        let done = match (directive.meaning, directive.name) {
            (Meaning::Nothing(why), _) => {
                part.note(&given.line(), why);
                Ok(())
            }
            (_, "pid") => {
                path(part, "pid_file", given, &flavour.state);
                Ok(())
            }
            (_, "error_log") => {
                log(part, given, &flavour.state);
                Ok(())
            }
            (_, "log_level") => log_level(part, given),
            (_, "process_control_timeout") => {
                given.time().map(|seconds| patience(part, &mut inherited, given, seconds))
            }
            (_, "process.priority") => given.number().map(|nice| inherited.priority = Some(nice)),
            (_, "rlimit_files") => given.number().map(|files| inherited.files = Some(files)),
            (_, "rlimit_core") => {
                inherited.core = Some(given.value.text.clone());
                Ok(())
            }
            // Decided when all pools are known.
            (_, "process.max") => given.number().map(drop),
            (meaning, name) => {
                debug_assert!(false, "{name}, {meaning:?}, is not translated");
                Ok(())
            }
        };
        errors.extend(done.err());
    }
    inherited
}

fn path(part: &mut Part, name: &'static str, given: &Given, base: &Path) {
    if !given.value.text.is_empty() {
        part.set(name, Value::of(base.join(&given.value.text).to_string_lossy()));
    }
}

fn log(part: &mut Part, given: &Given, base: &Path) {
    match given.value.text.as_str() {
        "/dev/stderr" | "/proc/self/fd/2" => part.set("log", Value::of("stderr")),
        "/dev/stdout" | "/proc/self/fd/1" => part.set("log", Value::of("stdout")),
        text if text.eq_ignore_ascii_case("syslog") => part.set("log", Value::of("syslog")),
        _ => path(part, "log", given, base),
    }
}

fn log_level(part: &mut Part, given: &Given) -> Result<(), Error> {
    let word = given.value.text.as_str();
    if !["alert", "error", "warning", "notice", "debug"].contains(&word) {
        return Err(given.wrong(format!("'{word}' is none of alert, error, warning, notice and debug")));
    }
    part.set("log_level", Value::of(word));
    Ok(())
}

/// php-fpm's only patience: how long a request may go on when its worker has to end.
fn patience(part: &mut Part, inherited: &mut Inherited, given: &Given, seconds: i64) {
    if seconds == 0 {
        let why = "fpmd never ends a request at once; see stop_timeout";
        part.note(&given.line(), why);
    } else {
        inherited.stop_timeout = Some(show_duration(Duration::from_secs(seconds.unsigned_abs())));
    }
}

/// php-fpm compares the words, and so do we: fpmd then compares the sockets.
fn check_sockets(found: &Files, errors: &mut Vec<Error>) {
    let of = |pool: usize| found.pools[pool].given.iter().rfind(|given| given.name == "listen");
    for index in 0..found.pools.len() {
        let Some(given) = of(index) else { continue };
        // `$pool` makes them different.
        let same = (0..index).find(|earlier| {
            !given.value.text.contains("$pool")
                && of(*earlier).is_some_and(|other| other.value.text == given.value.text)
        });
        if let Some(first) = same.and_then(of) {
            let what = format!("'{}' is the socket of another pool already", given.value.text);
            errors.push(error(&given.place, "listen", Cause::Duplicate { what, first: first.place.clone() }));
        }
    }
}

/// `process.max` is a bound that pools share, and within which fpmd keeps a few workers for each of them.
fn bound_processes(draft: &mut Draft, found: &Files) {
    let Some(given) = found.global.iter().rfind(|given| given.name == "process.max") else { return };
    let Some(most) = given.number().ok().filter(|most| *most > 0) else { return };
    let kept: i64 = draft.pools.iter().map(kept).sum();
    if kept <= most {
        draft.global.set("process_max", Value::Number(most));
    } else {
        let why = format!(
            "php-fpm gives them to whoever asks first; fpmd keeps every pool what it has to have, max_children of a static \
             and min_spare_servers of a dynamic one, which are {kept} together"
        );
        draft.global.note(&given.line(), &why);
    }
}

/// How many workers a pool is sure of, as `process_max` counts them.
fn kept(pool: &PoolDraft) -> i64 {
    let number = |name| match pool.pm.value(name) {
        Some(Value::Number(number)) => *number,
        _ => 1,
    };
    match pool.pm.value("mode") {
        Some(Value::Text(mode)) if mode == "static" => number("max_children"),
        Some(Value::Text(mode)) if mode == "dynamic" => number("min_spare_servers"),
        _ => 1,
    }
}
