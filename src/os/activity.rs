//! What workers on a shared socket are doing, seen from outside; and the stop that cannot lose a request.
//!
//! Three looks are joined: which connections have been accepted from the pool's sockets (`sockdiag`), who holds them
//! (`/proc/PID/fd`), and what each thread waits for (`wait`). Children of a worker count with it: flup's forking server and
//! php-cgi with PHP_FCGI_CHILDREN accept in them. Nothing here knows a protocol, and nothing decides whom to stop.

mod wait;

use std::borrow::Borrow;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::stat::fstat;

use self::wait::Wait;
use super::clock;
use super::procfs::{self, State};
use super::signal::{self, Delivery, SignalError};
use super::sockdiag::{Inodes, SockDiag};
use super::socket::Listener;
use crate::ids::{Pid, Signal};
use crate::status::snapshot::Activity;

/// How the numbers of a pool are found, where nothing stands in the way; for the status.
pub const METHOD: &str = "connections by sock_diag and /proc/PID/fd, waiting by /proc/PID/syscall";
/// Without sock_diag, for a worker that waits in accept.
const WITHOUT_DIAG: &str = "waiting by /proc/PID/syscall";
/// Where /proc keeps another user's process from us.
const DENIED: &str = "not permitted to look at the process";
/// For a process that is no more.
const ENDED: &str = "the process has ended";
/// For a process that someone stopped by SIGSTOP or a debugger.
const STOPPED: &str = "the process is stopped";

/// How long a worker may take to stop: it needs the CPU for a moment. One that does not get it is looked at again later.
const SETTLE: Duration = Duration::from_millis(2);

/// What a worker was seen doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// In one word.
    pub activity: Activity,
    /// Connections accepted from the pool's sockets that it holds open; `None` where that cannot be seen.
    pub connections: Option<u32>,
    /// How this was found, or why it could not be: one phrase.
    pub method: &'static str,
}

/// What became of [`Observer::stop_if_idle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It was idle and has the signal.
    Sent,
    /// It was not idle, or not for certain, and goes on untouched.
    NotIdle(Activity),
    /// It has ended before.
    Gone,
}

/// Looks at workers. Keeps one netlink socket open.
#[derive(Debug)]
pub struct Observer {
    diag: Option<SockDiag>,
}

/// The sockets of a pool at one moment.
struct Sockets {
    listening: Inodes,
    /// `None` without sock_diag.
    accepted: Option<Inodes>,
}

/// Everything that one look at a worker and its children gives.
#[derive(Debug, Default)]
struct Look {
    /// Accepted connections that are held, each once.
    connections: Inodes,
    /// One entry a thread; empty where the kernel does not tell.
    places: Vec<Place>,
}

/// Where a thread waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In accept on a socket of the pool.
    Accept,
    /// For a new connection by way of poll, select, epoll or io_uring.
    Listener,
    /// For the peer of an accepted connection and for nothing else.
    Peer,
    /// Anywhere else, or nowhere: at work.
    Elsewhere,
}

/// Descriptors of one process.
#[derive(Debug, Default)]
struct Descriptors {
    listening: Vec<i32>,
    connections: Vec<i32>,
}

impl Observer {
    /// An observer; without sock_diag one that sees less and says so.
    pub fn new() -> Observer {
        let diag = SockDiag::open().inspect_err(|error| ::log::debug!("{error}")).ok();
        Observer { diag }
    }

    /// The netlink socket, for questions about queues.
    pub fn diag(&mut self) -> Option<&mut SockDiag> {
        self.diag.as_mut()
    }

    /// What the worker `pid` is doing at `listeners`, the sockets of its pool.
    pub fn observe<L: Borrow<Listener>>(&mut self, listeners: &[L], pid: Pid) -> Observation {
        look(&self.sockets(listeners), pid)
    }

    /// What each of `pids` is doing, in their order, with one question to the kernel about connections for all of them.
    pub fn observe_all<L: Borrow<Listener>>(&mut self, listeners: &[L], pids: &[Pid]) -> Vec<Observation> {
        let sockets = self.sockets(listeners);
        pids.iter().map(|pid| look(&sockets, *pid)).collect()
    }

