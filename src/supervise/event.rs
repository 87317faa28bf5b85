//! What can happen to the supervisor. The master turns system calls' results and commands into these.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ExitStatus, Generation, Pid, PoolName, Signal, Ticket, WorkerId};
use crate::policy::{Bounds, Heed, Lifetime, Wear};
use crate::status::snapshot::Activity;

/// What the supervisor has to know of a pool's settings; the master keeps the rest, by name and generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolPlan {
    /// The pool.
    pub name: PoolName,
    /// How many workers, and by what that is decided.
    pub bounds: Bounds,
    /// Asks an idle worker to end.
    pub stop_signal: Signal,
    /// How long a busy worker may go on before it gets `stop_signal` all the same.
    pub stop_timeout: Duration,
    /// What a worker that is not idle does with it.
    #[serde(default)]
    pub heed: Heed,
    /// From `stop_signal` to SIGKILL.
    pub kill_timeout: Duration,
    /// How long a new worker may take until its program runs, and until it is seen idle or busy (asked only while
    /// somebody waits for that: during a reload, a start, a drain of the worker that it replaces).
    pub start_timeout: Duration,
    /// Whether workers are expected to end with exit code 0 after a number of requests.
    pub recycles: bool,
    /// For how long workers live; `None` is for ever.
    #[serde(default)]
    pub max_lifetime: Option<Lifetime>,
    /// How requests come to the workers.
    pub intake: Intake,
    /// What makes a new worker ready.
    #[serde(default)]
    pub readiness: Readiness,
}

/// What makes a new worker ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// It is seen waiting for a request, or at work on one.
    #[default]
    Seen,
    /// It has answered a warm-up request. Only where there is a gateway.
    Warmed,
}

/// How requests come to the workers of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intake {
    /// They accept on the pool's own sockets: each takes what it gets as soon as it runs, and is watched from outside.
    Shared,
    /// The gateway gives each request to a worker that was admitted, and knows which have none.
    Gateway,
}

/// The demand on a pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Requests that wait for a worker.
    pub queued: u32,
    /// Workers with a request, of those that may get more.
    pub busy: u32,
    /// The least number of idle workers since the last picture.
    pub least_idle: u32,
}

