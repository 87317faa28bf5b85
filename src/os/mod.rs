//! The only place for system calls that need `libc` or `unsafe`.
#![allow(unsafe_code)]
