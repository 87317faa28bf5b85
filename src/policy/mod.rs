//! Numbers in, numbers out: when the next worker may start, when to look again, what counts as ready.
//! Owns no state of pools or workers; `supervise` does. No clock: `now` is handed in.
#![forbid(unsafe_code)]

pub mod agenda;
pub mod backoff;
pub mod poll;

pub use backoff::{Backoff, Failure, Permit, Verdict};
pub use poll::{Poll, seen_ready};
