//! What fpmd knows of itself, as one `Snapshot`, and its renderers.
#![forbid(unsafe_code)]

pub mod snapshot;
