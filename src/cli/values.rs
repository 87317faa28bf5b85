//! Readers of option values, for both command lines: from what was typed to our types, or a sentence for clap to print.

use std::time::Duration;

use crate::ids::{MOST_PROCESSES, Pid, PoolName};

pub fn pool(text: &str) -> Result<PoolName, String> {
    PoolName::new(text)
}

pub fn pid(text: &str) -> Result<Pid, String> {
    let refused = || format!("a pid is a number from 1 to {}", i32::MAX);
    text.parse().ok().and_then(Pid::new).ok_or_else(refused)
}

pub fn workers(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number @ 1..=MOST_PROCESSES) => Ok(number),
        _ => Err(format!("a number of workers is from 1 to {MOST_PROCESSES}")),
    }
}

/// A word of the setting `dispatch`.
pub fn dispatch(text: &str) -> Result<&'static str, String> {
    match text {
        "direct" => Ok("direct"),
        "gateway" => Ok("gateway"),
        _ => Err("the mode is 'direct' or 'gateway'".into()),
    }
}

/// Seconds, with a fraction where wanted; at most a day.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("it is a number of seconds, more than 0 and at most 86400".into()),
    }
}

/// `NAME=VALUE`, as env(1) takes it.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("it is written NAME=VALUE".into()),
    }
}

/// `Name: value`, as curl(1) takes it.
pub fn header(text: &str) -> Result<(String, String), String> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() && name.chars().all(token) => {
            Ok((name.into(), value.trim().into()))
        }
        _ => Err("it is written 'Name: value'".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_and_numbers_of_workers_start_at_one() {
        assert!(pid("1").is_ok() && workers("1") == Ok(1));
        for bad in ["0", "-1", "", "x", "1.5", "4294967296"] {
            assert!(pid(bad).is_err() && workers(bad).is_err(), "{bad}");
        }
        assert!(workers("4194304").is_ok() && workers("4194305").is_err());
    }

    #[test]
    fn assignments_keep_all_after_the_first_sign() {
        assert_eq!(assignment("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(assignment("A="), Ok(("A".into(), String::new())));
        assert!(assignment("A").is_err() && assignment("=b").is_err());
    }

    #[test]
    fn headers_are_names_with_values() {
        assert_eq!(header("X-A: b: c "), Ok(("X-A".into(), "b: c".into())));
        assert!(header("X A: b").is_err() && header(": b").is_err() && header("X").is_err());
    }

    #[test]
    fn a_mode_that_is_still_to_come_is_refused_by_name() {
        assert_eq!(dispatch("direct"), Ok("direct"));
        assert_eq!(dispatch("gateway"), Ok("gateway"));
        assert!(dispatch("shared").unwrap_err().contains("'gateway'"));
    }
}
