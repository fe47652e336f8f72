#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| visavis_media_fuzz::checks::sending::check(data));
