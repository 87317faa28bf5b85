//! The one table of what a page shows, in order: php-fpm's fields first, then ours. Every form but openmetrics is derived
//! from it, so that a field has the same name and value everywhere. Owns no syntax.

use std::borrow::Cow;

use super::{PoolPage, ProcessRow};
use crate::status::histogram::Histogram;
use crate::status::stamp::Stamp;

/// A name, as php-fpm's JSON writes it, and what it stands for.
pub(super) type Field<'a> = (&'static str, Value<'a>);

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// A number.
    Count(u64),
    /// A number that may not be known.
    Known(Option<u64>),
    /// Two decimals.
    Percent(f64),
    /// A time.
    Time(Stamp),
    /// Text of anyone, any bytes.
    Foreign(&'a [u8]),
    /// Path and query of anyone, any bytes.
    Uri(&'a [u8], &'a [u8]),
    /// Spans of time.
    Spans(&'a Histogram),
}

/// The percentiles that are shown of spans, in percent, with the names of their fields.
pub(super) const PERCENTILES: [(u64, &str); 3] = [(50, "p50"), (90, "p90"), (99, "p99")];

/// The fields of the pool.
pub(super) fn pool<'a>(page: &PoolPage<'a>) -> Vec<Field<'a>> {
    let mut fields = vec![
        ("pool", Value::Foreign(page.pool.as_bytes())),
        ("process manager", Value::Foreign(page.process_manager.as_bytes())),
        ("start time", Value::Time(page.start_time)),
        ("start since", Value::Count(page.start_since)),
        ("accepted conn", Value::Count(page.accepted)),
        ("listen queue", Value::Count(page.listen_queue)),
        ("max listen queue", Value::Count(page.max_listen_queue)),
        ("listen queue len", Value::Count(page.listen_queue_len)),
        ("idle processes", Value::Count(page.idle.into())),
        ("active processes", Value::Count(page.active.into())),
        ("total processes", Value::Count(page.total.into())),
        ("max active processes", Value::Count(page.max_active.into())),
        ("max children reached", Value::Count(page.max_children_reached)),
        ("slow requests", Value::Count(page.slow_requests)),
        ("memory peak", Value::Count(page.memory_peak)),
    ];
    fields.extend(of_requests(page));
    fields.extend(of_workers(page));
    fields
}

fn of_requests<'a>(page: &PoolPage<'a>) -> [Field<'a>; 16] {
    [
        ("queued requests", Value::Count(page.queued.into())),
        ("queue limit", Value::Count(page.queue_limit.into())),
        ("accept queue", Value::Known(page.accept_queue())),
        ("accept queue len", Value::Known(page.accept_queue_limit())),
        ("connections", Value::Count(page.connections.into())),
        ("server errors", Value::Count(page.server_errors)),
        ("retried requests", Value::Count(page.retried)),
        ("timed out requests", Value::Count(page.timed_out)),
        ("broken requests", Value::Count(page.broken)),
        ("aborted requests", Value::Count(page.aborted)),
        ("refused queue full", Value::Count(page.refused.queue_full)),
        ("refused queue late", Value::Count(page.refused.queue_timeout)),
        ("refused client", Value::Known(page.refused.client)),
        ("refused protocol", Value::Known(page.refused.protocol)),
        ("queue wait", Value::Spans(page.queue_wait)),
        ("duration", Value::Spans(page.request_duration)),
    ]
}

fn of_workers<'a>(page: &PoolPage<'a>) -> [Field<'a>; 14] {
    [
        ("generation", Value::Count(page.generation.0.into())),
        ("max children", Value::Count(page.max_children.into())),
        ("started", Value::Count(page.started)),
        ("recycled", Value::Count(page.recycled.total)),
        ("recycled requests", Value::Known(page.recycled.max_requests)),
        ("recycled lifetime", Value::Known(page.recycled.max_lifetime)),
        ("recycled memory", Value::Known(page.recycled.max_memory)),
        ("recycled idle", Value::Known(page.recycled.idle)),
        ("recycled exited", Value::Known(page.recycled.exited)),
        ("crashed", Value::Count(page.crashed)),
        ("killed", Value::Count(page.killed)),
        ("start failures", Value::Count(page.start_failures)),
        ("oom kills", Value::Known(page.oom_kills)),
        ("memory", Value::Known(page.memory)),
    ]
}

/// The names of a worker's fields.
pub(super) const PROCESS: [&str; 18] = [
    "pid",
    "state",
    "start time",
    "start since",
    "requests",
    "request duration",
    "request method",
    "request uri",
    "content length",
    "user",
    "script",
    "last request cpu",
    "last request memory",
    "slot",
    "generation",
    "current requests",
    "queue wait",
    "memory",
];

/// The fields of a worker.
pub(super) fn process<'a>(row: &ProcessRow<'a>) -> [Field<'a>; 18] {
    let values = [
        Value::Count(row.pid.as_raw().unsigned_abs().into()),
        Value::Foreign(row.state.word().as_bytes()),
        Value::Time(row.start_time),
        Value::Count(row.start_since),
        Value::Count(row.requests),
        Value::Count(micros(row.request_duration)),
        Value::Foreign(row.method),
        Value::Uri(path(row.uri), row.query),
        Value::Count(row.content_length),
        Value::Foreign(row.user),
        Value::Foreign(row.script),
        Value::Percent(row.last_request_cpu),
        Value::Count(row.last_request_memory),
        Value::Count(row.slot.0.into()),
        Value::Count(row.generation.0.into()),
        Value::Count(row.current.into()),
        Value::Count(micros(row.queue_wait)),
        Value::Known(row.rss),
    ];
    std::array::from_fn(|index| (PROCESS[index], values[index]))
}

impl PoolPage<'_> {
    fn accept_queue(&self) -> Option<u64> {
        self.accept_queues.iter().map(|queue| queue.queue.map(u64::from)).sum()
    }

    fn accept_queue_limit(&self) -> Option<u64> {
        self.accept_queues.iter().map(|queue| queue.limit.map(u64::from)).sum()
    }
}

/// The fields with numbers in the place of spans, for forms that have no lists.
pub(super) fn flat<'a>(fields: &[Field<'a>]) -> Vec<(Cow<'static, str>, Value<'a>)> {
    let mut flat = Vec::new();
    for (name, value) in fields {
        let Value::Spans(spans) = value else {
            flat.push((Cow::Borrowed(*name), *value));
            continue;
        };
        let mut add =
            |title: &str, number| flat.push((format!("{name} {title}").into(), Value::Count(number)));
        add("count", spans.count());
        for (percent, title) in PERCENTILES {
            add(title, spans.percentile(percent));
        }
        add("max", spans.max());
    }
    flat
}

/// What stands before a query: some give the query a second time, in REQUEST_URI.
fn path(uri: &[u8]) -> &[u8] {
    uri.split(|byte| *byte == b'?').next().unwrap_or(uri)
}

/// Whole microseconds, php-fpm's unit of a duration.
pub(super) fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
