//! How many workers a pool of php-fpm has, and what bounds each of them.

use super::super::error::Error;
use super::super::keys::Section;
use super::super::values::show_size;
use super::draft::Value;
use super::pool::{Pool, in_range, time};

/// Numbers of `pm`, with the modes that have them.
const NUMBERS: [(&str, &str, &[&str]); 5] = [
    ("pm.start_servers", "start_servers", &["dynamic"]),
    ("pm.min_spare_servers", "min_spare_servers", &["dynamic"]),
    ("pm.max_spare_servers", "max_spare_servers", &["dynamic"]),
    ("pm.max_spawn_rate", "max_spawn_rate", &["dynamic"]),
    ("pm.max_requests", "max_requests", &["static", "dynamic", "ondemand"]),
];

pub(super) fn translate(pool: &mut Pool<'_>, errors: &mut Vec<Error>) {
    match mode(pool) {
        Ok(mode) => {
            pool.draft.pm.set("mode", Value::of(mode));
            for (theirs, ours, modes) in NUMBERS {
                errors.extend(number(pool, theirs, ours, mode, modes).err());
            }
            errors.extend(idle_timeout(pool, mode).err());
            if mode == "dynamic" {
                let required = ["pm.min_spare_servers", "pm.max_spare_servers"];
                let absent = required.into_iter().filter(|name| pool.last(name).is_none());
                errors.extend(absent.map(|name| pool.missing(name, "pm = dynamic needs it")));
            }
        }
        Err(error) => errors.push(error),
    }
    match pool.last("pm.max_children").map(|given| in_range(given, Section::Pm, "max_children")) {
        Some(Ok(children)) => pool.draft.pm.set("max_children", Value::Number(children)),
        Some(Err(error)) => errors.push(error),
        None => errors.push(pool.missing("pm.max_children", "every pool of php-fpm has one")),
    }
    errors.extend(priority(pool).err());
    errors.extend(files(pool).err());
    errors.extend(core(pool).err());
}

fn mode(pool: &Pool<'_>) -> Result<&'static str, Error> {
    let given = pool.last("pm").ok_or_else(|| pool.missing("pm", "write static, dynamic or ondemand"))?;
    let known = ["static", "dynamic", "ondemand"].into_iter().find(|mode| *mode == given.value.text);
    known
        .ok_or_else(|| given.wrong(format!("'{}' is none of static, dynamic and ondemand", given.value.text)))
}

fn number(
    pool: &mut Pool<'_>,
    theirs: &str,
    ours: &'static str,
    mode: &str,
    modes: &[&str],
) -> Result<(), Error> {
    let Some(given) = pool.last(theirs) else { return Ok(()) };
    if !modes.contains(&mode) {
        pool.draft.pm.note(&given.line(), &elsewhere(mode));
        return Ok(());
    }
    let number = in_range(given, Section::Pm, ours)?;
    pool.draft.pm.set(ours, Value::Number(number));
    Ok(())
}

fn idle_timeout(pool: &mut Pool<'_>, mode: &str) -> Result<(), Error> {
    let Some(given) = pool.last("pm.process_idle_timeout") else { return Ok(()) };
    if mode == "ondemand" {
        let seconds = given.time()?;
        if seconds == 0 {
            return Err(given.wrong("is 0; php-fpm wants 1 second at least"));
        }
        pool.draft.pm.set("process_idle_timeout", time(seconds));
    } else {
        pool.draft.pm.note(&given.line(), &elsewhere(mode));
    }
    Ok(())
}

fn elsewhere(mode: &str) -> String {
    format!("it means nothing with pm = {mode}; php-fpm ignores it, too")
}

fn priority(pool: &mut Pool<'_>) -> Result<(), Error> {
    let own = pool.last("process.priority").map(super::files::Given::number).transpose()?;
    if let Some(nice) = own.or(pool.around.inherited.priority) {
        // php-fpm's range goes to 20, the kernel's to 19.
        pool.draft.own.set("process_priority", Value::Number(nice.clamp(-20, 19)));
    }
    Ok(())
}

fn files(pool: &mut Pool<'_>) -> Result<(), Error> {
    let own =
        pool.last("rlimit_files").map(|given| in_range(given, Section::Pool, "rlimit_files")).transpose()?;
    if let Some(files) = own.or(pool.around.inherited.files) {
        pool.draft.own.set("rlimit_files", Value::Number(files));
    }
    Ok(())
}

fn core(pool: &mut Pool<'_>) -> Result<(), Error> {
    let given = pool.last("rlimit_core");
    let Some(text) = given.map(|given| given.value.text.clone()).or(pool.around.inherited.core.clone())
    else {
        return Ok(());
    };
    if text == "unlimited" {
        pool.draft.own.set("rlimit_core", Value::Text(text));
        return Ok(());
    }
    match (text.parse::<u64>(), given) {
        (Ok(0), _) => pool.draft.own.set("rlimit_core", Value::Number(0)),
        (Ok(bytes), _) => pool.draft.own.set("rlimit_core", Value::Text(show_size(bytes))),
        (Err(_), Some(given)) => return Err(given.wrong(format!("'{text}' is neither bytes nor unlimited"))),
        (Err(_), None) => {
            pool.draft
                .own
                .note(&format!("rlimit_core = {text}"), "it is neither a number of bytes nor unlimited");
        }
    }
    Ok(())
}
