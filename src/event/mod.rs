//! The event loop's parts that know nothing of fpmd: what a readiness event is about, and when to wake up.
//!
//! The loop itself is `master::run`; mio does the waiting. There is one timer heap, so that every wait has a deadline
//! and an idle daemon has none.

pub mod timer;
pub mod token;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

/// Watches a descriptor for reading, edge-triggered (epoll(7)): after an event it must be read until it would block.
/// Closing the descriptor ends the watch.
///
/// # Errors
/// Out of memory or of watches (`fs.epoll.max_user_watches`), or a regular file.
pub fn watch(registry: &Registry, fd: BorrowedFd<'_>, token: token::Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&fd.as_raw_fd()), token.encode(), Interest::READABLE)
}

/// Ends the watch of a descriptor that others have open as well, so that closing it would not.
pub fn unwatch(registry: &Registry, fd: BorrowedFd<'_>) {
    // One that is not watched is what is wanted.
    let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
}

/// As `watch`, and for writing again after a write would have blocked.
///
/// # Errors
/// As for `watch`.
pub fn watch_both_ways(registry: &Registry, fd: BorrowedFd<'_>, token: token::Token) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut SourceFd(&fd.as_raw_fd()), token.encode(), interest)
}
