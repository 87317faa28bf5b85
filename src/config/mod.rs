//! The configuration file, from text to a valid model. Reads no file itself: `load` asks a `Host` for texts.
#![forbid(unsafe_code)]

pub mod model;
