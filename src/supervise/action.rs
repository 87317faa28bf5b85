//! What the supervisor wants done. The master does each in order and answers where the action says so.

use std::time::Duration;

use crate::ids::{Generation, PoolName, Signal, Ticket, WorkerId};

/// What the supervisor wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open the pool's sockets for these settings, keeping those that are open and still wanted.
    /// Answer: `Event::Listening` or `Event::ListenFailed`.
    ///
    /// A generation that was not named before has the settings that the last `Event::Configure` brought for the pool,
    /// or a copy of its newest ones (`PoolCommand::Restart`). A generation that was named before comes again when the
    /// pool is started again or tried again, and after a reload that failed, whose sockets may have replaced its own.
    Listen {
        /// Which pool.
        pool: PoolName,
        /// With which settings.
        generation: Generation,
    },
    /// Put the settings that the last `Event::Configure` brought for the pool in force under this number, for workers that
    /// run: sockets, limits, logs. Answer: `Event::Amended`; if that failed, the old ones are in force.
    Amend {
        /// Which pool.
        pool: PoolName,
        /// Which number; it has been named before.
        generation: Generation,
    },
    /// Close the pool's sockets and remove their paths.
    CloseListeners {
        /// Which pool.
        pool: PoolName,
    },
    /// Forget the settings of this generation: no worker of it is left.
    ForgetSettings {
        /// Which pool.
        pool: PoolName,
        /// Which settings.
        generation: Generation,
    },
    /// Start a worker. Answer: `Event::Forked` then `Executing`, or `StartFailed`.
    Start {
        /// Which pool.
        pool: PoolName,
        /// With which settings.
        generation: Generation,
        /// The worker's number from now on.
        worker: WorkerId,
    },
    /// Send a signal to a worker's process (SIGKILL: to its whole session and group).
    Signal {
        /// Which worker.
        worker: WorkerId,
        /// Which signal.
        signal: Signal,
    },
    /// Look at the worker; if it is idle, make sure of it and send the signal before it can accept.
    /// Answer: `Event::StopSent`, or `Event::Observed` with what it was found doing.
    StopIfIdle {
        /// Which worker.
        worker: WorkerId,
        /// Which signal.
        signal: Signal,
    },
    /// Look at the worker. Answer: `Event::Observed`.
    Observe {
        /// Which worker.
        worker: WorkerId,
    },
    /// Have the gateway send a new worker its warm-up request. Answer: `Event::Warmed`, if it answers.
    WarmUp {
        /// Which worker.
        worker: WorkerId,
    },
    /// Let the worker have requests: it is ready. Only where there is a gateway.
    Admit {
        /// Which worker.
        worker: WorkerId,
    },
    /// Say how much demand there is. Answer: `News::Load` from a gateway, else `News::Surveyed`.
    Survey {
        /// Which pool.
        pool: PoolName,
    },
    /// Have the gateway give no more requests to so many idle workers, the longest idle first; fewer if there are fewer.
    /// Answer: `Event::Drained` for each, then `News::Released`.
    Release {
        /// Which pool.
        pool: PoolName,
        /// How many.
        count: u32,
    },
    /// Wait for a connection on the pool's sockets. Answer: `News::Queued`, once. Only where there is no gateway.
    AwaitQueue {
        /// Which pool.
        pool: PoolName,
    },
    /// Count the connections that wait on the pool's sockets. Answer: `News::Measured`. Only where there is no gateway.
    Measure {
        /// Which pool.
        pool: PoolName,
    },
    /// The pool stops: its gateway takes in no more requests and serves those that wait, while the workers go on until it
    /// has. Only where there is a gateway.
    CloseIntake {
        /// Which pool.
        pool: PoolName,
        /// What waits longer is refused.
        within: Duration,
    },
    /// The new generation, whose requests come through a gateway, can serve: its gateway accepts on the pool's sockets from
    /// now on, beside the workers of the one before, which did so alone.
    OpenIntake {
        /// Which pool.
        pool: PoolName,
    },
    /// The workers of the pool accept by themselves, and its gateway no more: it serves what it has, with the workers that it
    /// has, which go on until it has done so.
    PassIntake {
        /// Which pool.
        pool: PoolName,
        /// What waits longer is refused.
        within: Duration,
    },
    /// SIGKILL whatever the pool's former workers left behind: orphans, sessions, cgroup.
    KillLeftovers {
        /// Which pool.
        pool: PoolName,
    },
    /// One line for the log.
    Log {
        /// How grave.
        level: log::Level,
        /// "[pool www] child 12 exited with code 1 after 0.001234 seconds from start".
        text: String,
    },
    /// Tell a waiting client how far it is.
    Progress {
        /// Who waits.
        ticket: Ticket,
        /// A sentence.
        text: String,
    },
    /// Tell a waiting client that it is done or why not.
    Answer {
        /// Who waits.
        ticket: Ticket,
        /// What to print, or why it was not done.
        result: Result<String, String>,
    },
    /// Every pool has stopped and stopping was asked for: end the daemon.
    Exit,
}
