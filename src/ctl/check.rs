//! `fpmctl check`: a configuration file against this machine, with no fpmd running. Creates nothing.

use std::path::Path;

use super::answer::{Answer, Look};
use crate::cli::exit::Ctl;
use crate::config;
use crate::os::host::Machine;

/// Says that the file is right, or every mistake in it.
pub fn check(file: &Path, look: Look) -> Answer {
    match config::load(file, &Machine) {
        Ok(_) => {
            // The words of `fpmd --check`, and of php-fpm -t before it.
            Answer::done(&format!("configuration file {} test is successful", file.display()), look)
        }
        Err(errors) => Answer::failed(Ctl::Refused, &errors.to_string(), look),
    }
}
