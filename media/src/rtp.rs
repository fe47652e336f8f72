//! Packets to frames, repairs, and what RTCP told: pure, fuzzed, no sockets.

pub mod assemble;
pub mod feedback;
pub mod h264_depacketize;
pub mod h264_packetize;
pub mod nack;
pub mod payload;
pub mod sequence;
pub mod vp8;
