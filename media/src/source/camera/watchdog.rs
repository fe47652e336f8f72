//! Decides when silence of a camera is a stall and when it is the end. Pure.

use std::time::{Duration, Instant};

/// No picture for this long is worth telling. Opening takes some cameras 2 s.
const STALL: Duration = Duration::from_secs(3);

/// No picture for this long: the camera is given up.
const DEAD: Duration = Duration::from_secs(10);

/// What the silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Fine,
    /// Told once a stall.
    Stalled,
    /// Too long.
    Dead,
}

/// Remembers the last picture.
pub struct Watchdog {
    last: Instant,
    told: bool,
}

impl Watchdog {
    /// A camera that begins to open `now`.
    pub fn new(now: Instant) -> Self {
        Self { last: now, told: false }
    }

    /// A picture came.
    pub fn picture(&mut self, now: Instant) {
        self.last = now;
        self.told = false;
    }

    /// What to do `now`.
    pub fn poll(&mut self, now: Instant) -> Verdict {
        let silence = now.saturating_duration_since(self.last);
        if silence >= DEAD {
            Verdict::Dead
        } else if silence >= STALL && !self.told {
            self.told = true;
            Verdict::Stalled
        } else {
            Verdict::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_stall_is_told_once_and_then_the_camera_is_given_up() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(start);
        assert_eq!(watchdog.poll(at(start, 2.9)), Verdict::Fine);
        assert_eq!(watchdog.poll(at(start, 3.1)), Verdict::Stalled);
        assert_eq!(watchdog.poll(at(start, 9.9)), Verdict::Fine);
        assert_eq!(watchdog.poll(at(start, 10.0)), Verdict::Dead);
    }

    #[test]
    fn a_picture_ends_a_stall() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(start);
        assert_eq!(watchdog.poll(at(start, 4.0)), Verdict::Stalled);
        watchdog.picture(at(start, 5.0));
        assert_eq!(watchdog.poll(at(start, 7.0)), Verdict::Fine);
        assert_eq!(watchdog.poll(at(start, 8.5)), Verdict::Stalled);
    }
}