/// What was seen or heard of the demand on a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// What the pool's gateway sees: whenever that changes so that it matters, and as the answer to `Action::Survey`.
    Load(Load),
    /// Workers of the pool have answered requests lately, though others have ended.
    Works,
    /// The gateway has said `Drained` of as many workers as it could (answers `Action::Release`); or it was replaced, and
    /// will not answer.
    Released,
    /// A connection waits on the pool's sockets (answers `Action::AwaitQueue`, once). Nobody waits for the next one any
    /// more; saying this without having been asked does no harm.
    Queued,
    /// So many connections wait on the pool's sockets (answers `Action::Measure`).
    Measured(u32),
    /// What all workers of a pool without a gateway were seen doing (answers `Action::Survey`).
    Surveyed {
        /// Connections that wait.
        queued: u32,
        /// Who does what.
        seen: Vec<(WorkerId, Activity)>,
    },
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// How many workers all pools together may have; `None` is any number. Comes before the first `Configure`.
    ProcessMax {
        /// The number.
        most: Option<u32>,
    },
    /// What was seen or heard of the demand on a pool.
    Demand {
        /// Which pool.
        pool: PoolName,
        /// What.
        news: News,
    },
    /// A client's connection is with this worker: it serves, whatever else it was seen doing.
    Holding {
        /// Which worker.
        worker: WorkerId,
    },
    /// Checked settings to put in force, at start and at each reload. Pools that are not in `plans` go on unchanged,
    /// but for those in `removed`, which are stopped and forgotten.
    Configure {
        /// New pools, and pools to exchange generation by generation.
        plans: Vec<PoolPlan>,
        /// Pools whose settings have changed in what needs no new workers.
        amended: Vec<PoolPlan>,
        /// Pools that the configuration no longer has.
        removed: Vec<PoolName>,
        /// Who waits for the end: answered when the last old worker is gone, or the reload failed.
        ticket: Option<Ticket>,
    },
    /// All sockets of the pool are open (answers `Action::Listen`).
    Listening {
        /// Which pool.
        pool: PoolName,
        /// With which settings.
        generation: Generation,
    },
    /// They cannot be opened (answers `Action::Listen`); nothing is left open by the attempt.
    ListenFailed {
        /// Which pool.
        pool: PoolName,
        /// With which settings.
        generation: Generation,
        /// "cannot bind '/run/x.sock': Read-only file system".
        reason: String,
    },
    /// New settings are in force for workers that run, or why not, and the old ones are (answers `Action::Amend`).
    Amended {
        /// Which pool.
        pool: PoolName,
        /// Its generation.
        generation: Generation,
        /// "cannot open log '/var/log/www.access': Permission denied".
        result: Result<(), String>,
    },
    /// How many processes reloads may have beyond what their pools should have, in all pools together; at least 1.
    ReloadSurge {
        /// So many.
        processes: u32,
    },
    /// The process exists (answers `Action::Start`).
    Forked {
        /// Which worker.
        worker: WorkerId,
        /// Its process.
        pid: Pid,
    },
    /// The process runs the pool's program.
    Executing {
        /// Which worker.
        worker: WorkerId,
    },
    /// `fork(2)` failed (answers `Action::Start`, no process exists), or a step or the exec failed in the child
    /// (after `Forked`; `Exited` follows and is not counted as a crash).
    StartFailed {
        /// Which worker.
        worker: WorkerId,
        /// "cannot execute '/usr/bin/php-cgx': No such file or directory".
        reason: String,
    },
    /// What a worker said last, when it has ended; `Exited` follows.
    LastWords {
        /// Which worker.
        worker: WorkerId,
        /// One line, or a few joined by "; ".
        text: String,
    },
    /// The process was reaped.
    Exited {
        /// Which worker.
        worker: WorkerId,
        /// How it ended.
        status: ExitStatus,
    },
    /// The worker has answered its warm-up request, or cannot (answers `Action::WarmUp`).
    Warmed {
        /// Which worker.
        worker: WorkerId,
        /// "it answered 500 when it was asked to warm up".
        result: Result<(), String>,
    },
    /// What a worker was seen doing (answers `Action::Observe` and `Action::StopIfIdle`).
    Observed {
        /// Which worker.
        worker: WorkerId,
        /// What it does.
        activity: Activity,
    },
    /// It has one short request after the other: a look at another moment may find it between two. Comes before `Observed`.
    Restless {
        /// Which worker.
        worker: WorkerId,
    },
    /// `Action::StopIfIdle` found it idle and the signal is sent.
    StopSent {
        /// Which worker.
        worker: WorkerId,
    },
    /// The gateway has no request for this worker and will have none: a `StopIfIdle` can succeed now.
    Drained {
        /// Which worker.
        worker: WorkerId,
    },
    /// A command about one pool.
    Pool {
        /// Which pool.
        pool: PoolName,
        /// What to do.
        command: PoolCommand,
        /// Who waits for the end.
        ticket: Option<Ticket>,
    },
    /// Take one worker out of service.
    Worker {
        /// Which worker.
        worker: WorkerId,
        /// What to do.
        command: WorkerCommand,
        /// Who waits for the end.
        ticket: Option<Ticket>,
    },
    /// SIGTERM, SIGQUIT, SIGINT or `fpmctl stop`: drain; a second one ends at once.
    Stop {
        /// Who waits for the end.
        ticket: Option<Ticket>,
    },
    /// `next_deadline` has come.
    Deadline,
}

/// A command about one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolCommand {
    /// Start a stopped or failed pool.
    Start,
    /// Drain and stop it, close its sockets.
    Stop,
    /// A new generation with the same settings.
    Restart,
    /// Another number of workers than the configuration says, at most where it follows demand; until the configuration
    /// says another.
    Scale(u32),
}

/// A command about one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCommand {
    /// Replacement first, then out when idle.
    Drain,
    /// SIGKILL now.
    Kill,
    /// It is worn: as `Drain`, but in its turn and without a deadline, and counted as recycled.
    Recycle(Wear),
    /// Its request takes too long: the stop signal now, SIGKILL after a second; its replacement at once.
    Terminate,
}
