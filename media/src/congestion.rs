//! How much may be sent: packet reports in, a target bitrate out.
//!
//! A standing queue, measured against the smallest one-way delay of the last minute, decides;
//! the rate that arrived sizes the cut. Loss alone, with a flat delay, is taken for the path's
//! nature and not for congestion. Clock offset between the two ends cancels out.

mod window;

use std::time::{Duration, Instant};

use crate::units::Bitrate;
use window::Measurements;

/// Between which rates to stay, and where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Never less, so that a call survives.
    pub min: Bitrate,
    /// Before anything is known.
    pub start: Bitrate,
    /// Never more: the application has no use for it.
    pub max: Bitrate,
}

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketReport {
    /// Transport-wide sequence number, unwrapped.
    pub sequence: u64,
    /// Bytes on the wire.
    pub size: usize,
    /// When it left, by our clock since any moment.
    pub departure: Duration,
    /// When it arrived, by the peer's clock since any moment. `None`: reported lost.
    pub arrival: Option<Duration>,
}

/// A queue below this is none; above the second the rate is cut. Seconds; the path's own
/// spread is added (`SPREAD_*`).
const LOW_QUEUE: f64 = 0.020;
const HIGH_QUEUE: f64 = 0.050;
const SPREAD_LOW: f64 = 0.25;
const SPREAD_HIGH: f64 = 0.6;

/// Share of the arriving rate that is kept at a cut, so that the queue drains,
const CUT: f64 = 0.87;

/// and while a long queue drains.
const DRAIN: f64 = 0.6;

/// A queue that varies by less is flat.
const FLAT: f64 = 0.012;
const SPREAD_FLAT: f64 = 0.3;

/// Growth a second: before the first cut, long after one, shortly after one, near the rate
/// that was too much.
const GROWTH_START: f64 = 0.8;
const GROWTH: f64 = 0.35;
const GROWTH_AFTER_CUT: f64 = 0.15;
const GROWTH_NEAR_CAPACITY: f64 = 0.04;
const AFTER_CUT: Duration = Duration::from_secs(4);
const CAPACITY_KNOWN_FOR: Duration = Duration::from_secs(30);

/// Beyond this multiple of what was really sent, growth would prove nothing.
const APPLICATION_LIMIT: f64 = 1.4;
const APPLICATION_RESERVE: f64 = 20_000.0;

/// Loss that is looked into: with a queue it cuts, without one it starts a test.
const HIGH_LOSS: f64 = 0.10;

/// While packets are under way and nothing is heard of them, the rate falls by this,
const SILENCE_CUT: f64 = 0.6;

/// this often.
const SILENCE: Duration = Duration::from_millis(500);

/// Feedback that comes back within this finds most of the rate again.
const SHORT_SILENCE: Duration = Duration::from_secs(5);

/// Does a lower rate lose less? Then a policer drops what is too much.
struct LossTest {
    until: Instant,
    rate_before: f64,
    loss_before: f64,
    arrived: f64,
}

struct Drain {
    /// Until what left before the cut has arrived, the queue says nothing about it.
    settled: Instant,
    until: Instant,
    then: f64,
    queue_at_cut: f64,
    rate_before: f64,
    lowest: f64,
    highest: f64,
}

impl Drain {
    /// Sending less has not changed the queue at all: then it is none, the path got longer.
    fn was_in_vain(&self, spread: f64) -> bool {
        self.lowest > 0.6 * self.queue_at_cut
            && self.highest - self.lowest < FLAT + SPREAD_FLAT * spread
    }
}

/// A rate controller for one transport, audio included.
pub struct Controller {
    limits: Limits,
    rate: f64,
    measured: Measurements,
    rtt: Duration,
    updated_at: Option<Instant>,
    heard_at: Option<Instant>,
    /// What the application sends, bits per second.
    application: f64,
    /// The rate that arrived when a queue stood.
    capacity: Option<(f64, Instant)>,
    cut_at: Option<Instant>,
    hold_until: Option<Instant>,
    drain: Option<Drain>,
    loss_test: Option<LossTest>,
    /// Loss that a lower rate does not change.
    inherent_loss: f64,
    inherent_at: Option<Instant>,
    /// The rate before feedback stopped, and since when.
    before_silence: Option<(f64, Instant)>,
    backed_off_at: Option<Instant>,
}

