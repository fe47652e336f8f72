//! Probes: short bursts at a higher rate show whether the path carries it, sooner than growing.

use std::time::Instant;

use super::window::Measurements;
use super::{Controller, HIGH_QUEUE, LOW_QUEUE, Limits, PacketReport};

/// A burst to send: its packets carry the number, media first, padding after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Names the burst in packet reports.
    pub id: u32,
    /// Bits per second at which to send.
    pub rate: f64,
    /// At least so much.
    pub bytes: usize,
    /// In at least so many packets.
    pub packets: u32,
    /// Padding in packets of about this size.
    pub packet_size: usize,
}

/// The first probe: this multiple of the start rate, in small packets over so many seconds.
const FIRST_FACTOR: f64 = 3.0;
const FIRST_DURATION: f64 = 0.025;
const FIRST_SIZE: usize = 500;

const LEAST_PACKETS: u32 = 5;

/// Seconds: at least, at most (twice the spread in between), and at this share of what arrives.
const DURATION: (f64, f64) = (0.020, 0.120);
const DURATION_AT_RATE: f64 = 0.12;

/// Above this share of the largest rate nothing is to be found.
const HIGH_ENOUGH: f64 = 0.85;

/// Probes go a little above the largest rate.
const MOST: f64 = 1.125;

/// Waits after failures: begin with this, grow by that, to at most the last. Seconds.
const WAIT: f64 = 3.0;
const WAIT_GROWTH: f64 = 1.4;
const MAX_WAIT: f64 = 6.0;

/// An application that sends little is probed for no more often.
const LIMITED_WAIT: f64 = 5.0;

/// After so many failures waits apply even where no cut ever was.
const EARLY_FAILURES: u32 = 6;

/// Sent rates further above the received one than this are no burst any more.
const MAX_RATIO: f64 = 2.0;

/// Success: so much of what was sent was received; below that share of it the path is full.
const SUCCESS: f64 = 0.85;
const FULL: f64 = 0.9;

/// Bursts shorter than 1.5 times a spread above this are smeared by it.
const SMEAR: f64 = 0.012;

/// Bursts with losses are sent again, so often.
const MAX_LOSSY: u32 = 3;

const KEPT_BURSTS: usize = 6;

/// Probes for room above the largest rate: the first and the last, as multiples of it, each twice
/// the one before; their length; how long what they found is believed, and how long to wait after
/// one that found the end. Seconds.
const ROOM_FIRST: f64 = 2.5;
const ROOM_LAST: f64 = 8.0;
const ROOM_DURATION: f64 = 0.015;
/// One that fell short is sent again so soon, longer by its length each time: jitter makes short ones
/// look slow, and the queue of a narrow link the long ones, too.
const ROOM_TRIES: u32 = 2;
const ROOM_TRY_AGAIN: f64 = 0.7;
const ROOM_KNOWN_FOR: f64 = 40.0;
const ROOM_RENEWED_AFTER: f64 = 30.0;
const ROOM_AGAIN: f64 = 20.0;

/// Who sends less than this share of the rate needs no room.
const ROOM_WANTED_FROM: f64 = 0.2;

/// A burst whose outcome is not known after so many seconds has none: its packets arrived in clumps.
const ROOM_PENDING: f64 = 2.0;

/// One burst's packets: departure, arrival, bits.
struct Burst {
    probe: Probe,
    arrived: Vec<(f64, f64, f64)>,
    covered: u32,
    covered_bytes: usize,
    last_sequence: u64,
}

/// What a burst showed.
pub(super) struct Outcome {
    rate: f64,
    /// `None`: too many of its packets were lost.
    result: Option<Received>,
}

struct Received {
    rate: f64,
    sent_rate: f64,
    duration: f64,
}

pub(super) struct Prober {
    limits: Limits,
    started: bool,
    request: Option<Probe>,
    next_id: u32,
    bursts: Vec<Burst>,
    last: f64,
    /// A burst is out whose outcome is not known.
    pending: bool,
    wait: f64,
    failures: u32,
    lossy: u32,
    measured_once: bool,
    /// At which rate bursts pass without a queue, and since when that is known.
    room: Option<(f64, f64)>,
    /// When to look for more of it.
    room_due: f64,
    /// At which rate that is being done, and how often in vain.
    room_asked: Option<f64>,
    room_tries: u32,
}

