//! One log entry as text: php-fpm's form, JSON, and what the journal and syslog want around it. Touches no descriptor.
//! Whatever the message holds, the result is one line: control characters come out escaped, so nothing can forge a line.
//! RFC 3164 (syslog), RFC 3339 (time in JSON), sd-daemon(3) (priority prefixes).

use std::fmt::{self, Write};

use serde::Serialize;

use crate::config::model::{LogFormat, LogLevel};
use crate::os::clock::LocalTime;

/// syslog(3)'s LOG_DAEMON.
const FACILITY_DAEMON: u8 = 3 << 3;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// One thing to log.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// How grave.
    pub level: LogLevel,
    /// When.
    pub time: LocalTime,
    /// What happened; `[pool NAME] child PID …` names its subject.
    pub message: fmt::Arguments<'a>,
    /// Module and line in our source, shown at debug level.
    pub origin: Option<(&'a str, u32)>,
}

/// What a line goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A file, a pipe or a terminal: the line carries its own time, and a newline ends it.
    Stream,
    /// The journal's stream: a priority prefix instead of time and level.
    Journal,
    /// A syslog datagram: priority, time, name and pid before it, nothing after.
    Syslog,
}

/// How lines look.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Text or JSON.
    pub format: LogFormat,
    /// What is around it.
    pub frame: Frame,
    /// At `Debug`, text lines carry microseconds, our pid and the origin, as php-fpm's do.
    pub level: LogLevel,
    /// Our pid.
    pub pid: u32,
}

/// Appends `entry` to `out`, with its end.
pub fn render(out: &mut String, entry: &Entry<'_>, style: &Style) {
    open_frame(out, entry.level, &entry.time, style);
    match style.format {
        LogFormat::Text => text(out, entry, style),
        LogFormat::Json => json(out, entry),
    }
    close_frame(out, style.frame);
}

/// Appends a line of a worker as it is, but for what the frame needs to tell lines apart. `line` holds no newline.
pub fn render_raw(out: &mut Vec<u8>, line: &[u8], level: LogLevel, time: &LocalTime, style: &Style) {
    let mut around = String::new();
    open_frame(&mut around, level, time, style);
    out.extend_from_slice(around.as_bytes());
    out.extend_from_slice(line);
    around.clear();
    close_frame(&mut around, style.frame);
    out.extend_from_slice(around.as_bytes());
}

/// php-fpm's name of a level.
pub fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Alert => "ALERT",
        LogLevel::Error => "ERROR",
        LogLevel::Warning => "WARNING",
        LogLevel::Notice => "NOTICE",
        LogLevel::Debug => "DEBUG",
    }
}

/// Appends `text` with every control character escaped as `\n`, `\t`, `\u{1b}`.
pub fn escape(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(char::is_control) {
        out.push_str(&rest[..at]);
        let mut chars = rest[at..].chars();
        if let Some(control) = chars.next() {
            out.extend(control.escape_default());
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

/// As `escape`, for bytes that need not be UTF-8: what is none is written as `\xff`.
pub fn escape_bytes(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        escape(out, chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}"); // a String takes everything
        }
    }
}

fn open_frame(out: &mut String, level: LogLevel, time: &LocalTime, style: &Style) {
    // Writing to a String cannot fail.
    let _ = match style.frame {
        Frame::Stream => Ok(()),
        Frame::Journal => write!(out, "<{}>", severity(level)),
        Frame::Syslog => write!(
            out,
            "<{}>{} {:2} {:02}:{:02}:{:02} fpmd[{}]: ",
            FACILITY_DAEMON | severity(level),
            month(time),
            time.day,
            time.hour,
            time.minute,
            time.second,
            style.pid
        ),
    };
}

fn close_frame(out: &mut String, frame: Frame) {
    match frame {
        Frame::Stream | Frame::Journal => out.push('\n'),
        Frame::Syslog => {}
    }
}

fn text(out: &mut String, entry: &Entry<'_>, style: &Style) {
    let time = &entry.time;
    // Writing to a String cannot fail, and the message's own Display is not ours to judge.
    let _ = match style.frame {
        Frame::Stream => write!(
            out,
            "[{:02}-{}-{:04} {:02}:{:02}:{:02}",
            time.day,
            month(time),
            time.year,
            time.hour,
            time.minute,
            time.second
        ),
        Frame::Journal => Ok(()),
        Frame::Syslog => write!(out, "[{}] ", name(entry.level)),
    };
    let detailed = style.level == LogLevel::Debug;
    if style.frame == Frame::Stream {
        if detailed {
            let _ = write!(out, ".{:06}", time.micros);
        }
        let _ = write!(out, "] {}: ", name(entry.level));
    }
    if detailed {
        let _ = write!(out, "pid {}, ", style.pid);
        if let Some((module, line)) = entry.origin {
            let _ = write!(out, "{module}, line {line}: ");
        }
    }
    let _ = Escaping(out).write_fmt(entry.message);
}

fn json(out: &mut String, entry: &Entry<'_>) {
    #[derive(Serialize)]
    struct Line<'a> {
        time: &'a str,
        level: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    }
    let time = rfc3339(&entry.time);
    let level = name(entry.level).to_ascii_lowercase();
    let message = entry.message.to_string();
    let (pool, pid) = subject(&message);
    let line = Line { time: &time, level: &level, message: &message, pool, pid };
    // Strings and numbers always serialize.
    let object = serde_json::to_string(&line).unwrap_or_default();
    // JSON lets DEL and the C1 controls pass as they are; they can only stand inside a string, where \u is as good.
    for c in object.chars() {
        match c.is_control() {
            true => {
                let _ = write!(out, "\\u{:04x}", u32::from(c)); // a String takes everything
            }
            false => out.push(c),
        }
    }
}

