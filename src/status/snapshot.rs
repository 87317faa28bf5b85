//! One picture of the daemon at one moment. Made by the master, sent over the control socket, rendered by `status`.
//!
//! Unknown numbers are `None`, never 0; `method` fields say how a number was found.

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
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
    /// `direct` or `gateway`.
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
    /// Of these, those that the gateway had given as many requests as they may have.
    #[serde(default)]
    pub recycled_requests: u64,
    /// Of these, those that had lived for long enough.
    #[serde(default)]
    pub recycled_lifetime: u64,
    /// Of these, those that had kept more memory than they may.
    #[serde(default)]
    pub recycled_memory: u64,
    /// Of these, those that had nothing to do for long enough.
    #[serde(default)]
    pub recycled_idle: u64,
    /// Workers that ended otherwise without being asked to.
    pub crashed: u64,
    /// Workers that had to be ended by SIGKILL.
    pub killed: u64,
    /// Starts that failed before the program ran.
    pub start_failures: u64,
    /// Times that more workers were wanted than `max_children`.
    #[serde(default)]
    pub max_children_reached: u64,
    /// How `idle` and `active` were found, in one phrase.
    pub activity_method: String,
    /// What the pool's control group counts; `None` without one.
    #[serde(default)]
    pub cgroup: Option<CgroupSnapshot>,
    /// What the pool's gateway counts; `None` without one, and where it does not answer.
    #[serde(default)]
    pub gateway: Option<GatewaySnapshot>,
    /// The workers, oldest first.
    pub workers: Vec<WorkerSnapshot>,
}

/// What a pool's control group counts. Numbers are `None` where the kernel's memory controller is not at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupSnapshot {
    /// Memory of all its processes, page cache included, bytes.
    pub memory: Option<u64>,
    /// The most that it was.
    pub memory_peak: Option<u64>,
    /// `memory_max`, where it is set.
    pub memory_max: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
}

/// What a gateway knows of a pool's requests: exact, since every request passes through it. Counted since that gateway's
/// process started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewaySnapshot {
    /// Its process.
    pub pid: Pid,
    /// Requests accepted: php-fpm's `accepted conn`.
    pub accepted_conn: u64,
    /// Requests that wait for a worker now: php-fpm's `listen queue`.
    pub listen_queue: u32,
    /// The most that waited at once: php-fpm's `max listen queue`.
    pub max_listen_queue: u32,
    /// How many may wait: php-fpm's `listen queue len`.
    pub listen_queue_len: u32,
    /// The most workers that were busy at once: php-fpm's `max active processes`.
    pub max_active_processes: u32,
    /// Requests that were slower than `request_slowlog_timeout`.
    pub slow_requests: u64,
    /// Requests that were ended by `request_terminate_timeout`.
    pub timed_out: u64,
    /// Requests answered with a 503 because too many waited.
    pub refused_full: u64,
    /// Requests answered with a 503 because they had waited too long.
    pub refused_late: u64,
    /// Requests sent to another worker after the first one failed.
    pub retried: u64,
    /// Requests that were taken from a worker that was at work after an earlier one.
    #[serde(default)]
    pub taken_back: u64,
    /// Requests whose worker ended before its answer was complete.
    pub broken: u64,
    /// Requests whose client left before the answer.
    pub aborted: u64,
    /// Responses with a status of 500 or more.
    pub server_errors: u64,
    /// Client connections that are open.
    pub connections: u32,
    /// Connections refused because of their address.
    #[serde(default)]
    pub refused_client: u64,
    /// Connections closed because they broke the protocol.
    #[serde(default)]
    pub refused_protocol: u64,
    /// How long requests waited for a worker.
    #[serde(default)]
    pub queue_wait: SpansSnapshot,
    /// How long their workers then had them.
    #[serde(default)]
    pub duration: SpansSnapshot,
}

/// How long things took, microseconds. A percentile is the bound of a bucket that so many of a hundred did not exceed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpansSnapshot {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: u64,
    /// The half.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// All but one of a hundred.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl From<&Histogram> for SpansSnapshot {
    fn from(spans: &Histogram) -> SpansSnapshot {
        SpansSnapshot {
            count: spans.count(),
            sum: spans.sum(),
            p50: spans.percentile(50),
            p90: spans.percentile(90),
            p99: spans.percentile(99),
            max: spans.max(),
        }
    }
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
    /// Accepted connections of the pool's sockets that it holds open; with a gateway, requests that it has now.
    pub connections: Option<u32>,
    /// Requests that it has served, the current ones included; `None` where nobody counts.
    #[serde(default)]
    pub requests: Option<u64>,
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
