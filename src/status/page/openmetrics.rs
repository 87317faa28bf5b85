//! The page for Prometheus and its kin: OpenMetrics 1.0. php-fpm's metrics keep its sample names; those that it calls
//! counters without `_total` are of unknown type here, since that is how the format allows the name. Ours (`fpmd_*`) follow,
//! typed in full. Every sample is labelled with its pool; a worker's samples, with `full`, with its slot and pid too.

use std::fmt::Write;

use super::{Detail, PoolPage, ProcessRow, ProcessState};
use crate::status::histogram::Histogram;

/// What is known of the pool in php-fpm's own metrics: name, type, help, value.
fn of_php_fpm(page: &PoolPage<'_>) -> [(&'static str, Kind, &'static str, u64); 13] {
    use Kind::{Gauge, Unknown};
    [
        ("up", Gauge, "Could the pool be reached?", 1),
        ("start_since", Unknown, "The number of seconds since the pool has started.", page.start_since),
        ("accepted_connections", Unknown, "The number of requests accepted by the pool.", page.accepted),
        (
            "listen_queue",
            Gauge,
            "The number of requests in the queue of pending connections.",
            page.listen_queue,
        ),
        (
            "max_listen_queue",
            Gauge,
            "The maximum of listen_queue since the pool has started.",
            page.max_listen_queue,
        ),
        (
            "listen_queue_length",
            Gauge,
            "The size of the queue of pending connections.",
            page.listen_queue_len,
        ),
        ("idle_processes", Gauge, "The number of idle processes.", page.idle.into()),
        ("active_processes", Gauge, "The number of active processes.", page.active.into()),
        ("total_processes", Gauge, "The number of idle and active processes.", page.total.into()),
        (
            "max_active_processes",
            Gauge,
            "The maximum number of active processes at once.",
            page.max_active.into(),
        ),
        ("max_children_reached", Unknown, "How often max_children was reached.", page.max_children_reached),
        ("slow_requests", Unknown, "Requests that exceeded request_slowlog_timeout.", page.slow_requests),
        ("memory_peak", Gauge, "The most memory that one process had, bytes.", page.memory_peak),
    ]
}

/// A metric's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
    StateSet,
    Unknown,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
            Kind::StateSet => "stateset",
            Kind::Unknown => "unknown",
        }
    }

    /// What the name of a sample of one number ends in.
    fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram | Kind::StateSet | Kind::Unknown => "",
        }
    }
}

pub(super) fn render(page: &PoolPage<'_>, detail: Detail) -> String {
    let pool = format!("pool=\"{}\"", label(page.pool));
    let mut page_out = Exposition { out: String::new(), pool };
    for (name, kind, help, value) in of_php_fpm(page) {
        page_out.one(&format!("phpfpm_{name}"), kind, help, value);
    }
    page_out.describe(page);
    page_out.of_requests(page);
    page_out.of_workers(page);
    if detail == Detail::Full && !page.processes.is_empty() {
        page_out.of_each_worker(&page.processes);
    }
    page_out.out + "# EOF\n"
}

struct Exposition {
    out: String,
    /// The label that every sample has.
    pool: String,
}

impl Exposition {
    fn describe(&mut self, page: &PoolPage<'_>) {
        let manager = format!("process_manager=\"{}\"", label(page.process_manager));
        self.family("fpmd_pool", Kind::Info, "How the pool is managed.");
        self.sample("fpmd_pool", Kind::Info, &manager, 1);
        let start = u64::try_from(page.start_time.seconds).unwrap_or(0);
        self.one("fpmd_start_time_seconds", Kind::Gauge, "When the pool started, since the epoch.", start);
        let generation = page.generation.0.into();
        self.one("fpmd_generation", Kind::Gauge, "Counts the settings that the pool has had.", generation);
    }

