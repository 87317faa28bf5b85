//! What workers on a shared socket are doing, seen from outside; and the stop that cannot lose a request.
//!
//! Three looks are joined: which connections have been accepted from the pool's sockets (`sockdiag`), who holds them
//! (`/proc/PID/fd`), and what each thread waits for (`wait`). Children of a worker count with it: flup's forking server and
//! php-cgi with PHP_FCGI_CHILDREN accept in them. Nothing here knows a protocol, and nothing decides whom to stop.

mod rest;
pub(in crate::os) mod wait;

use std::borrow::Borrow;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sched::sched_yield;
use nix::sys::stat::fstat;

pub use self::rest::{Rest, TakenBack, Way, take_pending};
use self::wait::Wait;
use serde::{Deserialize, Serialize};

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
    /// Tells whether two looks saw the same connections: equal sets give equal numbers.
    held: u64,
}

/// What the last try to stop a worker saw, so that the next one knows whether it is busy with the same thing.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Trail(Option<u64>);

/// What became of [`Observer::stop_if_idle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It was idle and has the signal.
    Sent,
    /// It was not idle, or not for certain, and goes on untouched.
    NotIdle(Activity),
    /// As this, and it has one short request after the other.
    Restless(Activity),
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
    /// Under load a worker waits for a connection for some microseconds at a time, which a look rarely meets. `trail` is kept
    /// from try to try: a worker that has other connections than at the last one is serving short requests, and is stopped
    /// for the second look without being seen idle at the first. One that still has the same connection is left alone.
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
        trail: &mut Trail,
    ) -> Result<StopOutcome, SignalError> {
        let seen = self.observe(listeners, pid);
        let is_restless = unfit(seen).is_some() && trail.has_moved_on(seen);
        if let Some(outcome) = unfit(seen).filter(|_| !is_restless) {
            return Ok(outcome);
        }
        let mut stopped = Stopped(Vec::new());
        if stopped.stop(pid)? == Settled::No {
            return Ok(StopOutcome::NotIdle(Activity::Unknown));
        }
        match unfit(look_at_stopped(&self.sockets(listeners), pid)) {
            Some(StopOutcome::NotIdle(activity)) if is_restless => {
                return Ok(StopOutcome::Restless(activity));
            }
            Some(outcome) => return Ok(outcome),
            None => {}
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

impl Trail {
    /// Whether a worker with connections has changed them since the last look. Remembers this one.
    fn has_moved_on(&mut self, seen: Observation) -> bool {
        let before = self.0.replace(seen.held);
        let is_occupied = matches!(seen.activity, Activity::Busy | Activity::Waiting);
        is_occupied && before.is_some_and(|held| held != seen.held)
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
            // Lets them run that are to stop; at most as long as SETTLE.
            let _ = sched_yield();
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
    Observation { activity: Activity::Unknown, connections: None, method, held: 0 }
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
            return Observation { activity, connections: None, method: WITHOUT_DIAG, held: 0 };
        }
        let activity = match (self.connections.len(), self.places.as_slice()) {
            (0, places) if places.iter().any(|place| place.is_at_listener()) => Activity::Idle,
            // No connection, and not waiting for one: still starting, or at work after its answer.
            (0, _) => Activity::Busy,
            (_, [Place::Peer]) => Activity::Waiting,
            (_, _) => Activity::Busy,
        };
        let connections = u32::try_from(self.connections.len()).unwrap_or(u32::MAX);
        // Inodes are counted up, so that a sum tells two sets of sockets apart for all that matters here.
        let held = self.connections.iter().fold(0, |sum: u64, inode| sum.wrapping_add(*inode));
        Observation { activity, connections: Some(connections), method: METHOD, held }
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
mod tests {
    pub(super) mod workers;

    use std::collections::HashSet;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::{Command, ExitStatus, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Instant;

    use self::workers::{BLOCKING, Fixture, SELECTING, Worker, echo, installed};
    use super::*;

    /// How much the clients want.
    #[derive(Clone, Copy, PartialEq)]
    enum Load {
        /// Fewer at a time than there are workers: some worker is idle for a moment now and then.
        Light,
        /// One fewer than there are workers, without a pause: an idle moment lasts no longer than a request.
        Full,
    }

    /// What the loop below did.
    #[derive(Debug, Default)]
    struct Tally {
        stopped: u32,
        refused: u32,
        ends: HashSet<Option<i32>>,
    }

    /// Clients send requests without pause; meanwhile idle workers are stopped and replaced, at least `rounds` times.
    fn replace_under_load(
        fixture: &Fixture,
        start: impl Fn() -> Worker,
        request: impl Fn(&Path, u32) -> Result<(), String> + Sync,
        (load, signal, rounds): (Load, Signal, u32),
    ) -> Tally {
        let (over, served) = (AtomicBool::new(false), AtomicU32::new(0));
        let path = fixture.path();
        let mut workers: Vec<Worker> = (0..3).map(|_| start()).collect();
        let tally = std::thread::scope(|scope| {
            let client = || {
                while !over.load(Ordering::Relaxed) {
                    let number = served.fetch_add(1, Ordering::Relaxed);
                    request(&path, number)?;
                    if load == Load::Light {
                        std::thread::sleep(Duration::from_micros(u64::from(number % 7) * 50));
                    }
                }
                Ok::<(), String>(())
            };
            let clients: Vec<_> = (0..workers.len() - 1).map(|_| scope.spawn(client)).collect();
            let tally = stop_again_and_again(fixture, &mut workers, &start, (signal, rounds));
            over.store(true, Ordering::Relaxed);
            for client in clients {
                assert_eq!(client.join().unwrap(), Ok(()), "a request was lost: {tally:?}");
            }
            tally
        });
        assert!(served.load(Ordering::Relaxed) > 10, "there was load");
        tally
    }

    fn stop_again_and_again(
        fixture: &Fixture,
        workers: &mut [Worker],
        start: impl Fn() -> Worker,
        (signal, rounds): (Signal, u32),
    ) -> Tally {
        let mut observer = Observer::new();
        let mut trails = vec![Trail::default(); workers.len()];
        let mut tally = Tally::default();
        let deadline = Instant::now() + Duration::from_secs(60);
        while tally.stopped < rounds && Instant::now() < deadline {
            for (worker, trail) in workers.iter_mut().zip(&mut trails) {
                match observer.stop_if_idle(&fixture.listeners, worker.pid(), signal, trail).unwrap() {
                    StopOutcome::Sent => {
                        let mut ended = std::mem::replace(worker, start());
                        tally.ends.insert(end(&mut ended).signal());
                        tally.stopped += 1;
                    }
                    StopOutcome::NotIdle(_) | StopOutcome::Restless(_) => tally.refused += 1,
                    StopOutcome::Gone => panic!("a worker ended by itself"),
                }
            }
        }
        tally
    }

    /// Waits for the end of a worker that has its signal.
    fn end(worker: &mut Worker) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = worker.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "a signalled worker goes on");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn echo_request(path: &Path, number: u32) -> Result<(), String> {
        let mut client = UnixStream::connect(path).map_err(|error| format!("connect: {error}"))?;
        client.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
        let answer = echo(&mut client, &number.to_string())?;
        if answer == number.to_string() { Ok(()) } else { Err(format!("'{answer}' instead of {number}")) }
    }

    #[test]
    fn no_request_is_lost_to_a_killed_blocking_worker() {
        let fixture = Fixture::new();
        let tally = replace_under_load(
            &fixture,
            || fixture.perl(BLOCKING),
            echo_request,
            (Load::Light, Signal::KILL, 60),
        );
        assert!(tally.stopped >= 60, "{tally:?}");
        assert_eq!(tally.ends, HashSet::from([Some(9)]));
    }

    #[test]
    fn a_worker_that_is_never_idle_for_long_is_caught_between_two_requests() {
        let fixture = Fixture::new();
        let tally = replace_under_load(
            &fixture,
            || fixture.perl(BLOCKING),
            echo_request,
            (Load::Full, Signal::KILL, 40),
        );
        assert!(tally.stopped >= 40, "{tally:?}");
    }

    #[test]
    fn no_request_is_lost_to_a_killed_selecting_worker() {
        let fixture = Fixture::new();
        let tally = replace_under_load(
            &fixture,
            || fixture.perl(SELECTING),
            echo_request,
            (Load::Light, Signal::KILL, 30),
        );
        assert!(tally.stopped >= 30, "{tally:?}");
    }

    /// A whole FastCGI request for one PHP script, in the smallest form.
    fn php_request(path: &Path, script: &Path) -> Result<(), String> {
        let record = |kind: u8, content: &[u8]| {
            let length = (content.len() as u16).to_be_bytes();
            [&[1, kind, 0, 1, length[0], length[1], 0, 0], content].concat()
        };
        let script = script.to_str().unwrap();
        let pairs = [("SCRIPT_FILENAME", script), ("REQUEST_METHOD", "GET"), ("REDIRECT_STATUS", "200")];
        let pair = |(name, value): (&str, &str)| {
            [&[name.len() as u8, value.len() as u8], name.as_bytes(), value.as_bytes()].concat()
        };
        let parameters: Vec<u8> = pairs.into_iter().flat_map(pair).collect();
        let request =
            [record(1, &[0, 1, 0, 0, 0, 0, 0, 0]), record(4, &parameters), record(4, b""), record(5, b"")];
        let mut client = UnixStream::connect(path).map_err(|error| format!("connect: {error}"))?;
        client.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
        client.write_all(&request.concat()).map_err(|error| format!("write: {error}"))?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).map_err(|error| format!("read: {error}"))?;
        if answer.windows(9).any(|window| window == b"all right") {
            Ok(())
        } else {
            Err(format!("answer: {:?}", String::from_utf8_lossy(&answer)))
        }
    }

    #[test]
    fn php_cgi_is_seen_and_stopped_without_a_loss() {
        if !installed("php-cgi") {
            return;
        }
        let fixture = Fixture::new();
        let script = fixture.dir.join("x.php");
        std::fs::write(&script, "<?php usleep(500); echo 'all right';").unwrap();
        let start = || {
            let mut command = Command::new("php-cgi");
            Worker::start(command.env_clear().env("PHP_FCGI_MAX_REQUESTS", "0"), &fixture.listeners[0])
        };
        let worker = start();
        fixture.wait_for(&worker, Activity::Idle, 0);
        php_request(&fixture.path(), &script).unwrap();
        fixture.wait_for(&worker, Activity::Idle, 0);
        let client = fixture.client();
        fixture.wait_for(&worker, Activity::Waiting, 1);
        drop((client, worker));
        let request = |path: &Path, _| php_request(path, &script);
        let tally = replace_under_load(&fixture, start, request, (Load::Full, Signal::TERM, 25));
        assert!(tally.stopped >= 25, "{tally:?}");
        assert_eq!(tally.ends, HashSet::from([None]), "php-cgi ends by itself, exit code 0");
    }

    /// libfcgi, which C, C++ and Perl workers share: it tests for the signal and only then calls accept.
    const LIBFCGI: &str = r#"
        my $request = FCGI::Request();
        while ($request->Accept() >= 0) { print "Status: 200\r\n\r\nall right"; }"#;

    #[test]
    fn libfcgi_is_stopped_without_a_loss() {
        let installed = Command::new("perl").args(["-MFCGI", "-e", "1"]).stderr(Stdio::null()).status();
        if !installed.is_ok_and(|status| status.success()) {
            println!("skipped: libfcgi-perl is not installed");
            return;
        }
        let fixture = Fixture::new();
        let start =
            || Worker::start(Command::new("perl").args(["-MFCGI", "-e", LIBFCGI]), &fixture.listeners[0]);
        let request = |path: &Path, _| php_request(path, Path::new("/none"));
        let tally = replace_under_load(&fixture, start, request, (Load::Light, Signal::TERM, 25));
        assert!(tally.stopped >= 25, "{tally:?}");
    }
}
