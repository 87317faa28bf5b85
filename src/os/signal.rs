//! Sends signals to processes that are ours, and masks our own (`kill(2)`, `pthread_sigmask(3)`).
//!
//! Owns the rule that nothing here ever reaches init, ourselves or "every process". Which signal when is `policy`.

use std::fmt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal as NixSignal};

use crate::ids::{Pid, Signal};
use crate::os::errno::Cause;
use crate::os::session::Processes;

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The kernel took it (a zombie counts: it has no more use for it).
    Sent,
    /// There is no such process any more.
    Gone,
}

/// Sends a signal to one process.
///
/// # Errors
/// The pid is 1 or our own, or we may not signal that process.
pub fn send(pid: Pid, signal: Signal) -> Result<Delivery, SignalError> {
    refuse_own(pid, signal)?;
    kill(pid.as_raw(), signal).map_err(|errno| SignalError::Forbidden { pid, signal, cause: errno.into() })
}

/// Sends a signal to the process group and to every process of the session that `leader` leads: what `setsid(2)` at
/// its start made. `leader` is a child of ours that is not reaped yet, so that its number cannot be anybody else's.
///
/// # Errors
/// The pid is 1 or our own, or we may not signal `leader`. Members that refuse or vanish are passed over.
pub fn send_to_session(leader: Pid, signal: Signal) -> Result<Delivery, SignalError> {
    send_to_sessions(&[leader], signal).pop().unwrap_or(Ok(Delivery::Gone))
}

/// [`send_to_session`] for several, with one look at /proc for all of them. The answers are in the order of `leaders`.
pub fn send_to_sessions(leaders: &[Pid], signal: Signal) -> Vec<Result<Delivery, SignalError>> {
    let mut answers = Vec::with_capacity(leaders.len());
    for &leader in leaders {
        let answer = send(leader, signal);
        if answer.is_ok() {
            // ESRCH where the child has not come as far as setsid(2); EPERM where no member may be signalled.
            let _ = kill(-leader.as_raw(), signal);
        }
        answers.push(answer);
    }
    // Without /proc the group was all that there is to find.
    let Ok(processes) = Processes::read() else { return answers };
    let led = |session: Option<Pid>| session.is_some_and(|session| leaders.contains(&session));
    for member in processes.iter().filter(|process| led(process.session) && process.group != process.session)
    {
        let _ = send(member.pid, signal);
    }
    answers
}

fn refuse_own(pid: Pid, signal: Signal) -> Result<(), SignalError> {
    if pid.as_raw() == 1 || pid.as_raw() == nix::unistd::getpid().as_raw() {
        return Err(SignalError::Refused { pid, signal });
    }
    Ok(())
}

/// By number, as nix does not know the real-time signals.
fn kill(target: i32, signal: Signal) -> Result<Delivery, Errno> {
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    match Errno::result(unsafe { libc::kill(target, signal.as_raw()) }) {
        Ok(_) => Ok(Delivery::Sent),
        Err(Errno::ESRCH) => Ok(Delivery::Gone),
        Err(errno) => Err(errno),
    }
}

/// While it lives, this thread gets no signal; they wait. Nests.
#[derive(Debug)]
pub struct Blocked {
    before: SigSet,
}

impl Blocked {
    /// Blocks every signal that can be blocked.
    pub fn all() -> Blocked {
        // sigprocmask(2) fails only for an invalid `how` or address.
        let before =
            SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap_or_else(|_| SigSet::empty());
        Blocked { before }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// Makes writing to a closed pipe or socket an error (EPIPE) instead of our end. Workers get the default back.
///
/// # Errors
/// Never on Linux.
pub fn ignore_sigpipe() -> Result<(), SignalError> {
    // SAFETY: SIG_IGN runs no code of ours.
    let result = unsafe { nix::sys::signal::signal(NixSignal::SIGPIPE, SigHandler::SigIgn) };
    result.map(drop).map_err(|errno| SignalError::Ignore(errno.into()))
}

/// Why a signal was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalError {
    /// Init or we ourselves.
    Refused {
        /// Which process.
        pid: Pid,
        /// Which signal.
        signal: Signal,
    },
    /// The kernel refused.
    Forbidden {
        /// Which process.
        pid: Pid,
        /// Which signal.
        signal: Signal,
        /// Why.
        cause: Cause,
    },
    /// SIGPIPE could not be ignored.
    Ignore(Cause),
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignalError::Refused { pid, signal } => {
                write!(f, "cannot send {signal} to process {pid}: it is init or fpmd itself")
            }
            SignalError::Forbidden { pid, signal, cause } => {
                write!(f, "cannot send {signal} to process {pid}: {cause}")
            }
            SignalError::Ignore(cause) => write!(f, "cannot ignore SIGPIPE: {cause}"),
        }
    }
}

impl std::error::Error for SignalError {}