    fn of_requests(&mut self, page: &PoolPage<'_>) {
        use Kind::{Counter, Gauge};
        self.one("fpmd_requests", Counter, "Requests accepted.", page.accepted);
        self.one("fpmd_connections", Gauge, "Client connections that are open.", page.connections.into());
        self.one("fpmd_queue_length", Gauge, "Requests that wait in the gateway.", page.queued.into());
        self.one(
            "fpmd_queue_limit",
            Gauge,
            "How many requests may wait in the gateway.",
            page.queue_limit.into(),
        );
        self.accept_queues(page);
        self.one(
            "fpmd_slow_requests",
            Counter,
            "Requests slower than request_slowlog_timeout.",
            page.slow_requests,
        );
        self.one("fpmd_server_errors", Counter, "Answers with a status of 500 or more.", page.server_errors);
        self.one("fpmd_retried_requests", Counter, "Requests sent to another worker.", page.retried);
        self.one(
            "fpmd_timed_out_requests",
            Counter,
            "Requests ended by request_terminate_timeout.",
            page.timed_out,
        );
        self.one("fpmd_broken_requests", Counter, "Requests whose worker ended early.", page.broken);
        self.one("fpmd_aborted_requests", Counter, "Requests whose client left early.", page.aborted);
        let refused = [
            ("queue_full", Some(page.refused.queue_full)),
            ("queue_timeout", Some(page.refused.queue_timeout)),
            ("client", page.refused.client),
            ("protocol", page.refused.protocol),
        ];
        self.by_reason("fpmd_refused", "Requests and connections that were refused.", &refused);
        self.spans("fpmd_queue_wait_seconds", "How long requests waited for a worker.", page.queue_wait);
        let duration = "How long requests took from their dispatch to the end of the answer.";
        self.spans("fpmd_request_duration_seconds", duration, page.request_duration);
    }

    fn of_workers(&mut self, page: &PoolPage<'_>) {
        use Kind::{Counter, Gauge};
        self.family("fpmd_workers", Gauge, "Workers by state.");
        self.sample("fpmd_workers", Gauge, "state=\"idle\"", page.idle.into());
        self.sample("fpmd_workers", Gauge, "state=\"active\"", page.active.into());
        self.one("fpmd_workers_limit", Gauge, "How many workers there may be.", page.max_children.into());
        self.one("fpmd_workers_started", Counter, "Workers started.", page.started);
        self.one("fpmd_workers_crashed", Counter, "Workers that ended by mistake.", page.crashed);
        self.one("fpmd_workers_killed", Counter, "Workers ended by SIGKILL.", page.killed);
        self.one(
            "fpmd_start_failures",
            Counter,
            "Starts that failed before the program ran.",
            page.start_failures,
        );
        self.one("fpmd_workers_recycled", Counter, "Workers replaced on purpose.", page.recycled.total);
        let recycled = [
            ("max_requests", page.recycled.max_requests),
            ("max_lifetime", page.recycled.max_lifetime),
            ("max_memory", page.recycled.max_memory),
            ("idle", page.recycled.idle),
            ("exited", page.recycled.exited),
        ];
        if recycled.iter().any(|(_, count)| count.is_some()) {
            self.by_reason(
                "fpmd_workers_recycled_by_reason",
                "Those of them with a known reason.",
                &recycled,
            );
        }
        if let Some(kills) = page.oom_kills {
            self.one(
                "fpmd_oom_kills",
                Counter,
                "Processes that the kernel killed for want of memory.",
                kills,
            );
        }
        if let Some(memory) = page.memory {
            self.one("fpmd_memory_bytes", Gauge, "Resident memory of all workers.", memory);
        }
    }

