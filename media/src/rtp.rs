//! Packets to frames, repairs, and what RTCP told: pure, fuzzed, no sockets.

pub mod app_message;
pub mod assemble;
pub mod circuit_breaker;
pub mod fec;
pub mod feedback;
pub mod h264_depacketize;
pub mod h264_packetize;
pub mod loss_runs;
pub mod losses;
pub mod nack;
pub mod pacer;
pub mod payload;
pub mod red;
pub mod repeat;
pub mod send_history;
pub mod sender;
pub mod sequence;
pub mod vp8;
