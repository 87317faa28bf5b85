//! Numbers in, numbers out: when the next worker may start, which signal comes next.
#![forbid(unsafe_code)]
