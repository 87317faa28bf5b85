//! fpmd-gateway as a process, between a raw FastCGI client and workers, scripted and real. The test plays the master.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may fail loudly")]

mod basics;
mod disk;
mod dispatch;
mod endings;
mod failures;
mod hostile;
mod logs;
mod master;
mod patience;
mod peer;
mod protocol;
mod stage;
mod status;
mod workers;
