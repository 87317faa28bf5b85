//! The snapshot as tables for a person: a line of the daemon, a row a pool, and the workers where they are asked for.
//! Programs read `json`; this form may change.

use std::fmt::Write;

pub use super::human::harmless;
use super::human::{fine_span, micros, size, span};
use super::snapshot::{
    Activity, CgroupSnapshot, GatewaySnapshot, ListenerSnapshot, PoolSnapshot, Snapshot, SpansSnapshot,
    WorkerSnapshot,
};
use super::table::{self, Align, Cell, Column, Paint};

/// How the text is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With colours, or without.
    pub colours: Colours,
    /// Columns of the terminal, where longer lines are cut; `None` cuts nothing.
    pub width: Option<usize>,
}

/// With colours, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Escape sequences around states and headings.
    On,
    /// Text only.
    Off,
}

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// The daemon and its pools.
    Pools,
    /// Their workers too.
    Workers,
}

/// The daemon's state. Ends with a newline; has no control character of foreign text in it.
pub fn render(snapshot: &Snapshot, detail: Detail, style: Style) -> String {
    let mut lines = vec![head(snapshot, style), String::new()];
    if snapshot.pools.is_empty() {
        lines
            .push("no pools: add one to the configuration, see fpmd.toml(5), and run 'fpmctl reload'".into());
    } else {
        let rows: Vec<_> = snapshot.pools.iter().map(|pool| pool_row(pool, style)).collect();
        lines.extend(table(&POOL_COLUMNS, &rows, style));
    }
    let mut reasons = snapshot.pools.iter().filter_map(|pool| reason(pool, style)).peekable();
    if reasons.peek().is_some() {
        lines.push(String::new());
        lines.extend(reasons);
    }
    if detail == Detail::Workers {
        lines.extend(snapshot.pools.iter().flat_map(|pool| pool_detail(pool, style)));
    }
    lines.join("\n") + "\n"
}

/// One pool a line: its name and its state.
pub fn list(snapshot: &Snapshot, style: Style) -> String {
    let name = |pool: &PoolSnapshot| pool.name.as_str().len();
    let width = snapshot.pools.iter().map(name).max().unwrap_or(0);
    let line =
        |pool: &PoolSnapshot| format!("{:width$}  {}\n", pool.name, state_cell(&pool.state, style).shown());
    snapshot.pools.iter().map(line).collect()
}

impl Cell {
    fn shown(&self) -> String {
        self.paint.around(&self.text)
    }
}

fn head(snapshot: &Snapshot, style: Style) -> String {
    let state = state_cell(&snapshot.state, style).shown();
    let config = snapshot.config.as_deref().map_or("none".into(), harmless);
    format!(
        "fpmd {}  {state}  up {}  pid {}  configuration {config}",
        harmless(&snapshot.version),
        span(snapshot.start_since),
        snapshot.pid,
    )
}

const fn words(title: &'static str, least: Option<usize>) -> Column {
    Column { title, align: Align::Left, least }
}

const fn number(title: &'static str) -> Column {
    Column { title, align: Align::Right, least: None }
}

const POOL_COLUMNS: [Column; 10] = [
    words("POOL", Some(12)),
    words("STATE", None),
    words("PM", None),
    number("WORKERS"),
    number("IDLE"),
    number("BUSY"),
    number("QUEUE"),
    number("STARTED"),
    number("CRASHED"),
    words("ADDRESS", Some(12)),
];

fn pool_row(pool: &PoolSnapshot, style: Style) -> [Cell; 10] {
    let addresses: Vec<_> = pool.listeners.iter().map(|listener| harmless(&listener.address)).collect();
    let crashed = if pool.crashed == 0 { Paint::Plain } else { Paint::Bad };
    [
        harmless(pool.name.as_str()).into(),
        state_cell(&pool.state, style),
        harmless(&pool.process_manager).into(),
        format!("{}/{}", pool.total_processes, pool.max_children).into(),
        pool.idle_processes.to_string().into(),
        pool.active_processes.to_string().into(),
        waiting(pool).into(),
        pool.started.to_string().into(),
        painted(pool.crashed.to_string(), crashed, style),
        addresses.join(" ").into(),
    ]
}

/// With a gateway, requests that wait in it; otherwise what waits on the sockets.
fn waiting(pool: &PoolSnapshot) -> String {
    match &pool.gateway {
        Some(gateway) => format!("{}/{}", gateway.listen_queue, gateway.listen_queue_len),
        None => queue(&pool.listeners),
    }
}

/// All sockets of the pool together, `-` where one is not known.
fn queue(listeners: &[ListenerSnapshot]) -> String {
    let sum = |part: fn(&ListenerSnapshot) -> Option<u32>| {
        listeners.iter().map(|listener| part(listener).map(u64::from)).sum::<Option<u64>>()
    };
    match (sum(|listener| listener.queue), sum(|listener| listener.queue_limit)) {
        _ if listeners.is_empty() => "-".into(),
        (Some(queue), Some(limit)) => format!("{queue}/{limit}"),
        (Some(queue), None) => queue.to_string(),
        (None, _) => "-".into(),
    }
}

fn reason(pool: &PoolSnapshot, style: Style) -> Option<String> {
    let retry = pool.retry_in.map(|seconds| format!("next try in {}", fine_span(seconds)));
    let facts: Vec<String> = pool.reason.as_deref().map(harmless).into_iter().chain(retry).collect();
    let label = format!("{}: {}", pool.name, harmless(&pool.state));
    let label = painted(label, state_paint(&pool.state), style).shown();
    (!facts.is_empty()).then(|| format!("{label}: {}", facts.join("; ")))
}

