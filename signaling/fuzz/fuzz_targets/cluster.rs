//! `cargo +nightly fuzz run cluster`: any bytes as a frame from another node.
#![no_main]

#[path = "../cluster.rs"]
mod cluster;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cluster::check(data));
