//! spawn-fcgi, the old command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    fpmd::spawn_fcgi::main()
}
