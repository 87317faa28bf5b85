//! fpmd, the process manager.

use std::process::ExitCode;

use fpmd::cli::fpmd::{Invocation, parse};
use fpmd::{demo, master};

fn main() -> ExitCode {
    // An upgrade comes with everything that the command line could say.
    if let Some(ended) = master::resume() {
        return ended;
    }
    match parse(std::env::args_os()) {
        Ok(Invocation::DemoWorker) => demo::worker(),
        Ok(invocation) => master::main(invocation),
        Err(ended) => ended.report(),
    }
}
