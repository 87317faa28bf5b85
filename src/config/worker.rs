//! What a pool runs: the command, its environment, and the right defaults of programs that fpmd knows.
//! The facts about php-cgi are those of its `-h` and of `sapi/cgi`: without PHP_FCGI_MAX_REQUESTS it ends after 500
//! requests, and with PHP_FCGI_CHILDREN it forks workers of its own, which nobody would count.

use std::path::Path;

use toml::de::DeValue;

use super::error::Cause;
use super::host::Host;
use super::model::{Environment, KnownWorker};
use super::walk::{Item, Report, Table};
use crate::sorted::SortedMap;

const PHP_CHILDREN: &str = "PHP_FCGI_CHILDREN";
const PHP_REQUESTS: &str = "PHP_FCGI_MAX_REQUESTS";

/// Reads `command`: its first entry has to be an executable file inside `root`, which `host` is asked for.
pub(super) fn command(
    report: &mut Report,
    table: &Table<'_>,
    root: Option<&Path>,
    host: Option<&dyn Host>,
) -> Option<Vec<String>> {
    let advice = "write the worker's program and its arguments, such as command = [\"/usr/bin/php-cgi\"]";
    table.required(report, "command", advice, |report, item| {
        let items = item.items(report, "an array of strings such as [\"/usr/bin/php-cgi\"]")?;
        let texts: Vec<Option<String>> = items.iter().map(|item| item.text(report)).collect();
        let Some(program) = items.first() else {
            return item.refuse(report, "is empty; write the path of a program");
        };
        if let Some(path) = &texts[0] {
            check_program(report, program, path, root, host);
        }
        texts.into_iter().collect()
    })
}

fn check_program(
    report: &mut Report,
    item: &Item<'_>,
    path: &str,
    root: Option<&Path>,
    host: Option<&dyn Host>,
) {
    if !path.starts_with('/') {
        item.refuse::<()>(report, format!("'{path}' is not an absolute path; PATH is not searched"));
        return;
    }
    if let Some(Err(cause)) = host.map(|host| host.executable(root, Path::new(path))) {
        let inside = root.map_or(String::new(), |root| format!(" inside '{}'", root.display()));
        item.refuse::<()>(report, format!("cannot execute '{path}'{inside}: {cause}"));
    }
}

/// What a program is, by the name of its file: `php-cgi`, `php-cgi8.2`, `php8.2-cgi`, `php-cgi82`.
pub(super) fn recognise(command: &[String]) -> Option<KnownWorker> {
    let name = command.first()?.rsplit('/').next()?;
    let version = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let php = name.strip_prefix("php-cgi").is_some_and(version)
        || name.strip_prefix("php").and_then(|rest| rest.strip_suffix("-cgi")).is_some_and(version);
    php.then_some(KnownWorker::PhpCgi)
}

/// Reads `env`, `clear_env` and `pass_env`.
pub(super) fn environment(report: &mut Report, table: &Table<'_>) -> Environment {
    Environment {
        clear: table.value(report, "clear_env", |report, item| item.flag(report)),
        pass: table.value(report, "pass_env", passed),
        set: table.value(report, "env", variables),
    }
}

fn passed(report: &mut Report, item: &Item<'_>) -> Option<Vec<String>> {
    let items = item.items(report, "an array of names such as [\"PATH\"]")?;
    let names: Vec<Option<String>> = items
        .iter()
        .map(|item| {
            let name = item.text(report)?;
            check_name(&name).map_or_else(|sentence| item.refuse(report, sentence), |()| Some(name))
        })
        .collect();
    names.into_iter().collect()
}

