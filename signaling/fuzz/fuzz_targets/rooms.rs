//! `cargo +nightly fuzz run rooms`: any bytes as a history of connections.
#![no_main]

#[path = "../rooms.rs"]
mod rooms;

libfuzzer_sys::fuzz_target!(|data: &[u8]| rooms::check(data));
