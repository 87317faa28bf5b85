//! The page as one JSON object on one line (RFC 8259), times as seconds since the epoch, durations in microseconds. What is
//! unknown is null.

use std::fmt::Write;

use super::fields::{self, Field, PERCENTILES, Value};
use super::text::finite;
use super::{Detail, PoolPage};
use crate::status::escape;
use crate::status::histogram::Histogram;

pub(super) fn render(page: &PoolPage<'_>, detail: Detail) -> String {
    let mut out = String::from("{");
    members(&mut out, &fields::pool(page));
    if detail == Detail::Full {
        out.push_str(", \"processes\":[");
        for (index, row) in page.processes.iter().enumerate() {
            out.push_str(if index == 0 { "{" } else { ",{" });
            members(&mut out, &fields::process(row));
            out.push('}');
        }
        out.push(']');
    }
    out.push('}');
    out
}

fn members(out: &mut String, fields: &[Field<'_>]) {
    for (index, (name, value)) in fields.iter().enumerate() {
        // Writing to a String cannot fail, here and below.
        let _ = write!(out, "{}\"{name}\":", if index == 0 { "" } else { "," });
        match *value {
            Value::Count(number) | Value::Known(Some(number)) => drop(write!(out, "{number}")),
            Value::Known(None) => out.push_str("null"),
            Value::Percent(share) => drop(write!(out, "{:.2}", finite(share))),
            Value::Time(stamp) => drop(write!(out, "{}", stamp.seconds)),
            Value::Foreign(bytes) => string(out, &[bytes]),
            Value::Uri(path, b"") => string(out, &[path]),
            Value::Uri(path, query) => string(out, &[path, b"?", query]),
            Value::Spans(spans) => histogram(out, spans),
        }
    }
}

fn string(out: &mut String, parts: &[&[u8]]) {
    out.push('"');
    for part in parts {
        let (bytes, cut) = escape::bounded(part);
        escape::json(out, bytes);
        out.push_str(cut);
    }
    out.push('"');
}

/// Buckets are cumulative; what is longer than the last bound is in the count only.
fn histogram(out: &mut String, spans: &Histogram) {
    let _ = write!(out, "{{\"count\":{},\"sum\":{}", spans.count(), spans.sum());
    for (percent, title) in PERCENTILES {
        let _ = write!(out, ",\"{title}\":{}", spans.percentile(percent));
    }
    let _ = write!(out, ",\"max\":{},\"buckets\":[", spans.max());
    for (index, ((bound, _), count)) in spans.cumulative().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{{\"le\":{bound},\"count\":{count}}}");
    }
    out.push_str("]}");
}
