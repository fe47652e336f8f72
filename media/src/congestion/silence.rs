//! Packets are under way and no feedback comes: the path, or the way back, is dead or very full.
//! Soon pictures wait, later the rate falls.

use std::time::{Duration, Instant};

use super::{Controller, MAX_SPREAD_IN_FLIGHT};

/// Nothing was heard: the rate falls by this, at once and this often,
const CUT: f64 = 0.6;
const EVERY: f64 = 0.5;

/// but not below this, at which media trickles.
const FLOOR: f64 = 150_000.0;

/// Less in flight need not cause feedback.
const IN_FLIGHT: usize = 3_000;

/// Feedback that comes back within this finds most of the rate again.
const SHORT: f64 = 5.0;
const FOUND_AGAIN: f64 = 0.75;

/// Feedback is overdue when it is late by so many of its intervals (the second number where packets
/// are lost), and a little more.
const OVERDUE: (f64, f64) = (2.0, 3.0);
const OVERDUE_MARGIN: f64 = 0.030;
const LOSSY: f64 = 0.01;

/// Pictures do not trickle before the queue of most paths would have run empty.
const TRICKLE_AFTER: f64 = 0.4;

pub(super) struct Silence {
    since: f64,
    /// None during a drain: then the rate before is no measure.
    rate_before: Option<f64>,
    cut_at: f64,
}

impl Controller {
    /// When to call [`handle_timeout`](Self::handle_timeout), while bytes are in flight.
    pub fn poll_timeout(&self, in_flight: usize) -> Option<Instant> {
        if in_flight <= IN_FLIGHT {
            return None;
        }
        let due = match &self.silence {
            Some(silence) => silence.cut_at + EVERY,
            None => self.heard_at? + self.patience(),
        };
        Some(self.epoch + Duration::from_secs_f64(due.max(0.0)))
    }

    /// Nothing is heard for so long that pictures trickle to find out whether anything arrives.
    pub(super) fn trickles(&self, t: f64) -> bool {
        self.silence.as_ref().is_some_and(|silence| t >= silence.since + TRICKLE_AFTER)
    }

    /// What left should have been heard of by now: the path may have narrowed, and whatever follows
    /// would lengthen its queue by as much.
    pub(super) fn is_overdue(&self, t: f64, in_flight: usize) -> bool {
        let heard = self.heard_at.is_some() && self.competing.is_none();
        let waiting = heard && in_flight > IN_FLIGHT;
        let Some(since) = self.unheard_since.filter(|_| waiting) else {
            return false;
        };
        let intervals = if self.measured.loss() > LOSSY { OVERDUE.1 } else { OVERDUE.0 };
        let rtt = self.measured.rtt().unwrap_or(0.1);
        let usual = rtt + self.measured.spread().min(MAX_SPREAD_IN_FLIGHT);
        t - since > usual + intervals * self.measured.feedback_interval() + OVERDUE_MARGIN
    }

    fn patience(&self) -> f64 {
        let rtt = self.measured.rtt().unwrap_or(0.1);
        let interval = 2.0 * self.measured.feedback_interval().max(0.075);
        (interval + 1.5 * rtt - 0.5 * self.measured.min_rtt()).max(0.350)
    }

    /// Lowers the rate where nothing was heard for too long of what is in flight.
    pub fn handle_timeout(&mut self, now: Instant, in_flight: usize) {
        if self.poll_timeout(in_flight).is_none_or(|due| now < due) {
            return;
        }
        let t = self.seconds(now);
        let rate_before = self.drain.is_none().then_some(self.rate);
        let first = self.silence.is_none();
        let silence = self.silence.get_or_insert(Silence { since: t, rate_before, cut_at: t });
        silence.cut_at = t;
        self.loss_test = None;
        self.prober.handle_cut(t);
        // What arrived before pictures waited for feedback; later ones go down from there.
        let arrived = self.measured.acknowledged().filter(|_| first).unwrap_or(self.rate);
        self.rate = (CUT * arrived.min(self.rate)).max(FLOOR.min(self.rate));
        self.clamp();
    }

    /// Something is heard again.
    pub(super) fn resume(&mut self, t: f64) {
        let Some(silence) = self.silence.take() else {
            return;
        };
        if let Some(before) = silence.rate_before
            && t - silence.since < SHORT
        {
            self.rate = self.rate.max(FOUND_AGAIN * before);
            self.prober.hurry();
        }
    }
}
