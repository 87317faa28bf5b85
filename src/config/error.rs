//! What can be wrong with a configuration: one `Error` for each mistake, with its place. Owns the sentences.

use std::fmt::{self, Write};
use std::sync::Arc;

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named or found.
    pub file: Arc<str>,
    /// Line and column, both from 1, the column in characters; `None` where the file as a whole is meant.
    pub position: Option<(usize, usize)>,
}

impl fmt::Display for Place {
    /// `FILE:LINE:COLUMN`, the form that editors jump to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The text is not TOML; the parser's words.
    Syntax(String),
    /// No setting or table has this name.
    Unknown {
        /// "setting" or "table".
        what: &'static str,
        /// "did you mean 'listen'?", where something is near.
        hint: Option<String>,
    },
    /// The value has another type than the setting.
    Type {
        /// "a string".
        expected: &'static str,
        /// "an integer".
        found: &'static str,
        /// What to write instead, where that can be said.
        hint: Option<String>,
    },
    /// The type is right and the value cannot be; the sentence says what can.
    Value(String),
    /// The setting, or this value of it, is for a later version.
    NotYet,
    /// A setting without a default is not there; the sentence says what to write.
    Missing(String),
    /// The same thing was said before.
    Duplicate {
        /// "pool 'www' is defined twice".
        what: String,
        /// Where it was said first.
        first: Place,
    },
    /// A file or directory cannot be read.
    Unreadable(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Syntax(text) | Cause::Value(text) | Cause::Unreadable(text) => f.write_str(text),
            Cause::Missing(text) => write!(f, "missing; {text}"),
            Cause::Unknown { what, hint } => {
                write!(f, "unknown {what}")?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
            Cause::Type { expected, found, hint } => {
                write!(f, "expected {expected}, found {found}")?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
            Cause::NotYet => f.write_str("is not supported yet"),
            Cause::Duplicate { what, first } => write!(f, "{what}; first at {first}"),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub place: Place,
    /// The setting with its tables, `pool.www.pm.mode`; empty where no setting is meant.
    pub key: String,
    /// What is wrong and what to do.
    pub cause: Cause,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (&self.cause, self.key.as_str()) {
            (cause, "") => format!("{}: {cause}", self.place),
            (Cause::NotYet, key) => format!("{}: {key} {}", self.place, Cause::NotYet),
            (cause, key) => format!("{}: {key}: {cause}", self.place),
        };
        // Names and values are the file's own: what they hold must not steer a terminal or forge a line of a log.
        for c in text.chars() {
            if c.is_control() { c.escape_default().fmt(f)? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// All mistakes of one run, in the order of files and places; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// The same without lines and columns, for a text that nobody has written.
    #[must_use]
    pub fn without_positions(mut self) -> Errors {
        for error in &mut self.0 {
            error.place.position = None;
        }
        self
    }

    /// `None` for an empty list: no mistake is no error.
    pub(super) fn new(list: Vec<Error>) -> Option<Errors> {
        (!list.is_empty()).then_some(Errors(list))
    }

    /// The same, sorted by place; files stay in the order of their first mistakes.
    pub(super) fn sorted(mut list: Vec<Error>) -> Option<Errors> {
        let files: Vec<Arc<str>> = list.iter().map(|error| error.place.file.clone()).collect();
        list.sort_by_key(|error| {
            (files.iter().position(|file| *file == error.place.file), error.place.position)
        });
        Errors::new(list)
    }

    pub(super) fn one(error: Error) -> Errors {
        Errors(vec![error])
    }

    /// The mistakes, first to last.
    pub fn iter(&self) -> std::slice::Iter<'_, Error> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Error;
    type IntoIter = std::slice::Iter<'a, Error>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Errors {
    /// A line for each, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
