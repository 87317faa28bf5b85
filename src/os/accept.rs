//! The application's side of a listening socket on FD 0: accepts one connection at a time, blocking, and stops without
//! a window between the last look at a flag and the call that waits. accept(2), signal-safety(7), ppoll(2).
//!
//! The trick: the signal handler puts a socket that accepts nothing in FD 0's place. Before accept(2) that makes the call
//! fail, inside it the signal interrupts it, and later the next call fails: whenever the signal comes, it is seen. The
//! socket is shared with other workers, so making it non-blocking, the usual way out, is not ours to do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{SockFlag, accept4, setsockopt, sockopt};
use nix::sys::time::{TimeSpec, TimeVal};

use crate::os::clock;

/// The signals that ask for the end.
const STOP_SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT];

/// A pause after running out of descriptors or memory, since the connection stays queued and accept fails at once.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

static STOPPING: AtomicBool = AtomicBool::new(false);
static NOWHERE: AtomicI32 = AtomicI32::new(-1);

/// The listening socket on FD 0, from which SIGTERM, SIGQUIT and SIGINT cut us off.
#[derive(Debug)]
pub struct Doorway(());

/// Who came.
#[derive(Debug)]
pub enum Visit {
    /// A client.
    Client(Connection),
    /// Nobody comes any more: a signal asked for the end.
    Stop,
}

/// What a kept connection without a request under way has for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Something to read, be it the end.
    Readable,
    /// A signal asked for the end, and nothing has come.
    Stop,
}

impl Doorway {
    /// Installs the handlers.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open() -> io::Result<Doorway> {
        let nowhere = UnixDatagram::unbound()?;
        NOWHERE.store(nowhere.into_raw_fd(), Ordering::SeqCst);
        // No SA_RESTART: accept has to come back.
        let action = SigAction::new(SigHandler::Handler(cut_off), SaFlags::empty(), SigSet::empty());
        for signal in STOP_SIGNALS {
            // SAFETY: the handler stores to an atomic and calls dup2, which is async-signal-safe.
            unsafe { sigaction(signal, &action) }?;
        }
        Ok(Doorway(()))
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// FD 0 is not a listening socket.
    pub fn accept(&self) -> io::Result<Visit> {
        loop {
            let accepted = accept4(0, SockFlag::SOCK_CLOEXEC);
            match accepted {
                Ok(raw) => {
                    // SAFETY: accept4 just made this descriptor, and nobody else knows it.
                    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
                    return Ok(Visit::Client(Connection(File::from(fd))));
                }
                Err(_) if STOPPING.load(Ordering::SeqCst) => return Ok(Visit::Stop),
                Err(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => {}
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => pause(SHORTAGE_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Waits, whatever signals come.
pub fn pause(span: Duration) {
    let end = clock::monotonic().after(span);
    loop {
        let left = end.since(clock::monotonic());
        if left.is_zero() {
            return;
        }
        let _ = ppoll(&mut [], Some(TimeSpec::from_duration(left)), None); // EINTR: the rest of the time is left
    }
}

/// Async-signal-safe: an atomic store and dup2(2), which cannot fail here and so leaves errno alone.
extern "C" fn cut_off(_: libc::c_int) {
    STOPPING.store(true, Ordering::SeqCst);
    // SAFETY: both are descriptors of ours by contract of the program; nothing owns FD 0 as a Rust value.
    unsafe { libc::dup2(NOWHERE.load(Ordering::SeqCst), 0) };
}

/// A client's connection; reads and writes block, up to the time limit.
#[derive(Debug)]
pub struct Connection(File);

impl Connection {
    /// Reads and writes that take longer fail with `WouldBlock`.
    ///
    /// # Errors
    /// Never for an open socket.
    pub fn limit(&self, reading: Duration, writing: Duration) -> io::Result<()> {
        let time = |span: Duration| TimeVal::new(span.as_secs() as libc::time_t, span.subsec_micros().into());
        setsockopt(&self.0, sockopt::ReceiveTimeout, &time(reading))?;
        setsockopt(&self.0, sockopt::SendTimeout, &time(writing))?;
        Ok(())
    }

    /// Waits until there is something to read or a signal asks for the end, for as long as it takes.
    ///
    /// # Errors
    /// The kernel is out of memory.
    pub fn next(&self) -> io::Result<Next> {
        let before =
            SigSet::from_iter(STOP_SIGNALS).thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let result = self.next_with(before);
        before.thread_set_mask()?;
        result
    }

    /// Signals can come only inside ppoll, so that none falls between the look at the flag and the wait.
    fn next_with(&self, open: SigSet) -> io::Result<Next> {
        loop {
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            let stopping = STOPPING.load(Ordering::SeqCst);
            let span = stopping.then(|| TimeSpec::from_duration(Duration::ZERO));
            match ppoll(&mut fds, span, Some(open)) {
                Ok(0) | Err(Errno::EINTR) if stopping => return Ok(Next::Stop),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(Next::Readable),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    // The rest is tested where it is used, in processes of their own: FD 0 and handlers belong to the whole process.

    #[test]
    fn a_pause_lasts_as_long_as_it_says() {
        let start = Instant::now();
        pause(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
