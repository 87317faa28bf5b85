//! Configurations of other programs, translated into fpmd's: php-fpm's and supervisord's `[fcgi-program:x]` sections. Reads
//! them through a `Host`, as `load` does, and writes nothing; what has no equal becomes a comment that says why.
//! fpmctl(8), `import`.
#![allow(
    clippy::result_large_err,
    reason = "a mistake is said once, with its place, and then there is no result"
)]

mod directives;
pub mod draft;
mod files;
mod flavour;
mod glob;
mod ini;
mod listen;
pub mod php_fpm;
mod php_ini;
mod pool;
mod process;
mod sections;
mod shell;
pub mod supervisord;
mod words;

pub use draft::Draft;
pub use ini::Variables;
