//! fpmd, the process manager.

use std::process::ExitCode;

use fpmd::cli::fpmd::parse;
use fpmd::master;

fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(invocation) => master::main(invocation),
        Err(ended) => ended.report(),
    }
}
