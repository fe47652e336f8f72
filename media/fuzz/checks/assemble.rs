//! Payloads of pictures, and the packets that bring them.

use std::time::{Duration, Instant};

use super::Records;
use crate::rtp::assemble::{Assembler, RtpPacket};
use crate::rtp::payload::{Packetizer, depacketize, inspect};
use crate::video_codec::VideoCodec;
use bytes::Bytes;

/// Panics if `data` breaks something.
pub fn check(data: &[u8]) {
    for codec in VideoCodec::ALL {
        assemble(codec, data);
    }
}

fn assemble(codec: VideoCodec, data: &[u8]) {
    inspect(codec, data);
    depacketize(codec, [data]);
    depacketize(codec, data.chunks(7));
    let size = data.first().map_or(0, |first| usize::from(*first));
    for payload in Packetizer::new(codec, 9).packetize(data, size) {
        assert!(payload.len() <= size.max(16));
    }

    let mut now = Instant::now();
    let mut assembler = Assembler::of(codec);
    for record in Records(data) {
        now += Duration::from_millis(u64::from(record.wait));
        let packet = RtpPacket {
            sequence_number: record.sequence_number,
            timestamp: record.timestamp,
            marker: record.flags & 1 == 1,
            payload: Bytes::copy_from_slice(record.payload),
        };
        assembler.handle_packet(now, packet);
        if record.flags & 4 == 4 {
            assembler.skip_gap();
        }
        while let Some(frame) = assembler.poll_frame(now) {
            assert!(!frame.data.is_empty() && frame.packets > 0);
        }
        assembler.poll_event();
        if record.flags & 2 == 2 {
            assembler.require_key_frame(now);
        }
        if let Some(due) = assembler.poll_timeout() {
            assert!(assembler.poll_frame(due).is_none_or(|frame| frame.key_frame));
        }
    }
}
