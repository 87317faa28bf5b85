//! What the master and a pool's gateway say to each other, over a SOCK_SEQPACKET pair: one message of JSON a packet,
//! with descriptors beside it (SCM_RIGHTS) where the message says so.
//!
//! A gateway trusts its master. The master trusts its gateway so far: a packet that is no message ends that gateway,
//! and a message about a slot or worker that is no more is ignored, since it may have crossed with its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, Pid, SlotId, WorkerId};
use crate::policy::Wear;

pub use super::facts::{Facts, Sight};
pub use super::report::{Load, Report, WorkerReport};
pub use super::settings::{Company, Settings};

/// Raised when a message changes its meaning.
pub const VERSION: u32 = 2;

/// The longest packet, bytes. Settings are the largest message: the configuration bounds each of its texts, so that they are
/// shorter than this whatever they hold.
pub const MAX_PACKET: usize = 192 * 1024;

/// The most workers in one packet: a report on each is about 110 bytes long.
pub const WORKERS_AT_ONCE: usize = 500;

/// The most descriptors beside one message: the kernel's limit is 253.
pub const MAX_DESCRIPTORS: usize = 64;

/// From the master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToGateway {
    /// The first message, and again when a reload changes settings. Descriptors: a listening socket for each entry of
    /// `listeners`, in that order, replacing all earlier ones; then the access log and the slow log, where
    /// `has_access_log` and `has_slowlog` say so.
    Settings(Box<Settings>),
    /// A slot exists: a Unix socket on which one worker at a time accepts. Nobody may accept there yet.
    Slot {
        /// Its number in this pool.
        slot: SlotId,
        /// Where to connect.
        path: String,
    },
    /// A worker runs on the slot: it takes requests from now on.
    Worker {
        /// Which slot; it has no other worker.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// Its process.
        pid: Pid,
        /// The settings that it was started with; requests go to the newest generation that has an idle worker.
        generation: Generation,
        /// When it was started; it is new if nothing is said.
        #[serde(default)]
        started: Option<Moment>,
        /// What it has been through.
        #[serde(default)]
        past: Past,
    },
    /// Another gateway takes over, as fpmd is upgraded: accept no more connections, give those away on which nothing is asked
    /// for (`Clients`), and workers as soon as no request waits here (`Released`); tell what was counted (`Counts`), now and
    /// at the end, and which workers are left then (`Left`); then `Stopped`.
    HandOver,
    /// Connections of clients from another gateway of the pool. Descriptors: each is one.
    Clients,
    /// Another gateway of the pool needs workers for older requests: release so many, the next that are idle.
    Spare {
        /// How many.
        workers: u32,
    },
    /// What other gateways of the pool have counted, to be added.
    Inherit {
        /// Counts, and no workers.
        report: Box<Report>,
    },
    /// A new worker runs on the slot: send it this request, before any other, and say `Warmed` when it has answered.
    Warm {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// URL path, with or without a query.
        path: String,
        /// The directory that `SCRIPT_FILENAME` begins with; may be empty.
        root: String,
    },
    /// Give this worker no more requests and say `Drained` when it has none. Repeating it is harmless.
    Drain {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker has ended and was reaped.
    WorkerGone {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// "exited on signal 9 (SIGKILL)".
        how: String,
    },
    /// The slot is closed for good.
    SlotGone {
        /// Which slot.
        slot: SlotId,
    },
    /// New log files after a rotation. Descriptors: the access log and the slow log, as far as there are any.
    Logs {
        /// Whether the access log's descriptor is beside this.
        has_access_log: bool,
        /// Whether the slow log's descriptor is beside this, after the access log's.
        has_slowlog: bool,
    },
    /// What only the master knows and the status page shows; sent when it changes.
    Facts(Facts),
    /// The answer to `Slow`.
    Seen {
        /// The number that was asked with.
        number: u64,
        /// What the master saw.
        sight: Sight,
    },
    /// The answer to `Look`.
    Rest {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// What it does.
        rest: Rest,
    },
    /// The answer to `TakeBack`.
    TakenBack {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// Whether the worker will never see the request.
        outcome: TakenBack,
    },
    /// Answer with `Report` and this number.
    Ask {
        /// Comes back in the report.
        number: u64,
    },
    /// Answer with `Load`, whether it has changed or not.
    Survey,
    /// Give no more requests to so many workers that have none, those that have had none for the longest time; none of them
    /// while requests wait. Say `Drained` of each, then `LetGo`.
    LetGo {
        /// How many; fewer if fewer are idle.
        count: u32,
    },
    /// Serve who has connected, until the deadline, and say `QueueServed` when nobody waits any more; what comes after the
    /// deadline is answered with a 503. Who connects after this waits for `Shut`. A second one brings another deadline.
    Stop {
        /// How long the queue may take.
        within: Duration,
    },
    /// Nobody can connect any more: accept whoever has, serve them, then `Stopped`.
    Shut,
    /// Workers accept by themselves from now on: accept no more connections, serve those that are there, what waits for a
    /// worker until the deadline, then `Stopped`; tell what was counted (`Counts`), now and at the end.
    RunOut {
        /// How long the queue may take.
        within: Duration,
    },
}

