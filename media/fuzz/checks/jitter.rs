//! Packets of sound and copies of them, in whatever order and at whatever time.

use std::time::{Duration, Instant};

use super::Records;
use crate::sound::jitter::JitterBuffer;
use bytes::Bytes;

/// Panics if `data` breaks something.
pub fn check(data: &[u8]) {
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
        assert!((10.0..=500.0).contains(&stats.target_ms));
        assert!(stats.buffer_ms >= 0.0);
    }
}