impl Controller {
    /// Starts at `limits.start`.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            rate: limits.start.bps() as f64,
            measured: Measurements::new(),
            rtt: Duration::from_millis(100),
            updated_at: None,
            heard_at: None,
            application: 0.0,
            capacity: None,
            cut_at: None,
            hold_until: None,
            drain: None,
            loss_test: None,
            inherent_loss: 0.0,
            inherent_at: None,
            before_silence: None,
            backed_off_at: None,
        }
    }

    /// How much may be sent now, with audio, repairs and headers.
    pub fn target(&self) -> Bitrate {
        let rate = match &self.drain {
            Some(drain) => self.rate.min(drain.then / CUT * DRAIN),
            None => self.rate,
        };
        let bps = rate.clamp(self.limits.min.bps() as f64, self.limits.max.bps() as f64);
        Bitrate::from_bps(bps as u64)
    }

    /// The rate that arrived over the last half second, where known.
    pub fn acknowledged(&self) -> Option<Bitrate> {
        self.measured.acknowledged().map(|bps| Bitrate::from_bps(bps as u64))
    }

    /// Queue that stands in the path, as last measured.
    pub fn queue(&self) -> Duration {
        Duration::from_secs_f64(self.measured.standing_queue().clamp(0.0, 60.0))
    }

    /// Share of packets lost over the last seconds.
    pub fn loss(&self) -> f64 {
        self.measured.loss()
    }

    /// The newest round trip.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.min(Duration::from_secs(5));
    }

    /// What the application really sends: zero while it sends nothing.
    pub fn handle_application_rate(&mut self, now: Instant, rate: Bitrate) {
        if self.application == 0.0 && rate > Bitrate::ZERO {
            // Nothing could be heard while nothing was sent.
            self.heard_at = Some(now);
            self.backed_off_at = None;
        }
        self.application = rate.bps() as f64;
    }

    /// Feedback arrived. Packets it does not cover are unknown, not lost.
    pub fn handle_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        if reports.is_empty() {
            return;
        }
        self.resume(now);
        self.heard_at = Some(now);
        self.measured.add(now, reports);
        let passed = self
            .updated_at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64().min(0.25));
        self.updated_at = Some(now);
        self.forget_inherent_loss(now);

        let queue = self.measured.standing_queue();
        let spread = self.measured.spread();
        let low = LOW_QUEUE + SPREAD_LOW * spread;
        let high = HIGH_QUEUE + SPREAD_HIGH * spread;
        let lossy = self.measured.loss() > HIGH_LOSS.max(1.5 * self.inherent_loss + 0.05);

        if let Some(drain) = &mut self.drain {
            if now >= drain.settled {
                drain.lowest = drain.lowest.min(queue);
                drain.highest = drain.highest.max(queue);
            }
            if queue >= low + 0.010 && now < drain.until {
                return;
            }
            if queue > high && drain.was_in_vain(spread) && self.measured.loss() < 0.02 {
                self.rate = self.rate.max(0.85 * drain.rate_before);
                self.measured.rebase();
            }
            self.drain = None;
            self.measured.forget_loss();
            self.hold_until = Some(now + Duration::from_millis(200).max(self.rtt * 7 / 10));
        } else if queue > high || (lossy && queue > low) {
            self.cut(now, queue);
        } else if queue > low {
            // In the upper half of the band: ease off.
            let middle = (low + high) / 2.0;
            if queue > middle {
                let position = (queue - low) / (high - low);
                self.rate *= 1.0 - 0.1 * passed * position;
            }
        } else if lossy || self.loss_test.is_some() {
            self.test_loss(now);
        } else if self.hold_until.is_none_or(|until| now >= until) {
            self.grow(now, passed);
        }
        self.clamp();
    }

    /// When to call [`handle_no_feedback`](Self::handle_no_feedback) if nothing is heard.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.application == 0.0 {
            return None;
        }
        let patience = SILENCE.max(self.rtt * 3 / 2 + Duration::from_millis(150));
        let heard = self.heard_at? + patience;
        Some(self.backed_off_at.map_or(heard, |at| heard.max(at + SILENCE)))
    }

    /// Nothing was heard although packets are under way: lowers the rate, if it is time to.
    pub fn handle_no_feedback(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        self.before_silence.get_or_insert((self.rate, now));
        self.backed_off_at = Some(now);
        self.rate *= SILENCE_CUT;
        self.loss_test = None;
        self.clamp();
    }

    fn clamp(&mut self) {
        self.rate = self.rate.clamp(self.limits.min.bps() as f64, self.limits.max.bps() as f64);
    }

    fn resume(&mut self, now: Instant) {
        self.backed_off_at = None;
        if let Some((rate, since)) = self.before_silence.take()
            && now < since + SHORT_SILENCE
        {
            self.rate = self.rate.max(0.75 * rate);
        }
    }

    fn cut(&mut self, now: Instant, queue: f64) {
        self.loss_test = None;
        let (arrived, recent) =
            (self.measured.acknowledged(), self.measured.recently_acknowledged());
        let capacity = match (arrived, recent) {
            // Right after a drop the longer window still shows the old rate.
            (Some(arrived), Some(recent)) if arrived > 1.25 * recent => recent,
            (Some(arrived), Some(recent)) => arrived.max(recent),
            (Some(known), None) | (None, Some(known)) => known,
            (None, None) => self.rate * SILENCE_CUT,
        };
        // What arrives is no measure of a path that carries less than a quarter of it.
        let capacity = capacity.max(0.25 * arrived.unwrap_or(0.0));
        let rate_before = self.rate;
        self.rate = self.rate.min(CUT * capacity);
        self.capacity = Some((capacity, now));
        self.cut_at = Some(now);
        // The queue empties at what is not sent; what left before the cut still arrives.
        let settled = now + self.rtt + Duration::from_millis(150);
        let drains_in = (queue / (1.0 - DRAIN)).clamp(0.15, 3.0);
        self.drain = Some(Drain {
            settled,
            until: settled + Duration::from_secs_f64(drains_in),
            then: self.rate,
            queue_at_cut: queue,
            rate_before,
            lowest: f64::INFINITY,
            highest: 0.0,
        });
    }

    fn grow(&mut self, now: Instant, passed: f64) {
        let since_cut = self.cut_at.map(|at| now.saturating_duration_since(at));
        let near = self.capacity.filter(|(_, at)| now < *at + CAPACITY_KNOWN_FOR);
        let factor = match (since_cut, near) {
            (None, _) => GROWTH_START,
            (_, Some((capacity, _))) if (0.8 * capacity..1.05 * capacity).contains(&self.rate) => {
                GROWTH_NEAR_CAPACITY
            }
            (Some(since), _) if since < AFTER_CUT => GROWTH_AFTER_CUT,
            (Some(_), _) => GROWTH,
        };
        let proven = match self.measured.acknowledged() {
            // Losses are no sign that the application wants less.
            Some(arrived) if self.measured.loss() > 0.02 => {
                arrived.max(self.measured.sent()).max(self.application)
            }
            Some(arrived) => arrived,
            None => return,
        };
        let limit = APPLICATION_LIMIT * proven + APPLICATION_RESERVE;
        let grown = self.rate + (factor * self.rate).max(6000.0) * passed;
        self.rate = self.rate.max(grown.min(limit));
    }

    /// High loss with a flat delay: sends less for a while and sees whether that helps.
    fn test_loss(&mut self, now: Instant) {
        let loss = self.measured.loss();
        match &self.loss_test {
            None => {
                let arrived = self.measured.acknowledged().unwrap_or(self.rate);
                let length = Duration::from_millis(1200) + 2 * self.rtt;
                self.loss_test = Some(LossTest {
                    until: now + length,
                    rate_before: self.rate,
                    loss_before: loss,
                    arrived,
                });
                self.rate = (0.75 * self.rate).min(0.9 * arrived);
                self.measured.forget_loss();
            }
            Some(test) if now < test.until => {}
            Some(test) => {
                if loss < test.loss_before / 2.0 {
                    self.capacity = Some((test.arrived, now));
                    self.cut_at = Some(now);
                } else {
                    self.rate = test.rate_before;
                    self.inherent_loss = loss.max(self.inherent_loss);
                    self.inherent_at = Some(now);
                }
                self.loss_test = None;
            }
        }
    }

    fn forget_inherent_loss(&mut self, now: Instant) {
        if self.inherent_at.is_some_and(|at| now >= at + Duration::from_secs(30)) {
            self.inherent_loss /= 2.0;
            self.inherent_at = (self.inherent_loss > 0.01).then_some(now);
        }
    }
}

#[cfg(test)]
mod tests;
