//! A request as one line of JSON (RFC 8259): times by RFC 3339, spans in seconds, null where nothing is known.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use super::Entry;
use super::value::path;
use crate::status::escape;

/// Appends the object, without a newline.
pub(super) fn write(entry: &Entry<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    text(out, "time", entry.start.rfc3339().as_bytes());
    text(out, "end", entry.end.rfc3339().as_bytes());
    text(out, "pool", entry.pool.as_bytes());
    number(out, "pid", entry.pid);
    number(out, "slot", entry.slot.map(|slot| slot.0));
    number(out, "generation", entry.generation.map(|generation| generation.0));
    match entry.peer {
        Some(peer) => text(out, "peer", peer.to_string().as_bytes()),
        None => number(out, "peer", None::<u8>),
    }
    text(out, "method", entry.method);
    text(out, "uri", path(entry.uri));
    text(out, "query", entry.query);
    text(out, "script", entry.script);
    text(out, "user", entry.user);
    number(out, "status", Some(entry.status));
    text(out, "outcome", entry.outcome.as_bytes());
    number(out, "duration", Some(seconds(entry.duration)));
    number(out, "queue_wait", Some(seconds(entry.queue_wait)));
    number(out, "content_length", Some(entry.content_length));
    number(out, "bytes_in", Some(entry.bytes_in));
    number(out, "bytes_out", Some(entry.bytes_out));
    number(out, "retries", Some(entry.retries));
    if let Some(usage) = entry.usage {
        number(out, "cpu_user", Some(seconds(usage.user)));
        number(out, "cpu_system", Some(seconds(usage.system)));
        number(out, "memory", Some(usage.memory));
    }
    out.push(b'}');
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    member(out, name);
    out.push(b'"');
    escape::json_logged(out, value);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, name: &str, value: Option<impl Display>) {
    member(out, name);
    // A Vec takes everything, here and below.
    let _ = match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_all(b"null"),
    };
}

fn member(out: &mut Vec<u8>, name: &str) {
    let comma = if out.ends_with(b"{") { "" } else { "," };
    let _ = write!(out, "{comma}\"{name}\":");
}

fn seconds(span: Duration) -> impl Display {
    format!("{}.{:06}", span.as_secs(), span.subsec_micros())
}
