//! One value of a request, in php-fpm's units, escaped. Never more than `escape::MAX_LOGGED` bytes of foreign text.

use std::io::Write;
use std::time::Duration;

use super::letters::{Cpu, Piece, Unit, What};
use super::{Entry, Usage};
use crate::status::escape::{self, Place};

pub(super) fn write(piece: &Piece, entry: &Entry<'_>, out: &mut Vec<u8>) {
    match piece {
        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
        Piece::Value(what, place) => value(what, *place, entry, out),
    }
}

fn value(what: &What, place: Place, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let text = |out: &mut Vec<u8>, bytes: &[u8]| match bytes {
        b"" => out.push(b'-'),
        bytes => escape::logged(out, bytes, place),
    };
    match what {
        What::Script => text(out, entry.script),
        What::Method => text(out, entry.method),
        What::Pool => text(out, entry.pool.as_bytes()),
        What::Uri => text(out, path(entry.uri)),
        What::User => text(out, entry.user),
        What::Outcome => text(out, entry.outcome.as_bytes()),
        What::Param(name) => text(out, (entry.param)(name).unwrap_or_default()),
        What::Header(name) => text(out, header(entry.head, name).unwrap_or_default()),
        What::Query => escape::logged(out, entry.query, place),
        What::QueryMark if entry.query.is_empty() => {}
        What::QueryMark => out.push(b'?'),
        What::Start(format) => format.write(&entry.start, out),
        What::End(format) => format.write(&entry.end, out),
        What::Duration(unit) => span(out, entry.duration, *unit),
        What::QueueWait(unit) => span(out, entry.queue_wait, *unit),
        What::Cpu(which) => known(out, entry.usage.map(|usage| share(usage, *which, entry.duration))),
        What::Memory(scale) => known(out, entry.usage.map(|usage| usage.memory / scale)),
        What::Pid => known(out, entry.pid),
        What::Master => known(out, Some(entry.master)),
        What::Peer => known(out, entry.peer),
        What::Slot => known(out, entry.slot.map(|slot| slot.0)),
        What::Generation => known(out, entry.generation.map(|generation| generation.0)),
        What::Status => known(out, Some(format_args!("{:03}", entry.status))),
        What::ContentLength => known(out, Some(entry.content_length)),
        What::BytesIn => known(out, Some(entry.bytes_in)),
        What::BytesOut => known(out, Some(entry.bytes_out)),
        What::Retries => known(out, Some(entry.retries)),
    }
}

/// A number or an address: nothing to escape in it.
fn known(out: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    // A Vec takes everything, here and below.
    let _ = match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_all(b"-"),
    };
}

fn span(out: &mut Vec<u8>, span: Duration, unit: Unit) {
    let _ = match unit {
        Unit::Seconds => write!(out, "{}.{:03}", span.as_secs(), span.subsec_millis()),
        Unit::Milliseconds => write!(out, "{}.{:03}", span.as_millis(), span.subsec_micros() % 1000),
        Unit::Microseconds => write!(out, "{}", span.as_micros()),
    };
}

/// Percent of the duration, as php-fpm rounds it.
fn share(usage: Usage, which: Cpu, duration: Duration) -> String {
    let used = match which {
        Cpu::User => usage.user,
        Cpu::System => usage.system,
        Cpu::Total => usage.user.saturating_add(usage.system),
    };
    let percent = 100.0 * used.as_secs_f64() / duration.as_secs_f64();
    format!("{:.2}", if percent.is_finite() { percent } else { 0.0 })
}

/// What stands before a query.
pub(super) fn path(uri: &[u8]) -> &[u8] {
    uri.split(|byte| *byte == b'?').next().unwrap_or(uri)
}

/// The value of the first header with this name, in any case, in the head of a CGI response.
fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (found, value) = line.split_at(colon);
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
    })
}
