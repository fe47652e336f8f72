//! Which captured pictures are sent where fewer are wanted than the source delivers.

use std::time::{Duration, Instant};

/// A source that delivers little more than is wanted is not thinned at all: its rate is an
/// estimate.
const ENOUGH: f64 = 0.9;

/// Lets through evenly spaced pictures. It goes by when they were captured: by when this thread
/// gets to run, a late picture would cost the next one.
#[derive(Debug, Default)]
pub(super) struct Thinner {
    due: Option<Instant>,
}

impl Thinner {
    /// Whether to send the picture of that moment, of a source that delivers `source` pictures
    /// a second where `wanted` are to be sent.
    pub fn takes(&mut self, captured_at: Instant, source: f64, wanted: f64) -> bool {
        if wanted >= ENOUGH * source {
            self.due = None;
            return true;
        }
        let interval = Duration::from_secs_f64(1.0 / wanted.max(0.1));
        let due = self.due.unwrap_or(captured_at);
        if captured_at + interval / 4 < due {
            return false;
        }
        // What a pause left out is not made up for.
        let due = if captured_at > due + interval { captured_at } else { due };
        self.due = Some(due + interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes of pictures captured at these milliseconds.
    fn taken(source: f64, wanted: f64, captured_ms: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let base = Instant::now();
        let mut thinner = Thinner::default();
        captured_ms
            .into_iter()
            .filter(|ms| thinner.takes(base + Duration::from_millis(*ms), source, wanted))
            .collect()
    }

    #[test]
    fn late_pictures_of_a_source_as_fast_as_wanted_are_all_sent() {
        let jittered = [0, 33, 95, 100, 133, 180, 200, 233, 290, 300];
        assert_eq!(taken(30.0, 30.0, jittered), jittered);
        assert_eq!(taken(33.0, 30.0, jittered), jittered, "an estimate too high");
    }

    #[test]
    fn half_of_the_pictures_are_every_second_one() {
        let even = taken(30.0, 15.0, (0..12).map(|n| n * 100 / 3));
        assert_eq!(even, [0, 66, 133, 200, 266, 333]);
        let late = taken(30.0, 15.0, [0, 33, 80, 100, 133, 166, 215, 233, 266]);
        assert_eq!(late, [0, 80, 133, 215, 266]);
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let after = (0..6).map(|n| 5000 + n * 100 / 3);
        assert_eq!(taken(30.0, 15.0, [0].into_iter().chain(after)).len(), 4);
    }
}