fn variables(report: &mut Report, item: &Item<'_>) -> Option<SortedMap<String, String>> {
    let DeValue::Table(table) = item.value else {
        return item.mistyped(report, "a table of strings such as { LANG = \"C.UTF-8\" }");
    };
    let mut set = SortedMap::new();
    for (name, value) in table {
        let (span, name) = (value.span(), name.get_ref().to_string());
        let key = format!("{}.{name}", item.key);
        let variable = Item { key, value: value.get_ref(), span, source: item.source, kind: item.kind };
        match check_name(&name) {
            Err(sentence) => {
                variable.refuse::<()>(report, sentence);
            }
            Ok(()) => {
                if let Some(text) = variable.text(report) {
                    set.insert(name, text);
                }
            }
        }
    }
    (set.len() == table.len()).then_some(set)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("'{}' cannot be the name of a variable", name.escape_debug()));
    }
    Ok(())
}

/// Puts the defaults of a known worker into its environment and returns `max_requests` as it will be.
/// What the file says of the same thing twice has to agree.
pub(super) fn count_requests(
    report: &mut Report,
    table: &Table<'_>,
    pm: &Table<'_>,
    known: Option<KnownWorker>,
    environment: &mut Environment,
) -> u32 {
    let requests: u32 = pm.value(report, "max_requests", |report, item| item.whole(report));
    match known {
        Some(KnownWorker::PhpCgi) => php_requests(report, table, pm, environment, requests),
        None if requests == 0 => requests,
        None => {
            let sentence = "this worker does not count its requests, and fpmd does not see them in direct mode; \
                            only php-cgi has it so far";
            pm.fail(report, "max_requests", Cause::Value(sentence.to_owned()));
            requests
        }
    }
}

/// Reads `max_requests` for a gateway, which counts the requests of any worker: one that counts its own must not.
pub(super) fn leave_counting(
    report: &mut Report,
    table: &Table<'_>,
    pm: &Table<'_>,
    known: Option<KnownWorker>,
    environment: &mut Environment,
) -> u32 {
    let requests = pm.value(report, "max_requests", |report, item| item.whole(report));
    let Some(KnownWorker::PhpCgi) = known else { return requests };
    let passed = |name: &str| environment.pass.iter().any(|passed| passed == name);
    let told = environment.set.get(PHP_REQUESTS).is_some_and(|text| text != "0");
    if told || passed(PHP_REQUESTS) {
        let name = if told { "env" } else { "pass_env" };
        let sentence =
            format!("{PHP_REQUESTS} is not needed: the gateway counts; write pm.max_requests instead");
        table.fail(report, name, Cause::Value(sentence));
    }
    for name in [PHP_CHILDREN, PHP_REQUESTS] {
        if !passed(name) {
            environment.set.or_insert_with(name.to_owned(), || "0".to_owned());
        }
    }
    requests
}

fn php_requests(
    report: &mut Report,
    table: &Table<'_>,
    pm: &Table<'_>,
    environment: &mut Environment,
    requests: u32,
) -> u32 {
    let passed = |name: &str| environment.pass.iter().any(|passed| passed == name);
    let (children_passed, requests_passed) = (passed(PHP_CHILDREN), passed(PHP_REQUESTS));
    if !children_passed {
        environment.set.or_insert_with(PHP_CHILDREN.to_owned(), || "0".to_owned());
    }
    let Some(text) = environment.set.get(PHP_REQUESTS) else {
        if !requests_passed {
            environment.set.insert(PHP_REQUESTS.to_owned(), requests.to_string());
        } else if requests > 0 {
            let sentence =
                format!("{}.pass_env has {PHP_REQUESTS}, which says it, too; leave one out", table.path);
            pm.fail(report, "max_requests", Cause::Value(sentence));
        }
        return requests;
    };
    match text.parse::<u32>() {
        Ok(number) if number == requests || pm.given("max_requests").is_none() => return number,
        Ok(_) => {
            let sentence = format!(
                "is {requests}, but {}.env has {PHP_REQUESTS} = \"{text}\"; leave one out",
                table.path
            );
            pm.fail(report, "max_requests", Cause::Value(sentence));
        }
        Err(_) => {
            let sentence = format!("{PHP_REQUESTS} = \"{text}\" is not a whole number");
            table.fail(report, "env", Cause::Value(sentence));
        }
    }
    requests
}