impl Prober {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            started: false,
            request: None,
            next_id: 1,
            bursts: Vec::new(),
            last: f64::NEG_INFINITY,
            pending: false,
            wait: WAIT,
            failures: 0,
            lossy: 0,
            measured_once: false,
            room: None,
            room_due: 0.0,
            room_asked: None,
            room_tries: 0,
        }
    }

    /// With the first media.
    pub fn start(&mut self, t: f64, rate: f64) {
        if !self.started {
            self.started = true;
            self.ask(t, FIRST_FACTOR * rate, FIRST_DURATION, FIRST_SIZE);
        }
    }

    fn largest(&self) -> f64 {
        MOST * self.limits.max.bps() as f64
    }

    fn is_high_enough(&self, rate: f64) -> bool {
        rate >= HIGH_ENOUGH * self.limits.max.bps() as f64
    }

    /// The rate at which bursts pass without a queue, where it is above the largest rate.
    pub fn room(&self, t: f64) -> Option<f64> {
        self.room.filter(|(_, since)| t < since + ROOM_KNOWN_FOR).map(|(rate, _)| rate)
    }

    /// Asks how much faster than the largest rate a picture may leave, where that is due: one that
    /// leaves in a third of the time is shown so much sooner.
    fn look_for_room(&mut self, t: f64, since_cut: f64) {
        let waits = self.pending && t - self.last < ROOM_PENDING;
        if since_cut < ROOM_AGAIN || waits {
            return;
        }
        if let Some(asked) = self.room_asked.filter(|_| self.pending) {
            self.miss_room(t, asked);
        }
        if t < self.room_due {
            return;
        }
        let max = self.limits.max.bps() as f64;
        let next = self.room(t).map_or(ROOM_FIRST * max, |known| 2.0 * known);
        let next = self.room_asked.unwrap_or(next).min(ROOM_LAST * max);
        self.burst(t, next, ROOM_DURATION * f64::from(self.room_tries + 1), 1000);
        self.room_asked = Some(next);
        self.room_due = t + ROOM_AGAIN;
    }

    /// A burst at the rate `asked` did not come through as fast.
    fn miss_room(&mut self, t: f64, asked: f64) {
        self.pending = false;
        self.room_tries += 1;
        if self.room_tries < ROOM_TRIES {
            self.room_asked = Some(asked);
            self.room_due = t + ROOM_TRY_AGAIN;
        } else {
            self.room_asked = None;
            self.room_tries = 0;
            self.room_due = t + ROOM_AGAIN;
        }
    }

    /// The path is not what it was.
    pub fn forget_room(&mut self, t: f64) {
        self.room = None;
        self.room_asked = None;
        self.room_tries = 0;
        self.room_due = t + ROOM_AGAIN;
    }

    /// What a burst above the largest rate showed.
    fn handle_room(&mut self, t: f64, asked: f64, received: Option<&Received>) {
        if self.room_asked != Some(asked) {
            return; // from before a cut
        }
        self.pending = false;
        let known = self.room(t);
        let Some(received) = received else {
            // Losses or a queue, and not jitter: that was too much.
            if known.is_some_and(|known| asked <= known) {
                self.room = None;
            }
            self.room_asked = None;
            self.room_tries = 0;
            self.room_due = t + ROOM_AGAIN;
            return;
        };
        let through = received.rate > SUCCESS * asked;
        let found = if through { asked } else { SUCCESS * received.rate };
        // The best of a few tries at one rate.
        let best = known.filter(|known| !through && self.room_tries > 0 && *known < asked);
        let found = best.map_or(found, |best| best.max(found));
        self.room = (found > self.largest()).then_some((found, t));
        if !through {
            return self.miss_room(t, asked);
        }
        self.room_asked = None;
        self.room_tries = 0;
        let most = asked >= ROOM_LAST * self.limits.max.bps() as f64;
        self.room_due = if most { t + ROOM_RENEWED_AFTER } else { t };
    }

    fn ask(&mut self, t: f64, rate: f64, duration: f64, packet_size: usize) {
        self.burst(t, rate.min(self.largest()), duration, packet_size);
    }

    fn burst(&mut self, t: f64, rate: f64, duration: f64, packet_size: usize) {
        let bytes = (rate * duration / 8.0).max(f64::from(LEAST_PACKETS) * packet_size as f64);
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let probe = Probe { id, rate, bytes: bytes as usize, packets: LEAST_PACKETS, packet_size };
        self.request = Some(probe);
        self.last = t;
        self.pending = true;
        if self.bursts.len() == KEPT_BURSTS {
            self.bursts.remove(0);
        }
        self.bursts.push(Burst {
            probe,
            arrived: Vec::new(),
            covered: 0,
            covered_bytes: 0,
            last_sequence: 0,
        });
    }

    pub fn poll(&mut self) -> Option<Probe> {
        self.request.take()
    }

    /// Probing soon after a cut was too much probing.
    pub fn handle_cut(&mut self, t: f64) {
        self.request = None;
        self.forget_room(t);
        if self.pending && t - self.last < 1.2 {
            self.fail();
        }
        self.pending = false;
    }

    pub fn back_off(&mut self) {
        self.wait = (self.wait * WAIT_GROWTH).min(MAX_WAIT);
    }

    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.back_off();
    }

    /// The next probe need not wait.
    pub fn hurry(&mut self) {
        self.last = f64::NEG_INFINITY;
    }

    /// Asks for a probe where one is due.
    #[allow(clippy::too_many_arguments)] // all of them numbers that only the controller has
    pub fn schedule(
        &mut self,
        t: f64,
        rate: f64,
        rtt: f64,
        cuts: u32,
        since_cut: f64,
        limited: bool,
        measured: &Measurements,
    ) {
        let since = t - self.last;
        if self.request.is_some() || since < (rtt + 0.25).max(0.4) {
            return;
        }
        if self.is_high_enough(rate) {
            // Without pictures there is no hurry, and nothing would show that the path has narrowed.
            if measured.acknowledged().is_none_or(|arrives| arrives > ROOM_WANTED_FROM * rate) {
                self.look_for_room(t, since_cut);
            }
            return;
        }
        let experienced = cuts > 0 || self.failures >= EARLY_FAILURES;
        let wait = match (limited, experienced) {
            (true, _) => LIMITED_WAIT,
            (false, true) => self.wait,
            (false, false) => (rtt + 0.2).max(0.5),
        };
        if since > wait && since_cut > self.wait.clamp(1.5, 3.0) {
            let factor = if self.failures < 2 { 2.0 } else { 1.5 };
            let higher = (factor * rate).max(rate + 200_000.0);
            let size = if rate > 600_000.0 { 1000 } else { 600 };
            let duration = duration(higher, rate, measured);
            self.ask(t, higher, duration, size);
        }
    }

    /// Collects the packets of bursts; returns what a burst showed that is complete.
    pub fn handle_reports(&mut self, reports: &[PacketReport], epoch: Instant) -> Option<Outcome> {
        let mut newest = 0;
        for report in reports {
            newest = newest.max(report.sequence);
            let Some(id) = report.probe else {
                continue;
            };
            let Some(burst) = self.bursts.iter_mut().find(|burst| burst.probe.id == id) else {
                continue;
            };
            burst.covered += 1;
            burst.covered_bytes += report.size;
            burst.last_sequence = burst.last_sequence.max(report.sequence);
            if let Some(arrival) = report.arrival {
                let departure = report.departure.saturating_duration_since(epoch);
                let bits = 8.0 * report.size as f64;
                let (sent, received) = (departure.as_secs_f64(), arrival.as_secs_f64());
                burst.arrived.push((sent, received, bits));
            }
        }
        let complete = |burst: &Burst| {
            burst.covered >= burst.probe.packets
                && (burst.covered_bytes >= burst.probe.bytes || newest > burst.last_sequence)
        };
        let place = self.bursts.iter().position(complete)?;
        let burst = self.bursts.remove(place);
        if burst.arrived.len() < (0.8 * f64::from(burst.covered)).ceil() as usize {
            return Some(Outcome { rate: burst.probe.rate, result: None });
        }
        let received = received(burst.arrived)?;
        Some(Outcome { rate: burst.probe.rate, result: Some(received) })
    }
}

