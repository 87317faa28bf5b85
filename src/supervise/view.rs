//! What the status shows of the supervisor: plain values, made on request. Owns nothing that decides.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, Pid, PoolName, WorkerId};
use crate::policy::Mode;
use crate::status::snapshot::Activity;

use super::pool::{Pool, State};
use super::worker::{Duty, Process, Worker};

/// What has happened to a pool's workers since the pool came into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Workers whose program ran, replacements included.
    pub started: u64,
    /// Workers that ended with exit code 0, or after as many requests as they may serve.
    pub recycled: u64,
    /// Of these, those that had served as many requests as they may.
    pub worn: u64,
    /// Of these, those that had lived for long enough.
    #[serde(default)]
    pub outlived: u64,
    /// Of these, those that had kept more memory than they may.
    #[serde(default)]
    pub overweight: u64,
    /// Of these, those that had nothing to do for long enough.
    #[serde(default)]
    pub idle: u64,
    /// Of these, those that ended of their own with exit code 0.
    pub exited: u64,
    /// Workers that ended otherwise without being asked to.
    pub crashed: u64,
    /// Workers that ended by our SIGKILL.
    pub killed: u64,
    /// Starts that failed before the program ran.
    pub start_failures: u64,
    /// Times that more workers were wanted than `max_children`.
    pub max_children_reached: u64,
}

/// What the daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonState {
    /// Serving.
    Running,
    /// Serving, with a pool whose workers are being exchanged.
    Reloading,
    /// Every pool stops.
    Stopping,
}

/// What a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// Its sockets are being opened, or no worker runs yet.
    Starting,
    /// At least one worker serves.
    Running,
    /// Workers of two generations are there.
    Reloading,
    /// A worker is missing and the next start waits; `reason` and `retry_at` say more.
    BackingOff,
    /// Its workers leave.
    Stopping,
    /// Nothing runs.
    Stopped,
    /// Its sockets cannot be opened; `reason` and `retry_at` say more.
    Failed,
}

/// What a worker is doing, as far as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Its program does not run yet, or is not ready yet.
    Starting,
    /// It serves.
    Running,
    /// It will be asked to end when it is idle.
    Draining,
    /// It was asked to end.
    Stopping,
    /// It was sent SIGKILL.
    Killed,
}

/// One worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerView {
    /// Its number.
    pub id: WorkerId,
    /// Its process.
    pub pid: Pid,
    /// Which settings it has.
    pub generation: Generation,
    /// What it is doing.
    pub state: WorkerState,
    /// When its process was made.
    pub started: Moment,
    /// What it was last seen doing, if anyone looked.
    pub activity: Option<Activity>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// What it is doing.
    pub state: PoolState,
    /// The last failure, while the state needs a reason.
    pub reason: Option<String>,
    /// The next try, while the pool has failed or backs off and that moment is known.
    pub retry_at: Option<Moment>,
    /// The settings in force.
    pub generation: Generation,
    /// How many workers it should have, or at most where that follows demand.
    pub children: u32,
    /// How its number of workers is decided.
    pub mode: Mode,
    /// When it came into being.
    pub started: Moment,
    /// What has happened.
    pub counters: Counters,
    /// Its workers that have a process, the oldest first.
    pub workers: Vec<WorkerView>,
}

impl Pool {
    pub(super) fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id).or_else(|| self.stuck.get(&id))
    }

    pub(super) fn view(&self) -> PoolView {
        let state = self.view_state();
        let (reason, retry_at) = match (&self.state, state) {
            (State::Failed { reason, retry_at, .. }, _) => (Some(reason.clone()), Some(*retry_at)),
            (_, PoolState::BackingOff) => (self.reason.clone(), self.backoff.retry_at()),
            (_, _) => (None, None),
        };
        let everyone = self.stuck.values().chain(self.workers.values());
        let mut workers: Vec<WorkerView> = everyone.filter_map(Worker::view).collect();
        workers.sort_by_key(|worker| worker.id);
        PoolView {
            name: self.name.clone(),
            state,
            reason,
            retry_at,
            generation: self.current.generation,
            children: self.children(),
            mode: self.bounds().mode,
            started: self.started,
            counters: self.counters,
            workers,
        }
    }

    /// Whether a new generation is on its way, or an old one still there.
    pub(super) fn is_reloading(&self) -> bool {
        let old = |worker: &Worker| worker.generation() < self.current.generation;
        matches!(self.state, State::Serving) && (self.exchange.is_some() || self.workers.values().any(old))
    }

    fn view_state(&self) -> PoolState {
        match self.state {
            State::Opening { .. } if self.reason.is_none() => PoolState::Starting,
            State::Opening { .. } | State::Failed { .. } => PoolState::Failed,
            State::Stopping { .. } => PoolState::Stopping,
            State::Stopped | State::Removed => PoolState::Stopped,
            State::Serving if self.is_reloading() => PoolState::Reloading,
            State::Serving => {
                let tally = self.tally();
                let is_complete =
                    self.bounds().mode == Mode::Ondemand || self.workers.values().any(Worker::is_executing);
                if self.backoff.is_holding() && self.is_held_back(&tally) {
                    PoolState::BackingOff
                } else if is_complete {
                    PoolState::Running
                } else {
                    PoolState::Starting
                }
            }
        }
    }
}

impl Worker {
    fn view(&self) -> Option<WorkerView> {
        let state = match (&self.duty, self.process) {
            (Duty::Draining(_), _) => WorkerState::Draining,
            (Duty::Stopping { .. }, _) => WorkerState::Stopping,
            (Duty::Killed { .. }, _) => WorkerState::Killed,
            (Duty::Retiring, _) => WorkerState::Draining,
            (Duty::Serving, Process::Executing { .. }) => WorkerState::Running,
            (Duty::Serving | Duty::Joining(_), _) => WorkerState::Starting,
        };
        Some(WorkerView {
            id: self.id,
            pid: self.pid()?,
            generation: self.generation(),
            state,
            started: self.since()?,
            activity: self.seen,
        })
    }
}

impl fmt::Display for DaemonState {
    /// The words of the status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DaemonState::Running => "running",
            DaemonState::Reloading => "reloading",
            DaemonState::Stopping => "stopping",
        })
    }
}

impl PoolState {
    /// Whether workers are there or on their way, for all that the supervisor knows.
    pub fn is_up(self) -> bool {
        match self {
            PoolState::Starting | PoolState::Running | PoolState::Reloading => true,
            PoolState::BackingOff | PoolState::Stopping | PoolState::Stopped | PoolState::Failed => false,
        }
    }
}

impl fmt::Display for PoolState {
    /// The words of the status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PoolState::Starting => "starting",
            PoolState::Running => "running",
            PoolState::Reloading => "reloading",
            PoolState::BackingOff => "backing off",
            PoolState::Stopping => "stopping",
            PoolState::Stopped => "stopped",
            PoolState::Failed => "failed",
        })
    }
}

impl fmt::Display for WorkerState {
    /// The words of the status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WorkerState::Starting => "starting",
            WorkerState::Running => "running",
            WorkerState::Draining => "draining",
            WorkerState::Stopping => "stopping",
            WorkerState::Killed => "killed",
        })
    }
}
