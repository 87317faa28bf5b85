//! What fpmd knows of itself and of requests, and how it is written: the snapshot, a pool's status page, the access log
//! and the slow log.
#![forbid(unsafe_code)]

pub mod access;
pub mod answer;
pub(crate) mod escape;
pub mod histogram;
mod human;
pub mod json;
pub mod page;
pub mod slow;
pub mod snapshot;
pub mod stamp;
mod table;
pub mod text;
