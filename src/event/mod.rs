//! The event loop: tokens and the timer heap.
