//! spawn-fcgi, the old command line exactly: what Debian's spawn-fcgi 1.6.4 does, option by option and step by step, but for the
//! faults listed in `quirks`, and one addition, `--supervise`. Nothing here stays resident; that is fpmd's part.
//! Its command line is read in `cli::spawn_fcgi`. spawn-fcgi(1).

pub mod bind;
pub mod identity;
pub mod launch;
pub mod message;
pub mod pid_file;
pub mod quirks;
pub mod resident;
mod say;
pub mod supervise;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::spawn_fcgi::args::{self, After, Caller, Invocation, Request};
use crate::cli::spawn_fcgi::getopt::Ordering;
use crate::cli::spawn_fcgi::usage;
use crate::os::legacy;
use message::Failure;
use say::{say_failure, to_stderr, to_stdout};

/// The status of a wrong command line, and of every failure that has no status of its own.
const FAILED: u8 = 255;

/// The program.
pub fn main() -> ExitCode {
    // Where this fails, a worker that writes to a closed connection gets EPIPE: worth starting all the same.
    let _ = legacy::restore_sigpipe();
    let arguments: Vec<OsString> = env::args_os().collect();
    let caller = if legacy::started_by_root() { Caller::Root } else { Caller::Ordinary };
    let ordering = match env::var_os("POSIXLY_CORRECT") {
        Some(_) => Ordering::RequireOrder,
        None => Ordering::Permute,
    };
    let status = args::parse(&arguments, caller, ordering)
        .map_err(Failure::CommandLine)
        .and_then(|invocation| carry_out(&invocation));
    ExitCode::from(status.unwrap_or_else(|failure| {
        say_failure(&failure);
        failure.exit_status()
    }))
}

fn carry_out(invocation: &Invocation) -> Result<u8, Failure> {
    match invocation {
        Invocation::Usage(status) => {
            to_stdout(&usage::usage());
            Ok(*status)
        }
        Invocation::BadOption(complaint) => {
            to_stderr(&[complaint, &b"\n"[..]].concat());
            to_stdout(&usage::usage());
            Ok(FAILED)
        }
        Invocation::Version => {
            to_stdout(&usage::version());
            Ok(0)
        }
        Invocation::Launch(request) => start(request),
    }
}

fn start(request: &Request) -> Result<u8, Failure> {
    if request.privileged.is_none() && legacy::runs_setid() {
        return Err(Failure::SetId);
    }
    match request.after {
        After::Leave => launch::launch(request),
        After::Supervise => Err(resident::become_fpmd(request)),
    }
}
