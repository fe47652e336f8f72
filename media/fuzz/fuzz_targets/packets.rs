#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| visavis_media_fuzz::peer::fuzz::packets::check(data));
