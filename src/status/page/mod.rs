//! A pool's status page, as php-fpm answers it: text, html, json, xml and openmetrics, each also with `full`. php-fpm's
//! fields come first, with its names, order and units; ours follow them. Made of one plain struct; knows no clock and no
//! process. php-fpm's manual, "FPM status page"; OpenMetrics 1.0.

mod fields;
mod html;
mod json;
mod openmetrics;
mod text;
mod xml;

use std::time::Duration;

use super::histogram::Histogram;
use super::stamp::Stamp;
use crate::ids::{Generation, Pid, SlotId};

/// What the page shows of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolPage<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// `static`, `dynamic` or `ondemand`.
    pub process_manager: &'a str,
    /// When the pool started.
    pub start_time: Stamp,
    /// Seconds since then, by a clock that no one sets.
    pub start_since: u64,
    /// Requests accepted.
    pub accepted: u64,
    /// Requests and connections that wait, ours and the kernel's: php-fpm's `listen queue`.
    pub listen_queue: u64,
    /// The most that waited at once.
    pub max_listen_queue: u64,
    /// How many may wait.
    pub listen_queue_len: u64,
    /// Workers without a request.
    pub idle: u32,
    /// Workers with a request.
    pub active: u32,
    /// Workers.
    pub total: u32,
    /// The most workers that had a request at once.
    pub max_active: u32,
    /// Times that a worker was wanted beyond `max_children`.
    pub max_children_reached: u64,
    /// Requests slower than `request_slowlog_timeout`.
    pub slow_requests: u64,
    /// The most memory that one worker had, bytes; 0 while that is unknown.
    pub memory_peak: u64,

    /// The newest generation of settings.
    pub generation: Generation,
    /// How many workers there may be.
    pub max_children: u32,
    /// Requests that wait in the gateway.
    pub queued: u32,
    /// How many may wait there.
    pub queue_limit: u32,
    /// The kernel's queues of connections that nobody has accepted yet.
    pub accept_queues: Vec<AcceptQueue<'a>>,
    /// Client connections that are open.
    pub connections: u32,
    /// Requests whose answer had a status of 500 or more.
    pub server_errors: u64,
    /// Requests sent to another worker after the first one failed.
    pub retried: u64,
    /// Requests ended by `request_terminate_timeout`.
    pub timed_out: u64,
    /// Requests whose worker ended before its answer was complete.
    pub broken: u64,
    /// Requests whose client left before the answer.
    pub aborted: u64,
    /// Requests that no worker was given, by reason.
    pub refused: Refused,
    /// Workers started, replacements included.
    pub started: u64,
    /// Workers replaced on purpose.
    pub recycled: Recycled,
    /// Workers that ended otherwise without being asked to.
    pub crashed: u64,
    /// Workers that had to be ended by SIGKILL.
    pub killed: u64,
    /// Starts that failed before the program ran.
    pub start_failures: u64,
    /// Processes that the kernel killed for want of memory; `None` where nobody counts.
    pub oom_kills: Option<u64>,
    /// Memory of all workers, resident, bytes; `None` while unknown.
    pub memory: Option<u64>,
    /// How long requests waited for a worker.
    pub queue_wait: &'a Histogram,
    /// How long requests took from their dispatch to the end of the worker's answer.
    pub request_duration: &'a Histogram,
    /// The workers, in the order of their slots.
    pub processes: Vec<ProcessRow<'a>>,
}

/// Connections that wait for `accept` on one listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptQueue<'a> {
    /// The address, as the configuration names it.
    pub listen: &'a str,
    /// How many wait; `None` if the kernel does not tell.
    pub queue: Option<u32>,
    /// How many may wait.
    pub limit: Option<u32>,
}

/// Requests refused, by reason. What nobody counts is `None` and not shown as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// `queue_limit` requests waited already: 503.
    pub queue_full: u64,
    /// It had waited for `queue_timeout`, or the pool was being stopped: 503.
    pub queue_timeout: u64,
    /// Connections from an address that `allowed_clients` does not name.
    pub client: Option<u64>,
    /// Connections closed because they broke the protocol.
    pub protocol: Option<u64>,
}

/// Workers replaced on purpose. What nobody counts is `None` and not shown as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recycled {
    /// For whatever reason.
    pub total: u64,
    /// Served `max_requests`.
    pub max_requests: Option<u64>,
    /// Lived for `max_lifetime`.
    pub max_lifetime: Option<u64>,
    /// Had more than `max_memory`.
    pub max_memory: Option<u64>,
    /// Idle for `process_idle_timeout`.
    pub idle: Option<u64>,
    /// Ended of their own with exit code 0.
    pub exited: Option<u64>,
}

