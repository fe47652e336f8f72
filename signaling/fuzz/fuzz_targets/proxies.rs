//! `cargo +nightly fuzz run proxies`: any bytes before and in a request that comes by a proxy.
#![no_main]

#[path = "../proxies.rs"]
mod proxies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxies::check(data));
