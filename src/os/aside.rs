//! Asks a question in a short-lived child of ours, which answers over a pipe. For questions to the user database: that loads
//! modules into the process which never leave it (650 kB on Debian), starts their threads, and may hang on a network.
//!
//! Only for programs with one thread: the child goes on with a copy of the parent's memory.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{clock, errno};

/// How long an answer may take; a directory service that does not answer makes this fail, and fpmd goes on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub enum AsideError {
    /// No process or descriptor is left.
    Start(io::Error),
    /// It took longer than 10 s, and was given up.
    Late,
    /// The child ended without an answer.
    Silent,
}

impl fmt::Display for AsideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AsideError::Start(cause) => write!(f, "cannot ask the user database: {}", errno::said(cause)),
            AsideError::Late => {
                write!(f, "cannot ask the user database: it has not answered within {PATIENCE:?}")
            }
            AsideError::Silent => f.write_str("cannot ask the user database: the question ended unanswered"),
        }
    }
}

impl std::error::Error for AsideError {}

/// The answer to `question`, asked in a child.
///
/// # Errors
/// See `AsideError`; no process is left then.
pub fn ask<T: Serialize + DeserializeOwned>(question: impl FnOnce() -> T) -> Result<T, AsideError> {
    let (mut reader, mut writer) = io::pipe().map_err(AsideError::Start)?;
    // SAFETY: callers have one thread, so the child may do whatever the parent might.
    let child = match unsafe { nix::unistd::fork() }.map_err(|errno| AsideError::Start(errno.into()))? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(reader);
            let answer = serde_json::to_vec(&question()).unwrap_or_default();
            let _ = writer.write_all(&answer);
            // SAFETY: never returns; nothing of the parent's is flushed or cleaned up here.
            unsafe { nix::libc::_exit(0) }
        }
    };
    drop(writer);
    let answer = read_in_time(&mut reader);
    if answer.is_err() {
        let _ = signal::kill(child, Signal::SIGKILL);
    }
    reap(child);
    serde_json::from_slice(&answer?).map_err(|_| AsideError::Silent)
}

fn read_in_time(reader: &mut io::PipeReader) -> Result<Vec<u8>, AsideError> {
    let deadline = clock::monotonic().after(PATIENCE);
    let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.since(clock::monotonic());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(AsideError::Late),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(AsideError::Start(errno.into())),
            Ok(_) => {}
        }
        match reader.read(&mut bytes) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(AsideError::Start(error)),
        }
    }
}

/// Waits for its end, which is near.
fn reap(child: Pid) {
    while waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_any_size_comes_back_and_nothing_else_changes() {
        let mut here = 1;
        let answer = ask(|| {
            here += 1;
            vec![here; 100_000]
        });
        assert_eq!(answer.unwrap(), vec![2; 100_000]);
        assert_eq!(here, 1, "the child's memory is its own");
    }

    #[test]
    fn a_child_that_dies_is_no_answer() {
        let answer: Result<u32, _> = ask(|| {
            let _ = signal::raise(Signal::SIGKILL);
            1
        });
        assert!(matches!(answer, Err(AsideError::Silent)), "{answer:?}");
    }
}
