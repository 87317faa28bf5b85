//! The page as XHTML 1.0: php-fpm's table of the pool and, below it, its table with a row for each worker, with a style
//! sheet of a few lines. No script, nothing loaded from elsewhere.

use std::fmt::Write;

use super::fields;
use super::text::shown;
use super::{Detail, PoolPage, ProcessState};
use crate::status::escape::{markup, visible};

const HEAD: &str = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \
    \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\n\
    <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n";

/// The pool's table flows into as many columns as fit. In the workers' table only foreign texts may be broken.
const STYLE: &str = "<style type=\"text/css\">\n\
    body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }\n\
    table { display: block; columns: 28em; border-spacing: 0; border: 0; margin-bottom: 2em }\n\
    table[border] { display: table; width: 100%; font-size: 12px }\n\
    tr { break-inside: avoid }\n\
    th, td { padding: .2em .7em; border: 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }\n\
    th { font-weight: 600; min-width: 12em }\n\
    td { min-width: 13em; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }\n\
    table[border] th, table[border] td { min-width: 0; padding: .2em .5em }\n\
    table[border] td { white-space: nowrap }\n\
    table[border] td:nth-child(8), table[border] td:nth-child(11) { min-width: 9em }\n\
    table[border] td:nth-child(8), table[border] td:nth-child(10), table[border] td:nth-child(11) {\n\
    white-space: normal }\n\
    tr.busy { background: #fff6d6 }\n\
    @media (prefers-color-scheme: dark) {\n\
    body { color: #ddd; background: #181818 } th, td { border-color: #444 } tr.busy { background: #4a3f10 } }\n\
    </style>\n";

pub(super) fn render(page: &PoolPage<'_>, detail: Detail) -> String {
    let mut out = String::from(HEAD);
    out.push_str("<head><title>fpmd: pool ");
    visible(&mut out, page.pool.as_bytes(), markup);
    let _ = write!(out, "</title>\n{STYLE}</head>\n<body>\n<table>\n"); // a String takes everything, here and below
    for (name, value) in fields::flat(&fields::pool(page)) {
        let _ = write!(out, "<tr><th>{name}</th><td>");
        shown(&mut out, value, markup);
        out.push_str("</td></tr>\n");
    }
    out.push_str("</table>\n");
    if detail == Detail::Full {
        processes(&mut out, page);
    }
    out.push_str("</body></html>");
    out
}

fn processes(out: &mut String, page: &PoolPage<'_>) {
    out.push_str("<table border=\"1\">\n<tr>");
    for name in fields::PROCESS {
        let _ = write!(out, "<th>{name}</th>");
    }
    out.push_str("</tr>\n");
    for row in &page.processes {
        out.push_str(if row.state == ProcessState::Idle { "<tr>" } else { "<tr class=\"busy\">" });
        for (_, value) in fields::process(row) {
            out.push_str("<td>");
            shown(out, value, markup);
            out.push_str("</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}
