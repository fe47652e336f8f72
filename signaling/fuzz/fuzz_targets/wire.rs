//! `cargo +nightly fuzz run wire`: any bytes as a text frame.
#![no_main]

#[path = "../wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::check(data));
