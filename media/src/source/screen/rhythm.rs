//! When a picture of the screen is due. Pure.

use std::time::{Duration, Instant};

/// So long after a change the picture is repeated, at this interval: the encoder spends the rate
/// that a still picture leaves on making it sharp.
const SHARPEN_FOR: Duration = Duration::from_millis(1500);
const SHARPEN_EVERY: Duration = Duration::from_millis(100);

/// Then only so often, for an encoder that owes somebody a key frame.
const STILL_EVERY: Duration = Duration::from_millis(500);

/// The schedule is no finer.
const SLACK: Duration = Duration::from_millis(10);

/// What to do at this look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Take a new picture.
    Capture,
    /// Send the last one again.
    Repeat,
    /// Nothing.
    Nothing,
}

/// Remembers when something changed and when a picture was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rhythm {
    changed_at: Option<Instant>,
    sent_at: Option<Instant>,
}

impl Rhythm {
    /// Decides, for whether the screen changed since the last look.
    pub fn look(&mut self, now: Instant, changed: bool) -> Look {
        let Some(sent_at) = self.sent_at.filter(|_| !changed) else {
            self.changed_at = Some(now);
            self.sent_at = Some(now);
            return Look::Capture;
        };
        let fresh = self.changed_at.is_some_and(|at| now < at + SHARPEN_FOR);
        let every = if fresh { SHARPEN_EVERY } else { STILL_EVERY };
        if now + SLACK < sent_at + every {
            return Look::Nothing;
        }
        self.sent_at = Some(now);
        Look::Repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many looks, 33 ms apart, how many captured and how many repeated.
    fn count(looks: u32, changed: impl Fn(u32) -> bool) -> (u32, u32) {
        let (start, mut rhythm) = (Instant::now(), Rhythm::default());
        let (mut captured, mut repeated) = (0, 0);
        for index in 0..looks {
            match rhythm.look(start + Duration::from_millis(33) * index, changed(index)) {
                Look::Capture => captured += 1,
                Look::Repeat => repeated += 1,
                Look::Nothing => {}
            }
        }
        (captured, repeated)
    }

    #[test]
    fn a_still_screen_is_captured_once_and_soon_costs_two_pictures_a_second() {
        let (captured, repeated) = count(30 * 60, |_| false);
        assert_eq!(captured, 1);
        assert!((120..150).contains(&repeated), "{repeated} in a minute");
    }

    #[test]
    fn each_change_is_captured() {
        assert_eq!(count(300, |_| true), (300, 0));
        let (captured, repeated) = count(300, |index| index % 100 == 0);
        assert_eq!(captured, 3);
        assert!((45..65).contains(&repeated), "{repeated}");
    }
}
