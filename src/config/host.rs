//! What a configuration has to ask of the machine that it is for. The real answers are in `os::host`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::model::{Group, User};
use crate::ids::Uid;

/// The machine, as far as a configuration can be right or wrong because of it. No answer may change anything.
pub trait Host {
    /// The text of a file.
    ///
    /// # Errors
    /// Why there is none.
    fn read(&self, path: &Path) -> Result<String, ReadError>;

    /// The names in a directory, in any order, without `.` and `..`.
    ///
    /// # Errors
    /// Why they cannot be listed.
    fn entries(&self, directory: &Path) -> Result<Vec<String>, ReadError>;

    /// A user by name, or by number where the text is one. A number without an entry in the database is a user, too.
    ///
    /// # Errors
    /// The database cannot be asked: "cannot look up user 'x': Input/output error".
    fn user(&self, name: &str) -> Result<Option<User>, String>;

    /// A group by name or number, like `user`.
    ///
    /// # Errors
    /// The database cannot be asked.
    fn group(&self, name: &str) -> Result<Option<Group>, String>;

    /// Whether `program` is an executable file, seen from inside `root`.
    ///
    /// # Errors
    /// Why it cannot be executed.
    fn executable(&self, root: Option<&Path>, program: &Path) -> Result<(), Unusable>;

    /// Whether `path` is a directory, seen from inside `root`.
    fn is_directory(&self, root: Option<&Path>, path: &Path) -> bool;

    /// The effective user that fpmd runs as.
    fn uid(&self) -> Uid;

    /// `/run/fpmd` for root, else a directory of our own.
    fn default_runtime_dir(&self) -> PathBuf;
}

/// Why a file or directory cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// There is none.
    NotFound,
    /// It is a directory where a file is wanted.
    IsDirectory,
    /// It is something else where a directory is wanted.
    NotDirectory,
    /// We may not.
    Permission,
    /// It is not UTF-8; the offset of the first wrong byte.
    NotUtf8(usize),
    /// It is longer than this many bytes, which no configuration is.
    TooLong(u64),
    /// Anything else, in the system's words.
    Other(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NotFound => f.write_str("No such file or directory"),
            ReadError::IsDirectory => f.write_str("Is a directory"),
            ReadError::NotDirectory => f.write_str("Not a directory"),
            ReadError::Permission => f.write_str("Permission denied"),
            ReadError::NotUtf8(offset) => write!(f, "not UTF-8 text (byte {offset})"),
            ReadError::TooLong(limit) => write!(f, "longer than {limit} bytes"),
            ReadError::Other(text) => f.write_str(text),
        }
    }
}

/// Why a program cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// There is no such file.
    NotFound,
    /// It is not a regular file.
    NotFile,
    /// Nobody may execute it.
    NotExecutable,
    /// It cannot be looked at, in the system's words.
    Other(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::NotFound => f.write_str("No such file or directory"),
            Unusable::NotFile => f.write_str("not a regular file"),
            Unusable::NotExecutable => f.write_str("not executable; chmod +x it"),
            Unusable::Other(text) => f.write_str(text),
        }
    }
}
