//! How much may be sent: packet reports in, a target bitrate, a gate and probes out.
//!
//! A standing queue, measured against the smallest one-way delay of the last minute, decides;
//! the rate that arrived sizes the cut; a limit on what is in flight drains the queue; bursts of
//! packets ("probes") find out how much more there is. Loss alone, with a flat delay, is taken for
//! the path's nature and not for congestion. Clock offset between the two ends cancels out.

mod competing;
mod drain;
mod loss_test;
mod probe;
mod silence;
mod window;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::units::Bitrate;
use competing::Competing;
use drain::Drain;
use loss_test::LossTest;
pub use probe::Probe;
use probe::Prober;
use silence::Silence;
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
    /// When it left.
    pub departure: Instant,
    /// When it arrived, by the peer's clock since any moment. `None`: reported lost.
    pub arrival: Option<Duration>,
    /// The probe it was part of.
    pub probe: Option<u32>,
}

/// What the controller is doing, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Growing or holding.
    Normal,
    /// Letting a queue run empty.
    Drain,
    /// Someone else keeps the queue full: holding a share.
    Competing,
    /// Sending less to see whether less is lost.
    LossTest,
    /// Nothing is heard of what was sent.
    Silent,
}

/// A queue below this is none; above the second the rate is cut; the third, with heavy loss, cuts
/// though the queue has only just come. Seconds; a multiple of the path's own spread is added.
const LOW_QUEUE: (f64, f64) = (0.020, 0.25);
const HIGH_QUEUE: (f64, f64) = (0.050, 0.6);
const SUDDEN_QUEUE: (f64, f64) = (0.200, 2.0);
const SUDDEN_LOSS: f64 = 0.2;

/// Share of the arriving rate that is kept at a cut, so that the queue drains.
const CUT: f64 = 0.87;

/// How long the rate rests after a drain, at least.
const HOLD: f64 = 0.2;

/// Growth a second: before the first cut, long after one, shortly after one; below and at the
/// rate that was too much.
const GROWTH_START: f64 = 0.6;
const GROWTH: f64 = 0.35;
const GROWTH_AFTER_CUT: f64 = 0.15;
const GROWTH_BELOW_CAPACITY: f64 = 0.05;
const GROWTH_AT_CAPACITY: f64 = 0.012;
const LEAST_GROWTH: f64 = 6_000.0;
const AFTER_CUT: f64 = 4.0;
const CAPACITY_KNOWN_FOR: f64 = 30.0;
const BEYOND_CAPACITY: f64 = 1.1;

/// Beyond this multiple of what arrives, growth would prove nothing.
const APPLICATION_LIMIT: f64 = 1.4;
const APPLICATION_RESERVE: f64 = 20_000.0;

/// Loss above which what is sent, and not what arrives, shows what the application wants.
const SOME_LOSS: f64 = 0.02;

/// A queue that stays the same for so long, while less than this share of what the path carries is
/// sent, is a longer way. To find out, the rate falls by so much a second.
const FLAT_FOR: f64 = 2.0;
const SPARE: f64 = 0.8;
const EASE_TO_SEE: f64 = 0.1;
const LIMITS_FROM: f64 = 0.7;

/// A queue that varies by less is flat. Seconds; a multiple of the spread is added.
const FLAT: (f64, f64) = (0.012, 0.3);

/// A base of the delay so much lower than before is another path. Seconds.
const SHORTER: f64 = 0.015;

/// Pacing: multiple of the rate, below and above a rate where a queue at 1.5 times is long.
const PACE_SLOW: f64 = 1.25;
const PACE_FAST: f64 = 1.5;
const SLOW_BELOW: f64 = 700_000.0;

/// Share of the room above the largest rate that pictures use when they leave, and of it again what
/// more may be in flight.
const PACE_IN_ROOM: f64 = 0.75;
const FLIGHT_IN_ROOM: f64 = 0.3;
const LEAST_PACE: f64 = 150_000.0;
const LEAST_PACE_DRAINING: f64 = 120_000.0;

/// What may be in flight: this much at the rate, beyond the round trip.
const FLIGHT_MARGIN: f64 = 0.200;
const FLIGHT_FACTOR: f64 = 1.2;
const LEAST_FLIGHT_PACKETS: f64 = 3.0;
const MAX_SPREAD_IN_FLIGHT: f64 = 0.150;

