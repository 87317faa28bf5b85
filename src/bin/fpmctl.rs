//! fpmctl, status and control of a running fpmd.

use std::process::ExitCode;

fn main() -> ExitCode {
    fpmd::ctl::main(std::env::args_os())
}
