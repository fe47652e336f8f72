//! Which packets of a stream came at first sending, before any repair: how many were lost, and
//! how many of them together. Pure.

use super::sequence::{SequenceUnwrapper, Unwrapped};

/// A packet that is overtaken by no more than this is late, not lost.
const REORDERED: u64 = 16;

/// A longer run is an outage, or a sender that starts again: it says nothing about repairs.
const LONGEST_RUN: u64 = 500;

/// Counted since the last [`LossMeter::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets that should have come.
    pub expected: u16,
    /// Of these, packets that did not.
    pub lost: u16,
    /// In so many runs of neighbours.
    pub runs: u16,
}

/// Watches the sequence numbers of one stream.
#[derive(Clone, Debug, Default)]
pub struct LossMeter {
    sequence: SequenceUnwrapper,
    /// Everything below is judged.
    judged: u64,
    /// Bit i: `judged + i` came.
    came: u64,
    in_run: bool,
    losses: Losses,
}

impl LossMeter {
    /// Has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A packet came from the network; not one that was repaired.
    pub fn handle_received(&mut self, sequence_number: u16) {
        let started = self.sequence.highest().is_some();
        let index = match self.sequence.unwrap(sequence_number) {
            Unwrapped::Index(index) if started => index,
            Unwrapped::Index(index) | Unwrapped::Restarted(index) => {
                (self.judged, self.came, self.in_run) = (index, 0, false);
                index
            }
            Unwrapped::Suspect => return,
        };
        if index < self.judged {
            return;
        }
        if index >= self.judged + LONGEST_RUN {
            (self.judged, self.came, self.in_run) = (index, 0, false);
        }
        while index >= self.judged + REORDERED {
            self.judge();
        }
        self.came |= 1 << (index - self.judged);
    }

    /// What was counted since the last call.
    pub fn take(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    fn judge(&mut self) {
        let lost = self.came & 1 == 0;
        let losses = &mut self.losses;
        losses.expected = losses.expected.saturating_add(1);
        losses.lost = losses.lost.saturating_add(u16::from(lost));
        losses.runs = losses.runs.saturating_add(u16::from(lost && !self.in_run));
        self.in_run = lost;
        self.came >>= 1;
        self.judged += 1;
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn runs_are_counted_across_the_wrap() {
        let mut meter = LossMeter::new();
        let lost = [65_530u16, 65_534, 65_535, 0, 7];
        for number in (65_500..=65_535u16).chain(0..100).filter(|number| !lost.contains(number)) {
            meter.handle_received(number);
        }
        let counted = meter.take();
        assert_eq!((counted.lost, counted.runs), (5, 3));
        assert_eq!(counted.expected, 136 - REORDERED as u16);
        assert_eq!(meter.take(), Losses::default());
    }

    #[test]
    fn late_packets_and_those_sent_twice_are_no_losses() {
        let mut meter = LossMeter::new();
        for number in 0..200u16 {
            meter.handle_received(number ^ 7);
            meter.handle_received(number ^ 7);
        }
        assert_eq!((meter.take().lost, meter.take().expected), (0, 0));
    }

    #[test]
    fn an_outage_is_no_loss_to_repair_and_any_numbers_are_fine() {
        let mut meter = LossMeter::new();
        for number in (0..50u16).chain(5000..5050) {
            meter.handle_received(number);
        }
        assert_eq!(meter.take().lost, 0);
        let mut random = StdRng::seed_from_u64(4);
        for _ in 0..50_000 {
            meter.handle_received(random.random());
            let counted = meter.take();
            assert!(counted.runs <= counted.lost && counted.lost <= counted.expected);
        }
    }
}
