//! What a worker does after its answer: whether it is back at its listening socket, and how a request that it has not begun
//! to read is taken from it again. Reads nothing of what clients send. ioctl_list(2) FIONREAD, pidfd_getfd(2), unix(7).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{self as sys, MsgFlags};

use super::{Look, Observer, Settled, Sockets, Stopped, tree};
use crate::ids::Pid;
use crate::os::alarm;
use crate::os::inspect;
use crate::os::procfs;
use crate::os::signal::SignalError;
use crate::os::socket::Listener;

/// What a worker that owes nobody an answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It waits for a connection, with one thread at least.
    Waiting,
    /// Something else.
    AtWork,
    /// We may not look.
    Unknown,
}

/// How a request got to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// On a connection of its own, which waits to be accepted.
    New,
    /// On a connection that the worker had before. The request is so many bytes long.
    Kept(u64),
}

/// What became of an attempt to take a request back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenBack {
    /// The worker will never see it.
    Taken,
    /// The worker has begun with it, or is about to.
    Begun,
    /// We may not look, or not reach into the worker.
    Unknown,
}

impl Observer {
    /// Whether the worker `pid` waits at `listener`. Cheaper than `observe`: connections do not matter.
    pub fn rest(listener: &Listener, pid: Pid) -> Rest {
        let sockets = Sockets { listening: listener.inode().into_iter().collect(), accepted: None };
        let mut seen = Look::default();
        for member in tree(pid) {
            match seen.add(&sockets, member) {
                Ok(()) | Err(procfs::Error::Gone) => {}
                Err(procfs::Error::Denied(_) | procfs::Error::Unreadable(..)) => return Rest::Unknown,
            }
        }
        match seen.places.as_slice() {
            [] if procfs::stat(pid).is_ok() => Rest::Unknown,
            places if places.iter().any(|place| place.is_at_listener()) => Rest::Waiting,
            _ => Rest::AtWork,
        }
    }

    /// Takes a request from a worker that has not begun to read it, since it is at work on something else. The worker is
    /// stopped for that moment (SIGSTOP), so that it cannot begin in between; nobody but it may accept at `listener`.
    ///
    /// # Errors
    /// We may not signal it. It goes on untouched.
    pub fn take_back(&mut self, listener: &Listener, pid: Pid, way: Way) -> Result<TakenBack, SignalError> {
        // Seen without disturbing it first: most that are late are on their way.
        match Observer::rest(listener, pid) {
            Rest::Waiting => return Ok(TakenBack::Begun),
            Rest::Unknown => return Ok(TakenBack::Unknown),
            Rest::AtWork => {}
        }
        let mut stopped = Stopped(Vec::new());
        if stopped.stop(pid)? == Settled::No {
            return Ok(TakenBack::Begun);
        }
        Ok(match (Observer::rest(listener, pid), way) {
            (Rest::Unknown, _) => TakenBack::Unknown,
            (Rest::Waiting, _) => TakenBack::Begun,
            (Rest::AtWork, Way::New) => take_pending(listener),
            (Rest::AtWork, Way::Kept(length)) => self.take_unread(listener, pid, length),
        })
    }

    /// Empties the one connection on which so much waits to be read.
    fn take_unread(&mut self, listener: &Listener, pid: Pid, length: u64) -> TakenBack {
        let accepted = self.diag.as_mut().and_then(|diag| diag.accepted([listener.local_name()]).ok());
        let Some(accepted) = accepted else { return TakenBack::Unknown };
        for member in tree(pid) {
            let mut held = Vec::new();
            let listed = procfs::sockets(member, |fd, inode| {
                if accepted.contains(&inode) {
                    held.push(fd);
                }
            });
            if listed.is_err() {
                continue;
            }
            for fd in held {
                match inspect::borrow_descriptor(member, fd) {
                    Ok(connection) if unread(&connection) == Some(length) => return empty(&connection),
                    Ok(_) => {}
                    Err(_) => return TakenBack::Unknown,
                }
            }
        }
        TakenBack::Begun
    }
}

/// More than can wait at a slot: who connects as fast as this takes holds nobody up.
const MOST_PENDING: usize = 4096;

/// Closes whatever waits at the listener. Its worker is stopped or has ended; but one that has ended may have left children
/// behind, which accept as well and may be quicker.
pub fn take_pending(listener: &Listener) -> TakenBack {
    let mut outcome = TakenBack::Begun;
    for _ in 0..MOST_PENDING {
        if !listener.has_pending() {
            break;
        }
        match alarm::briefly(|| listener.accept()) {
            Ok(connection) => drop(connection),
            Err(Errno::EINTR) => continue,
            Err(_) => break,
        }
        outcome = TakenBack::Taken;
    }
    outcome
}

