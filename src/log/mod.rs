//! Log lines, their sinks, and the capture of worker output.
