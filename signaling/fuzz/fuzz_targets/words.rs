//! `cargo +nightly fuzz run words`: any bytes as an event of a Socket.IO client.
#![no_main]
#![allow(dead_code)] // of the words, only what is heard and said

use visavis_signaling::protocol;

#[path = "../../src/carrier/socketio/words.rs"]
mod socketio_words;
#[path = "../words.rs"]
mod words;

libfuzzer_sys::fuzz_target!(|data: &[u8]| words::check(data));