/// The rate at which a burst came through, unless it was not one any more.
fn received(mut packets: Vec<(f64, f64, f64)>) -> Option<Received> {
    packets.sort_by(|a, b| f64::total_cmp(&a.0, &b.0));
    let (first, last) = (packets.first()?, packets.last()?);
    let duration = last.0 - first.0;
    let by_arrival = |a: &&(f64, f64, f64), b: &&(f64, f64, f64)| f64::total_cmp(&a.1, &b.1);
    let (head, tail) = (packets.iter().min_by(by_arrival)?, packets.iter().max_by(by_arrival)?);
    let spread = tail.1 - head.1;
    let bits: f64 = packets.iter().map(|(_, _, bits)| bits).sum();
    if packets.len() < 4 || duration <= 0.0 || spread <= 0.0 {
        return None;
    }
    // A packet's size shows in the time after it where it is sent, before it where it is queued.
    let sent_rate = (bits - last.2) / duration;
    let rate = (bits - head.2.min(tail.2)) / spread;
    if rate / sent_rate > MAX_RATIO {
        return None;
    }
    let rate = if rate < FULL * sent_rate { 0.95 * rate } else { rate.min(sent_rate) };
    Some(Received { rate, sent_rate, duration })
}

fn duration(probe_rate: f64, rate: f64, measured: &Measurements) -> f64 {
    let most = DURATION_AT_RATE * rate.max(measured.acknowledged().unwrap_or(0.0)) / probe_rate;
    (2.0 * measured.spread()).clamp(DURATION.0, DURATION.1).min(most).max(DURATION.0)
}

