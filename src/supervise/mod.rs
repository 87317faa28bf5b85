//! States of daemon, pool and worker: events in, actions out. Decides everything and does nothing.
#![forbid(unsafe_code)]

pub mod action;
pub mod event;
