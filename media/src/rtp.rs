//! Packets to frames, repairs, and what RTCP told: pure, fuzzed, no sockets.

pub mod assemble;
pub mod feedback;
pub mod nack;