fn empty(connection: &OwnedFd) -> TakenBack {
    let mut buffer = [0; 16 * 1024];
    loop {
        match sys::recv(connection.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(Errno::EAGAIN) => return TakenBack::Taken,
            Ok(_) | Err(Errno::EINTR) => {}
            // Broken: nobody reads it any more.
            Err(_) => return TakenBack::Taken,
        }
    }
}

/// Bytes that wait to be read.
fn unread(connection: &OwnedFd) -> Option<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and the descriptor is open.
    let done = unsafe { libc::ioctl(connection.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    Errno::result(done).ok().and_then(|_| u64::try_from(count).ok())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::os::activity::tests::workers::{BLOCKING, Fixture, Worker};
    use crate::os::sockdiag::{Reception, SockDiag};
    use crate::os::testing::pause;

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "never {what}");
            pause();
        }
    }

    fn wait_for(fixture: &Fixture, pid: Pid, wanted: Rest) {
        until("at rest", || Observer::rest(&fixture.listeners[0], pid) == wanted);
    }

    /// A worker at work on `work`, which ends when somebody writes to its fifo.
    fn finishing(fixture: &Fixture) -> (Worker, UnixStream) {
        let fifo = fixture.dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let worker = fixture.perl(BLOCKING);
        wait_for(fixture, worker.pid(), Rest::Waiting);
        let mut client = fixture.client();
        client.write_all(b"work\n").unwrap();
        let mut diag = SockDiag::open().unwrap();
        until("read", || diag.reception(client.as_fd(), 5).unwrap() == Some(Reception::Begun));
        wait_for(fixture, worker.pid(), Rest::AtWork);
        (worker, client)
    }

    fn release(fixture: &Fixture) {
        drop(std::fs::OpenOptions::new().write(true).open(fixture.dir.join("fifo")).unwrap());
    }

    #[test]
    fn a_connection_that_waits_is_taken_back_and_only_then() {
        let fixture = Fixture::new();
        let (worker, mut client) = finishing(&fixture);
        let mut observer = Observer::new();
        let take = |observer: &mut Observer| {
            observer.take_back(&fixture.listeners[0], worker.pid(), Way::New).unwrap()
        };
        assert_eq!(take(&mut observer), TakenBack::Begun, "there is none");
        let mut waiting = fixture.client();
        waiting.write_all(b"echo x\n").unwrap();
        // A worker that does not get the CPU stops too late, and is asked again.
        until("taken", || take(&mut observer) == TakenBack::Taken);
        let end = waiting.read(&mut [0; 9]);
        assert!(matches!(end, Ok(0)) || end.is_err(), "{end:?}");
        release(&fixture);
        client.read_exact(&mut [0; 5]).unwrap();
        drop(client);
        wait_for(&fixture, worker.pid(), Rest::Waiting);
        assert_eq!(take(&mut observer), TakenBack::Begun, "it is about to accept");
    }

    #[test]
    fn what_waits_on_a_kept_connection_is_taken_back_whole_or_not_at_all() {
        let fixture = Fixture::new();
        let (worker, mut client) = finishing(&fixture);
        let mut observer = Observer::new();
        let take = |observer: &mut Observer, length| {
            observer.take_back(&fixture.listeners[0], worker.pid(), Way::Kept(length)).unwrap()
        };
        client.write_all(b"echo one\n").unwrap();
        assert_eq!(take(&mut observer, 10), TakenBack::Begun, "it is not this one");
        until("taken", || take(&mut observer, 9) == TakenBack::Taken);
        client.write_all(b"echo two\n").unwrap();
        release(&fixture);
        let mut answer = String::new();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "done\ntwo\n");
    }

    /// A hang would be one of the test's, too, so that somebody else waits for it.
    #[test]
    fn what_others_accept_meanwhile_is_not_waited_for() {
        const ROUNDS: usize = 3000;
        let fixture = Fixture::new();
        let listener = &fixture.listeners[0];
        // A child that an ended worker has left behind; it ends with the last connection.
        let child = std::os::unix::net::UnixListener::from(listener.as_fd().try_clone_to_owned().unwrap());
        let (done, is_done) = std::sync::mpsc::channel();
        let accepting = std::thread::spawn(move || {
            while child
                .accept()
                .is_ok_and(|(mut stream, _)| stream.read(&mut [0]).is_ok_and(|count| count == 0))
            {
            }
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    drop(fixture.client());
                    take_pending(listener);
                }
                done.send(()).unwrap();
            });
            let in_time = is_done.recv_timeout(Duration::from_secs(20));
            while !accepting.is_finished() {
                drop(fixture.client().write_all(b"x"));
                pause();
            }
            in_time.expect("nobody is waited for");
        });
    }
}
