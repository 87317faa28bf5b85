//! States of daemon, pool and worker: events in, actions out. Decides everything and does nothing.
//!
//! Owns every decision about the life of pools and workers; the master does what is decided and says what came of it.
//! `daemon` is the whole, `homes` how it reaches a pool, `pool` one pool's life, `staff` its numbers, `starts` and `ends` what its workers go
//! through, `reload` the exchange of generations, `passage` one that changes the way of requests, `amend` new settings without one, `stop` the way to a pool's end,
//! `waits` the clients that wait, `leave` and `wear` how and why a worker goes that could serve on, `demand` the pools that
//! follow it and `ear` how it is noticed from outside, `gateway` what is different where requests come through one, `warm`
//! what it takes to warm up, `worker` one worker and `watch` the looks at it.
//!
//! All of it can be written down and read again (serde), as an upgrade in place carries it from the old program to the new
//! one: a field that is added derives that, too, and every script in `tests/properties` goes on after such an exchange.
#![forbid(unsafe_code)]

mod amend;
mod daemon;
mod demand;
mod ear;
mod effects;
mod ends;
mod gateway;
mod homes;
mod leave;
mod passage;
mod pool;
mod reload;
mod staff;
mod starts;
mod stop;
mod view;
mod waits;
mod warm;
mod watch;
mod wear;
mod worker;

#[cfg(test)]
mod tests;

pub mod action;
pub mod event;

pub use daemon::Supervisor;
pub use view::{Counters, DaemonState, PoolState, PoolView, WorkerState, WorkerView};
