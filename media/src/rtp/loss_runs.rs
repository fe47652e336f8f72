//! How much of one stream is lost, and in runs of what length, out of transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), which numbers the packets of all
//! streams together.

use std::collections::VecDeque;

/// Packets on the way: more than a second of round trip at 50 a second.
const MAX_PENDING: usize = 512;

/// The share of lost packets is taken over the last 4 s of 20 ms packets: over 2 s, 5 % looks like
/// 10 % now and then.
const RECENT: usize = 200;

/// Runs are rarer: their length is taken over 10 s.
const REMEMBERED: usize = 500;

/// Fewer runs say nothing about their length.
const ENOUGH_RUNS: usize = 4;

/// What happens to a stream's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Share of the packets lost lately, 0 to 1.
    pub rate: f64,
    /// Packets lost in a row, on average; 1 where losses are too few to tell.
    pub mean_run: f64,
}

/// Counts the losses of one stream.
#[derive(Debug, Default)]
pub struct LossRuns {
    /// Transport-wide numbers of the stream's packets, oldest first.
    pending: VecDeque<u16>,
    /// Whether each arrived, oldest first.
    outcomes: VecDeque<bool>,
}

impl LossRuns {
    /// A packet of the stream left with this transport-wide number.
    pub fn handle_sent(&mut self, transport_number: u16) {
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(transport_number);
    }

    /// Feedback about packets of all streams, numbered from `first`: whether each arrived.
    /// Packets before it that no feedback spoke of are forgotten: it was the feedback that was
    /// lost. Returns of how many of the stream's it told.
    pub fn handle_feedback(
        &mut self,
        first: u16,
        arrived: impl IntoIterator<Item = bool>,
    ) -> usize {
        let (mut number, mut told) = (first, 0);
        for arrived in arrived {
            while self.pending.front().is_some_and(|oldest| is_before(*oldest, number)) {
                self.pending.pop_front();
            }
            if self.pending.front() == Some(&number) {
                self.pending.pop_front();
                if self.outcomes.len() == REMEMBERED {
                    self.outcomes.pop_front();
                }
                self.outcomes.push_back(arrived);
                told += 1;
            }
            number = number.wrapping_add(1);
        }
        told
    }

    /// The last so many do not count: something else than the path lost them.
    pub fn forget(&mut self, count: usize) {
        self.outcomes.truncate(self.outcomes.len().saturating_sub(count));
    }

    /// What happened lately; `None` before there was feedback.
    pub fn loss(&self) -> Option<Loss> {
        if self.outcomes.is_empty() {
            return None;
        }
        let recent = self.outcomes.iter().rev().take(RECENT);
        // The first losses of a stream count as if the packets before had arrived.
        let rate = recent.filter(|arrived| !**arrived).count() as f64 / RECENT as f64;
        let (mut lost, mut runs, mut before) = (0, 0, true);
        for arrived in &self.outcomes {
            lost += usize::from(!arrived);
            runs += usize::from(before && !arrived);
            before = *arrived;
        }
        let mean_run = if runs < ENOUGH_RUNS { 1.0 } else { lost as f64 / runs as f64 };
        Some(Loss { rate, mean_run })
    }
}

fn is_before(a: u16, b: u16) -> bool {
    (a.wrapping_sub(b) as i16) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every second packet is the stream's; `lost` says which of its packets do not arrive.
    fn run(count: u16, lost: impl Fn(u16) -> bool) -> LossRuns {
        let mut runs = LossRuns::default();
        let first = 65_000u16;
        for n in 0..count {
            let number = first.wrapping_add(2 * n);
            runs.handle_sent(number);
            // The other stream loses everything.
            runs.handle_feedback(number, [!lost(n), false]);
        }
        runs
    }

    #[test]
    fn forgotten_losses_count_no_more() {
        let mut runs = run(300, |n| n >= 290 || n == 150);
        runs.forget(20);
        assert_eq!(runs.loss().map(|loss| loss.rate), Some(1.0 / 200.0), "the old one stays");
        runs.forget(usize::MAX);
        assert_eq!(runs.loss(), None);
    }

    #[test]
    fn only_the_streams_own_losses_count() {
        let loss = run(600, |n| n % 20 == 3).loss().expect("feedback came");
        assert_eq!(loss, Loss { rate: 0.05, mean_run: 1.0 });
        assert_eq!(run(600, |_| false).loss(), Some(Loss { rate: 0.0, mean_run: 1.0 }));
        assert_eq!(LossRuns::default().loss(), None);
    }

    #[test]
    fn runs_have_their_length() {
        let loss = run(600, |n| n % 30 < 3).loss().expect("feedback came");
        assert!((loss.rate - 0.1).abs() < 0.025 && loss.mean_run == 3.0, "{loss:?}");
    }

    #[test]
    fn lost_feedback_is_no_lost_packet() {
        let mut runs = LossRuns::default();
        (0..100).for_each(|number| runs.handle_sent(number));
        runs.handle_feedback(0, [true; 10]);
        runs.handle_feedback(90, [true; 10]);
        assert_eq!(
            (runs.loss(), runs.outcomes.len()),
            (Some(Loss { rate: 0.0, mean_run: 1.0 }), 20)
        );
    }

    #[test]
    fn any_feedback_is_fine_and_memory_is_bounded() {
        use rand::{Rng, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(5);
        let mut runs = LossRuns::default();
        for _ in 0..50_000 {
            runs.handle_sent(random.random());
            if random.random_range(0..10) == 0 {
                let count = random.random_range(0..40);
                let arrived: Vec<bool> = (0..count).map(|_| random.random()).collect();
                runs.handle_feedback(random.random(), arrived);
            }
            assert!(runs.pending.len() <= MAX_PENDING && runs.outcomes.len() <= REMEMBERED);
            assert!(
                runs.loss()
                    .is_none_or(|loss| (0.0..=1.0).contains(&loss.rate) && loss.mean_run >= 1.0)
            );
        }
    }
}
