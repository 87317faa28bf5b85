//! The configuration after every check: what the rest of fpmd works with. Only `resolve` makes one.
//!
//! Every value is filled in (a default is already applied) and valid on its own; `--dump` prints this.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Gid, PoolName, SchedulingPolicy, Signal, Uid};
use crate::policy::Lifetime;
use crate::policy::demand::{self, Bounds, Mode};
use crate::sorted::SortedMap;

pub use super::network::Network;
pub use super::resources::Resources;

/// The whole configuration: global settings and pools in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[global]`.
    pub global: Global,
    /// `[pool.NAME]`, each with its own name inside.
    pub pools: SortedMap<PoolName, Pool>,
}

/// `[global]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    /// Written after start with our pid and a newline, removed at the end; none by default.
    pub pid_file: Option<PathBuf>,
    /// Where log lines go.
    pub log: LogTarget,
    /// The least important level that is logged; `notice` by default.
    pub log_level: LogLevel,
    /// Text in php-fpm's form, or JSON.
    pub log_format: LogFormat,
    /// The control socket's path; `RUNTIME_DIR/fpmd.sock` by default.
    pub control_socket: PathBuf,
    /// The group whose members may read the status over the control socket.
    pub control_group: Option<Group>,
    /// The directory of what lives as long as fpmd does; `/run/fpmd` as root.
    pub runtime_dir: PathBuf,
    /// The user that gateways run as, with a group; `None` keeps fpmd's own.
    pub gateway_user: Option<User>,
    /// How many workers all pools together may have; 0 is no limit.
    pub process_max: u32,
    /// How long a worker that got its `stop_signal` may take before SIGKILL.
    pub process_control_timeout: Duration,
    /// How many processes reloads may have beyond the workers that there should be, in all pools together; at least 1.
    pub reload_surge: u32,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error; with journal priorities where that is the journal.
    Stderr,
    /// Standard output.
    Stdout,
    /// The local syslog daemon, facility daemon.
    Syslog,
    /// Standard error with journal priority prefixes.
    Journal,
    /// A file, opened for appending and reopened on SIGUSR1.
    File(PathBuf),
}

/// php-fpm's levels, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Someone has to act at once.
    Alert,
    /// Something failed.
    Error,
    /// Something is wrong and fpmd goes on.
    Warning,
    /// What an administrator wants to know of a healthy daemon.
    Notice,
    /// Everything.
    Debug,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `[20-Nov-2026 08:15:35] NOTICE: text`.
    Text,
    /// One JSON object a line.
    Json,
}

/// A user that exists: both forms, as the file named it and as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name, or the number where the file gave a number that has no name.
    pub name: String,
    /// The number.
    pub uid: Uid,
    /// The primary group from the user database; `None` for a number without an entry there.
    pub gid: Option<Gid>,
    /// The home directory from the user database.
    pub home: Option<PathBuf>,
}

/// A group that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The name, or the number where the file gave a number that has no name.
    pub name: String,
    /// The number.
    pub gid: Gid,
}

