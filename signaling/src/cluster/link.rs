//! A reliable, ordered link to one other node over a medium that may lose, double and reorder:
//! sequence numbers, cumulative acknowledgements, sending again after silence or when the medium
//! is back. Pure: the caller carries packets and says when things happen.
//!
//! Both ends count a *generation*: the incarnation of the link. Whoever gives the link up begins
//! the next one, in which nothing of the last is left; the higher generation wins, and an end
//! that learns of it starts afresh too, and is told so.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Packets and bytes that may be under way; the rest waits.
const MAX_FLIGHT: usize = 512;
const MAX_FLIGHT_BYTES: usize = 1 << 20;

/// Payloads and bytes that may wait to be sent. Credits of the connections keep it far below.
const MAX_QUEUE: usize = 100_000;
const MAX_QUEUE_BYTES: usize = 64 << 20;

/// The longest wait before sending again, as a multiple of the first.
const MAX_BACKOFF: u32 = 8;

/// When a link does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkTimes {
    /// Without an acknowledgement for so long, everything under way is sent again.
    pub resend_after: Duration,
    /// Between questions whether the other node is there.
    pub ping_every: Duration,
    /// Without a packet for so long, while the medium works, the other node is gone.
    pub silence: Duration,
}

impl Default for LinkTimes {
    fn default() -> Self {
        Self {
            resend_after: Duration::from_millis(500),
            ping_every: Duration::from_secs(2),
            silence: Duration::from_secs(8),
        }
    }
}

/// What goes over the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Which incarnation of the link.
    pub generation: u64,
    /// Everything up to this number arrived, in order.
    pub ack: u64,
    /// Counts payloads from 1; 0 in a packet without one.
    pub seq: u64,
    /// Wants an answer even though it carries nothing.
    pub asks: bool,
    /// What is carried.
    pub payload: Vec<u8>,
}

/// What a packet brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The other end began a new generation: what was under way is lost, in both directions.
    /// The payloads came after.
    pub reset: bool,
    /// In order.
    pub payloads: Vec<Vec<u8>>,
}

/// Too much waits to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    times: LinkTimes,
    generation: u64,
    queue: VecDeque<Vec<u8>>,
    queue_bytes: usize,
    /// Sent and not acknowledged; the first one's number is `acked + 1`.
    flight: VecDeque<Vec<u8>>,
    flight_bytes: usize,
    acked: u64,
    /// Of the flight, so many are not to be sent (again) just now.
    sent: usize,
    resend_at: Option<Instant>,
    backoff: u32,
    received: u64,
    /// Arrived before their turn.
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: usize,
    owes_answer: bool,
    /// Whether the medium works.
    up: bool,
    /// Whether the other node's silence matters.
    watched: bool,
    ping_at: Instant,
    heard: Instant,
}

impl Link {
    /// A link over a medium that works (`up`) or not. `generation` is higher than that of any
    /// earlier link between the two nodes.
    pub fn new(times: LinkTimes, generation: u64, up: bool, now: Instant) -> Self {
        Self {
            times,
            generation,
            queue: VecDeque::new(),
            queue_bytes: 0,
            flight: VecDeque::new(),
            flight_bytes: 0,
            acked: 0,
            sent: 0,
            resend_at: None,
            backoff: 1,
            received: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            owes_answer: false,
            up,
            watched: false,
            ping_at: now,
            heard: now,
        }
    }

    /// The present incarnation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Queues a payload, which is not empty.
    ///
    /// # Errors
    /// When too much waits already; nothing is queued then.
    pub fn send(&mut self, payload: Vec<u8>) -> Result<(), Overflow> {
        if self.queue.len() >= MAX_QUEUE || self.queue_bytes + payload.len() > MAX_QUEUE_BYTES {
            return Err(Overflow);
        }
        self.queue_bytes += payload.len();
        self.queue.push_back(payload);
        Ok(())
    }

    /// A packet arrived.
    pub fn handle_packet(&mut self, packet: Packet, now: Instant) -> Arrival {
        self.heard = now;
        let mut arrival = Arrival::default();
        if packet.generation < self.generation {
            // Of before a reset that the other end has not heard of.
            self.owes_answer = true;
            return arrival;
        }
        if packet.generation > self.generation {
            self.renew(packet.generation, now);
            arrival.reset = true;
        }
        self.acknowledge(packet.ack, now);
        self.owes_answer |= packet.asks || packet.seq > 0;
        if packet.seq == 0 {
            return arrival;
        }
        self.take(packet.seq, packet.payload);
        while let Some(payload) = self.early.remove(&(self.received + 1)) {
            self.early_bytes -= payload.len();
            self.received += 1;
            arrival.payloads.push(payload);
        }
        arrival
    }