/// Bytes of a full packet on the wire.
const FULL_PACKET: f64 = 1200.0;

/// A rate controller for one transport, audio included.
pub struct Controller {
    limits: Limits,
    /// Seconds count from here.
    epoch: Instant,
    rate: f64,
    measured: Measurements,
    prober: Prober,
    /// The rate that arrived when a queue stood, and when.
    capacity: Option<(f64, f64)>,
    last_cut: Option<f64>,
    cuts: u32,
    hold_until: f64,
    grown_at: Option<f64>,
    drain: Option<Drain>,
    competing: Option<Competing>,
    /// When competition was last over.
    competed_at: Option<f64>,
    loss_test: Option<LossTest>,
    /// Loss that a lower rate does not change, and when it was found or last halved.
    inherent: (f64, f64),
    silence: Option<Silence>,
    heard_at: Option<f64>,
    /// When about the oldest packet left that no feedback tells of.
    unheard_since: Option<f64>,
    /// Since when a queue stands that is too short for a cut, and what arrived then.
    band: Option<(f64, f64)>,
    /// Video bytes that wait to be sent.
    backlog: usize,
    flush: bool,
}

impl Controller {
    /// Starts at `limits.start`, with a probe as soon as something is sent.
    pub fn new(now: Instant, limits: Limits) -> Self {
        Self {
            limits,
            epoch: now,
            rate: limits.start.bps() as f64,
            measured: Measurements::new(),
            prober: Prober::new(limits),
            capacity: None,
            last_cut: None,
            cuts: 0,
            hold_until: 0.0,
            grown_at: None,
            drain: None,
            competing: None,
            competed_at: None,
            loss_test: None,
            inherent: (0.0, 0.0),
            silence: None,
            heard_at: None,
            unheard_since: None,
            band: None,
            backlog: 0,
            flush: false,
        }
    }

    /// How much may be sent now, with audio, repairs and headers.
    pub fn target(&self) -> Bitrate {
        Bitrate::from_bps(self.rate as u64)
    }

    /// At which rate packets that wait may leave.
    pub fn pacing_rate(&self) -> Bitrate {
        let rate = if self.drain.is_some() {
            (PACE_SLOW * self.rate).max(LEAST_PACE_DRAINING)
        } else {
            let factor = if self.rate < SLOW_BELOW { PACE_SLOW } else { PACE_FAST };
            (factor * self.rate).max(LEAST_PACE).max(PACE_IN_ROOM * self.room())
        };
        Bitrate::from_bps(rate as u64)
    }

    /// At which rate a burst passes, where that is more than could ever be sent for long; else 0.
    fn room(&self) -> f64 {
        let calm = self.competing.is_none() && self.silence.is_none() && self.loss_test.is_none();
        self.heard_at.filter(|_| calm).and_then(|t| self.prober.room(t)).unwrap_or(0.0)
    }

    /// Whether pictures and repairs may leave while so many bytes are in flight. Sound always may.
    pub fn may_send(&self, now: Instant, in_flight: usize) -> bool {
        let (t, bits) = (self.seconds(now), 8.0 * in_flight as f64);
        match &self.drain {
            Some(drain) => t < drain.burst_until || bits < self.gate(drain),
            None if self.trickles(t) => true,
            None => bits < self.window() && !self.is_overdue(t, in_flight),
        }
    }

    /// Whether encoding a picture makes sense while so many bytes are in flight: behind a shut
    /// gate it would only grow old.
    pub fn may_encode(&self, now: Instant, in_flight: usize) -> bool {
        let (t, bits) = (self.seconds(now), 8.0 * in_flight as f64);
        match &self.drain {
            Some(_) => self.may_send(now, in_flight),
            None if self.trickles(t) => true,
            None => bits < 1.1 * self.window() && !self.is_overdue(t, in_flight),
        }
    }

    /// Bits in flight below which the queue empties while draining.
    fn gate(&self, drain: &Drain) -> f64 {
        let path = self.measured.min_rtt() + self.measured.feedback_interval() + 0.030;
        let delay = path + self.measured.spread().min(MAX_SPREAD_IN_FLIGHT);
        (drain.capacity * delay).max(8.0 * FULL_PACKET)
    }

