//! spawn-fcgi, the old command line exactly.
