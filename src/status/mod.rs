//! What fpmd knows of itself, as one `Snapshot`, and its renderers.
#![forbid(unsafe_code)]

mod human;
pub mod json;
pub mod snapshot;
mod table;
pub mod text;
