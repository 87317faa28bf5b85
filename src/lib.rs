//! fpmd: a FastCGI process manager for any language.
//!
//! The map. A module imports from its own ring or from a ring above it in this list, never from one below;
//! programs never import each other, and `unsafe` and `libc` stay in `os`. `tests/house.rs` holds all of that.

// -- pure ring: no clock, descriptor, file or environment --
pub mod config; //     the configuration file: keys, errors with file and line, valid model
pub mod fcgi; //       FastCGI records, name-value pairs, decoder and encoder
pub mod ids; //        newtypes of kernel numbers and of our own names
pub mod policy; //     when to start the next worker, which signal comes next
pub mod sorted; //     a map and a set for few entries
pub mod status; //     one snapshot and its renderers
pub mod supervise; //  states of daemon, pool and worker; events in, actions out
pub mod wire; //       messages between our processes, versioned

// -- system ring: the only place for libc and unsafe --
pub mod event; //      the event loop: tokens and the timer heap
pub mod log; //        lines, sinks, capture of worker output
pub mod os; //         processes, signals, sockets, users, limits, observation
pub mod systemd; //    readiness and inherited sockets

// -- program ring --
pub mod cli; //        command lines, exit codes, terminal
pub mod ctl; //        fpmctl
pub mod demo; //       the built-in worker of `fpmd demo`
pub mod gateway; //    fpmd-gateway, the data path of one pool
pub mod master; //     fpmd
pub mod spawn_fcgi; // spawn-fcgi, the old command line
