//! fpmd-gateway: accepts a pool's FastCGI connections, queues its requests and hands each to an idle worker. One thread;
//! the master tells it of slots and workers over descriptor 0. DESIGN sections 2 to 4; FastCGI specification 1.0.

pub mod allowed;
pub mod answer;
pub mod finished;
pub mod head;
pub mod params;
pub mod queue;
pub mod relay;
pub mod rules;
pub mod slab;
pub mod spool;
