//! The pure modules alone, straight from their sources: so the fuzzers build in seconds and
//! without the C libraries of the rest.

#[path = "../../src/annexb.rs"]
pub mod annexb;

#[path = "../../src"]
mod media {
    pub mod congestion;
    pub mod units;
}
pub use media::{congestion, units};

#[path = "../../src/rtp"]
pub mod rtp {
    pub mod app_message;
    pub mod assemble;
    pub mod fec;
    pub mod circuit_breaker;
    pub mod feedback;
    pub mod h264_depacketize;
    pub mod h264_packetize;
    pub mod loss_runs;
    pub mod losses;
    pub mod nack;
    pub mod red;
    pub mod pacer;
    pub mod repeat;
    pub mod send_history;
    pub mod sender;
    pub mod payload;
    pub mod sequence;
    pub mod vp8;
}

#[path = "../../src/video_codec.rs"]
pub mod video_codec;

#[path = "../../src/sound"]
pub mod sound {
    pub mod jitter;
}

/// Cuts the fuzzer's bytes into records: eight bytes of header, then a payload.
pub struct Records<'a>(pub &'a [u8]);

/// One packet as the fuzzer wants it.
pub struct Record<'a> {
    pub sequence_number: u16,
    pub timestamp: u32,
    /// Milliseconds since the record before.
    pub wait: u8,
    pub flags: u8,
    pub payload: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (&[s0, s1, t0, t1, t2, wait, flags, length], rest) = self.0.split_first_chunk::<8>()?;
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        self.0 = rest;
        Some(Record {
            sequence_number: u16::from_be_bytes([s0, s1]),
            // The top byte follows from the rest, so that wraps and jumps are both near.
            timestamp: u32::from_be_bytes([t0, t1, t2, t0]),
            wait,
            flags,
            payload,
        })
    }
}
