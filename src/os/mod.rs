//! The only place for system calls that need `libc` or `unsafe`.
#![allow(unsafe_code)]

pub mod acl;
pub mod clock;
pub mod outlet;
pub mod socket;
#[cfg(test)]
pub(crate) mod testing;
