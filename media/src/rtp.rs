//! Packets to frames, repairs, and what RTCP told: pure, fuzzed, no sockets.

pub mod assemble;
pub mod circuit_breaker;
pub mod feedback;
pub mod h264_depacketize;
pub mod h264_packetize;
pub mod nack;
pub mod pacer;
pub mod repeat;
pub mod send_history;
pub mod sender;
pub mod sequence;
