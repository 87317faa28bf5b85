//! `fpmctl check`: a configuration file against this machine, with no fpmd running. Creates nothing.

use std::path::Path;

use super::answer::{Answer, Look};
use crate::cli::exit::Ctl;
use crate::config;
use crate::os::host::Machine;

/// Says what the file configures, or every mistake in it.
pub fn check(file: &Path, look: Look) -> Answer {
    match config::load(file, &Machine) {
        Ok(config) => {
            let pools = match config.pools.len() {
                1 => "1 pool".to_owned(),
                number => format!("{number} pools"),
            };
            Answer::done(&format!("the configuration '{}' is valid: {pools}", file.display()), look)
        }
        Err(errors) => Answer::failed(Ctl::Refused, &errors.to_string(), look),
    }
}