/// One worker. Texts come from outside and may be any bytes; an empty one is shown as `-`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessRow<'a> {
    /// Its process.
    pub pid: Pid,
    /// What it does.
    pub state: ProcessState,
    /// When it started.
    pub start_time: Stamp,
    /// Seconds since then.
    pub start_since: u64,
    /// Requests served, the current ones included.
    pub requests: u64,
    /// How long the current request takes so far, or the last one took.
    pub request_duration: Duration,
    /// REQUEST_METHOD of that request.
    pub method: &'a [u8],
    /// Its URI; of REQUEST_URI the part before the query counts.
    pub uri: &'a [u8],
    /// Its QUERY_STRING.
    pub query: &'a [u8],
    /// Bytes of its body.
    pub content_length: u64,
    /// Its user: REMOTE_USER or PHP_AUTH_USER.
    pub user: &'a [u8],
    /// Its SCRIPT_FILENAME.
    pub script: &'a [u8],
    /// CPU time of the last request as a share of its duration, percent; 0 unless idle.
    pub last_request_cpu: f64,
    /// Memory after the last request, bytes; 0 unless idle.
    pub last_request_memory: u64,

    /// Its slot.
    pub slot: SlotId,
    /// The settings that it was started with.
    pub generation: Generation,
    /// Requests that it has now.
    pub current: u32,
    /// How long the request that is shown had waited for it.
    pub queue_wait: Duration,
    /// Resident memory, bytes; `None` while unknown.
    pub rss: Option<u64>,
}

/// php-fpm's states of a worker, in its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// Waits for a request.
    Idle,
    /// Has a connection whose request is not complete.
    ReadingHeaders,
    /// Reads what the request is about.
    GettingInformation,
    /// At work.
    Running,
    /// Its answer is being completed.
    Ending,
    /// The answer is out, the work goes on.
    Finishing,
}

impl ProcessState {
    /// All of them.
    pub const ALL: [ProcessState; 6] = [
        ProcessState::Idle,
        ProcessState::ReadingHeaders,
        ProcessState::GettingInformation,
        ProcessState::Running,
        ProcessState::Ending,
        ProcessState::Finishing,
    ];

    /// php-fpm's word.
    pub fn word(self) -> &'static str {
        match self {
            ProcessState::Idle => "Idle",
            ProcessState::ReadingHeaders => "Reading headers",
            ProcessState::GettingInformation => "Getting request information",
            ProcessState::Running => "Running",
            ProcessState::Ending => "Ending",
            ProcessState::Finishing => "Finishing",
        }
    }
}

/// The form of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `name: value` lines.
    Text,
    /// A table.
    Html,
    /// One object.
    Json,
    /// One document.
    Xml,
    /// OpenMetrics 1.0.
    Openmetrics,
}

impl Form {
    /// The Content-Type, php-fpm's to the letter.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain;charset=UTF-8",
            Form::Html => "text/html;charset=UTF-8",
            Form::Json => "application/json",
            Form::Xml => "text/xml;charset=UTF-8",
            Form::Openmetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How much of the pool is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// The pool.
    Pool,
    /// Each worker too.
    Full,
}

/// What a QUERY_STRING asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The form; `Text` where none is named.
    pub form: Form,
    /// How much.
    pub detail: Detail,
}

impl Asked {
    /// By the presence of a key, whatever its value, in php-fpm's order of preference: html, xml, json, openmetrics.
    pub fn parse(query: &[u8]) -> Asked {
        let has = |wanted: &str| query.split(|byte| *byte == b'&').any(|pair| key(pair) == wanted.as_bytes());
        let forms = [
            ("html", Form::Html),
            ("xml", Form::Xml),
            ("json", Form::Json),
            ("openmetrics", Form::Openmetrics),
        ];
        let form = forms.into_iter().find(|(name, _)| has(name)).map_or(Form::Text, |(_, form)| form);
        Asked { form, detail: if has("full") { Detail::Full } else { Detail::Pool } }
    }
}

/// The name in `name=value`, with its percent escapes undone.
fn key(pair: &[u8]) -> Vec<u8> {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    let mut key = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *byte == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        key.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    key
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The page, as it goes into the answer's body.
pub fn render(page: &PoolPage<'_>, asked: Asked) -> String {
    match asked.form {
        Form::Text => text::render(page, asked.detail),
        Form::Html => html::render(page, asked.detail),
        Form::Json => json::render(page, asked.detail),
        Form::Xml => xml::render(page, asked.detail),
        Form::Openmetrics => openmetrics::render(page, asked.detail),
    }
}
