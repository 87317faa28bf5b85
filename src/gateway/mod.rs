//! fpmd-gateway: accepts a pool's FastCGI connections, queues its requests and hands each to an idle worker. One thread;
//! the master tells it of slots and workers over descriptor 0. DESIGN sections 2 to 4; FastCGI specification 1.0.

pub mod finished;
pub mod journal;
pub mod pages;
pub mod params;
pub mod relay;
pub mod run;
pub mod seam;

mod accept;
mod active;
mod allowed;
mod answer;
#[cfg(test)]
mod books;
mod channel;
mod client;
mod core;
mod dispatch;
mod finish;
mod head;
mod intake;
mod lines;
mod lost;
mod orders;
mod output;
mod patience;
mod queue;
mod reception;
mod report;
mod request;
mod reserve;
mod response;
mod roster;
mod rules;
mod schedule;
mod slab;
mod slot;
mod sparing;
mod spool;
mod succession;
mod tail;
#[cfg(test)]
mod testing;
mod token;
mod upload;
mod upstream;
mod warm;
mod weight;
