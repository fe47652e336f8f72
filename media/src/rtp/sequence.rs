//! 16-bit sequence numbers to ever-growing indices (RFC 3550 appendix A.1).

/// A larger step forward is not loss but a sender that started again.
const MAX_DROPOUT: i32 = 10_000;

/// A larger step back is not reordering but a sender that started again.
const MAX_MISORDER: i32 = 2_000;

/// What a sequence number turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwrapped {
    /// A packet of the running stream. `index as u16` is its sequence number.
    Index(u64),
    /// Far from the stream: ignore it, unless the next packet confirms the jump.
    Suspect,
    /// The second packet in a row after a jump: the stream goes on from here, and what was
    /// known before belongs to another stream.
    Restarted(u64),
}

/// Unwraps the sequence numbers of one SSRC.
#[derive(Clone, Debug, Default)]
pub struct SequenceUnwrapper {
    highest: Option<u64>,
    /// The number that would confirm a jump.
    awaited: Option<u16>,
}

impl SequenceUnwrapper {
    /// Has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest index so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Places `sequence_number`. Never fails; any input order is fine.
    pub fn unwrap(&mut self, sequence_number: u16) -> Unwrapped {
        let Some(highest) = self.highest else {
            // One full cycle above zero, so that stepping back never underflows.
            let index = 0x1_0000 + u64::from(sequence_number);
            self.highest = Some(index);
            return Unwrapped::Index(index);
        };
        let step = i32::from(sequence_number.wrapping_sub(highest as u16) as i16);
        if (-MAX_MISORDER..=MAX_DROPOUT).contains(&step) {
            self.awaited = None;
            let index = highest.saturating_add_signed(i64::from(step));
            self.highest = Some(highest.max(index));
            return Unwrapped::Index(index);
        }
        if self.awaited == Some(sequence_number) {
            self.awaited = None;
            let index = ((highest >> 16) + 2) << 16 | u64::from(sequence_number);
            self.highest = Some(index);
            return Unwrapped::Restarted(index);
        }
        self.awaited = Some(sequence_number.wrapping_add(1));
        Unwrapped::Suspect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_goes_on_past_the_wrap_and_back_over_it() {
        let mut sequence = SequenceUnwrapper::new();
        let Unwrapped::Index(first) = sequence.unwrap(65_534) else {
            panic!("the first packet founds the stream")
        };
        assert_eq!(sequence.unwrap(1), Unwrapped::Index(first + 3));
        assert_eq!(sequence.unwrap(65_535), Unwrapped::Index(first + 1));
        assert_eq!(sequence.highest(), Some(first + 3));
    }

    #[test]
    fn one_stray_packet_moves_nothing_but_two_in_a_row_do() {
        let mut sequence = SequenceUnwrapper::new();
        assert_eq!(sequence.unwrap(100), Unwrapped::Index(65_636));
        assert_eq!(sequence.unwrap(30_000), Unwrapped::Suspect);
        assert_eq!(sequence.unwrap(101), Unwrapped::Index(65_637));
        assert_eq!(sequence.unwrap(30_001), Unwrapped::Suspect);
        let Unwrapped::Restarted(index) = sequence.unwrap(30_002) else {
            panic!("two in a row confirm a jump")
        };
        assert!(index > 65_637);
        assert_eq!(index as u16, 30_002);
        assert_eq!(sequence.unwrap(30_003), Unwrapped::Index(index + 1));
    }

    #[test]
    fn the_very_first_packet_may_be_overtaken_by_an_older_one() {
        let mut sequence = SequenceUnwrapper::new();
        assert_eq!(sequence.unwrap(0), Unwrapped::Index(65_536));
        assert_eq!(sequence.unwrap(65_535), Unwrapped::Index(65_535));
    }
}
