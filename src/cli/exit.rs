//! Exit codes of fpmd (those of sysexits(3)) and of fpmctl. spawn-fcgi has its own.

use std::process::ExitCode;

/// How fpmd ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Daemon {
    /// It did what it was asked to.
    Done = 0,
    /// EX_USAGE: the command line is wrong.
    Usage = 64,
    /// EX_SOFTWARE: a bug of fpmd.
    Bug = 70,
    /// EX_OSERR: a system call failed.
    System = 71,
    /// EX_NOPERM: something is not permitted to the user that fpmd runs as.
    Permission = 77,
    /// EX_CONFIG: the configuration is wrong.
    Config = 78,
}

/// How fpmctl ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ctl {
    /// What was asked for was done.
    Done = 0,
    /// It was refused, or it failed; the reason is on standard error.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// fpmd cannot be reached, or it ended before its answer.
    Unreachable = 3,
}

impl From<Daemon> for ExitCode {
    fn from(exit: Daemon) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<Ctl> for ExitCode {
    fn from(exit: Ctl) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
