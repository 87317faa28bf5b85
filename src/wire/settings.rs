//! What a gateway is told of its pool, in the message of the same name in `gateway`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::PoolName;

/// What a gateway needs to know of its pool. All of it is checked already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `VERSION`.
    pub version: u32,
    /// The pool.
    pub pool: PoolName,
    /// `static`, `dynamic` or `ondemand`: for the status page.
    pub process_manager: String,
    /// How many idle workers there should be, where the master wants to know of the load.
    #[serde(default)]
    pub spare: Option<u32>,
    /// Addresses of the listening sockets, as the status shows them.
    pub listeners: Vec<String>,
    /// Who accepts there.
    #[serde(default)]
    pub company: Company,
    /// Requests that one worker serves at once, at least 1.
    pub concurrency: u32,
    /// Requests that may wait for a worker; one more is answered with a 503.
    pub queue_limit: u32,
    /// How long a request may wait for a worker; then it is answered with a 503.
    pub queue_timeout: Option<Duration>,
    /// Bytes of a request body that are held in memory; more goes to a file.
    pub request_buffer: u64,
    /// Bytes of a response that are held in memory; more goes to a file.
    pub response_buffer: u64,
    /// Where what is more than that goes: files without a name in this directory.
    #[serde(default = "buffer_directory")]
    pub buffer_directory: PathBuf,
    /// How long a request may take from its dispatch.
    pub request_terminate_timeout: Option<Duration>,
    /// How long a worker may go on after the end of an answer.
    #[serde(default)]
    pub request_finish_timeout: Option<Duration>,
    /// How long a client may take to send a request's parameters, and how long it may be silent within a request.
    #[serde(default)]
    pub input_timeout: Option<Duration>,
    /// After how long from its dispatch a request is slow.
    pub request_slowlog_timeout: Option<Duration>,
    /// Requests after which a worker is replaced; 0 is never.
    pub max_requests: u64,
    /// Each worker's limit is `max_requests` and up to so many more, at random.
    pub max_requests_jitter: u64,
    /// Bytes of memory of its own that a worker may keep after a request.
    #[serde(default)]
    pub max_memory: Option<u64>,
    /// URL path (SCRIPT_NAME) of the status page.
    pub status_path: Option<String>,
    /// URL path (SCRIPT_NAME) of the ping page.
    pub ping_path: Option<String>,
    /// What the ping page says.
    pub ping_response: String,
    /// php-fpm's format, checked; or "json".
    pub access_format: String,
    /// Whether the access log's descriptor comes with the settings.
    pub has_access_log: bool,
    /// Whether the slow log's descriptor comes with the settings.
    pub has_slowlog: bool,
    /// CIDR networks that may connect over TCP; empty is everyone.
    pub allowed_clients: Vec<String>,
    /// Whether FCGI_STDERR is logged here as well as sent to the web server.
    pub log_stderr: bool,
    /// Whether what is logged of it gets time, level, pool and pid.
    #[serde(default = "decorated")]
    pub decorate_output: bool,
    /// Start of the pool, seconds since the epoch.
    pub start_time: i64,
}

/// Who accepts on a pool's sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Company {
    /// The gateway alone.
    #[default]
    Alone,
    /// Workers of another generation as well, which need sockets that wait.
    Workers,
}

/// What fpmd before this setting means.
fn buffer_directory() -> PathBuf {
    PathBuf::from("/var/tmp")
}

/// What fpmd before this setting means.
fn decorated() -> bool {
    true
}
