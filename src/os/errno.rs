//! The text of an error number as every other program prints it.
//!
//! Owns one thing: `strerror(3)`'s words without Rust's " (os error 11)" and without nix's own wording, which says
//! "Try again" where the rest of the system says "Resource temporarily unavailable".

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Why a system call failed; written as `strerror(3)` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause(pub Errno);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0 as i32).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

/// What an error says, in `strerror(3)`'s words where they are the system's.
pub fn said(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| Cause(Errno::from_raw(number)).to_string())
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Cause {
        Cause(errno)
    }
}

impl From<io::Error> for Cause {
    /// An error without a number, which the kernel never makes, becomes `EIO`.
    fn from(error: io::Error) -> Cause {
        Cause(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
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
        assert_eq!(Cause::from(missing).0, Errno::ENOENT);
    }
}