/// Pool and pid of `[pool NAME] child PID …`, the form of every message about a pool.
fn subject(message: &str) -> (Option<&str>, Option<u32>) {
    let Some((pool, rest)) = message.strip_prefix("[pool ").and_then(|rest| rest.split_once(']')) else {
        return (None, None);
    };
    let pid = rest.strip_prefix(" child ").and_then(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    });
    (Some(pool), pid)
}

fn rfc3339(time: &LocalTime) -> String {
    let sign = if time.offset < 0 { '-' } else { '+' };
    let minutes = time.offset.unsigned_abs() / 60;
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}{sign}{:02}:{:02}",
        time.year,
        time.month,
        time.day,
        time.hour,
        time.minute,
        time.second,
        time.micros,
        minutes / 60,
        minutes % 60
    )
}

fn month(time: &LocalTime) -> &'static str {
    MONTHS.get(usize::from(time.month).wrapping_sub(1)).copied().unwrap_or("???")
}

/// syslog(3)'s severities.
fn severity(level: LogLevel) -> u8 {
    match level {
        LogLevel::Alert => 1,
        LogLevel::Error => 3,
        LogLevel::Warning => 4,
        LogLevel::Notice => 5,
        LogLevel::Debug => 7,
    }
}

/// Escapes a message while it is formatted.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: LocalTime = LocalTime {
        year: 2026,
        month: 11,
        day: 2,
        hour: 8,
        minute: 15,
        second: 35,
        micros: 719_965,
        offset: -5400,
    };

    fn line(message: &str, format: LogFormat, frame: Frame, level: LogLevel) -> String {
        let mut out = String::new();
        let origin = Some(("fpmd::master", 12));
        let message = format_args!("{message}");
        let entry = Entry { level: LogLevel::Warning, time: TIME, message, origin };
        render(&mut out, &entry, &Style { format, frame, level, pid: 77 });
        out
    }

    #[test]
    fn text_has_the_form_of_php_fpm() {
        let notice = line("ready", LogFormat::Text, Frame::Stream, LogLevel::Notice);
        assert_eq!(notice, "[02-Nov-2026 08:15:35] WARNING: ready\n");
        let debug = line("ready", LogFormat::Text, Frame::Stream, LogLevel::Debug);
        assert_eq!(debug, "[02-Nov-2026 08:15:35.719965] WARNING: pid 77, fpmd::master, line 12: ready\n");
    }

    #[test]
    fn the_journal_and_syslog_get_the_priority_of_the_message() {
        let journal = line("ready", LogFormat::Text, Frame::Journal, LogLevel::Notice);
        assert_eq!(journal, "<4>ready\n");
        let syslog = line("ready", LogFormat::Text, Frame::Syslog, LogLevel::Notice);
        assert_eq!(syslog, "<28>Nov  2 08:15:35 fpmd[77]: [WARNING] ready");
    }

    #[test]
    fn json_names_pool_and_pid_where_the_message_does() {
        let about_child =
            line("[pool www] child 12 exited", LogFormat::Json, Frame::Stream, LogLevel::Notice);
        assert_eq!(
            about_child,
            "{\"time\":\"2026-11-02T08:15:35.719965-01:30\",\"level\":\"warning\",\
             \"message\":\"[pool www] child 12 exited\",\"pool\":\"www\",\"pid\":12}\n"
        );
        assert_eq!(subject("[pool www] started"), (Some("www"), None));
        assert_eq!(subject("[pool www] child 12"), (Some("www"), Some(12)));
        assert_eq!(subject("[pool www] child 99999999999"), (Some("www"), None));
        assert_eq!(subject("fpm is running, pid 7"), (None, None));
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = line("a\nb\t\u{1b}[31m\u{9b}\0é", LogFormat::Text, Frame::Stream, LogLevel::Notice);
        assert_eq!(text, "[02-Nov-2026 08:15:35] WARNING: a\\nb\\t\\u{1b}[31m\\u{9b}\\u{0}é\n");
        let mut out = String::new();
        escape_bytes(&mut out, b"caf\xe9\n\xff");
        assert_eq!(out, "caf\\xe9\\n\\xff");
    }

    #[test]
    fn a_raw_line_keeps_its_bytes() {
        let mut out = Vec::new();
        let style = Style { format: LogFormat::Json, frame: Frame::Stream, level: LogLevel::Notice, pid: 77 };
        render_raw(&mut out, b"\xff\t{}", LogLevel::Warning, &TIME, &style);
        assert_eq!(out, b"\xff\t{}\n");
        out.clear();
        render_raw(&mut out, b"x", LogLevel::Warning, &TIME, &Style { frame: Frame::Journal, ..style });
        assert_eq!(out, b"<4>x\n");
    }

    proptest! {
        #[test]
        fn whatever_the_message_it_is_one_line(message in any::<String>(), json in any::<bool>()) {
            let format = if json { LogFormat::Json } else { LogFormat::Text };
            let out = line(&message, format, Frame::Stream, LogLevel::Notice);
            let body = out.strip_suffix('\n').unwrap();
            prop_assert!(!body.contains(char::is_control));
            if json {
                let value: serde_json::Value = serde_json::from_str(body).unwrap();
                prop_assert_eq!(value["message"].as_str(), Some(message.as_str()));
            }
        }
    }
}
