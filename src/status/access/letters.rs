//! Reading a format: its letters and their modifiers. php-fpm's errors, said so that one knows what to write instead.

use crate::status::escape::Place;
use crate::status::stamp::{COMMON, TimeFormat};

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it is.
    Text(String),
    /// A value, and what is around it.
    Value(What, Place),
}

/// A value of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Cpu(Cpu),
    Duration(Unit),
    QueueWait(Unit),
    Param(String),
    Header(String),
    Memory(u64),
    Start(TimeFormat),
    End(TimeFormat),
    Script,
    ContentLength,
    Method,
    Pool,
    Pid,
    Master,
    Uri,
    QueryMark,
    Query,
    Peer,
    Status,
    User,
    BytesIn,
    BytesOut,
    Retries,
    Outcome,
    Slot,
    Generation,
}

/// Which CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cpu {
    User,
    System,
    Total,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl Piece {
    pub(super) fn param(&self) -> Option<&str> {
        match self {
            Piece::Value(What::Param(name), _) => Some(name),
            Piece::Value(..) | Piece::Text(_) => None,
        }
    }

    pub(super) fn header(&self) -> Option<&str> {
        match self {
            Piece::Value(What::Header(name), _) => Some(name),
            Piece::Value(..) | Piece::Text(_) => None,
        }
    }

    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Piece::Value(What::Cpu(_) | What::Memory(_), _))
    }
}

pub(super) fn parse(format: &str) -> Result<Vec<Piece>, String> {
    if let Some(c) = format.chars().find(|c| c.is_control()) {
        return Err(format!("an access format is one line of text, without '{}'", c.escape_debug()));
    }
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut place = Place::Bare;
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        if before.matches('"').count() % 2 == 1 {
            place = if place == Place::Bare { Place::Quoted } else { Place::Bare };
        }
        let (modifier, after) = modifier(after)?;
        let mut chars = after.chars();
        match chars.next() {
            Some('%') if modifier.is_none() => text.push('%'),
            Some(letter) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Value(what(letter, modifier)?, place));
            }
            None => return Err("an access format does not end in '%'; a percent sign is '%%'".into()),
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// `{modifier}` before a letter, and what follows it. An empty one counts as none, as it does to php-fpm.
fn modifier(text: &str) -> Result<(Option<&str>, &str), String> {
    let Some(inside) = text.strip_prefix('{') else { return Ok((None, text)) };
    let (modifier, rest) = inside.split_once('}').ok_or("a '%{' of the access format has no '}'")?;
    Ok(((!modifier.is_empty()).then_some(modifier), rest))
}

fn what(letter: char, modifier: Option<&str>) -> Result<What, String> {
    match letter {
        'C' => cpu(modifier).map(What::Cpu),
        'd' => unit(letter, modifier).map(What::Duration),
        'w' => unit(letter, modifier).map(What::QueueWait),
        'M' => scale(modifier).map(What::Memory),
        't' => time(letter, modifier).map(What::Start),
        'T' => time(letter, modifier).map(What::End),
        'e' => name(modifier, "%e needs the name of a parameter: %{REMOTE_ADDR}e").map(What::Param),
        'o' => name(modifier, "%o needs the name of a header: %{Content-Type}o").map(What::Header),
        _ => match (plain(letter), modifier) {
            (Some(what), None) => Ok(what),
            (Some(_), Some(modifier)) => Err(format!("%{letter} has no modifier, so no '{{{modifier}}}'")),
            (None, _) => Err(format!("'%{}' is no letter of an access format", letter.escape_debug())),
        },
    }
}

/// The letters that take no modifier.
fn plain(letter: char) -> Option<What> {
    Some(match letter {
        'f' => What::Script,
        'l' => What::ContentLength,
        'm' => What::Method,
        'n' => What::Pool,
        'p' => What::Pid,
        'P' => What::Master,
        'r' => What::Uri,
        'Q' => What::QueryMark,
        'q' => What::Query,
        'R' => What::Peer,
        's' => What::Status,
        'u' => What::User,
        'I' => What::BytesIn,
        'O' => What::BytesOut,
        'y' => What::Retries,
        'x' => What::Outcome,
        'S' => What::Slot,
        'g' => What::Generation,
        _ => return None,
    })
}

fn name(modifier: Option<&str>, fault: &str) -> Result<String, String> {
    modifier.map(str::to_owned).ok_or_else(|| fault.to_owned())
}

fn cpu(modifier: Option<&str>) -> Result<Cpu, String> {
    match modifier {
        None | Some("total") => Ok(Cpu::Total),
        Some("user") => Ok(Cpu::User),
        Some("system") => Ok(Cpu::System),
        Some(other) => Err(format!("%C has 'user', 'system' and 'total', not '{other}'")),
    }
}

fn unit(letter: char, modifier: Option<&str>) -> Result<Unit, String> {
    match modifier {
        None | Some("seconds") => Ok(Unit::Seconds),
        // php-fpm takes the spellings with one l, too.
        Some("milli" | "milliseconds" | "mili" | "miliseconds") => Ok(Unit::Milliseconds),
        Some("micro" | "microseconds") => Ok(Unit::Microseconds),
        Some(other) => {
            Err(format!("%{letter} has 'seconds', 'milliseconds' and 'microseconds', not '{other}'"))
        }
    }
}

/// By how many bytes memory is counted.
fn scale(modifier: Option<&str>) -> Result<u64, String> {
    match modifier {
        None | Some("bytes") => Ok(1),
        Some("kilo" | "kilobytes") => Ok(1024),
        Some("mega" | "megabytes") => Ok(1024 * 1024),
        Some(other) => Err(format!("%M has 'bytes', 'kilobytes' and 'megabytes', not '{other}'")),
    }
}

fn time(letter: char, modifier: Option<&str>) -> Result<TimeFormat, String> {
    TimeFormat::parse(modifier.unwrap_or(COMMON)).map_err(|fault| format!("%{letter}: {fault}"))
}
