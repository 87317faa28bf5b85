//! The only place for system calls that need `libc` or `unsafe`.
#![allow(unsafe_code)]

pub mod accept;
pub mod acl;
pub mod activity;
pub mod alarm;
pub mod aside;
pub mod cgroup;
pub mod clock;
pub mod daemon;
pub mod errno;
pub mod fdpass;
pub mod handover;
pub mod host;
pub mod inspect;
pub mod legacy;
pub mod limits;
pub mod outlet;
pub mod process;
pub mod procfs;
pub mod session;
pub mod signal;
pub mod sockdiag;
pub mod socket;
pub mod stream;
pub mod temporary;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;
pub mod users;
pub mod wait;
