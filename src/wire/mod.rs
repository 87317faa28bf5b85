//! Messages between our processes. Shapes, limits and framing only; no descriptor is touched here.
#![forbid(unsafe_code)]

pub mod control;
pub mod facts;
pub mod frame;
pub mod gateway;
pub mod place;
pub mod report;
mod settings;
