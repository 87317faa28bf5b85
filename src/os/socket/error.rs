//! What can go wrong with a listening socket, in sentences that name the address and, where it is not obvious, the remedy.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::os::acl;
use crate::os::errno::Cause;

/// Why there is no listening socket, or why its settings could not be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Another process accepts connections at this address.
    InUse {
        /// The address as the configuration names it.
        address: String,
    },
    /// Something that is not a socket is at the path. It is never removed.
    Occupied {
        /// The path.
        address: String,
        /// What is there: `regular file`, `directory`, ….
        kind: &'static str,
    },
    /// The path or abstract name does not fit into a socket address.
    TooLong {
        /// The path or name.
        address: String,
        /// Its length in bytes.
        length: usize,
    },
    /// The directory of the path does not exist.
    NoDirectory {
        /// The path.
        address: String,
        /// Its first directory that is missing.
        directory: PathBuf,
    },
    /// A system call failed.
    System {
        /// What was tried, as in `cannot <verb>`: `bind`, `listen on`, `change the owner of`, ….
        verb: &'static str,
        /// The address as the configuration names it.
        address: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The access list could not be set.
    Acl {
        /// The path.
        address: String,
        /// Why.
        cause: acl::Error,
    },
    /// An inherited descriptor cannot be a pool's socket.
    NotListening {
        /// The descriptor's number.
        fd: i32,
        /// What it is instead, in words that follow "a".
        what: &'static str,
    },
    /// An inherited descriptor does not exist.
    NotOpen {
        /// The descriptor's number.
        fd: i32,
    },
    /// The path is no longer the socket that we made: someone removed or replaced it.
    Replaced {
        /// The path.
        address: String,
    },
    /// The address names an inherited socket; those are taken over, not opened.
    Inherited {
        /// The address as the configuration names it.
        address: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InUse { address } => {
                write!(f, "cannot bind '{address}': another process is listening on it")
            }
            Error::Occupied { address, kind } => {
                write!(
                    f,
                    "cannot bind '{address}': there is a {kind} at that path, which fpmd does not remove"
                )
            }
            Error::TooLong { address, length } => {
                write!(
                    f,
                    "cannot bind '{address}': the name has {length} bytes, a Unix socket's may have 107"
                )
            }
            Error::NoDirectory { address, directory } => {
                write!(f, "cannot bind '{address}': the directory '{}' does not exist", directory.display())
            }
            Error::System { verb, address, errno } => {
                write!(f, "cannot {verb} '{address}': {}{}", Cause(*errno), hint(verb, address, *errno))
            }
            Error::Acl { address, cause } => {
                write!(f, "cannot set the access list of '{address}': {cause}")
            }
            Error::NotListening { fd, what } => {
                write!(f, "cannot take over descriptor {fd}: it is a {what}, not a listening stream socket")
            }
            Error::NotOpen { fd } => write!(f, "cannot take over descriptor {fd}: it is not open"),
            Error::Replaced { address } => {
                write!(
                    f,
                    "cannot change '{address}': someone has removed or replaced the socket at that path"
                )
            }
            Error::Inherited { address } => {
                write!(f, "cannot open '{address}': inherited sockets are taken over, not opened")
            }
        }
    }
}

impl std::error::Error for Error {}

/// The remedy, where the kernel's words do not tell it.
fn hint(verb: &str, address: &str, errno: Errno) -> &'static str {
    match (verb, errno) {
        ("bind", Errno::EADDRNOTAVAIL) => " (no network interface of this machine has that address)",
        ("bind", Errno::EACCES) if !address.starts_with('/') => {
            " (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
        }
        ("change the owner of", Errno::EPERM) => {
            " (only root may give a socket away; others may choose among their own groups)"
        }
        _ => "",
    }
}
