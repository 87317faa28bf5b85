//! The page as XML 1.0: php-fpm's elements, named as the JSON members with hyphens; times and units as there.

use std::fmt::Write;

use super::fields::{self, Field, PERCENTILES, Value};
use super::text::shown;
use super::{Detail, PoolPage};
use crate::status::escape::markup;
use crate::status::histogram::Histogram;

pub(super) fn render(page: &PoolPage<'_>, detail: Detail) -> String {
    let mut out = String::from("<?xml version=\"1.0\" ?>\n<status>\n");
    for field in fields::pool(page) {
        element(&mut out, &field);
        out.push('\n');
    }
    if detail == Detail::Full {
        out.push_str("<processes>\n");
        for row in &page.processes {
            out.push_str("<process>");
            for field in fields::process(row) {
                element(&mut out, &field);
            }
            out.push_str("</process>\n");
        }
        out.push_str("</processes>\n");
    }
    out.push_str("</status>");
    out
}

fn element(out: &mut String, (name, value): &Field<'_>) {
    let name = name.replace(' ', "-");
    // Writing to a String cannot fail, here and below.
    let _ = write!(out, "<{name}>");
    match *value {
        Value::Time(stamp) => drop(write!(out, "{}", stamp.seconds)),
        Value::Known(None) => {}
        Value::Spans(spans) => histogram(out, spans),
        value @ (Value::Count(_)
        | Value::Known(Some(_))
        | Value::Percent(_)
        | Value::Foreign(_)
        | Value::Uri(..)) => shown(out, value, markup),
    }
    let _ = write!(out, "</{name}>");
}

fn histogram(out: &mut String, spans: &Histogram) {
    let _ = write!(out, "<count>{}</count><sum>{}</sum>", spans.count(), spans.sum());
    for (percent, title) in PERCENTILES {
        let _ = write!(out, "<{title}>{}</{title}>", spans.percentile(percent));
    }
    let _ = write!(out, "<max>{}</max>", spans.max());
    for ((bound, _), count) in spans.cumulative() {
        let _ = write!(out, "<bucket le=\"{bound}\">{count}</bucket>");
    }
}
