//! Redundant sound (RFC 2198), and feedback about the sound that left.

use std::time::Instant;

use super::Records;
use crate::rtp::loss_runs::LossRuns;
use crate::rtp::red;
use crate::sound::jitter::JitterBuffer;
use bytes::Bytes;

/// Panics if `data` breaks something.
pub fn check(data: &[u8]) {
    let now = Instant::now();
    let mut buffer = JitterBuffer::new();
    let mut losses = LossRuns::default();
    for record in Records(data) {
        losses.handle_sent(record.sequence_number);
        losses.handle_feedback(
            record.timestamp as u16,
            record.payload.iter().map(|byte| byte & 1 == 0),
        );
        let Ok(red) = red::parse(&Bytes::copy_from_slice(record.payload)) else {
            continue;
        };
        let copies: usize = red.copies.iter().map(|copy| 4 + copy.payload.len()).sum();
        assert_eq!(copies + 1 + red.payload.len(), record.payload.len());
        buffer.handle_packet(now, record.sequence_number, record.timestamp, red.payload);
        for copy in red.copies {
            assert!(copy.offset <= red::MAX_OFFSET && copy.payload.len() <= red::MAX_BLOCK);
            buffer.handle_copy(now, copy.offset, copy.payload);
        }
        buffer.poll_frame(now);
    }
}
