//! Collects ended children (`wait4(2)`), our own and those that fpmd inherits as a subreaper or as process 1.

use std::fmt;
use std::mem::MaybeUninit;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use crate::ids::{ExitStatus, Pid, Signal};
use crate::os::errno::Cause;

/// A child that has ended and is now forgotten by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its id, which is free from now on.
    pub pid: Pid,
    /// How it ended.
    pub status: ExitStatus,
    /// What it and its own reaped children used.
    pub usage: Usage,
}

/// What a process used over its life (`getrusage(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The most memory that it ever had resident, bytes.
    pub max_resident: u64,
}

/// Collects one ended child, whichever; `None` when there is none now. Never blocks. Call until `None`: SIGCHLD does not
/// count.
///
/// # Errors
/// Never on Linux; callers treat it as `None` and say so.
pub fn reap() -> Result<Option<Ended>, WaitError> {
    wait4(-1)
}

/// Collects this child if it has ended; `None` while it has not, and if it is no child of ours.
///
/// # Errors
/// Never on Linux.
pub fn reap_child(pid: Pid) -> Result<Option<Ended>, WaitError> {
    wait4(pid.as_raw())
}

/// From now on orphans among our descendants become our children instead of those of process 1.
///
/// # Errors
/// The kernel is older than 3.4.
pub fn set_subreaper() -> Result<(), WaitError> {
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| WaitError::Subreaper(errno.into()))
}

fn wait4(target: i32) -> Result<Option<Ended>, WaitError> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to memory of the right type that outlives the call.
        let result = unsafe { libc::wait4(target, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => return Ok(None),
            Err(errno) => return Err(WaitError::Wait(errno.into())),
            Ok(number) => {
                // Zero is "none has ended".
                let Some(pid) = Pid::new(number) else { return Ok(None) };
                // SAFETY: all zeroes is a valid rusage, and wait4(2) has filled it in.
                let usage = unsafe { usage.assume_init() };
                return Ok(Some(Ended { pid, status: exit_status(status), usage: Usage::from(usage) }));
            }
        }
    }
}

/// Without WUNTRACED and WCONTINUED a status is either an exit or a fatal signal.
fn exit_status(status: libc::c_int) -> ExitStatus {
    if libc::WIFEXITED(status) {
        return ExitStatus::Code(libc::WEXITSTATUS(status));
    }
    let number = libc::WTERMSIG(status);
    match Signal::from_raw(number) {
        Some(signal) => ExitStatus::Signal { signal, core: libc::WCOREDUMP(status) },
        // Signals 32 and 33 belong to the C library and have no name; this is what a shell makes of them.
        None => ExitStatus::Code(128 + number),
    }
}

impl From<libc::rusage> for Usage {
    fn from(usage: libc::rusage) -> Usage {
        const KIB: u64 = 1024;
        Usage {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            max_resident: u64::try_from(usage.ru_maxrss).unwrap_or(0) * KIB,
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Why nothing could be collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitError {
    /// `wait4(2)` failed.
    Wait(Cause),
    /// We cannot become a subreaper.
    Subreaper(Cause),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::Wait(cause) => write!(f, "cannot wait for children: {cause}"),
            WaitError::Subreaper(cause) => write!(f, "cannot become a subreaper: {cause}"),
        }
    }
}

impl std::error::Error for WaitError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::testing::{Running, output, playing, program, role, said, say, shell, until};

    #[test]
    fn exits_and_signals_are_told_apart() {
        assert_eq!(Running::start(&shell("exit 0")).end(), ExitStatus::Code(0));
        assert_eq!(Running::start(&shell("exit 255")).end(), ExitStatus::Code(255));
        let killed = Running::start(&shell("kill -9 $$")).end();
        assert_eq!(killed, ExitStatus::Signal { signal: Signal::KILL, core: false });
        // No name for this one in `Signal`: the C library has it to itself.
        assert_eq!(exit_status(32), ExitStatus::Code(160));
    }

    #[test]
    fn a_living_child_and_a_stranger_are_nothing_to_collect() {
        let sleeper = Running::start(&program(&["/bin/sleep", "1000"]));
        assert_eq!(reap_child(sleeper.pid), Ok(None));
        assert_eq!(reap_child(Pid::new(1).expect("it is positive")), Ok(None));
    }

    #[test]
    fn what_it_used_is_told() {
        let child = Running::start(&shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"));
        let pid = child.pid;
        std::mem::forget(child); // collected here
        let ended = until("its end", || reap_child(pid).expect("it is a child"));
        assert_eq!((ended.pid, ended.status), (pid, ExitStatus::Code(0)));
        assert!(ended.usage.user + ended.usage.system > Duration::from_micros(500), "{ended:?}");
        assert!((100_000..100_000_000).contains(&ended.usage.max_resident), "{ended:?}");
    }

    #[test]
    fn a_subreaper_collects_orphans_too() {
        let text = output(&role("os::wait::tests::role_subreaper"));
        assert_eq!(
            said(&text),
            ["nothing", "child exited with code 3", "orphan exited with code 0", "nothing"]
        );
    }

    #[test]
    #[ignore = "a role of another test"]
    fn role_subreaper() {
        if !playing() {
            return;
        }
        set_subreaper().expect("any kernel of this century");
        assert_eq!(reap(), Ok(None));
        say("nothing");
        // The orphan ends when it has seen its parent go.
        let orphan = "while kill -0 $0 2>/dev/null; do sleep 0.01; done";
        let child = Running::start(&shell(&format!("sh -c '{orphan}' $$ & exit 3")));
        let child_pid = child.pid;
        std::mem::forget(child); // collected here
        for _ in 0..2 {
            let ended = until("an end", || reap().expect("there are children"));
            let who = if ended.pid == child_pid { "child" } else { "orphan" };
            say(format_args!("{who} {}", ended.status));
        }
        assert_eq!(reap(), Ok(None));
        say("nothing");
    }
}
