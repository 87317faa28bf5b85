//! What the programs share with the shell: command lines, exit codes, standard output, the terminal. What a command then
//! does is decided elsewhere.
#![forbid(unsafe_code)]

pub mod complete;
pub mod exit;
pub mod fpmctl;
pub mod fpmd;
pub mod import;
pub mod output;
pub mod request;
pub mod spawn_fcgi;
pub mod terminal;
mod values;

use std::process::ExitCode;

/// The command line asks for nothing to be done: it is wrong, or it was `--help` or `--version`.
#[derive(Debug)]
pub struct Ended {
    said: clap::Error,
    usage: ExitCode,
}

impl Ended {
    /// Prints what clap has to say, help to standard output and errors to standard error, and gives the exit code.
    pub fn report(self) -> ExitCode {
        // There is nobody left to tell that the text could not be printed.
        let _ = self.said.print();
        if self.said.use_stderr() { self.usage } else { ExitCode::SUCCESS }
    }

    /// The text that `report` prints, without colours.
    pub fn text(&self) -> String {
        self.said.to_string()
    }
}