    /// Keeps a payload until its turn, unless it was here before or is not to be expected.
    fn take(&mut self, seq: u64, payload: Vec<u8>) {
        let ahead = seq.saturating_sub(self.received);
        if ahead == 0 || ahead > MAX_FLIGHT as u64 || self.early.contains_key(&seq) {
            return;
        }
        // The one whose turn it is never finds the place taken.
        if ahead > 1 && self.early_bytes + payload.len() > 2 * MAX_FLIGHT_BYTES {
            return;
        }
        self.early_bytes += payload.len();
        self.early.insert(seq, payload);
    }

    fn acknowledge(&mut self, ack: u64, now: Instant) {
        let mut progress = false;
        while self.acked < ack
            && let Some(payload) = self.flight.pop_front()
        {
            self.flight_bytes -= payload.len();
            self.acked += 1;
            // What is about to be sent again may have arrived after all.
            self.sent = self.sent.saturating_sub(1);
            progress = true;
        }
        if progress {
            self.backoff = 1;
            self.resend_at = None;
            self.arm(now);
        }
    }

    fn arm(&mut self, now: Instant) {
        if self.sent > 0 && self.resend_at.is_none() {
            self.resend_at = Some(now + self.times.resend_after * self.backoff);
        }
    }

    /// The medium works again, or no more. What it lost meanwhile is sent again, and silence
    /// counts from now.
    pub fn set_up(&mut self, up: bool, now: Instant) {
        if up && !self.up {
            self.heard = now;
            self.backoff = 1;
            self.send_again();
        }
        self.up = up;
    }

    /// Whether the other node's silence matters from now on: while it is watched it is asked
    /// now and then whether it is there.
    pub fn watch(&mut self, watched: bool, now: Instant) {
        if watched && !self.watched {
            self.heard = now;
            self.ping_at = now + self.times.ping_every;
        }
        self.watched = watched;
    }

    /// Whether nothing was heard for too long although the medium works and it matters.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.up && self.watched && self.heard + self.times.silence <= now
    }

    /// Whether everything that was queued is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flight.is_empty()
    }

    /// When the other node was last heard.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Gives up what is under way and begins the next generation.
    pub fn reset(&mut self, now: Instant) {
        self.renew(self.generation.saturating_add(1), now);
        // Nothing may be queued for long; the other end is to know soon.
        self.ping_at = now;
    }

    fn renew(&mut self, generation: u64, now: Instant) {
        let (up, watched) = (self.up, self.watched);
        *self = Self { watched, heard: now, ..Self::new(self.times, generation, up, now) };
    }

    fn send_again(&mut self) {
        self.sent = 0;
        self.resend_at = None;
    }

    /// The next packet to hand to the medium; ask until there is none.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Packet> {
        if !self.up {
            return None;
        }
        if self.sent == self.flight.len() {
            self.fly();
        }
        if self.sent < self.flight.len() {
            let payload = self.flight[self.sent].clone();
            self.sent += 1;
            self.arm(now);
            let seq = self.acked + self.sent as u64;
            return Some(self.packet(seq, false, payload, now));
        }
        if self.watched && self.ping_at <= now {
            return Some(self.packet(0, true, Vec::new(), now));
        }
        self.owes_answer.then(|| self.packet(0, false, Vec::new(), now))
    }

    /// Moves one payload from the queue to those under way, if it may.
    fn fly(&mut self) {
        if self.flight.len() >= MAX_FLIGHT || self.flight_bytes >= MAX_FLIGHT_BYTES {
            return;
        }
        if let Some(payload) = self.queue.pop_front() {
            self.queue_bytes -= payload.len();
            self.flight_bytes += payload.len();
            self.flight.push_back(payload);
        }
    }

    fn packet(&mut self, seq: u64, asks: bool, payload: Vec<u8>, now: Instant) -> Packet {
        self.owes_answer = false;
        if asks || seq > 0 {
            self.ping_at = now + self.times.ping_every;
        }
        Packet { generation: self.generation, ack: self.received, seq, asks, payload }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.up {
            return None;
        }
        let watch = self.watched.then(|| self.ping_at.min(self.heard + self.times.silence));
        [self.resend_at, watch].into_iter().flatten().min()
    }

    /// Sends again what was not acknowledged in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.up && self.resend_at.is_some_and(|due| due <= now) {
            self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
            self.send_again();
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
