//! fpmd as its users meet it: the real programs with real workers, a real web server, real signals. One module a
//! subject; `support` is the rig. What a test needs installed, `tests/setup.sh` installs; a test that needs root and
//! has not got it says so and passes.
#![allow(missing_docs, reason = "the names of tests are sentences")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may fail loudly")]

mod bad_input;
mod cgroups;
mod clock;
mod completion;
mod ctl;
mod dispatch;
mod environment;
mod finishing;
mod first_run;
mod fronts;
mod gateway_life;
mod gateway_limits;
mod gateway_logs;
mod import;
mod interrupted;
mod logs;
mod loss;
mod matrix;
mod observation;
mod recipes;
mod recycling;
mod reload;
mod scaling;
mod scarcity;
mod service;
mod soak;
mod sockets;
mod stopping;
mod supervision;
mod support;
mod upgrade;
mod upgrade_back;
mod upgrade_during;
mod upgrade_gateway;
mod web;
mod workers;
