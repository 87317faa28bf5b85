//! fpmd-gateway, the data path of one pool. Started by fpmd, which talks to it over descriptor 0.

use std::process::ExitCode;

use fpmd::gateway::run;
use fpmd::gateway::seam::{Seams, Silent};

fn main() -> ExitCode {
    run::main(Seams { journal: Box::new(Silent), pages: Box::new(Silent) })
}