    /// Bits in flight at most, outside of a drain.
    fn window(&self) -> f64 {
        let queue = if self.competing.is_some() { self.measured.top_queue().max(0.3) } else { 0.0 };
        let spread = self.measured.spread().min(MAX_SPREAD_IN_FLIGHT);
        let delay = self.measured.min_rtt() + FLIGHT_MARGIN + queue + spread;
        let rate = self.rate.max(FLIGHT_IN_ROOM * self.room());
        (FLIGHT_FACTOR * rate * delay).max(LEAST_FLIGHT_PACKETS * 8.0 * FULL_PACKET)
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

    /// The round trip as feedback shows it, smoothed; the wait for feedback is part of it.
    pub fn rtt(&self) -> Option<Duration> {
        self.measured.rtt().map(|rtt| Duration::from_secs_f64(rtt.clamp(0.0, 60.0)))
    }

    /// What is being done.
    pub fn state(&self) -> State {
        if self.silence.is_some() {
            State::Silent
        } else if self.drain.is_some() {
            State::Drain
        } else if self.competing.is_some() {
            State::Competing
        } else if self.loss_test.is_some() {
            State::LossTest
        } else {
            State::Normal
        }
    }

    /// Something left. `padding`: only to probe, not what the application wanted to send.
    pub fn handle_sent(&mut self, now: Instant, bytes: usize, padding: bool) {
        let t = self.seconds(now);
        self.unheard_since.get_or_insert(t);
        if !padding {
            self.measured.add_sent(t, bytes);
        }
    }

    /// There is something to probe with: the first probe, once.
    pub fn start_probing(&mut self, now: Instant) {
        self.prober.start(self.seconds(now), self.rate);
    }

    /// Video bytes that wait to be sent.
    pub fn handle_backlog(&mut self, bytes: usize) {
        self.backlog = bytes;
    }

    /// True once after what waits became worthless: pictures not yet numbered are to be dropped,
    /// nothing from before is to be repaired, and a small key frame is to be sent at once.
    pub fn take_flush(&mut self) -> bool {
        std::mem::take(&mut self.flush)
    }

    /// A probe to send now.
    pub fn poll_probe(&mut self) -> Option<Probe> {
        self.prober.poll()
    }

    /// Whether probes are not wanted any more, those under way included.
    pub fn probes_cancelled(&self) -> bool {
        self.drain.is_some()
    }

    /// Feedback arrived; `in_flight` bytes are not covered by any so far. Packets that no feedback
    /// covers are unknown, not lost, and not in flight either.
    pub fn handle_reports(&mut self, now: Instant, reports: &[PacketReport], in_flight: usize) {
        if in_flight == 0 {
            self.unheard_since = None;
        }
        if reports.is_empty() {
            return;
        }
        let t = self.seconds(now);
        self.resume(t);
        self.heard_at = Some(t);
        let newest = reports.iter().filter(|r| r.arrival.is_some()).map(|r| r.departure).max();
        if let (Some(since), Some(newest)) = (self.unheard_since, newest) {
            // Reports may come in another order than they left.
            self.unheard_since = Some(since.max(self.seconds(newest)));
        }
        if self.competing.is_some() || self.competed_at.is_some_and(|at| t < at + drain::PINNED) {
            self.measured.pin_base(t);
        }
        let before = self.measured.base();
        self.measured.add(t, self.epoch, reports);
        if self.measured.base() < before - SHORTER && before.is_finite() {
            // Another path: what the old one carried says nothing.
            self.capacity = None;
            self.prober.hurry();
        }
        let outcome = self.prober.handle_reports(reports, self.epoch);
        if let Some(outcome) = outcome {
            self.handle_probe(t, outcome);
        }
        let Some(arrived) = self.measured.acknowledged() else {
            return;
        };
        if self.competing.is_some() {
            self.compete(t, arrived);
        } else if self.drain.is_some() {
            self.drain(t, arrived, in_flight);
        } else if self.queue_is_high() {
            self.cut(t, arrived, in_flight);
        } else if !self.test_loss(t, arrived) {
            self.grow(t, arrived);
        }
        self.clamp();
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.epoch).as_secs_f64()
    }