    /// Sends `signal` to the worker `pid` only if it is idle, so that no connection is lost.
    ///
    /// A look alone would leave a gap in which the worker accepts and then dies with the request. So an idle worker is
    /// stopped (SIGSTOP, its children too), looked at again while it can do nothing, and only then signalled and resumed.
    /// A stopped process accepts nothing; /proc still shows accept(2) as its system call if that has just returned, which
    /// is why the connection decides and not the call. Takes 2 ms at most beyond the two looks.
    ///
    /// `pid` must be a child of ours that is not reaped, as otherwise the number might be somebody else's by now. Its stop
    /// raises SIGCHLD; wait for ended children only.
    ///
    /// # Errors
    /// We may not signal it. It goes on untouched.
    pub fn stop_if_idle<L: Borrow<Listener>>(
        &mut self,
        listeners: &[L],
        pid: Pid,
        signal: Signal,
    ) -> Result<StopOutcome, SignalError> {
        if let Some(outcome) = unfit(self.observe(listeners, pid)) {
            return Ok(outcome);
        }
        let mut stopped = Stopped(Vec::new());
        if stopped.stop(pid)? == Settled::No {
            return Ok(StopOutcome::NotIdle(Activity::Unknown));
        }
        if let Some(outcome) = unfit(look_at_stopped(&self.sockets(listeners), pid)) {
            return Ok(outcome);
        }
        match signal::send(pid, signal)? {
            Delivery::Sent => Ok(StopOutcome::Sent),
            Delivery::Gone => Ok(StopOutcome::Gone),
        }
    }

    fn sockets<L: Borrow<Listener>>(&mut self, listeners: &[L]) -> Sockets {
        let inode = |listener: &L| fstat(listener.borrow().as_fd()).ok().map(|stat| stat.st_ino);
        let names = listeners.iter().map(|listener| listener.borrow().local_name());
        let accepted = self.diag.as_mut().and_then(|diag| diag.accepted(names).ok());
        Sockets { listening: listeners.iter().filter_map(inode).collect(), accepted }
    }
}

impl Default for Observer {
    fn default() -> Observer {
        Observer::new()
    }
}

/// The outcome for a worker that must not be signalled now.
fn unfit(seen: Observation) -> Option<StopOutcome> {
    match (seen.activity, seen.connections) {
        (Activity::Idle, Some(0)) => None,
        // Idle by its system call alone is not enough to send a signal.
        (Activity::Idle, _) => Some(StopOutcome::NotIdle(Activity::Unknown)),
        (Activity::Unknown, _) if seen.method == ENDED => Some(StopOutcome::Gone),
        (activity @ (Activity::Waiting | Activity::Busy | Activity::Unknown), _) => {
            Some(StopOutcome::NotIdle(activity))
        }
    }
}

