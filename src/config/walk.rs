//! A walk through TOML tables that reports every mistake at its place and goes on. Knows types and the table of
//! settings, not what the settings mean.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::{Cause, Error, Errors, Place};
use super::keys::{self, Default, Key, Kind, Section, Support};
use super::source::Source;
use super::{nearest, values};
use crate::ids::Signal;

/// The mistakes so far.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<((usize, usize), Error)>);

impl Report {
    /// Adds a mistake at a byte offset of a file.
    pub(super) fn add(&mut self, source: &Source, offset: usize, key: &str, cause: Cause) {
        let error = Error { place: source.place(offset), key: key.to_owned(), cause };
        self.0.push(((source.index, offset), error));
    }

    /// Adds a mistake that has its place already.
    pub(super) fn add_placed(&mut self, source: &Source, offset: usize, error: Error) {
        self.0.push(((source.index, offset), error));
    }

    /// All mistakes in the order of files and places.
    pub(super) fn finish(mut self) -> Option<Errors> {
        self.0.sort_by_key(|(order, _)| *order);
        Errors::new(self.0.into_iter().map(|(_, error)| error).collect())
    }
}

/// One TOML table that holds settings of one section.
#[derive(Debug, Clone)]
pub(super) struct Table<'a> {
    pub source: &'a Source,
    pub section: Section,
    /// `pool.www.pm`.
    pub path: String,
    /// Where the table begins.
    pub offset: usize,
    /// `None` for a table that the file does not have: every setting has its default.
    pub entries: Option<&'a DeTable<'a>>,
}

/// A value at its place.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub source: &'a Source,
    /// `pool.www.listen`.
    pub key: String,
    pub kind: Kind,
    pub value: &'a DeValue<'a>,
    pub span: Range<usize>,
}

impl<'a> Table<'a> {
    /// Reports names that the section does not have and settings that are for later. `inner` are names of tables
    /// that are read by others.
    pub(super) fn check_names(&self, report: &mut Report, inner: &[&str]) {
        for (name, _) in self.entries.into_iter().flatten() {
            let text: &str = name.get_ref();
            let cause = match keys::find(self.section, text) {
                _ if inner.contains(&text) => continue,
                Some(Key { support: Support::Supported, .. }) => continue,
                Some(Key { support: Support::NotYet, .. }) => Cause::NotYet,
                None => Cause::Unknown { what: "setting", hint: nearest::hint(self.section, text) },
            };
            report.add(self.source, name.span().start, &self.key(text), cause);
        }
    }

    /// The full name of a setting of this table.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// Where the value of a setting is, or the table where it is not given.
    pub(super) fn offset_of(&self, name: &str) -> usize {
        self.given(name).map_or(self.offset, |item| item.span.start)
    }

    /// Adds a mistake at the value of a setting, or at the table where it is not given.
    pub(super) fn fail(&self, report: &mut Report, name: &str, cause: Cause) {
        report.add(self.source, self.offset_of(name), &self.key(name), cause);
    }

