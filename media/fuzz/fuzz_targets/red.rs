#![no_main]

use std::time::Instant;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use visavis_media_fuzz::Records;
use visavis_media_fuzz::rtp::loss_runs::LossRuns;
use visavis_media_fuzz::rtp::red;
use visavis_media_fuzz::sound::jitter::JitterBuffer;

fuzz_target!(|data: &[u8]| {
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
});