/// Processes that we have stopped; they go on when this is dropped, whatever happens in between.
struct Stopped(Vec<Pid>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

impl Stopped {
    /// Stops a worker with its children and waits until none of their threads moves any more.
    fn stop(&mut self, pid: Pid) -> Result<Settled, SignalError> {
        let deadline = clock::monotonic().after(SETTLE);
        loop {
            // A child that is born while its parent is being stopped is found in the next round.
            let members = tree(pid);
            let new = members.iter().copied().filter(|member| !self.0.contains(member));
            let new: Vec<Pid> = new.collect();
            for member in &new {
                self.0.push(*member);
                match signal::send(*member, Signal::STOP) {
                    Ok(Delivery::Sent | Delivery::Gone) => {}
                    Err(error) if *member == pid => return Err(error),
                    // A child of another user: what it does in the meantime cannot be known.
                    Err(_) => return Ok(Settled::No),
                }
            }
            if new.is_empty() && members.iter().all(|member| is_stopped(*member)) {
                return Ok(Settled::Yes);
            }
            if clock::monotonic() >= deadline {
                return Ok(Settled::No);
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have ended; and whom we could stop we can resume.
            let _ = signal::send(*pid, Signal::CONT);
        }
    }
}

/// Whether no thread of a process can run. One that has ended cannot.
fn is_stopped(pid: Pid) -> bool {
    let mut all = true;
    let listed = procfs::threads(pid, |thread| {
        all &= match procfs::thread_state(pid, thread) {
            Ok(State::Stopped | State::Traced | State::Zombie) | Err(procfs::Error::Gone) => true,
            Ok(State::Running | State::Sleeping | State::DiskSleep | State::Other) | Err(_) => false,
        };
    });
    match listed {
        Ok(()) => all,
        Err(error) => error == procfs::Error::Gone,
    }
}

/// A look at a worker that runs.
fn look(sockets: &Sockets, pid: Pid) -> Observation {
    match procfs::stat(pid).map(|stat| stat.state) {
        Ok(State::Stopped | State::Traced) => unknown(STOPPED),
        Ok(State::Zombie) | Err(procfs::Error::Gone) => unknown(ENDED),
        Ok(State::Running | State::Sleeping | State::DiskSleep | State::Other) | Err(_) => {
            look_at_stopped(sockets, pid)
        }
    }
}

/// A look that does not mind whether the worker is stopped.
fn look_at_stopped(sockets: &Sockets, pid: Pid) -> Observation {
    let mut seen = Look::default();
    for member in tree(pid) {
        match seen.add(sockets, member) {
            Ok(()) => {}
            // A child that has ended holds nothing.
            Err(procfs::Error::Gone) if member != pid => {}
            Err(procfs::Error::Gone) => return unknown(ENDED),
            Err(procfs::Error::Denied(_) | procfs::Error::Unreadable(..)) => return unknown(DENIED),
        }
    }
    seen.judge(sockets.accepted.is_some())
}

fn unknown(method: &'static str) -> Observation {
    Observation { activity: Activity::Unknown, connections: None, method }
}

/// A process and its descendants, itself first.
fn tree(pid: Pid) -> Vec<Pid> {
    let mut members = vec![pid];
    let mut next = 0;
    while let Some(member) = members.get(next).copied() {
        next += 1;
        // What cannot be read has no children that we could do anything about.
        let _ = procfs::threads(member, |thread| {
            let _ = procfs::children(member, thread, |child| {
                if !members.contains(&child) {
                    members.push(child);
                }
            });
        });
    }
    members
}

impl Look {
    fn add(&mut self, sockets: &Sockets, pid: Pid) -> Result<(), procfs::Error> {
        let mut descriptors = Descriptors::default();
        procfs::sockets(pid, |fd, inode| {
            if sockets.listening.contains(&inode) {
                descriptors.listening.push(fd);
            } else if sockets.accepted.as_ref().is_some_and(|accepted| accepted.contains(&inode)) {
                descriptors.connections.push(fd);
                self.connections.insert(inode);
            }
        })?;
        procfs::threads(pid, |thread| {
            if let Ok(call) = procfs::syscall(pid, thread) {
                self.places.push(descriptors.place(&wait::of(pid, call)));
            }
        })
    }

    /// `counted` says whether the kernel has told which connections there are.
    fn judge(&self, counted: bool) -> Observation {
        if self.places.is_empty() && self.connections.is_empty() {
            return unknown(DENIED);
        }
        if !counted {
            // A process with one thread that waits in accept serves nobody; of all others we cannot know.
            let activity = if self.places == [Place::Accept] { Activity::Idle } else { Activity::Unknown };
            return Observation { activity, connections: None, method: WITHOUT_DIAG };
        }
        let activity = match (self.connections.len(), self.places.as_slice()) {
            (0, places) if places.iter().any(|place| place.is_at_listener()) => Activity::Idle,
            // No connection, and not waiting for one: still starting, or at work after its answer.
            (0, _) => Activity::Busy,
            (_, [Place::Peer]) => Activity::Waiting,
            (_, _) => Activity::Busy,
        };
        let connections = u32::try_from(self.connections.len()).unwrap_or(u32::MAX);
        Observation { activity, connections: Some(connections), method: METHOD }
    }
}

impl Place {
    fn is_at_listener(self) -> bool {
        match self {
            Place::Accept | Place::Listener => true,
            Place::Peer | Place::Elsewhere => false,
        }
    }
}

impl Descriptors {
    fn place(&self, wait: &Wait) -> Place {
        let listens = |fd: &i32| self.listening.contains(fd);
        let connected = |fd: &i32| self.connections.contains(fd);
        match wait {
            Wait::Accept(fd) if listens(fd) => Place::Accept,
            Wait::Read(fd) if connected(fd) => Place::Peer,
            Wait::Poll(set) | Wait::Epoll(set) if set.iter().any(listens) => Place::Listener,
            Wait::Poll(set) if !set.is_empty() && set.iter().all(connected) => Place::Peer,
            // What a ring holds cannot be seen; a worker that uses one also accepts through it.
            Wait::Ring if !self.listening.is_empty() => Place::Listener,
            // An event loop watches its connections even while it works on their requests: epoll tells nothing of peers.
            Wait::Accept(_) | Wait::Read(_) | Wait::Poll(_) | Wait::Epoll(_) | Wait::Ring | Wait::Other => {
                Place::Elsewhere
            }
        }
    }
}

#[cfg(test)]
mod tests;
