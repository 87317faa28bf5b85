//! fpmd-gateway, the data path of one pool. Started by fpmd, which talks to it over descriptor 0.

use std::process::ExitCode;

use fpmd::gateway::journal::Logs;
use fpmd::gateway::pages::PoolPages;
use fpmd::gateway::run;
use fpmd::gateway::seam::Seams;

fn main() -> ExitCode {
    run::main(Seams { journal: Box::<Logs>::default(), pages: Box::<PoolPages>::default() })
}
