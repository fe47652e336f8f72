//! What must hold for whatever a peer sends. Run by the fuzzers, and with the kept corpora by
//! `cargo test` (`replay.rs`).

pub mod assemble;
pub mod fec;
pub mod jitter;
pub mod nack;
pub mod pictures;
pub mod red;
pub mod sending;

#[cfg(test)]
mod replay;

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
