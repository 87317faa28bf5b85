//! Worker processes as the master holds them: pid, the socket that is their FD 0, the pipes that they speak through.
//!
//! Their states are the supervisor's. A worker's output pipes can outlive it: whatever it left behind may write to them.

mod written;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mio::Registry;

pub use self::written::Written;
use super::listeners::ListenerId;
use super::seats::Seat;
use crate::event;
use crate::event::token::Token;
use crate::ids::{Moment, Pid, PoolName, WorkerId};
use crate::log::capture::{Capture, Drained};
use crate::os::activity::Trail;
use crate::os::errno;
use crate::os::process::{Report, ReportPipe};
use crate::sorted::SortedMap;

/// Every worker that has not been reaped, and every output pipe that is still open.
#[derive(Debug, Default)]
pub struct Workers {
    alive: BTreeMap<WorkerId, Worker>,
    by_pid: HashMap<Pid, WorkerId>,
    outputs: HashMap<Token, Output>,
    former: SortedMap<PoolName, VecDeque<Pid>>,
}

/// One worker process.
#[derive(Debug)]
pub struct Worker {
    /// Its pool.
    pub pool: PoolName,
    /// Its FD 0.
    pub seat: Seat,
    /// Its process.
    pub pid: Pid,
    /// Open until its program runs or has failed to.
    pub report: Option<ReportPipe>,
    /// What tries to stop it have seen.
    pub trail: Trail,
    /// What it said last before it closed its output.
    pub last_words: Option<String>,
}

#[derive(Debug)]
struct Output {
    pipe: OwnedFd,
    capture: Capture,
}

/// Former workers' pids that are remembered for each pool, to know their sessions again.
const FORMER: usize = 1024;

impl Workers {
    /// A worker was started.
    pub fn insert(&mut self, id: WorkerId, worker: Worker) {
        self.by_pid.insert(worker.pid, id);
        self.alive.insert(id, worker);
    }

    /// The worker, until it is reaped.
    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.alive.get(&id)
    }

    /// The worker, until it is reaped.
    pub fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.alive.get_mut(&id)
    }

    /// The worker with this pid.
    pub fn by_pid(&self, pid: Pid) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }

    /// The processes of all.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.by_pid.keys().copied()
    }

    /// The pool's workers with their processes.
    pub fn named(&self, pool: &PoolName) -> impl Iterator<Item = (WorkerId, Pid)> {
        let alive = self.alive.iter().filter(move |(_, worker)| worker.pool == *pool);
        alive.map(|(id, worker)| (*id, worker.pid))
    }

    /// Workers on this socket.
    pub fn on_listener(&self, listener: ListenerId) -> usize {
        self.alive.values().filter(|worker| worker.seat == Seat::Shared(listener)).count()
    }

    /// The worker was reaped: its pid may be another process's from now on.
    pub fn exited(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.alive.remove(&id)?;
        self.by_pid.remove(&worker.pid);
        let former = self.former.or_default(worker.pool.clone());
        if former.len() == FORMER {
            former.pop_front();
        }
        former.push_back(worker.pid);
        Some(worker)
    }

    /// The pids of the pool's latest former workers, each the name of a session that it led; forgets them.
    pub fn take_former(&mut self, pool: &PoolName) -> impl Iterator<Item = Pid> {
        self.former.remove(pool).into_iter().flatten()
    }

    /// What the worker reported about its start; the pipe is closed once there is news.
    pub fn report(&mut self, id: WorkerId) -> Report {
        let Some(worker) = self.alive.get_mut(&id) else { return Report::Pending };
        let Some(pipe) = &worker.report else { return Report::Pending };
        let report = pipe.read();
        if !matches!(report, Report::Pending) {
            worker.report = None;
        }
        report
    }

    /// Watches a worker's output; `pipe` is our end, non-blocking.
    ///
    /// # Errors
    /// It cannot be watched: the pipe is closed, and the worker gets SIGPIPE if it writes.
    pub fn listen_to(
        &mut self,
        token: Token,
        pipe: OwnedFd,
        capture: Capture,
        registry: &Registry,
    ) -> io::Result<()> {
        event::watch(registry, pipe.as_fd(), token)?;
        self.outputs.insert(token, Output { pipe, capture });
        Ok(())
    }

    /// Logs what came through this pipe; true if there may be more at once.
    pub fn drain(&mut self, token: Token, now: Moment) -> bool {
        let Some(output) = self.outputs.get_mut(&token) else { return false };
        match output.capture.drain(output.pipe.as_fd(), now) {
            Ok(Drained::Empty) => false,
            Ok(Drained::More) => true,
            Ok(Drained::Closed) => {
                if let Some(output) = self.outputs.remove(&token) {
                    self.keep_last_words(token, &output.capture);
                }
                false
            }
            Err(error) => {
                log::warn!("cannot read the output of a worker: {}", errno::said(&error));
                self.outputs.remove(&token);
                false
            }
        }
    }

    /// What the worker said last, of standard error if it said anything there.
    pub fn last_words(&self, id: WorkerId) -> Option<String> {
        let open = |token| self.outputs.get(&token)?.capture.last_words();
        let closed = || self.alive.get(&id)?.last_words.clone();
        open(Token::Stderr(id)).or_else(closed).or_else(|| open(Token::Stdout(id)))
    }

    fn keep_last_words(&mut self, token: Token, capture: &Capture) {
        let (id, is_better) = match token {
            Token::Stderr(id) => (id, true),
            Token::Stdout(id) => (id, false),
            _ => return,
        };
        let Some(words) = capture.last_words() else { return };
        if let Some(worker) = self.alive.get_mut(&id)
            && (is_better || worker.last_words.is_none())
        {
            worker.last_words = Some(words);
        }
    }

    /// Logs what is left in every pipe; nobody will read them any more.
    pub fn finish_outputs(&mut self, now: Moment) {
        for output in self.outputs.values_mut() {
            while matches!(output.capture.drain(output.pipe.as_fd(), now), Ok(Drained::More)) {}
            output.capture.finish();
        }
        self.outputs.clear();
    }
}
