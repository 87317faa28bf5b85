//! Hands libFuzzer's input to `targets::gateway`.
#![no_main]

#[allow(dead_code, reason = "one target of many")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::gateway(data));
