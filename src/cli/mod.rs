//! Command lines, exit codes, the terminal.
