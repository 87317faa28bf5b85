//! `fpmctl import`: another program's configuration, read here and printed as one of fpmd's. What this machine lacks for it is
//! said on standard error; the result is printed all the same, as it may be for another one.

use std::env;
use std::path::Path;

use super::answer::{Answer, Look};
use crate::cli::exit::Ctl;
use crate::cli::import::{Import, PhpFpm};
use crate::config::import::php_fpm::{self, Options};
use crate::config::import::{Draft, Variables, supervisord};
use crate::config::{self, Errors, Host};
use crate::os::host::Machine;
use crate::status::text::harmless;

mod spawn_fcgi;

/// Translates, and checks what came out.
pub(super) fn import(what: &Import, look: Look) -> Answer {
    let variable = |name: &str| env::var(name).ok();
    let draft = env::current_dir()
        .map_err(|error| format!("cannot find the working directory: {error}"))
        .and_then(|directory| translate(what, &directory, &variable, &Machine));
    match draft {
        Ok(draft) => checked(&draft, look),
        Err(reasons) => Answer::failed(Ctl::Refused, &reasons, look),
    }
}

/// Translates; relative paths start in `directory`, and `variables` is the environment of the other program.
///
/// # Errors
/// A line for every mistake.
pub fn translate(
    what: &Import,
    directory: &Path,
    variables: Variables<'_>,
    host: &dyn Host,
) -> Result<Draft, String> {
    let said = |errors: Errors| errors.to_string();
    match what {
        Import::PhpFpm(PhpFpm { command, prefix, files }) => {
            let (command, prefix, directory) = (command.clone(), prefix.clone(), directory.to_owned());
            let options = Options { command, prefix, directory, variables };
            php_fpm::translate(files, &options, host).map_err(said)
        }
        Import::SpawnFcgi { arguments } => spawn_fcgi::translate(arguments, directory, host),
        Import::Supervisord { files } => {
            supervisord::translate(files, directory, variables, host).map_err(said)
        }
    }
}

fn checked(draft: &Draft, look: Look) -> Answer {
    let text = draft.text();
    let mut answer = Answer::done(&text, look);
    if let Err(errors) = config::load_text("result", &text, &Machine) {
        answer.stderr = errors.to_string().lines().map(harmless).collect();
        answer.stderr.push("the result does not pass --check on this machine as it is".to_owned());
    }
    answer
}
