//! Losses in a queue that we filled ourselves say nothing about what the path loses by nature: repairs
//! ahead and copies would only fill it again. Pure.

use std::time::{Duration, Instant};

use crate::congestion::State;

/// Reports of such losses may come so much later than the queue is gone.
const LATE: Duration = Duration::from_secs(1);

/// Whether losses told now are of that kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overflow {
    until: Option<Instant>,
}

impl Overflow {
    /// Congestion control is doing that, and the round trip is so long.
    pub(super) fn handle_state(
        &mut self,
        now: Instant,
        state: Option<State>,
        rtt: Option<Duration>,
    ) -> bool {
        if matches!(state, Some(State::Drain | State::Silent)) {
            self.until = Some(now + LATE + rtt.unwrap_or_default());
        }
        self.until.is_some_and(|until| now < until)
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
    }
}
