//! Scripts of events against a simulated master with an invented clock, and properties of random ones.

mod backoff;
mod demand;
mod gateway;
mod life;
mod master;
mod passage;
mod properties;
mod reload;
mod stop;
mod warm;
