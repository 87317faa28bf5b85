//! Numbers in, numbers out: how many workers there should be, when the next one may start, when to look again, what
//! counts as ready. Owns no state of pools or workers; `supervise` does. No clock: `now` is handed in.
#![forbid(unsafe_code)]

pub mod agenda;
pub mod backoff;
pub mod demand;
pub mod poll;
pub mod share;
pub mod surge;
pub mod wear;

pub use backoff::{Backoff, Failure, Permit, Verdict};
pub use demand::{Bounds, Decision, Demand, Limit, Mode, Scaling};
pub use poll::{Heed, Poll, seen_ready};
pub use share::{Claim, Share};
pub use surge::Surge;
pub use wear::{Lifetime, Wear};