impl Controller {
    /// A burst is through.
    pub(super) fn handle_probe(&mut self, t: f64, outcome: Outcome) {
        if self.drain.is_some() || self.competing.is_some() {
            return;
        }
        let queue = self.measured.standing_queue();
        if outcome.rate > 1.01 * self.prober.largest() {
            let calm = queue < self.threshold(HIGH_QUEUE);
            self.prober.handle_room(t, outcome.rate, outcome.result.as_ref().filter(|_| calm));
            return;
        }
        let Some(received) = outcome.result else {
            if queue < self.threshold(LOW_QUEUE) && self.prober.lossy < MAX_LOSSY {
                self.prober.lossy += 1;
                self.prober.ask(t, outcome.rate, DURATION.0, 1000);
            }
            return;
        };
        self.prober.lossy = 0;
        let asked = outcome.rate.min(received.sent_rate);
        let first = !std::mem::replace(&mut self.prober.measured_once, true);
        if received.rate > SUCCESS * asked && queue < self.threshold(HIGH_QUEUE) {
            self.probe_succeeded(t, outcome.rate, &received);
            return;
        }
        let usable = SUCCESS * received.rate;
        if usable > self.rate {
            self.rate = usable.min(2.0 * self.rate);
            self.capacity = Some((received.rate, t));
        } else if first && received.rate < 0.9 * self.rate && queue > self.threshold(LOW_QUEUE) {
            self.rate = usable;
            self.capacity = Some((received.rate, t));
        }
        self.prober.pending = false;
        self.prober.fail();
        self.clamp();
    }

    fn probe_succeeded(&mut self, t: f64, asked: f64, received: &Received) {
        let spread = self.measured.spread();
        let smeared = spread > SMEAR && received.duration < 1.5 * spread;
        let mut found = 0.95 * received.rate;
        if smeared {
            found = found.min(1.4 * self.rate);
        }
        if found > self.rate {
            self.rate = found;
            self.prober.wait = WAIT;
            self.prober.failures = 0;
            self.capacity = None;
        }
        self.prober.pending = false;
        self.clamp();
        if !self.prober.is_high_enough(self.rate) {
            let next =
                if smeared { 2.0 * self.rate } else { (2.0 * asked).min(2.2 * received.rate) };
            let duration = duration(asked, self.rate, &self.measured);
            self.prober.ask(t, next, duration, 1000);
        }
    }
}

#[cfg(test)]
mod tests;
