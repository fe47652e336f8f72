//! What to do about damaged pictures: the cheapest thing that brings undamaged ones. Pure.
//!
//! Between two of our own ends that is a picture which refers to one that both keep; it costs
//! about as much as any other. Everywhere else, and where that did not help, it is a key frame.

use std::time::{Duration, Instant};

use crate::codec::h264::Reference;

/// Assumed until a round trip was measured.
const FIRST_RTT: Duration = Duration::from_millis(100);

/// A request is answered after one round trip; it gets another and this.
const RESERVE: Duration = Duration::from_millis(200);

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is on its way: go on decoding.
    Wait,
    /// Ask for a picture that refers to an older one, and go on decoding.
    Reference {
        /// The last undamaged picture.
        good: Reference,
        /// `frame_num` of the first damaged one.
        damaged: u16,
    },
    /// Ask for a key frame, and decode nothing before it.
    KeyFrame,
}

/// Follows what became of pictures.
#[derive(Debug, Default)]
pub struct Recovery {
    good: Option<Reference>,
    until: Option<Instant>,
}

impl Recovery {
    /// An undamaged picture was decoded.
    pub fn handle_good(&mut self, position: Option<Reference>) {
        self.good = position;
        self.until = None;
    }

    /// Pictures are damaged, or will be. `keeps_references`: the other end is one of ours.
    pub fn handle_damage(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
        keeps_references: bool,
    ) -> Remedy {
        match (self.until, self.good) {
            (Some(until), _) if now < until => Remedy::Wait,
            (None, Some(good)) if keeps_references => {
                self.until = Some(now + rtt.unwrap_or(FIRST_RTT) * 2 + RESERVE);
                Remedy::Reference { good, damaged: good.frame.wrapping_add(1) }
            }
            _ => {
                (self.good, self.until) = (None, None);
                Remedy::KeyFrame
            }
        }
    }

    /// Whether what was asked for has not come in time: it is a key frame, then.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// When [`is_overdue`](Self::is_overdue) may become true.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Reference = Reference { idr: 3, frame: 65_535 };
    const RTT: Option<Duration> = Some(Duration::from_millis(100));

    #[test]
    fn a_reference_is_asked_for_once_and_then_a_key_frame() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut recovery = Recovery::default();
        assert_eq!(recovery.handle_damage(now, RTT, true), Remedy::KeyFrame, "nothing was good");
        recovery.handle_good(Some(GOOD));
        let remedy = recovery.handle_damage(now, RTT, true);
        assert_eq!(remedy, Remedy::Reference { good: GOOD, damaged: 0 });
        assert_eq!(recovery.handle_damage(now + ms(300), RTT, true), Remedy::Wait);
        assert!(!recovery.is_overdue(now + ms(399)) && recovery.is_overdue(now + ms(400)));
        assert_eq!(recovery.handle_damage(now + ms(400), RTT, true), Remedy::KeyFrame);
        assert_eq!(recovery.handle_damage(now + ms(410), RTT, true), Remedy::KeyFrame);
        assert_eq!(recovery.poll_timeout(), None);
    }

    #[test]
    fn one_good_picture_ends_it() {
        let now = Instant::now();
        let mut recovery = Recovery::default();
        recovery.handle_good(Some(GOOD));
        recovery.handle_damage(now, RTT, true);
        recovery.handle_good(Some(GOOD));
        assert_eq!(recovery.poll_timeout(), None);
        assert!(matches!(recovery.handle_damage(now, RTT, true), Remedy::Reference { .. }));
    }

    #[test]
    fn a_browser_is_asked_for_a_key_frame() {
        let mut recovery = Recovery::default();
        recovery.handle_good(Some(GOOD));
        assert_eq!(recovery.handle_damage(Instant::now(), RTT, false), Remedy::KeyFrame);
    }
}
