//! The page as `name: value` lines, names padded to php-fpm's column, a worker's block under a line of asterisks.

use std::fmt::Write;

use super::fields::{self, Field, Value};
use super::{Detail, PoolPage};
use crate::status::escape;
use crate::status::stamp::COMMON;

/// Where values begin.
const COLUMN: usize = 22;

pub(super) fn render(page: &PoolPage<'_>, detail: Detail) -> String {
    let mut out = String::new();
    lines(&mut out, &fields::pool(page));
    if detail == Detail::Full {
        for row in &page.processes {
            out.push_str("\n************************\n");
            lines(&mut out, &fields::process(row));
        }
    }
    out
}

fn lines(out: &mut String, fields: &[Field<'_>]) {
    for (name, value) in fields::flat(fields) {
        line(out, if name == "request uri" { "request URI" } else { &name }, value);
    }
}

fn line(out: &mut String, name: &str, value: Value<'_>) {
    let _ = write!(out, "{:<COLUMN$}", format!("{name}:")); // a String takes everything
    shown(out, value, |out, c| out.push(c));
    out.push('\n');
}

/// The value as a person reads it; `put` writes each character that is not escaped for everyone.
pub(super) fn shown(out: &mut String, value: Value<'_>, put: fn(&mut String, char)) {
    let mut foreign = |bytes: &[u8]| {
        let (bytes, cut) = escape::bounded(bytes);
        escape::visible(out, bytes, put);
        out.push_str(cut);
    };
    match value {
        Value::Foreign(bytes) => foreign(bytes),
        Value::Uri(path, query) => {
            foreign(path);
            if !query.is_empty() {
                out.push('?');
                let (query, cut) = escape::bounded(query);
                escape::visible(out, query, put);
                out.push_str(cut);
            }
        }
        // Writing to a String cannot fail.
        Value::Count(number) | Value::Known(Some(number)) => drop(write!(out, "{number}")),
        Value::Known(None) => out.push('-'),
        Value::Percent(share) => drop(write!(out, "{:.2}", finite(share))),
        Value::Time(stamp) => out.push_str(&stamp.text(COMMON)),
        Value::Spans(spans) => drop(write!(out, "{}", spans.count())),
    }
}

/// What is no number of percent is 0.
pub(super) fn finite(share: f64) -> f64 {
    if share.is_finite() && share > 0.0 { share } else { 0.0 }
}
