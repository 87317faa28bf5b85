//! The environment of a pool's workers and PHP's own settings, which become options of php-cgi. `-d` is read like a line of
//! php.ini, after php.ini: what it sets wins over the file, and scripts may change it where PHP lets them.

use std::collections::BTreeMap;

use super::super::error::Error;
use super::draft::Value;
use super::files::Given;
use super::ini::{self, Form};
use super::pool::Pool;

/// Where php-cgi looks for further files; main/php_ini.c.
const SCAN: &str = "PHP_INI_SCAN_DIR";

/// Variables that are fpmd's business: its gateway counts requests, and workers fork none of their own.
const OURS: [&str; 2] = ["PHP_FCGI_MAX_REQUESTS", "PHP_FCGI_CHILDREN"];

pub(super) fn translate(pool: &mut Pool<'_>, errors: &mut Vec<Error>) {
    let mut variables = BTreeMap::new();
    let mut command = vec![pool.around.command.clone()];
    let mut comments: Vec<&str> = Vec::new();
    if let Some((file, directory)) = &pool.around.flavour.ini {
        comments.push("-c and PHP_INI_SCAN_DIR are php-fpm's php.ini; without them php-cgi reads its own.");
        command.extend(["-c".to_owned(), file.to_string_lossy().into_owned()]);
        variables.insert(SCAN.to_owned(), directory.to_string_lossy().into_owned());
    }
    let mut locked = false;
    for name in ["php_value", "php_flag", "php_admin_value", "php_admin_flag"] {
        for given in pool.keyed(name) {
            match setting(pool, given) {
                Ok(setting) => command.push(format!("-d{setting}")),
                Err(error) => errors.push(error),
            }
            locked |= name.starts_with("php_admin");
        }
    }
    if locked {
        comments.push(
            "What php-fpm had as php_admin_value or php_admin_flag no script could change. With -d ini_set() and .user.ini \
             may, where PHP lets them: to lock a value write it into a section [PATH=/directory] of php.ini.",
        );
    }
    if pool.keyed("php_admin_value").iter().any(|given| given.index.as_deref() == Some("disable_functions")) {
        comments.push("disable_functions replaces that of php.ini, which php-fpm added to.");
    }
    pool.draft.own.set_with("command", Value::List(command), &comments.join(" "));
    environment(pool, variables, errors);
}

/// `name=value` for `-d`.
fn setting(pool: &Pool<'_>, given: &Given) -> Result<String, Error> {
    let key = given.index.clone().unwrap_or_default();
    if given.name.ends_with("_flag") {
        return Ok(format!("{key}={}", u8::from(given.flag()?)));
    }
    let mut text = pool.text(given);
    if key == "error_log" && !text.contains('/') && !text.is_empty() && text != "syslog" {
        text = pool.path(given).unwrap_or_default();
    }
    Ok(format!("{key}={}", quoted(&text, given.value.form)))
}

/// As php-cgi has to get it: it quotes what does not begin with a letter, a digit or a quote, and reads the rest as php.ini
/// is read, where a blank is harmless and `;`, `(` or `!` is not. A bare expression of constants stays one.
fn quoted(text: &str, form: Form) -> String {
    let constants = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_ &|~^".contains(c);
    let is_expression = form == Form::Bare && text.starts_with("E_") && text.chars().all(constants);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/,+@ ".contains(c);
    // "no" in quotes is a word, without them it is nothing.
    let is_word = ini::keyword(text.to_owned()) == text;
    let is_plain = is_word
        && text.chars().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if is_expression || text.is_empty() || is_plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// `env[NAME]`: a text, or `$NAME`, the variable of that name of php-fpm's own environment.
fn environment(pool: &mut Pool<'_>, mut variables: BTreeMap<String, String>, errors: &mut Vec<Error>) {
    let mut passed = Vec::new();
    for given in pool.keyed("env") {
        let name = given.index.clone().unwrap_or_default();
        let text = pool.text(given);
        if OURS.contains(&name.as_str()) {
            pool.draft.own.note(&given.line(), "fpmd's gateway counts requests; see pm.max_requests");
            continue;
        }
        match text.strip_prefix('$').filter(|_| given.value.variables.is_empty()) {
            Some(copied) if copied == name => passed.push(name),
            Some(_) => {
                let why = "fpmd passes variables on under their own names only; see pass_env";
                pool.draft.own.note(&given.line(), why);
            }
            None if text.is_empty() && given.value.variables.is_empty() => {
                errors.push(given.wrong("is empty, which php-fpm refuses"));
            }
            None => {
                variables.insert(name, text);
            }
        }
    }
    if !passed.is_empty() {
        pool.draft.own.set("pass_env", Value::List(passed));
    }
    if !variables.is_empty() {
        pool.draft.own.set("env", Value::Variables(variables));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_reach_php_as_they_were() {
        for (text, form, given) in [
            ("128M", Form::Bare, "128M"),
            ("", Form::Bare, ""),
            ("/tmp:/srv/www", Form::Bare, "/tmp:/srv/www"),
            (
                "/usr/sbin/sendmail -t -i -f www@example.org",
                Form::Bare,
                "/usr/sbin/sendmail -t -i -f www@example.org",
            ),
            ("E_ALL & ~E_NOTICE", Form::Bare, "E_ALL & ~E_NOTICE"),
            ("E_ALL & ~E_NOTICE", Form::Quoted, "\"E_ALL & ~E_NOTICE\""),
            ("a;b", Form::Quoted, "\"a;b\""),
            ("tcp://h:1?auth=\"x\\y\"", Form::Quoted, "\"tcp://h:1?auth=\\\"x\\\\y\\\"\""),
            ("-1", Form::Bare, "\"-1\""),
            ("no", Form::Quoted, "\"no\""),
        ] {
            assert_eq!(quoted(text, form), given);
        }
    }
}
