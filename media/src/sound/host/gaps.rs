//! Notices that callbacks stopped. Pure.

use std::time::{Duration, Instant};

/// Remembers the last change of a count.
pub(super) struct Gaps {
    beats: u64,
    since: Instant,
    told: bool,
}

/// A frozen server says nothing; a healthy stream calls two hundred times a second.
const STALL: Duration = Duration::from_secs(2);
/// A sleeping device may take seconds to wake.
const FIRST: Duration = Duration::from_secs(5);

impl Gaps {
    /// Of a stream that begins to open `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { beats: 0, since: now, told: false }
    }

    /// True once a stall, given how many callbacks there were so far.
    pub(super) fn poll(&mut self, beats: u64, now: Instant) -> bool {
        if beats != self.beats {
            *self = Self { beats, since: now, told: false };
            return false;
        }
        let limit = if beats == 0 { FIRST } else { STALL };
        if self.told || now.saturating_duration_since(self.since) < limit {
            return false;
        }
        self.told = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_device_may_take_its_time_to_wake_but_not_to_pause() {
        let start = Instant::now();
        let mut gaps = Gaps::new(start);
        assert!(!gaps.poll(0, at(start, 4.0)));
        assert!(!gaps.poll(1, at(start, 4.5)));
        assert!(!gaps.poll(1, at(start, 6.4)));
        assert!(gaps.poll(1, at(start, 6.6)));
        assert!(!gaps.poll(1, at(start, 9.0)), "told once");
        assert!(!gaps.poll(2, at(start, 9.1)));
        assert!(gaps.poll(2, at(start, 11.2)), "told again after it went on");
    }

    #[test]
    fn a_device_that_never_starts_is_a_stall() {
        let start = Instant::now();
        let mut gaps = Gaps::new(start);
        assert!(!gaps.poll(0, at(start, 4.9)));
        assert!(gaps.poll(0, at(start, 5.1)));
    }
}
