//! The command line of spawn-fcgi 1.6.4, which spawn-fcgi carries out and `fpmctl import` translates. Pure.
//! spawn-fcgi(1).

pub mod args;
pub mod getopt;
pub mod number;
pub mod usage;