    /// The setting as the file gives it. The name is one of this section's that is supported.
    pub(super) fn given(&self, name: &str) -> Option<Item<'a>> {
        let kind = keys::find(self.section, name)?.kind;
        let value = self.entries?.get(name)?;
        Some(Item {
            source: self.source,
            key: self.key(name),
            kind,
            value: value.get_ref(),
            span: value.span(),
        })
    }

    /// A setting without a default: `None` if it is not given, or wrong and reported.
    pub(super) fn optional<T>(
        &self,
        report: &mut Report,
        name: &str,
        read: impl FnOnce(&mut Report, &Item<'_>) -> Option<T>,
    ) -> Option<T> {
        self.given(name).and_then(|item| read(report, &item))
    }

    /// A setting that has to be given; `advice` says what to write.
    pub(super) fn required<T>(
        &self,
        report: &mut Report,
        name: &str,
        advice: &str,
        read: impl FnOnce(&mut Report, &Item<'_>) -> Option<T>,
    ) -> Option<T> {
        let given = self.given(name);
        if given.is_none() && !self.was_meant(name) {
            self.fail(report, name, Cause::Missing(advice.to_owned()));
        }
        given.and_then(|item| read(report, &item))
    }

    /// Whether a mistyped name, which is reported as such, probably stands for this setting.
    pub(super) fn was_meant(&self, name: &str) -> bool {
        let names = self.entries.into_iter().flatten().map(|(name, _)| name.get_ref());
        let mut unknown = names.filter(|given| keys::find(self.section, given).is_none());
        unknown.any(|given| nearest::means(self.section, given, name))
    }

    /// A setting with a default in the table of settings, which also stands in for a wrong value once that is
    /// reported.
    pub(super) fn value<T>(
        &self,
        report: &mut Report,
        name: &str,
        read: impl Fn(&mut Report, &Item<'_>) -> Option<T>,
    ) -> T {
        self.given(name)
            .and_then(|item| read(report, &item))
            .unwrap_or_else(|| default(self.section, name, read))
    }
}

/// The default of a setting that has one as TOML text.
#[allow(clippy::expect_used)] // Holds for every key of the table: `testing` resolves a file that gives none of them.
fn default<T>(section: Section, name: &str, read: impl Fn(&mut Report, &Item<'_>) -> Option<T>) -> T {
    let key = keys::find(section, name).expect("a setting of the table");
    let Default::Value(text) = key.default else { unreachable!("{name} has no default value") };
    let source = Source::new(0, "defaults", text.to_owned());
    let value = DeValue::parse(text).expect("a default is TOML");
    let item = Item {
        source: &source,
        key: name.to_owned(),
        kind: key.kind,
        value: value.get_ref(),
        span: value.span(),
    };
    read(&mut Report::default(), &item).expect("a default is valid")
}

impl<'a> Item<'a> {
    /// Adds a mistake at this value.
    pub(super) fn fail(&self, report: &mut Report, cause: Cause) {
        report.add(self.source, self.span.start, &self.key, cause);
    }

    /// Adds a sentence about this value.
    pub(super) fn refuse<T>(&self, report: &mut Report, sentence: impl Into<String>) -> Option<T> {
        self.fail(report, Cause::Value(sentence.into()));
        None
    }

    /// Where this value is.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.span.start)
    }

    /// Adds that the type is wrong.
    pub(super) fn mistyped<T>(&self, report: &mut Report, expected: &'static str) -> Option<T> {
        let hint = match self.value {
            // php-fpm's `listen.mode = 0660` is a table in TOML.
            DeValue::Table(table) => table.keys().next().and_then(|inner| {
                let (parent, own) = self.key.rsplit_once('.').unwrap_or(("", &self.key));
                let joined = format!("{own}_{}", inner.get_ref());
                let known = keys::KEYS.iter().any(|key| key.name == joined);
                known.then(|| format!("did you mean '{parent}.{joined}'?"))
            }),
            _ => None,
        };
        self.fail(report, Cause::Type { expected, found: type_name(self.value), hint });
        None
    }

    /// Any text without NUL, which no system call takes.
    pub(super) fn text(&self, report: &mut Report) -> Option<String> {
        match self.value {
            DeValue::String(text) if text.contains('\0') => self.refuse(report, "has a NUL character"),
            DeValue::String(text) => Some(text.to_string()),
            _ => self.mistyped(report, "a string"),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, report: &mut Report) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.mistyped(report, "true or false"),
        }
    }

    /// A whole number in the range of the setting.
    pub(super) fn whole<T: TryFrom<i64>>(&self, report: &mut Report) -> Option<T> {
        let DeValue::Integer(integer) = self.value else { return self.mistyped(report, "a whole number") };
        let (least, most) = match self.kind {
            Kind::Whole(least, most) => (least, most),
            _ => (i64::MIN, i64::MAX),
        };
        let number = number(integer).filter(|number| (least..=most).contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => self.refuse(report, format!("{integer} is out of range; it is {least} to {most}")),
        }
    }

    /// An absolute path.
    pub(super) fn path(&self, report: &mut Report) -> Option<PathBuf> {
        let text = self.text(report)?;
        if text.starts_with('/') {
            return Some(PathBuf::from(text));
        }
        self.refuse(report, format!("'{text}' is not an absolute path; it has to begin with '/'"))
    }

    /// A time.
    pub(super) fn time(&self, report: &mut Report) -> Option<Duration> {
        let read = match self.value {
            DeValue::String(text) => values::duration(text),
            DeValue::Integer(integer) => match number(integer) {
                Some(number) => values::seconds(number),
                None => Err(format!("{integer} is out of range; a time is 0 to 365d")),
            },
            _ => return self.mistyped(report, "a time such as \"30s\", or whole seconds"),
        };
        read.map_err(|sentence| self.refuse::<()>(report, sentence)).ok()
    }

    /// A size in bytes.
    pub(super) fn size(&self, report: &mut Report) -> Option<u64> {
        match self.value {
            DeValue::String(text) if text == "unlimited" => {
                self.refuse(report, "'unlimited' is not a size here; write one such as \"64K\"")
            }
            _ => self.size_or_unlimited(report),
        }
    }

    /// A size in bytes; `unlimited` is the largest number.
    pub(super) fn size_or_unlimited(&self, report: &mut Report) -> Option<u64> {
        let read = match self.value {
            DeValue::String(text) if text == "unlimited" => Ok(u64::MAX),
            DeValue::String(text) => {
                values::size(text).map_err(|sentence| format!("{sentence}, or \"unlimited\""))
            }
            DeValue::Integer(integer) => number(integer)
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(|| format!("{integer} is out of range; a size is not negative")),
            _ => return self.mistyped(report, "a size such as \"64K\", or bytes"),
        };
        read.map_err(|sentence| self.refuse::<()>(report, sentence)).ok()
    }

    /// Percents of one CPU.
    pub(super) fn percent(&self, report: &mut Report) -> Option<u32> {
        match self.value {
            DeValue::String(text) => {
                values::percent(text).map_err(|sentence| self.refuse::<()>(report, sentence)).ok()
            }
            _ => self.mistyped(report, "percents of one CPU such as \"50%\""),
        }
    }

    /// Permission bits: a string of octal digits or an octal integer. A decimal integer is refused: 660 would be
    /// the mode 1224.
    pub(super) fn mode(&self, report: &mut Report) -> Option<u32> {
        let read = match self.value {
            DeValue::String(text) => values::mode(text),
            DeValue::Integer(integer) if integer.radix() == 8 => values::mode(integer.as_str()),
            DeValue::Integer(integer) => {
                let digits = integer.as_str();
                Err(format!("{digits} is a decimal number; write octal digits in quotes: \"0{digits}\""))
            }
            _ => return self.mistyped(report, "octal digits such as \"0660\""),
        };
        read.map_err(|sentence| self.refuse::<()>(report, sentence)).ok()
    }

    /// A signal by name or number that can end a process.
    pub(super) fn signal(&self, report: &mut Report) -> Option<Signal> {
        let (signal, text) = match self.value {
            DeValue::String(text) => (Signal::parse(text), format!("'{text}'")),
            DeValue::Integer(integer) => {
                let raw = number(integer).and_then(|number| i32::try_from(number).ok());
                (raw.and_then(Signal::from_raw), integer.to_string())
            }
            _ => return self.mistyped(report, "a signal such as \"SIGTERM\""),
        };
        // SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU. SIGWINCH and the like end programs that want them to.
        const SUSPENDING: std::ops::RangeInclusive<i32> = 18..=22;
        match signal {
            Some(signal) if SUSPENDING.contains(&signal.as_raw()) => {
                self.refuse(report, format!("{signal} does not end a process; SIGTERM is the usual signal"))
            }
            Some(signal) => Some(signal),
            None => self.refuse(report, format!("{text} is not a signal; write a name such as \"SIGTERM\"")),
        }
    }

    /// One of the words of the setting.
    pub(super) fn choice(&self, report: &mut Report) -> Option<String> {
        let Kind::Choice(words) = self.kind else { unreachable!("{} is not a choice", self.key) };
        let text = self.text(report)?;
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        let near = nearest::nearest(&text, words.iter().copied());
        let hint = near.map_or(String::new(), |word| format!("; did you mean \"{word}\"?"));
        self.refuse(report, format!("'{text}' is not one of {}{hint}", words.join(", ")))
    }

    /// The items of an array, each at its own place.
    pub(super) fn items(&self, report: &mut Report, expected: &'static str) -> Option<Vec<Item<'a>>> {
        let DeValue::Array(array) = self.value else { return self.mistyped(report, expected) };
        let item = |element: &'a Spanned<DeValue<'a>>| Item {
            source: self.source,
            key: self.key.clone(),
            kind: self.kind,
            value: element.get_ref(),
            span: element.span(),
        };
        Some(array.iter().map(item).collect())
    }
}

/// The number of a TOML integer; `None` if it needs more than 64 bits.
pub(super) fn number(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// "a string", "an integer".
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
