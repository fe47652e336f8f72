//! How long to wait before the next attempt. Pure.

use std::time::Duration;

use rand::Rng;

/// Doubles from [`Self::FIRST`] to [`Self::LONGEST`], each time with chance, so that clients of
/// a restarted server do not come all at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    attempts: u32,
    quick: bool,
}

impl Backoff {
    /// The ceiling of the first wait.
    pub const FIRST: Duration = Duration::from_millis(500);
    /// The ceiling of every later wait.
    pub const LONGEST: Duration = Duration::from_secs(10);

    /// The bounds of the wait after a connection that worked was lost: mostly it can be had
    /// again at once.
    pub const QUICK: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(250)];

    /// The next wait: between half its ceiling and its ceiling; or a quick one.
    pub fn next_wait(&mut self, rng: &mut impl Rng) -> Duration {
        if std::mem::take(&mut self.quick) {
            let [shortest, longest] = Self::QUICK;
            return shortest + (longest - shortest).mul_f64(rng.random_range(0.0..=1.0));
        }
        let ceiling = Self::FIRST.saturating_mul(1 << self.attempts.min(16)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(rng.random_range(0.5..=1.0))
    }

    /// It worked: the next wait is a quick one, the one after it a first one.
    pub fn reset(&mut self) {
        *self = Self { attempts: 0, quick: true };
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_again_after_a_success() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let mut ceiling = Backoff::FIRST;
        for _ in 0..100 {
            let wait = backoff.next_wait(&mut rng);
            assert!(wait <= ceiling && wait >= ceiling / 2, "{wait:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(Backoff::LONGEST);
        }
        assert_eq!(ceiling, Backoff::LONGEST);
        backoff.reset();
        let [shortest, longest] = Backoff::QUICK;
        assert!((shortest..=longest).contains(&backoff.next_wait(&mut rng)));
        let next = backoff.next_wait(&mut rng);
        assert!(next >= Backoff::FIRST / 2 && next <= Backoff::FIRST, "{next:?}");
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        let wait = |seed| Backoff::default().next_wait(&mut StdRng::seed_from_u64(seed));
        assert_ne!(wait(1), wait(2));
    }
}
