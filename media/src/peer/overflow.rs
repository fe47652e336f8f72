//! Losses in a queue that we filled ourselves say nothing about what the path loses by nature: repairs
//! ahead and copies would only fill it again. Pure.

use std::time::{Duration, Instant};

use crate::congestion::State;

/// Reports of such losses may come so much later than the queue is gone.
const LATE: Duration = Duration::from_secs(1);

/// A drain that takes longer than this is no mere queue: what is lost meanwhile counts.
const LONGEST: Duration = Duration::from_secs(3);

/// Whether losses told now are of that kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overflow {
    /// Since when, and until when.
    span: Option<(Instant, Instant)>,
}

impl Overflow {
    /// Congestion control is doing that, and the round trip is so long.
    pub(super) fn handle_state(
        &mut self,
        now: Instant,
        state: Option<State>,
        rtt: Option<Duration>,
    ) -> bool {
        self.span = self.span.filter(|(_, until)| now < *until);
        if matches!(state, Some(State::Drain | State::Silent)) {
            let since = self.span.map_or(now, |(since, _)| since);
            self.span = Some((since, now + LATE + rtt.unwrap_or_default()));
        }
        self.span.is_some_and(|(since, _)| now < since + LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_count_again_a_while_after_the_queue_is_gone() {
        let (mut overflow, start) = (Overflow::default(), Instant::now());
        let mut at = |ms: u64, state: State| {
            let now = start + Duration::from_millis(ms);
            overflow.handle_state(now, Some(state), Some(Duration::from_millis(100)))
        };
        assert!(!at(0, State::Normal) && !at(1, State::Competing));
        assert!(at(100, State::Drain) && at(300, State::Silent) && at(400, State::Normal));
        assert!(at(1399, State::Normal) && !at(1400, State::Normal));
        // A drain without an end.
        assert!(at(5000, State::Drain) && at(6000, State::Drain) && at(7000, State::Drain));
        assert!(!at(8000, State::Drain) && !at(9000, State::Drain) && !at(9500, State::Normal));
        assert!(at(20_000, State::Drain));
    }
}
