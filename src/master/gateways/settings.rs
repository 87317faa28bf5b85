//! What a gateway is told about its pool: the wire's form of a pool's settings, and the log files that go with it.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::config::model::{Gateway, PmMode, Pool};
use crate::os::errno;
use crate::supervise::PoolView;
use crate::wire::gateway::{Company, Facts, Settings, VERSION};

/// The log files of a pool, opened by us for a gateway that could not.
#[derive(Debug, Default)]
pub struct Logs {
    /// A line for each request.
    pub access: Option<File>,
    /// A block for each slow request.
    pub slow: Option<File>,
}

impl Logs {
    /// Opens what these settings name, for appending.
    ///
    /// # Errors
    /// A sentence for the first that cannot be opened.
    pub fn open(gateway: &Gateway) -> Result<Logs, String> {
        Ok(Logs {
            access: gateway.access_log.as_deref().map(append).transpose()?,
            slow: gateway.slow.as_ref().map(|slow| append(&slow.path)).transpose()?,
        })
    }

    /// The descriptors, the access log's first.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.access.iter().chain(&self.slow).map(AsFd::as_fd)
    }
}

/// Not blocking, as a pipe without a reader must not hold up the master; a regular file does not mind. As php-fpm, for our
/// own user only.
fn append(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits())
        .open(path)
        .map_err(|error| format!("cannot open log '{}': {}", path.display(), errno::said(&error)))
}

/// A pool's settings as its gateway takes them. `start_time` is the pool's start, seconds since the epoch.
pub fn wire(
    pool: &Pool,
    gateway: &Gateway,
    listeners: Vec<String>,
    logs: &Logs,
    start_time: i64,
) -> Settings {
    Settings {
        version: VERSION,
        pool: pool.name.clone(),
        process_manager: pool.pm.mode.as_str().to_owned(),
        listeners,
        company: Company::Alone,
        spare: match pool.pm.mode {
            PmMode::Static => None,
            PmMode::Dynamic(spares) => Some(spares.min_spare_servers),
            PmMode::Ondemand(_) => Some(0),
        },
        concurrency: gateway.concurrency,
        queue_limit: gateway.queue_limit,
        queue_timeout: gateway.queue_timeout,
        request_buffer: gateway.request_buffer,
        response_buffer: gateway.response_buffer,
        request_terminate_timeout: gateway.request_terminate_timeout,
        request_finish_timeout: gateway.request_finish_timeout,
        input_timeout: gateway.input_timeout,
        buffer_directory: gateway.buffer_directory.clone(),
        request_slowlog_timeout: gateway.slow.as_ref().map(|slow| slow.after),
        max_requests: u64::from(pool.pm.max_requests),
        max_requests_jitter: u64::from(gateway.max_requests_jitter),
        max_memory: pool.pm.max_memory,
        status_path: gateway.status_path.clone(),
        ping_path: gateway.ping_path.clone(),
        ping_response: gateway.ping_response.clone(),
        access_format: gateway.access_format.clone(),
        has_access_log: logs.access.is_some(),
        has_slowlog: logs.slow.is_some(),
        allowed_clients: gateway.allowed_clients.iter().map(ToString::to_string).collect(),
        log_stderr: gateway.log_request_stderr,
        decorate_output: pool.decorate_workers_output,
        start_time,
    }
}

/// What the status page shows and only the master knows; `oom_kills` as the pool's control group counts them, `memory_peak`
/// that of the workers that have ended, bytes.
pub fn facts(view: &PoolView, oom_kills: Option<u64>, memory_peak: u64) -> Facts {
    let counters = view.counters;
    Facts {
        max_children: view.children,
        generation: view.generation.0,
        max_children_reached: counters.max_children_reached,
        started: counters.started,
        recycled: counters.recycled,
        recycled_requests: counters.worn,
        recycled_lifetime: counters.outlived,
        recycled_memory: counters.overweight,
        recycled_idle: counters.idle,
        recycled_exited: counters.exited,
        crashed: counters.crashed,
        killed: counters.killed,
        start_failures: counters.start_failures,
        oom_kills,
        memory_peak,
    }
}
