//! Sends signals to processes that are ours, and masks our own (`kill(2)`, `pthread_sigmask(3)`).
//!
//! Owns the rule that nothing here ever reaches init, ourselves or "every process". Which signal when is `policy`.

use std::collections::HashSet;
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

/// Sends a signal to a process and to the process group that it leads, without a look at /proc. `leader` is a child of
/// ours that is not reaped yet.
///
/// # Errors
/// As [`send_to_session`].
pub fn send_to_group(leader: Pid, signal: Signal) -> Result<Delivery, SignalError> {
    let answer = send(leader, signal);
    if answer == Ok(Delivery::Sent) {
        // ESRCH where the child has not come as far as setsid(2); EPERM where no member may be signalled.
        let _ = kill(-leader.as_raw(), signal);
    }
    answer
}

/// [`send_to_session`] for several, with one look at /proc for all of them. The answers are in the order of `leaders`.
pub fn send_to_sessions(leaders: &[Pid], signal: Signal) -> Vec<Result<Delivery, SignalError>> {
    let answers: Vec<_> = leaders.iter().map(|&leader| send_to_group(leader, signal)).collect();
    // Of one that is gone even the number may be somebody else's by now.
    let reached = leaders.iter().zip(&answers).filter(|(_, answer)| **answer == Ok(Delivery::Sent));
    let reached: HashSet<Pid> = reached.map(|(&leader, _)| leader).collect();
    if reached.is_empty() {
        return answers;
    }
    // Without /proc the groups were all that there is to find.
    let Ok(processes) = Processes::read() else { return answers };
    let led = |session: Option<Pid>| session.is_some_and(|session| reached.contains(&session));
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

/// Makes writing to a closed pipe an error (EPIPE), and a file's growing past RLIMIT_FSIZE too (EFBIG), instead of our end.
/// Workers get the defaults back.
///
/// # Errors
/// Never on Linux.
pub fn ignore_write_signals() -> Result<(), SignalError> {
    for signal in [NixSignal::SIGPIPE, NixSignal::SIGXFSZ] {
        // SAFETY: SIG_IGN runs no code of ours.
        let result = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) };
        result.map_err(|errno| SignalError::Ignore(errno.into()))?;
    }
    Ok(())
}

/// For a program that ends when its master says so or ends: a terminal's Ctrl-C and a service manager's SIGTERM to all of a
/// unit's processes are for the master, which lets this program finish first. Write signals are ignored too.
///
/// # Errors
/// Never on Linux.
pub fn leave_signals_to_master() -> Result<(), SignalError> {
    ignore_write_signals()?;
    let for_master = [
        NixSignal::SIGHUP,
        NixSignal::SIGINT,
        NixSignal::SIGQUIT,
        NixSignal::SIGTERM,
        NixSignal::SIGUSR1,
        NixSignal::SIGUSR2,
    ];
    for signal in for_master {
        // SAFETY: SIG_IGN runs no code of ours.
        let result = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) };
        result.map_err(|errno| SignalError::Ignore(errno.into()))?;
    }
    Ok(())
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
    /// A signal could not be ignored.
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
            SignalError::Ignore(cause) => write!(f, "cannot ignore SIGPIPE and SIGXFSZ: {cause}"),
        }
    }
}

impl std::error::Error for SignalError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ExitStatus;
    use crate::os::process::testing::{Running, program, shell, until};

    fn own() -> Pid {
        Pid::new(nix::unistd::getpid().as_raw()).expect("it is positive")
    }

    #[test]
    fn a_process_is_reached_until_it_is_reaped() {
        let mut sleeper = Running::start(&program(&["/bin/sleep", "1000"]));
        assert_eq!(send(sleeper.pid, Signal::TERM), Ok(Delivery::Sent));
        assert_eq!(sleeper.end(), ExitStatus::Signal { signal: Signal::TERM, core: false });
        assert_eq!(send(sleeper.pid, Signal::TERM), Ok(Delivery::Gone));
        assert_eq!(send_to_session(sleeper.pid, Signal::KILL), Ok(Delivery::Gone));
    }

    #[test]
    fn neither_init_nor_we_are_signalled() {
        let init = Pid::new(1).expect("it is positive");
        for pid in [init, own()] {
            let refused = SignalError::Refused { pid, signal: Signal::KILL };
            assert_eq!(send(pid, Signal::KILL), Err(refused.clone()));
            assert_eq!(send_to_session(pid, Signal::KILL), Err(refused));
        }
        let text = send(init, Signal::KILL).expect_err("refused").to_string();
        assert_eq!(text, "cannot send SIGKILL to process 1: it is init or fpmd itself");
    }

    #[test]
    fn real_time_signals_are_sent() {
        let mut sleeper = Running::start(&program(&["/bin/sleep", "1000"]));
        let signal = Signal::parse("40").expect("a real-time signal");
        assert_eq!(send(sleeper.pid, signal), Ok(Delivery::Sent));
        assert_eq!(sleeper.end(), ExitStatus::Signal { signal, core: false });
    }

    #[test]
    fn a_session_is_reached_in_all_its_groups() {
        // timeout(1) makes a process group of its own.
        let mut leader = Running::start(&shell("timeout 1000 sleep 1000 & echo $!; exec sleep 1000"));
        let job = Pid::new(leader.line().parse().expect("a number")).expect("a pid");
        until("a group of its own", || {
            let processes = Processes::read().expect("there is /proc");
            let found = processes.find(job).expect("it lives");
            assert_eq!(found.session, Some(leader.pid));
            (found.group == Some(job)).then_some(())
        });
        assert_eq!(send_to_session(leader.pid, Signal::KILL), Ok(Delivery::Sent));
        assert_eq!(leader.end(), ExitStatus::Signal { signal: Signal::KILL, core: false });
        // The job has our pipe too: it ends when both are dead.
        assert_eq!(leader.text(), "");
    }

    #[test]
    fn blocking_nests_and_ends() {
        let blocked = || SigSet::thread_get_mask().expect("a mask").contains(NixSignal::SIGUSR2);
        let before = blocked();
        let outer = Blocked::all();
        drop(Blocked::all());
        assert!(blocked());
        drop(outer);
        assert_eq!(blocked(), before);
    }
}
