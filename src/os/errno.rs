//! The text of an error number as every other program prints it, and what helps where that is always the same.
//!
//! Owns `strerror(3)`'s words without Rust's " (os error 11)" and without nix's own wording, which says "Try again" where
//! the rest of the system says "Resource temporarily unavailable". What helps against one error of one call is said there.

use std::fmt;
use std::io;

use nix::errno::Errno;

use super::limits;

/// Why a system call failed; written as `strerror(3)` writes it. A limit that was reached is named, with its remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause(pub Errno);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&strerror(self.0))?;
        limits::remedy(self.0).map_or(Ok(()), |remedy| write!(f, " ({remedy})"))
    }
}

/// What an error says, as [`Cause`] does where it is the system's.
pub fn said(error: &io::Error) -> String {
    number(error).map_or_else(|| error.to_string(), |errno| Cause(errno).to_string())
}

/// What an error says without what helps: in sentences that are another program's, word for word.
pub fn said_plainly(error: &io::Error) -> String {
    number(error).map_or_else(|| error.to_string(), strerror)
}

fn number(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

fn strerror(errno: Errno) -> String {
    let mut text = io::Error::from_raw_os_error(errno as i32).to_string();
    if let Some(end) = text.find(" (os error") {
        text.truncate(end);
    }
    text
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Cause {
        Cause(errno)
    }
}

impl From<io::Error> for Cause {
    /// An error without a number, which the kernel never makes, becomes `EIO`.
    fn from(error: io::Error) -> Cause {
        Cause(number(&error).unwrap_or(Errno::EIO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_strerror_does() {
        assert_eq!(Cause(Errno::EAGAIN).to_string(), "Resource temporarily unavailable");
        assert_eq!(Cause(Errno::ENOENT).to_string(), "No such file or directory");
        assert_eq!(Cause(Errno::EADDRINUSE).to_string(), "Address already in use");
        let missing = std::fs::read("/nonexistent").expect_err("it does not exist");
        assert_eq!(said(&missing), "No such file or directory");
        assert_eq!(said(&io::Error::other("nobody answers")), "nobody answers");
        assert_eq!(said_plainly(&missing), said(&missing));
        assert_eq!(Cause::from(missing).0, Errno::ENOENT);
    }

    #[test]
    fn a_limit_is_named_with_its_remedy_but_in_the_words_of_others() {
        let error = io::Error::from_raw_os_error(Errno::EMFILE as i32);
        assert_eq!(said_plainly(&error), "Too many open files");
        let limit = limits::open_files().expect("there is a limit").soft;
        let remedy = "raise LimitNOFILE= of fpmd's unit, or `ulimit -n` where it is started";
        assert_eq!(said(&error), format!("Too many open files (the limit is {limit}: {remedy})"));
        let text = Cause(Errno::ENFILE).to_string();
        assert!(text.starts_with("Too many open files in system (the machine's limit"), "{text}");
        assert!(text.ends_with(": raise sysctl fs.file-max)"), "{text}");
    }
}
