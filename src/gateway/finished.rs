//! What the gateway knows of a request: when it is over (for the access log), when it is slow (for the slow log), and while
//! its worker is looked at (for the full status page). Views that borrow; whoever renders them copies what it needs.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::params::Params;
use crate::ids::{Generation, Moment, Pid, SlotId, WorkerId};
use crate::os::clock::WallTime;
use crate::os::procfs::CpuTimes;
use crate::policy::Wear;
use crate::status::page::ProcessState;
use crate::wire::gateway::{Facts, FromGateway, Report, Settings};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its worker answered it to the end.
    Answered,
    /// The gateway answered it itself: status, ping.
    Page,
    /// The gateway refused it: its parameters are too long, or there is no place for its body.
    Rejected,
    /// `request_terminate_timeout` ended it.
    TimedOut,
    /// Its client left before the answer was complete.
    Aborted,
    /// Its worker, or the connection to it, ended before the answer was complete.
    Broken,
    /// Answered with a 503: `queue_limit` requests waited already.
    RefusedFull,
    /// Answered with a 503: it waited for `queue_timeout`, or the pool stopped.
    RefusedLate,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over TCP; a v4-mapped IPv6 address is written as IPv4.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

/// A worker, as a request knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerName {
    /// Its slot.
    pub slot: SlotId,
    /// Which worker.
    pub worker: WorkerId,
    /// Its process.
    pub pid: Pid,
    /// The settings that it was started with.
    pub generation: Generation,
}

impl WorkerName {
    /// What the master is told when it is to be replaced, after so many requests.
    pub fn worn(self, requests: u64, wear: Wear) -> FromGateway {
        FromGateway::Worn { slot: self.slot, worker: self.worker, requests, wear }
    }
}

/// A request that is over. Every request becomes one, exactly once.
#[derive(Debug, Clone)]
pub struct Finished<'a> {
    /// What the web server said of it: method, URI, script, user, content length and everything else.
    pub params: &'a Params,
    /// Who sent it.
    pub peer: Peer,
    /// How it ended.
    pub outcome: Outcome,
    /// The response's status; 0 where there was no response.
    pub status: u16,
    /// The response's head as the worker wrote it, up to 16 KiB; for php-fpm's `%o`. Empty for our own answers.
    pub head: &'a [u8],
    /// When it began to arrive, on the wall clock.
    pub start: WallTime,
    /// When it began to arrive.
    pub arrived: Moment,
    /// When all of it was there and it began to wait for a worker; `None` if that never came.
    pub ready: Option<Moment>,
    /// When it was given to its (last) worker; `None` if it never was.
    pub dispatched: Option<Moment>,
    /// When it ended, on the wall clock.
    pub end: WallTime,
    /// When it ended.
    pub ended: Moment,
    /// Bytes of its body that arrived.
    pub bytes_in: u64,
    /// Bytes of the response's body: STDOUT behind the head.
    pub bytes_out: u64,
    /// Its last worker.
    pub worker: Option<WorkerName>,
    /// Workers that it was given to.
    pub attempts: u32,
    /// What it cost its worker; only where `Wants` asks and /proc tells.
    pub usage: Option<Usage>,
}

impl Finished<'_> {
    /// From its arrival to its end.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.arrived)
    }

    /// How long it waited for a worker.
    pub fn queued(&self) -> Duration {
        self.ready.map_or(Duration::ZERO, |ready| self.dispatched.unwrap_or(self.ended).since(ready))
    }

    /// How long its worker had it.
    pub fn served(&self) -> Duration {
        self.dispatched.map_or(Duration::ZERO, |from| self.ended.since(from))
    }
}

/// What a request cost its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time.
    pub cpu: CpuTimes,
    /// The most memory that the process ever had resident, bytes.
    pub memory: u64,
}

/// A request that has been running for longer than `request_slowlog_timeout`. Told once a request.
#[derive(Debug, Clone)]
pub struct Slow<'a> {
    /// What the web server said of it.
    pub params: &'a Params,
    /// Who sent it.
    pub peer: Peer,
    /// When it began to arrive, on the wall clock.
    pub start: WallTime,
    /// When it began to arrive.
    pub arrived: Moment,
    /// When all of it was there and it began to wait for a worker.
    pub ready: Moment,
    /// When it was given to its worker.
    pub dispatched: Moment,
    /// Now.
    pub now: Moment,
    /// Bytes of its body that arrived.
    pub bytes_in: u64,
    /// Bytes of the response's body so far.
    pub bytes_out: u64,
    /// Its worker.
    pub worker: WorkerName,
    /// CPU time of its worker before it; only where `Wants` asks and /proc tells.
    pub cpu_before: Option<CpuTimes>,
}

/// One request that a worker has now, or its last one; for `&full`.
#[derive(Debug, Clone)]
pub struct Shown<'a> {
    /// REQUEST_METHOD, at most 512 bytes, like all texts here.
    pub method: &'a [u8],
    /// REQUEST_URI, else SCRIPT_NAME.
    pub uri: &'a [u8],
    /// QUERY_STRING.
    pub query: &'a [u8],
    /// SCRIPT_FILENAME.
    pub script: &'a [u8],
    /// REMOTE_USER.
    pub user: &'a [u8],
    /// CONTENT_LENGTH.
    pub content_length: Option<u64>,
    /// From its dispatch to its end, or to now while it runs.
    pub duration: Duration,
    /// How long it had waited for its worker.
    pub queue_wait: Duration,
    /// What it used, if it is over and was measured.
    pub cpu: Option<CpuTimes>,
    /// Whether it runs now.
    pub runs: bool,
}

/// A worker for `&full`.
#[derive(Debug, Clone)]
pub struct WorkerView<'a> {
    /// Which.
    pub name: WorkerName,
    /// What it does.
    pub state: ProcessState,
    /// When the gateway was told of it, on the wall clock, and how long ago that was.
    pub start: WallTime,
    /// See `start`.
    pub age: Duration,
    /// Requests served, the current ones included.
    pub requests: u64,
    /// Requests that it has now.
    pub current: u32,
    /// Its youngest request that runs, else its last one; `None` before the first.
    pub shown: Option<Shown<'a>>,
}

/// Everything that a page can show.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The pool's settings.
    pub settings: &'a Settings,
    /// The listening sockets, in the order of the settings.
    pub listeners: Vec<BorrowedFd<'a>>,
    /// What the master knows.
    pub facts: &'a Facts,
    /// What the gateway knows.
    pub report: &'a Report,
    /// The workers in the order of their slots.
    pub workers: Vec<WorkerView<'a>>,
    /// Now, on the wall clock.
    pub now: WallTime,
}

/// What the log formats need beyond what costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// `Finished::usage`: three reads of /proc a request.
    pub usage: bool,
}
