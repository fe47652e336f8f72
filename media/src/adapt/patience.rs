//! A wish that has to last. Pure.

use std::time::{Duration, Instant};

/// Since when something has been wanted without a break.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Whether it is wanted now and has been for as long as `after`.
    pub fn lasted(&mut self, now: Instant, wanted: bool, after: Duration) -> bool {
        if !wanted {
            self.since = None;
            return false;
        }
        now >= *self.since.get_or_insert(now) + after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_starts_the_time_anew() {
        let (start, after) = (Instant::now(), Duration::from_secs(2));
        let mut patience = Patience::default();
        let mut at = |seconds: u64, wanted: bool| {
            patience.lasted(start + Duration::from_secs(seconds), wanted, after)
        };
        assert!(!at(0, true) && !at(1, true) && at(2, true));
        assert!(!at(3, false) && !at(4, true) && !at(5, true) && at(6, true));
    }
}
