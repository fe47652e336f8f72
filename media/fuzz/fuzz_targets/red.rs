#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| visavis_media_fuzz::checks::red::check(data));