/// From the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromGateway {
    /// The settings are in force and connections are being accepted.
    Ready {
        /// `VERSION`.
        version: u32,
    },
    /// The worker has answered its warm-up request, or cannot.
    Warmed {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// "it answered 500 when it was asked to warm up".
        result: Result<(), String>,
    },
    /// The worker has no request and will get none: it can be signalled without losing anything.
    Drained {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker has no request here and belongs to another gateway now (answers `HandOver` and `Spare`).
    Released {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// How many requests it has served.
        requests: u64,
    },
    /// The gateway has handed over and ends; the worker may be at work still on what it has answered.
    Left {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// How many requests it has served.
        requests: u64,
    },
    /// Connections for another gateway of the pool. Descriptors: each is one.
    Clients,
    /// What was counted since the last of these, by a gateway that ends.
    Counts {
        /// Counts, and no workers.
        report: Box<Report>,
    },
    /// The worker has served `max_requests` and gets no more, keeps more than `max_memory` after a request and gets more, or
    /// does not let go of a request that was cut off; replace it, then drain and stop it.
    Worn {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// How many requests it has served.
        requests: u64,
        /// Which of these.
        wear: Wear,
    },
    /// A worker has ended, and workers have answered requests since this was said last: the program works.
    Works,
    /// The worker must be ended: stop signal now, SIGKILL after a second.
    Terminate {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// "request \"GET /slow.php\" (script '/srv/slow.php') timed out after 30.012 s, 0 bytes answered".
        reason: String,
    },
    /// A request of this worker is slow: look at its process and answer with `Seen`. The master may see what the gateway,
    /// which runs as another user, may not.
    Slow {
        /// Comes back in the answer.
        number: u64,
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker has answered to the end: look whether it waits for its next request and answer with `Rest`.
    Look {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker seems to be at work on something else and has not begun to read the one request that it was sent: take
    /// that from it, if it is so, and answer with `TakenBack`. Or it has ended and had not accepted what it was sent: take all
    /// of that, if nobody sits there.
    TakeBack {
        /// Which slot.
        slot: SlotId,
        /// Which worker.
        worker: WorkerId,
        /// The request's length, bytes, where it is on a connection that the worker had before; `None` where it is on one
        /// that waits to be accepted.
        kept: Option<u64>,
        /// After this the worker may have another request, which is not to be taken for it.
        #[serde(default)]
        until: Option<Moment>,
    },
    /// Demand, where `Settings::spare` asks for it: at once when a queue forms, soon when it grows or shrinks by half or when
    /// workers are missing or no longer, later when anything else has changed. An idle pool says nothing.
    Load(Load),
    /// All that could be said `Drained` of by `LetGo` has been.
    LetGo,
    /// Workers of a report that are too many for one packet; comes before it, as often as it takes.
    Workers {
        /// The number that was asked with.
        number: u64,
        /// The next ones, in the order of their slots; `WORKERS_AT_ONCE` at most.
        workers: Vec<WorkerReport>,
    },
    /// The answer to `Ask`.
    Report {
        /// The number that was asked with.
        number: u64,
        /// What the gateway knows.
        report: Box<Report>,
    },
    /// Nothing waits for a worker after `Stop`; answered by `Shut`.
    QueueServed,
    /// Nothing is left to serve after `Shut`; the gateway exits.
    Stopped,
}

/// What a worker has been through when a gateway hears of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Past {
    /// Nothing; or, for a gateway that has just started, what an earlier one that died has left in it.
    #[default]
    Unknown,
    /// Another gateway has released it after so many requests.
    Released(u64),
    /// Another gateway had it and has ended; after so many requests, as far as is known.
    Orphaned(u64),
}

impl Past {
    /// Requests that it has served.
    pub fn requests(self) -> u64 {
        match self {
            Past::Released(requests) | Past::Orphaned(requests) => requests,
            Past::Unknown => 0,
        }
    }
}

/// What a worker that owes nobody an answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// It waits for a request.
    Waiting,
    /// Something else.
    AtWork,
    /// Nobody may look.
    Unknown,
}

/// What became of a request that was to be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakenBack {
    /// The worker will never see it.
    Taken,
    /// The worker has begun with it, or is about to.
    Begun,
    /// It cannot be taken from this worker, nor from any other of the pool.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PoolName;

    /// What the configuration allows at the most, and each byte as long in JSON as one can be: a longer message would end
    /// one gateway after the other.
    #[test]
    fn the_longest_settings_fit_into_a_packet() {
        const NETWORKS: usize = 1000;
        const TEXT: usize = 4096;
        const SOCKET: usize = 107;
        let long = |length| "\u{1}".repeat(length);
        let settings = Settings {
            spare: Some(u32::MAX),
            version: VERSION,
            pool: PoolName::new("www").unwrap(),
            process_manager: "ondemand".into(),
            listeners: vec![long(SOCKET); MAX_DESCRIPTORS - 2],
            company: Company::Workers,
            concurrency: u32::MAX,
            queue_limit: u32::MAX,
            queue_timeout: Some(Duration::MAX),
            request_buffer: u64::MAX,
            response_buffer: u64::MAX,
            buffer_directory: long(TEXT).into(),
            request_terminate_timeout: Some(Duration::MAX),
            request_finish_timeout: Some(Duration::MAX),
            input_timeout: Some(Duration::MAX),
            request_slowlog_timeout: Some(Duration::MAX),
            max_requests: u64::MAX,
            max_requests_jitter: u64::MAX,
            max_memory: Some(u64::MAX),
            // Letters and digits, all of it.
            status_path: Some("x".repeat(TEXT)),
            ping_path: Some("x".repeat(TEXT)),
            ping_response: long(TEXT),
            access_format: long(TEXT),
            has_access_log: true,
            has_slowlog: true,
            allowed_clients: vec!["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".into(); NETWORKS],
            log_stderr: true,
            decorate_output: false,
            start_time: i64::MIN,
        };
        let packet = serde_json::to_vec(&ToGateway::Settings(Box::new(settings))).unwrap();
        assert!(packet.len() <= MAX_PACKET, "{} bytes", packet.len());
    }
}
