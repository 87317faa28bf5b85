//! fpmctl, the control program.
