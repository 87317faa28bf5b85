//! What fpmctl and the master say to each other over the control socket: one request a connection, then replies
//! until a final one. Each message is one line of JSON, ended by a newline.

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, PoolName};
use crate::status::snapshot::Snapshot;

/// Raised when a message changes its meaning; a peer of another version is refused with a sentence that says so.
pub const VERSION: u32 = 1;

/// The longest request line, bytes, its newline included. A longer one is answered with `Refused` and dropped.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The longest reply line that fpmctl reads, bytes: a status of 10,000 workers fits.
pub const MAX_REPLY: usize = 64 * 1024 * 1024;

/// The first and only line from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Must be `VERSION`.
    pub version: u32,
    /// What is asked for.
    pub command: Command,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// The state, of one pool or of all. Answered by `Reply::Status`. Needs read access only.
    Status {
        /// `None` is every pool.
        pool: Option<PoolName>,
    },
    /// Exit 0 only if the pool (or every pool) runs and has a worker. Needs read access only.
    Health {
        /// `None` is every pool.
        pool: Option<PoolName>,
    },
    /// The configuration in force, as TOML, in `Done`. Needs full access: it can hold secrets.
    Dump,
    /// Reads the configuration again and puts it in force for these pools (all, if none is named).
    Reload {
        /// Which pools; none is all.
        pools: Vec<PoolName>,
        /// Whose workers are exchanged.
        #[serde(default)]
        extent: Extent,
    },
    /// Starts a stopped or failed pool.
    Start {
        /// Which.
        pool: PoolName,
    },
    /// Drains and stops a pool, or the daemon.
    Stop {
        /// `None` is the daemon.
        pool: Option<PoolName>,
    },
    /// Exchanges a pool's workers: replacements first.
    Restart {
        /// Which.
        pool: PoolName,
    },
    /// Changes the number of workers until the next reload.
    Scale {
        /// Which.
        pool: PoolName,
        /// How many, 1 or more.
        workers: u32,
    },
    /// Takes one worker out of service when it is idle; a replacement is started.
    Drain {
        /// Its pid.
        pid: Pid,
    },
    /// Ends one worker at once by SIGKILL; a replacement is started.
    Kill {
        /// Its pid.
        pid: Pid,
    },
    /// Reopens the log files.
    Reopen,
    /// Goes on as the newest version of the program, in the same process.
    Upgrade,
}

impl Command {
    /// Whether members of `control_group` may send it.
    pub fn is_read_only(&self) -> bool {
        match self {
            Command::Status { .. } | Command::Health { .. } => true,
            Command::Dump
            | Command::Reload { .. }
            | Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Scale { .. }
            | Command::Drain { .. }
            | Command::Kill { .. }
            | Command::Reopen
            | Command::Upgrade => false,
        }
    }
}

/// Whose workers a reload exchanges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Those of every pool that it is about.
    #[default]
    Every,
    /// Those of pools where new settings or a new program need it; others get their new settings without that.
    Changed,
}

/// A line from the master. All but `Progress` are final: the master closes the connection after them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Still at work; a sentence for the terminal.
    Progress(String),
    /// It was done; what there is to print, often nothing.
    Done(String),
    /// It was refused or failed and why, a line for each reason. What was asked for was not done.
    Refused(String),
    /// The answer to `Status`.
    Status(Box<Snapshot>),
}