const WORKER_COLUMNS: [Column; 8] = [
    number("PID"),
    words("STATE", None),
    words("ACTIVITY", None),
    number("AGE"),
    number("CONNECTIONS"),
    number("RSS"),
    number("CPU"),
    number("GENERATION"),
];

/// The same for workers whose requests are counted.
const ROUTED_COLUMNS: [Column; 8] = [
    WORKER_COLUMNS[0],
    WORKER_COLUMNS[1],
    WORKER_COLUMNS[2],
    WORKER_COLUMNS[3],
    number("REQUESTS"),
    WORKER_COLUMNS[5],
    WORKER_COLUMNS[6],
    WORKER_COLUMNS[7],
];

fn pool_detail(pool: &PoolSnapshot, style: Style) -> Vec<String> {
    let heading = painted(pool.name.to_string(), Paint::Strong, style).shown();
    let mut lines = vec![
        String::new(),
        format!(
            "{heading}  up {}, generation {}, {} dispatch; {} recycled, {} killed, {} failed starts",
            span(pool.start_since),
            pool.generation.0,
            harmless(&pool.dispatch),
            pool.recycled,
            pool.killed,
            pool.start_failures,
        ),
    ];
    if !pool.activity_method.is_empty() {
        lines.push(format!("activity seen by: {}", harmless(&pool.activity_method)));
    }
    lines.extend(pool.cgroup.as_ref().and_then(memory_line));
    lines.extend(pool.gateway.iter().flat_map(gateway_lines));
    if pool.workers.is_empty() {
        lines.push("no workers".into());
    } else {
        let served = pool.gateway.is_some();
        let rows: Vec<_> = pool.workers.iter().map(|worker| worker_row(worker, served, style)).collect();
        let columns = if served { &ROUTED_COLUMNS } else { &WORKER_COLUMNS };
        lines.extend(table(columns, &rows, style));
    }
    lines
}

/// Nothing where the kernel does not count.
fn memory_line(group: &CgroupSnapshot) -> Option<String> {
    let mut line = format!("memory {}", size(group.memory?));
    if let Some(peak) = group.memory_peak {
        let _ = write!(line, ", at most {}", size(peak));
    }
    if let Some(limit) = group.memory_max {
        let _ = write!(line, ", limit {}", size(limit));
    }
    if let Some(kills) = group.oom_kills {
        let _ = write!(line, "; {kills} killed for want of memory");
    }
    Some(line)
}

fn gateway_lines(gateway: &GatewaySnapshot) -> [String; 4] {
    [
        format!(
            "gateway {}: {} requests on {} connections, {} waiting (at most {}), at most {} workers busy",
            gateway.pid,
            gateway.accepted_conn,
            gateway.connections,
            gateway.listen_queue,
            gateway.max_listen_queue,
            gateway.max_active_processes,
        ),
        format!(
            "{} slow, {} timed out, {} refused, {} retried, {} broken, {} aborted, {} server errors",
            gateway.slow_requests,
            gateway.timed_out,
            refused(gateway),
            gateway.retried,
            gateway.broken,
            gateway.aborted,
            gateway.server_errors,
        ),
        format!("waited for a worker: {}", spans(&gateway.queue_wait)),
        format!("time at the worker: {}", spans(&gateway.duration)),
    ]
}

/// Requests and connections.
fn refused(gateway: &GatewaySnapshot) -> u64 {
    let parts =
        [gateway.refused_full, gateway.refused_late, gateway.refused_client, gateway.refused_protocol];
    parts.into_iter().fold(0, u64::saturating_add)
}

fn spans(spans: &SpansSnapshot) -> String {
    let [p50, p90, p99, max] = [spans.p50, spans.p90, spans.p99, spans.max].map(micros);
    format!("50% within {p50}, 90% {p90}, 99% {p99}, at most {max}")
}

fn worker_row(worker: &WorkerSnapshot, served: bool, style: Style) -> [Cell; 8] {
    let known = |value: Option<String>| Cell::from(value.unwrap_or_else(|| "-".into()));
    [
        worker.pid.to_string().into(),
        state_cell(&worker.state, style),
        activity_cell(worker.activity, style),
        span(worker.start_since).into(),
        known(
            if served { worker.requests } else { worker.connections.map(u64::from) }
                .map(|number| number.to_string()),
        ),
        known(worker.rss.map(size)),
        known(worker.cpu.map(fine_span)),
        worker.generation.0.to_string().into(),
    ]
}

fn activity_cell(activity: Activity, style: Style) -> Cell {
    let (text, paint) = match activity {
        Activity::Idle => ("idle", Paint::Good),
        Activity::Waiting => ("waiting", Paint::Plain),
        Activity::Busy => ("busy", Paint::Changing),
        Activity::Unknown => ("unknown", Paint::Plain),
    };
    painted(text.into(), paint, style)
}

fn state_cell(state: &str, style: Style) -> Cell {
    painted(harmless(state), state_paint(state), style)
}

/// The states are text in the snapshot, because other versions of fpmd may have more of them: those stay plain.
fn state_paint(state: &str) -> Paint {
    match state {
        "running" => Paint::Good,
        "starting" | "reloading" | "backing off" | "draining" | "stopping" | "stopped" => Paint::Changing,
        "failed" | "killed" => Paint::Bad,
        _ => Paint::Plain,
    }
}

fn painted(text: String, paint: Paint, style: Style) -> Cell {
    match style.colours {
        Colours::On => Cell { text, paint },
        Colours::Off => Cell { text, paint: Paint::Plain },
    }
}

fn table<const N: usize>(columns: &[Column; N], rows: &[[Cell; N]], style: Style) -> Vec<String> {
    let heading = painted(String::new(), Paint::Strong, style).paint;
    table::lines(columns, heading, rows, style.width)
}
