//! `cargo +nightly fuzz run turn`: any bytes on the TURN port.
#![no_main]

#[path = "../turn.rs"]
mod turn;

libfuzzer_sys::fuzz_target!(|data: &[u8]| turn::check(data));
