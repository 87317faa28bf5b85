//! One picture of the daemon at one moment. Made by the master, sent over the control socket, rendered by `status`.
//!
//! Unknown numbers are `None`, never 0; `method` fields say how a number was found.

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Pid, PoolName, WorkerId};

/// The daemon with its pools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// fpmd's version.
    pub version: String,
    /// The master's pid.
    pub pid: Pid,
    /// Start of the daemon, seconds since the epoch.
    pub start_time: u64,
    /// Seconds since then, by a clock that no one sets.
    pub start_since: u64,
    /// The configuration file, where there is one.
    pub config: Option<String>,
    /// What the daemon is doing: `running`, `reloading`, `stopping`.
    pub state: String,
    /// Pools in the order of their names.
    pub pools: Vec<PoolSnapshot>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolSnapshot {
    /// The pool's name.
    pub name: PoolName,
    /// `starting`, `running`, `reloading`, `backing off`, `stopping`, `stopped` or `failed`.
    pub state: String,
    /// Why, where the state needs a reason: the last failure in one sentence.
    pub reason: Option<String>,
    /// Seconds until the next try, while failed or backing off.
    pub retry_in: Option<f64>,
    /// php-fpm's `process manager`: `static`.
    pub process_manager: String,
    /// `direct`.
    pub dispatch: String,
    /// Which settings are in force.
    pub generation: Generation,
    /// Start of the pool, seconds since the epoch.
    pub start_time: u64,
    /// Seconds since then.
    pub start_since: u64,
    /// Its sockets.
    pub listeners: Vec<ListenerSnapshot>,
    /// How many workers it should have.
    pub max_children: u32,
    /// Workers seen waiting for a connection.
    pub idle_processes: u32,
    /// Workers seen with a connection or at work.
    pub active_processes: u32,
    /// Workers that run.
    pub total_processes: u32,
    /// Workers started since the pool started, replacements included.
    pub started: u64,
    /// Workers that ended with exit code 0, or after as many requests as they may serve.
    pub recycled: u64,
    /// Workers that ended otherwise without being asked to.
    pub crashed: u64,
    /// Workers that had to be ended by SIGKILL.
    pub killed: u64,
    /// Starts that failed before the program ran.
    pub start_failures: u64,
    /// How `idle` and `active` were found, in one phrase.
    pub activity_method: String,
    /// The workers, oldest first.
    pub workers: Vec<WorkerSnapshot>,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerSnapshot {
    /// The address as the configuration names it, with the real port where that was 0.
    pub address: String,
    /// Connections that wait to be accepted.
    pub queue: Option<u32>,
    /// How many may wait.
    pub queue_limit: Option<u32>,
    /// How the queue was found: `sock_diag`, `TCP_INFO`.
    pub queue_method: Option<String>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSnapshot {
    /// Its number over the daemon's life.
    pub id: WorkerId,
    /// Its pid.
    pub pid: Pid,
    /// Which settings it was started with.
    pub generation: Generation,
    /// `starting`, `running`, `draining`, `stopping` or `killed`.
    pub state: String,
    /// What it was seen doing.
    pub activity: Activity,
    /// Start of the worker, seconds since the epoch.
    pub start_time: u64,
    /// Seconds since then.
    pub start_since: u64,
    /// Accepted connections of the pool's sockets that it holds open.
    pub connections: Option<u32>,
    /// Resident set size, bytes.
    pub rss: Option<u64>,
    /// CPU time, user and system, seconds, its ended children included.
    pub cpu: Option<f64>,
}

/// What a worker was seen doing from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Waiting for a connection, and none is open.
    Idle,
    /// A connection is open and the worker waits for its peer: an idle kept connection, or a request still coming.
    Waiting,
    /// At work, or holding a connection whose state cannot be told.
    Busy,
    /// It could not be observed (no permission, or it just ended).
    Unknown,
}
