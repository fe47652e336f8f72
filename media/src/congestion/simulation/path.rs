//! A bottleneck with a drop-tail queue, then delay, jitter and loss. Seconds and bits.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Distribution of what is added to the delay; order is kept.
#[derive(Clone, Copy, Debug)]
pub enum Jitter {
    None,
    /// The absolute value of a normal distribution of this deviation.
    HalfNormal(f64),
    /// Around that mean, within twice of it.
    Around(f64),
}

/// Which packets are lost, beside those that find the queue full.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    None,
    Random(f64),
    /// Runs of so many packets, in all this share.
    Runs(f64, u32),
    /// A quarter second of heavy loss every four.
    Spikes,
}

#[derive(Clone, Debug)]
pub struct PathModel {
    /// From when on which capacity, in bits per second.
    pub capacity: Vec<(f64, f64)>,
    /// One way.
    pub delay: f64,
    /// The longest wait in the queue.
    pub queue: f64,
    pub jitter: Jitter,
    pub loss: Loss,
    /// From when until when the way is longer, and by how much.
    pub detour: Option<(f64, f64, f64)>,
}

/// What became of a packet: when it arrives, and how long it waited in the queue.
pub enum Fate {
    Arrives { at: f64, queued: f64 },
    Lost { overflow: bool },
}

pub struct Path {
    model: PathModel,
    random: StdRng,
    /// Bits sent since the begin once all that waits is through.
    filled: f64,
    last_arrival: f64,
    run: u32,
}

impl Path {
    pub fn new(model: PathModel, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { model, random, filled: 0.0, last_arrival: 0.0, run: 0 }
    }

    pub fn delay(&self) -> f64 {
        self.model.delay
    }

    /// By how much longer the way is then.
    pub fn detour(&self, t: f64) -> f64 {
        let now = self.model.detour.filter(|(from, until, _)| (*from..*until).contains(&t));
        now.map_or(0.0, |(.., by)| by)
    }

    pub fn capacity(&self, t: f64) -> f64 {
        let steps = self.model.capacity.iter().rev();
        steps
            .clone()
            .find(|(from, _)| *from <= t)
            .or(self.model.capacity.first())
            .map_or(1.0, |s| s.1)
    }

    /// Bits that the bottleneck carries until then.
    fn carried(&self, t: f64) -> f64 {
        let mut bits = 0.0;
        for (index, (from, rate)) in self.model.capacity.iter().enumerate() {
            let until = self.model.capacity.get(index + 1).map_or(f64::INFINITY, |next| next.0);
            if t > *from {
                bits += rate * (t.min(until) - from);
            }
        }
        bits
    }

    /// When the bottleneck has carried so many bits.
    fn when(&self, bits: f64) -> f64 {
        let mut done = 0.0;
        for (index, (from, rate)) in self.model.capacity.iter().enumerate() {
            let until = self.model.capacity.get(index + 1).map_or(f64::INFINITY, |next| next.0);
            let here = rate * (until - from);
            if done + here >= bits {
                return from + (bits - done) / rate;
            }
            done += here;
        }
        f64::INFINITY
    }

    /// How long the last packet in the queue waits.
    pub fn queue(&self, t: f64) -> f64 {
        if self.filled <= self.carried(t) { 0.0 } else { self.when(self.filled) - t }
    }

    pub fn send(&mut self, t: f64, bytes: usize) -> Fate {
        let (bits, carried) = (8.0 * bytes as f64, self.carried(t));
        let waiting = (self.filled - carried).max(0.0);
        let room = (self.model.queue * self.capacity(t)).max(2.0 * 8.0 * 1500.0);
        if waiting + bits > room {
            return Fate::Lost { overflow: true };
        }
        let begin = self.filled.max(carried);
        self.filled = begin + bits;
        let queued = self.when(begin) - t;
        let through = self.when(self.filled);
        if self.is_lost(t) {
            return Fate::Lost { overflow: false };
        }
        let at = through + self.model.delay + self.detour(t) + self.jitter();
        self.last_arrival = at.max(self.last_arrival);
        Fate::Arrives { at: self.last_arrival, queued }
    }

    fn is_lost(&mut self, t: f64) -> bool {
        match self.model.loss {
            Loss::None => false,
            Loss::Random(share) => self.random.random_bool(share),
            Loss::Runs(share, length) => {
                if self.run == 0
                    && self.random.random_bool(share / f64::from(length) / (1.0 - share))
                {
                    self.run = length;
                }
                let lost = self.run > 0;
                self.run = self.run.saturating_sub(1);
                lost
            }
            Loss::Spikes => self.random.random_bool(if t % 4.0 < 0.25 { 0.5 } else { 0.005 }),
        }
    }

    fn jitter(&mut self) -> f64 {
        match self.model.jitter {
            Jitter::None => 0.0,
            Jitter::HalfNormal(deviation) => (deviation * normal(&mut self.random)).abs(),
            Jitter::Around(mean) => {
                (mean + mean / 2.0 * normal(&mut self.random)).clamp(0.0, 2.0 * mean)
            }
        }
    }
}

/// Standard normal (Box and Muller).
pub fn normal(random: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (random.random_range(1e-12..1.0), random.random());
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}
