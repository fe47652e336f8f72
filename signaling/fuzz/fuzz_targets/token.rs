//! `cargo +nightly fuzz run token`: any bytes as a resume token.
#![no_main]

#[path = "../token.rs"]
mod token;

libfuzzer_sys::fuzz_target!(|data: &[u8]| token::check(data));
