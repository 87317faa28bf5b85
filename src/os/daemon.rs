//! Going to the background, daemon(7) "SysV Daemons": fork, a session of its own, and a parent that waits for the verdict.
//!
//! One fork is enough: a session leader can acquire a terminal only by opening one without O_NOCTTY, which fpmd never does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, setsid};

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Role {
    /// The one that was started: it ends with what `Verdict::wait` says.
    Starter(Verdict),
    /// The daemon: it says when it is ready.
    Daemon(Readiness),
}

/// The starter's end.
#[derive(Debug)]
pub struct Verdict {
    pipe: io::PipeReader,
    daemon: nix::unistd::Pid,
}

/// The daemon's end. While it is open, the starter waits.
#[derive(Debug)]
pub struct Readiness(io::PipeWriter);

/// What becomes of the daemon's standard error when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// The log goes there: it stays.
    Keep,
    /// `/dev/null`.
    Null,
}

/// Splits this process in two. To be called while it has one thread.
///
/// # Errors
/// No process or descriptor is left.
pub fn daemonize() -> io::Result<Role> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: fpmd has no threads, so the child may go on like any process.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Role::Starter(Verdict { pipe: reader, daemon: child })),
        ForkResult::Child => {
            setsid()?;
            Ok(Role::Daemon(Readiness(writer)))
        }
    }
}

impl Verdict {
    /// Waits until the daemon is ready or has ended.
    ///
    /// # Errors
    /// The daemon's exit code; `None` if a signal ended it.
    pub fn wait(mut self) -> Result<(), Option<u8>> {
        if self.pipe.read_exact(&mut [0]).is_ok() {
            return Ok(());
        }
        match waitpid(self.daemon, None) {
            Ok(WaitStatus::Exited(_, code)) => Err(u8::try_from(code).ok()),
            Ok(_) | Err(_) => Err(None),
        }
    }
}

impl Readiness {
    /// Lets the starter end with exit code 0 and leaves its terminal.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened; the starter is told all the same.
    pub fn announce(mut self, stderr: Stderr) -> io::Result<()> {
        // The starter may have been killed meanwhile: then nobody waits for this.
        let _ = self.0.write_all(&[0]);
        let null = File::options().read(true).write(true).open("/dev/null")?;
        nix::unistd::dup2_stdin(null.as_fd())?;
        nix::unistd::dup2_stdout(null.as_fd())?;
        if stderr == Stderr::Null {
            nix::unistd::dup2_stderr(null.as_fd())?;
        }
        Ok(())
    }
}