/// `[pool.NAME]` with its `pm` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The pool's name.
    pub name: PoolName,
    /// Where it listens: at least one address, no two alike.
    pub listen: Vec<ListenAddress>,
    /// Settings of the sockets that we create.
    pub socket: SocketSettings,
    /// The worker's argument vector; the first entry is an absolute path.
    pub command: Vec<String>,
    /// What `listen_*` and `dispatch` ask for.
    pub dispatch: Dispatch,
    /// The user that workers run as; `None` keeps fpmd's own.
    pub user: Option<User>,
    /// The group that workers run as; `None` is the user's primary group.
    pub group: Option<Group>,
    /// Replaces the user's supplementary groups; `None` takes those of the group database.
    pub supplementary_groups: Option<Vec<Group>>,
    /// Changed root directory of the workers.
    pub chroot: Option<PathBuf>,
    /// Working directory of the workers, inside `chroot`; `/` if there is a chroot, else fpmd's own.
    pub directory: Option<PathBuf>,
    /// File mode creation mask of the workers; `None` keeps fpmd's own.
    pub umask: Option<u32>,
    /// Nice value, -20 to 19; `None` keeps fpmd's own.
    pub process_priority: Option<i32>,
    /// Scheduling policy of the workers; `None` keeps fpmd's own.
    pub scheduling_policy: Option<SchedulingPolicy>,
    /// Soft and hard RLIMIT_NOFILE of the workers.
    pub rlimit_files: Option<u64>,
    /// Soft and hard RLIMIT_CORE of the workers, bytes; `u64::MAX` is unlimited.
    pub rlimit_core: Option<u64>,
    /// What the workers may use together.
    pub resources: Resources,
    /// The environment rules.
    pub environment: Environment,
    /// The signal that asks an idle worker to end.
    pub stop_signal: Signal,
    /// How long a busy worker may go on before it gets `stop_signal` all the same.
    pub stop_timeout: Duration,
    /// How long a new worker may take to become ready.
    pub start_timeout: Duration,
    /// Whether FD 1 and 2 are captured into the log; otherwise they are /dev/null.
    pub catch_workers_output: bool,
    /// Whether captured lines get time, pool and pid; otherwise they are copied as they are.
    pub decorate_workers_output: bool,
    /// How many workers.
    pub pm: ProcessManagement,
    /// What fpmd recognised the command as; its defaults are already in the fields above.
    pub known_worker: Option<KnownWorker>,
}

/// Programs whose right defaults fpmd knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownWorker {
    /// php-cgi of any version.
    PhpCgi,
}

/// An address as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ListenAddress {
    /// TCP over IPv4 or IPv6. A bare port is `[::]:PORT`, v4 included, with `0.0.0.0` where there is no IPv6.
    Tcp(SocketAddr),
    /// A bare port number.
    Port(u16),
    /// An absolute path of 1 to 107 bytes.
    Unix(PathBuf),
    /// A Linux abstract name, 1 to 107 bytes, written `@name`.
    Abstract(String),
    /// A socket inherited by `LISTEN_FDS`, by its `FileDescriptorName=`, written `systemd:NAME`.
    Systemd(String),
}

/// Settings of a listening socket that fpmd creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSettings {
    /// The queue's length as given to `listen(2)`; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// Owner of a Unix socket's path; `None` leaves it.
    pub owner: Option<User>,
    /// Group of a Unix socket's path; `None` leaves it.
    pub group: Option<Group>,
    /// Permission bits of a Unix socket's path, 0 to 0o777; 0o660 by default.
    pub mode: u32,
    /// Users with read and write access by POSIX ACL.
    pub acl_users: Vec<User>,
    /// Groups with read and write access by POSIX ACL.
    pub acl_groups: Vec<Group>,
}

/// Who accepts connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dispatch {
    /// The workers, on the pool's own socket.
    Direct,
    /// fpmd's gateway, which gives each request to a worker on a socket of that worker's own.
    Gateway(Box<Gateway>),
}

impl Dispatch {
    /// The word of the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Dispatch::Direct => "direct",
            Dispatch::Gateway(_) => "gateway",
        }
    }
}

/// What can be set only where the gateway sees the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Who may connect over TCP; empty is everyone.
    pub allowed_clients: Vec<Network>,
    /// Requests that one worker serves at once, at least 1.
    pub concurrency: u32,
    /// URL path, with or without a query, of a request that a new worker has to answer before it gets any other.
    pub warmup_path: Option<String>,
    /// URL path of the status page.
    pub status_path: Option<String>,
    /// URL path of the ping page; not that of the status page.
    pub ping_path: Option<String>,
    /// What the ping page says, not empty.
    pub ping_response: String,
    /// File that gets a line for each request.
    pub access_log: Option<PathBuf>,
    /// The form of that line: php-fpm's letters, or `json`.
    pub access_format: String,
    /// What is logged of slow requests, if anything.
    pub slow: Option<SlowLog>,
    /// Whether FCGI_STDERR is logged as well as sent to the web server.
    pub log_request_stderr: bool,
    /// How long a request may take from its dispatch.
    pub request_terminate_timeout: Option<Duration>,
    /// How long a worker may go on after the end of its answer.
    pub request_finish_timeout: Option<Duration>,
    /// How long a client may take to send a request's parameters, and how long it may be silent within a request.
    pub input_timeout: Option<Duration>,
    /// How long a request may wait for a worker.
    pub queue_timeout: Option<Duration>,
    /// How many requests may wait for a worker.
    pub queue_limit: u32,
    /// Bytes of a request body that are held in memory.
    pub request_buffer: u64,
    /// Bytes of a response that are held in memory.
    pub response_buffer: u64,
    /// Where what is more than that goes.
    pub buffer_directory: PathBuf,
    /// Up to how many requests more than `max_requests` a worker serves.
    pub max_requests_jitter: u32,
}

