//! What the status page shows and only the master knows: a part of the messages in `gateway`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What only the master knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// How many workers there may be.
    pub max_children: u32,
    /// The newest generation.
    pub generation: u32,
    /// Times that a worker was wanted beyond `max_children`.
    pub max_children_reached: u64,
    /// Workers started.
    pub started: u64,
    /// Workers that ended with exit code 0, or after as many requests as they may serve.
    pub recycled: u64,
    /// Of these, those that had served as many requests as they may.
    #[serde(default)]
    pub recycled_requests: u64,
    /// Of these, those that had lived for `max_lifetime`.
    #[serde(default)]
    pub recycled_lifetime: u64,
    /// Of these, those that had kept more than `max_memory`.
    #[serde(default)]
    pub recycled_memory: u64,
    /// Of these, those that were idle for `process_idle_timeout`.
    #[serde(default)]
    pub recycled_idle: u64,
    /// Of these, those that ended of their own with exit code 0.
    #[serde(default)]
    pub recycled_exited: u64,
    /// Workers that ended otherwise without being asked to.
    pub crashed: u64,
    /// Workers that had to be ended by SIGKILL.
    pub killed: u64,
    /// Starts that failed before the program ran.
    pub start_failures: u64,
    /// Processes of its workers that the kernel killed for want of memory; `None` where nobody counts.
    #[serde(default)]
    pub oom_kills: Option<u64>,
    /// The most memory that a worker had which has ended since, bytes.
    #[serde(default)]
    pub memory_peak: u64,
}

/// What a process is doing, seen from outside; nothing of one that has gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// `S (sleeping)`.
    pub state: Option<String>,
    /// The system call that it is in: `read(7)`.
    pub system_call: Option<String>,
    /// The file or peer that the call waits on: `socket 10.0.0.5:3306`.
    pub waits_on: Option<String>,
    /// The kernel function that it sleeps in.
    pub wchan: Option<String>,
    /// CPU time since its start.
    pub cpu: Option<Duration>,
    /// Resident memory, bytes.
    pub memory: Option<u64>,
    /// Lines of a stack trace, innermost frame first; empty while nobody makes one.
    #[serde(default)]
    pub trace: Vec<String>,
}
