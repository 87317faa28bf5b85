//! The configuration file, from text to a valid model. Reads no file itself: `load` asks a `Host` for texts.
//!
//! `keys` is the one table of settings; what is known, its default, the dump, the suggestions and the refusals
//! come from it. The man page of all this is fpmd.toml(5).
#![forbid(unsafe_code)]

pub mod changes;
mod dump;
pub mod error;
mod gateway;
pub mod host;
mod identity;
pub mod import;
mod include;
pub mod keys;
mod listen;
pub mod model;
mod nearest;
pub mod network;
mod pool;
mod resolve;
mod resources;
mod scaling;
mod source;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod values;
mod walk;
mod worker;

pub use dump::dump;
pub use error::{Cause, Error, Errors, Place};
pub use host::Host;
pub use model::Config;
pub use nearest::nearest;
pub use resolve::{load, load_text};
