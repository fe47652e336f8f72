//! One way of a link: a drop-tail queue before a bottleneck, then loss, delay and jitter. Pure.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::profile::Profile;

/// Packets on their way, in the order in which they arrive.
pub struct Link {
    profile: Profile,
    chance: StdRng,
    /// When the bottleneck has sent what it was given.
    free_at: Option<Instant>,
    last_due: Option<Instant>,
    in_burst: bool,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    counters: Counters,
}

/// What became of the packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub passed: u64,
    /// Whole IP packets.
    pub bytes: u64,
    pub lost: u64,
    /// Found the queue full.
    pub overflowed: u64,
}

impl Link {
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            chance: StdRng::seed_from_u64(seed),
            free_at: None,
            last_due: None,
            in_burst: false,
            under_way: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// What is under way arrives as it would have; what waits in the queue does not wait again.
    pub fn set(&mut self, profile: Profile) {
        self.profile = profile;
        self.free_at = None;
    }

    /// A packet enters. One that is dropped comes back, for its memory.
    pub fn handle_packet(&mut self, now: Instant, packet: Vec<u8>) -> Option<Vec<u8>> {
        let start = self.free_at.map_or(now, |at| at.max(now));
        let mut sent = start;
        if self.profile.rate > 0 {
            if start - now > self.profile.queue {
                self.counters.overflowed += 1;
                return Some(packet);
            }
            let bits = packet.len() as f64 * 8.0;
            sent += Duration::from_secs_f64(bits / (f64::from(self.profile.rate) * 1000.0));
        }
        self.free_at = Some(sent);
        if self.loses() {
            self.counters.lost += 1;
            return Some(packet);
        }
        let due = sent + self.profile.delay + self.jitter();
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        self.under_way.push_back((due, packet));
        None
    }

    /// The next packet that has arrived by `now`.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.under_way.front()?.0 > now {
            return None;
        }
        let (_, packet) = self.under_way.pop_front()?;
        self.counters.passed += 1;
        self.counters.bytes += packet.len() as u64;
        Some(packet)
    }

    /// When the next packet arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Gilbert's model: in the long run `loss` of the packets, in runs of `burst` on average.
    fn loses(&mut self) -> bool {
        let Profile { loss, burst, .. } = self.profile;
        if loss <= 0.0 {
            return false;
        }
        if burst <= 1.0 || loss >= 1.0 {
            return self.chance.random_bool(loss.min(1.0));
        }
        let leave = 1.0 / burst;
        let enter = (loss * leave / (1.0 - loss)).min(1.0);
        self.in_burst = self.chance.random_bool(if self.in_burst { 1.0 - leave } else { enter });
        self.in_burst
    }

    fn jitter(&mut self) -> Duration {
        if self.profile.jitter.is_zero() {
            return Duration::ZERO;
        }
        // Box and Muller.
        let (a, b): (f64, f64) = (self.chance.random(), self.chance.random());
        let normal = (-2.0 * (1.0 - a).ln()).sqrt() * (TAU * b).cos();
        self.profile.jitter.mul_f64(normal.abs() / 2.0)
    }
}
