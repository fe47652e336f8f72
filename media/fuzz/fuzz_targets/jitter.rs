#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use visavis_media_fuzz::Records;
use visavis_media_fuzz::sound::jitter::JitterBuffer;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut buffer = JitterBuffer::new();
    for record in Records(data) {
        now += Duration::from_millis(u64::from(record.wait));
        let payload = Bytes::copy_from_slice(record.payload);
        buffer.handle_packet(now, record.sequence_number, record.timestamp, payload.clone());
        if record.flags & 4 != 0 {
            buffer.handle_copy(now, u32::from(record.flags) * 240, payload);
        }
        for _ in 0..record.flags & 3 {
            buffer.poll_frame(now);
        }
        if record.flags == 255 {
            buffer.reset();
        }
        let stats = buffer.stats();
        assert!((15.0..=500.0).contains(&stats.target_ms));
        assert!(stats.buffer_ms >= 0.0);
    }
});
