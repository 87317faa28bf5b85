//! fpmd, the process manager.

fn main() {}
