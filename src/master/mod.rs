//! fpmd, the master process.