    fn accept_queues(&mut self, page: &PoolPage<'_>) {
        type Number = fn(&super::AcceptQueue<'_>) -> Option<u32>;
        let families: [(&str, &str, Number); 2] = [
            ("fpmd_accept_queue_length", "Connections that nobody has accepted yet.", |queue| queue.queue),
            ("fpmd_accept_queue_limit", "How many connections may wait for that.", |queue| queue.limit),
        ];
        for (name, help, number) in families {
            let known: Vec<_> = page
                .accept_queues
                .iter()
                .filter_map(|queue| number(queue).map(|n| (queue.listen, n)))
                .collect();
            if !known.is_empty() {
                self.family(name, Kind::Gauge, help);
            }
            for (listen, number) in known {
                self.sample(name, Kind::Gauge, &format!("listen=\"{}\"", label(listen)), number.into());
            }
        }
    }

    fn of_each_worker(&mut self, rows: &[ProcessRow<'_>]) {
        use Kind::{Counter, Gauge, StateSet};
        let start = |row: &ProcessRow<'_>| u64::try_from(row.start_time.seconds).ok();
        self.each("fpmd_worker_requests", Counter, "Requests served.", rows, |row| Some(row.requests));
        self.each("fpmd_worker_current_requests", Gauge, "Requests at this moment.", rows, |row| {
            Some(row.current.into())
        });
        self.each("fpmd_worker_generation", Gauge, "The settings it was started with.", rows, |row| {
            Some(row.generation.0.into())
        });
        self.each("fpmd_worker_start_time_seconds", Gauge, "When it started, since the epoch.", rows, start);
        self.each("fpmd_worker_memory_bytes", Gauge, "Resident memory.", rows, |row| row.rss);
        self.family("fpmd_worker_state", StateSet, "What it does.");
        for row in rows {
            for state in ProcessState::ALL {
                let labels = format!("{},fpmd_worker_state=\"{}\"", worker(row), state.word());
                self.sample("fpmd_worker_state", StateSet, &labels, u64::from(row.state == state));
            }
        }
    }

    fn each(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        rows: &[ProcessRow<'_>],
        value: fn(&ProcessRow<'_>) -> Option<u64>,
    ) {
        let known: Vec<_> = rows.iter().filter_map(|row| value(row).map(|value| (row, value))).collect();
        if !known.is_empty() {
            self.family(name, kind, help);
        }
        for (row, value) in known {
            self.sample(name, kind, &worker(row), value);
        }
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, kind, "", value);
    }

    fn by_reason(&mut self, name: &str, help: &str, reasons: &[(&str, Option<u64>)]) {
        self.family(name, Kind::Counter, help);
        for (reason, count) in reasons {
            if let Some(count) = count {
                self.sample(name, Kind::Counter, &format!("reason=\"{reason}\""), *count);
            }
        }
    }

    /// The head of a metric. Help is ours: it has nothing to escape. The unit is what the name ends in.
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
        if let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
    }

    fn sample(&mut self, name: &str, kind: Kind, labels: &str, value: u64) {
        let comma = if labels.is_empty() { "" } else { "," };
        let _ = writeln!(self.out, "{name}{}{{{}{comma}{labels}}} {value}", kind.suffix(), self.pool);
    }

    fn spans(&mut self, name: &str, help: &str, spans: &Histogram) {
        self.family(name, Kind::Histogram, help);
        let pool = &self.pool;
        for ((_, bound), count) in spans.cumulative() {
            let _ = writeln!(self.out, "{name}_bucket{{{pool},le=\"{bound}\"}} {count}");
        }
        let (count, sum) = (spans.count(), spans.sum());
        let _ = writeln!(self.out, "{name}_bucket{{{pool},le=\"+Inf\"}} {count}");
        let _ = writeln!(self.out, "{name}_sum{{{pool}}} {}.{:06}", sum / 1_000_000, sum % 1_000_000);
        let _ = writeln!(self.out, "{name}_count{{{pool}}} {count}");
    }
}

fn worker(row: &ProcessRow<'_>) -> String {
    format!("slot=\"{}\",pid=\"{}\"", row.slot.0, row.pid)
}

/// The value of a label, with its three escapes.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