    fn threshold(&self, (fixed, of_spread): (f64, f64)) -> f64 {
        fixed + of_spread * self.measured.spread()
    }

    fn queue_is_high(&self) -> bool {
        let sudden = self.measured.newest_queue() > self.threshold(SUDDEN_QUEUE)
            && self.measured.report_loss() > SUDDEN_LOSS;
        sudden || self.measured.standing_queue() > self.threshold(HIGH_QUEUE)
    }

    fn clamp(&mut self) {
        self.rate = self.rate.clamp(self.limits.min.bps() as f64, self.limits.max.bps() as f64);
    }

    fn since_cut(&self, t: f64) -> f64 {
        self.last_cut.map_or(f64::INFINITY, |at| t - at)
    }

    /// No queue, or little: up, or gently down.
    fn grow(&mut self, t: f64, arrived: f64) {
        let passed = self.grown_at.map_or(0.0, |at| (t - at).min(0.25));
        self.grown_at = Some(t);
        if t < self.hold_until {
            return;
        }
        let (low, high) = (self.threshold(LOW_QUEUE), self.threshold(HIGH_QUEUE));
        let queue = self.measured.standing_queue();
        if queue > low {
            let (since, before) = *self.band.get_or_insert((t, arrived));
            if t - since > FLAT_FOR && self.is_flat(t) {
                if self.has_spare(t, arrived, before) {
                    // It would have run empty: the way got longer.
                    self.measured.rebase(t, queue);
                    self.prober.hurry();
                    self.band = None;
                    return;
                }
                // Where the application sends less than it may, less would prove nothing.
                if arrived > LIMITS_FROM * self.rate {
                    self.rate *= 1.0 - EASE_TO_SEE * passed;
                }
            }
            // In the upper half of the band: ease off.
            let position = (queue - low) / (high - low);
            if position > 0.5 {
                self.rate *= 1.0 - 0.1 * position * passed;
            }
            return;
        }
        self.band = None;
        // Losses are no sign that the application wants less.
        let lossy = self.measured.loss() > SOME_LOSS;
        let wanted = if lossy { arrived.max(self.measured.sent_rate(t)) } else { arrived };
        let mut limit = APPLICATION_LIMIT * wanted + APPLICATION_RESERVE;
        let limited = self.rate >= limit;
        if let Some(capacity) = self.known_capacity(t) {
            // Beyond what was once too much only what arrives, or a probe, is a proof.
            limit = limit.min(BEYOND_CAPACITY * capacity.max(wanted));
        }
        if self.rate < limit {
            let grown = self.rate + (self.growth(t) * self.rate).max(LEAST_GROWTH) * passed;
            self.rate = self.rate.max(grown.min(limit));
        }
        self.clamp();
        let since_cut = self.since_cut(t);
        let seen = self.measured.rtt().unwrap_or(0.1);
        self.prober.schedule(t, self.rate, seen, self.cuts, since_cut, limited, &self.measured);
    }

    /// The queue has not changed for a while.
    fn is_flat(&self, t: f64) -> bool {
        let range = self.measured.queues_since(t - FLAT_FOR);
        range.is_some_and(|(least, most)| most - least < self.threshold(FLAT))
    }

    /// Less arrives than the path is known to carry, or carried when the queue came.
    fn has_spare(&self, t: f64, arrived: f64, before: f64) -> bool {
        arrived < SPARE * self.known_capacity(t).map_or(before, |capacity| capacity.max(before))
    }

    fn known_capacity(&self, t: f64) -> Option<f64> {
        self.capacity.filter(|(_, at)| t < at + CAPACITY_KNOWN_FOR).map(|(capacity, _)| capacity)
    }

    fn growth(&self, t: f64) -> f64 {
        match self.known_capacity(t) {
            Some(capacity) if (0.7 * capacity..0.95 * capacity).contains(&self.rate) => {
                GROWTH_BELOW_CAPACITY
            }
            Some(capacity) if (0.95 * capacity..1.05 * capacity).contains(&self.rate) => {
                GROWTH_AT_CAPACITY
            }
            _ if self.since_cut(t) < AFTER_CUT => GROWTH_AFTER_CUT,
            _ if self.cuts > 0 => GROWTH,
            _ => GROWTH_START,
        }
    }
}