/// Where slow requests are logged, and which requests are slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowLog {
    /// The file.
    pub path: PathBuf,
    /// After how long from its dispatch a request is slow; not longer than `request_terminate_timeout`.
    pub after: Duration,
}

/// What a worker's environment is made of, in this order: nothing or fpmd's own, `pass`, USER and HOME, defaults of the
/// known worker, `set`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// Start from nothing (the default) instead of from fpmd's own environment.
    pub clear: bool,
    /// Names copied from fpmd's environment where they exist there.
    pub pass: Vec<String>,
    /// Names and values that are set.
    pub set: SortedMap<String, String>,
}

/// `[pool.NAME.pm]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessManagement {
    /// How the number of workers is decided.
    pub mode: PmMode,
    /// The number of workers of a static pool, the most of others; at least 1.
    pub max_children: u32,
    /// Requests after which a worker is replaced; 0 is never. In direct mode a worker that can count them ends by itself.
    pub max_requests: u32,
    /// For how long workers live; `None` is for ever.
    pub max_lifetime: Option<Lifetime>,
    /// Bytes of memory of its own that a worker may keep after a request; `None` is any number.
    pub max_memory: Option<u64>,
}

/// How the number of workers is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PmMode {
    /// Always `max_children`.
    Static,
    /// Some idle ones more than there are busy ones.
    Dynamic(Spares),
    /// As many as there are requests; none where there are none.
    Ondemand(Pace),
}

/// How quickly a pool that follows demand grows and shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Starts a second that need not wait for earlier ones to be ready, at least 1.
    pub max_spawn_rate: u32,
    /// After how long a superfluous worker is ended; not zero.
    pub process_idle_timeout: Duration,
}

/// How many idle workers a dynamic pool has. None of them is more than `max_children`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spares {
    /// Workers at the start; not less than `min_spare_servers` nor more than `max_spare_servers`.
    pub start_servers: u32,
    /// Idle workers at least; at least 1.
    pub min_spare_servers: u32,
    /// Idle workers at most; not less than `min_spare_servers`.
    pub max_spare_servers: u32,
    /// How quickly it grows and shrinks.
    pub pace: Pace,
}

impl PmMode {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            PmMode::Static => "static",
            PmMode::Dynamic(_) => "dynamic",
            PmMode::Ondemand(_) => "ondemand",
        }
    }
}

impl ProcessManagement {
    /// The same in the terms of the policy, for workers that serve so many requests at once, on a machine with so many
    /// CPUs.
    pub fn bounds(&self, concurrency: u32, cpus: u32) -> Bounds {
        let (mode, pace) = match self.mode {
            PmMode::Static => (Mode::Static, None),
            PmMode::Ondemand(pace) => (Mode::Ondemand, Some(pace)),
            PmMode::Dynamic(spares) => {
                let mode = Mode::Dynamic {
                    start_servers: spares.start_servers,
                    min_spare: spares.min_spare_servers,
                    max_spare: spares.max_spare_servers,
                };
                (mode, Some(spares.pace))
            }
        };
        Bounds {
            mode,
            max_children: self.max_children,
            concurrency,
            max_spawn_rate: pace.map_or(1, |pace| pace.max_spawn_rate),
            at_once: demand::at_once(cpus),
            idle_timeout: pace.map_or(Duration::ZERO, |pace| pace.process_idle_timeout),
        }
    }
}

impl LogLevel {
    /// php-fpm's word.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Alert => "alert",
            LogLevel::Error => "error",
            LogLevel::Warning => "warning",
            LogLevel::Notice => "notice",
            LogLevel::Debug => "debug",
        }
    }
}
