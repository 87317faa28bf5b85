//! fpmd's own limit of open files (`getrlimit(2)`, RLIMIT_NOFILE) with what helps against it, and its CPUs. Those of workers
//! are set in `process`.

use std::fmt;
use std::fs;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use serde::{Deserialize, Serialize};

use crate::os::errno::Cause;

/// RLIMIT_NOFILE as fpmd was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalLimit {
    /// What `open(2)` obeys.
    pub soft: u64,
    /// What an unprivileged process may raise `soft` to.
    pub hard: u64,
}

/// Reads the limit as it is now.
///
/// # Errors
/// The kernel has none; it always has.
pub fn open_files() -> Result<OriginalLimit, LimitError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(LimitError::read)?;
    Ok(OriginalLimit { soft, hard })
}

/// How many CPUs we may use (`sched_getaffinity(2)`), at least 1.
pub fn cpus() -> u32 {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    let usable = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count();
    u32::try_from(usable).unwrap_or(u32::MAX).max(1)
}

/// Raises our soft limit to the hard one and returns what it was: the master has pipes and sockets of every worker, while
/// workers get the old limit back, as `select(2)` breaks above 1024.
///
/// # Errors
/// The limit stays as it was.
pub fn raise_open_files() -> Result<OriginalLimit, LimitError> {
    let original = open_files()?;
    if original.soft != original.hard {
        setrlimit(Resource::RLIMIT_NOFILE, original.hard, original.hard)
            .map_err(|errno| LimitError::Raise { to: original.hard, cause: errno.into() })?;
    }
    Ok(original)
}

/// What to raise where this error says that a limit of open files was reached, with the limit as it is.
pub fn remedy(errno: Errno) -> Option<String> {
    match errno {
        Errno::EMFILE => {
            let limit = open_files().ok()?.soft;
            let unit = "raise LimitNOFILE= of fpmd's unit, or `ulimit -n` where it is started";
            Some(format!("the limit is {limit}: {unit}"))
        }
        Errno::ENFILE => {
            // Takes a descriptor, which there may be none for.
            let limit = fs::read_to_string("/proc/sys/fs/file-max").ok();
            let is = limit.map(|limit| format!(" is {}", limit.trim())).unwrap_or_default();
            Some(format!("the machine's limit{is}: raise sysctl fs.file-max"))
        }
        _ => None,
    }
}

/// Why the limit could not be read or raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// It could not be read.
    Read(Cause),
    /// It could not be raised.
    Raise {
        /// The wanted soft limit.
        to: u64,
        /// Why not.
        cause: Cause,
    },
}

impl LimitError {
    fn read(errno: Errno) -> LimitError {
        LimitError::Read(errno.into())
    }
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::Read(cause) => write!(f, "cannot read the limit of open files: {cause}"),
            LimitError::Raise { to, cause } => {
                write!(f, "cannot raise the limit of open files to {to}: {cause}")
            }
        }
    }
}

impl std::error::Error for LimitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let original = raise_open_files().expect("a soft limit may be raised");
        let now = open_files().expect("there is a limit");
        assert_eq!((now.soft, now.hard), (original.hard, original.hard));
    }
}
