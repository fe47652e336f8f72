//! Freezes as the W3C counts them (webrtc-stats, `freezeCount`): an interval between two shown
//! pictures longer than `max(3 d, d + 150 ms)`, `d` being the mean of the last 30 intervals.
//! Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: usize = 30;
const MARGIN: Duration = Duration::from_millis(150);

/// Watches the instants at which pictures are shown.
#[derive(Debug, Default)]
pub struct FreezeMeter {
    last: Option<Instant>,
    intervals: VecDeque<Duration>,
}

impl FreezeMeter {
    /// A picture was shown. Returns the length of the freeze that it ended, if there was one.
    pub fn handle_shown(&mut self, now: Instant) -> Option<Duration> {
        let interval = now.saturating_duration_since(self.last.replace(now)?);
        let count = self.intervals.len() as u32;
        let frozen = count > 0 && {
            let mean = self.intervals.iter().sum::<Duration>() / count;
            interval > (mean * 3).max(mean + MARGIN)
        };
        if self.intervals.len() == WINDOW {
            self.intervals.pop_front();
        }
        self.intervals.push_back(interval);
        frozen.then_some(interval)
    }

    /// The other end paused on purpose: the gap is no freeze.
    pub fn pause(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(intervals_ms: &[u64]) -> Vec<Option<u128>> {
        let mut meter = FreezeMeter::default();
        let mut now = Instant::now();
        meter.handle_shown(now);
        let mut seen = Vec::new();
        for ms in intervals_ms {
            now += Duration::from_millis(*ms);
            seen.push(meter.handle_shown(now).map(|frozen| frozen.as_millis()));
        }
        seen
    }

    #[test]
    fn an_even_stream_never_freezes() {
        assert!(run(&[33; 100]).iter().all(Option::is_none));
    }

    #[test]
    fn a_long_gap_is_a_freeze_of_its_whole_length() {
        let mut intervals = vec![33; 40];
        intervals.push(183); // not longer than 33 + 150
        intervals.extend([33; 40]);
        intervals.push(400);
        let seen = run(&intervals);
        assert_eq!(seen[40], None);
        assert_eq!(seen[81], Some(400));
        assert_eq!(seen.iter().flatten().count(), 1);
    }

    #[test]
    fn a_pause_is_no_freeze() {
        let mut meter = FreezeMeter::default();
        let start = Instant::now();
        for index in 0..10 {
            meter.handle_shown(start + Duration::from_millis(33 * index));
        }
        meter.pause();
        assert_eq!(meter.handle_shown(start + Duration::from_secs(60)), None);
    }
}
