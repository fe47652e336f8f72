//! How late packets are, and how much delay covers most of it. In samples at 48 kHz.

use std::collections::VecDeque;
use std::time::Duration;

use super::{FRAME, ms};

/// One observation of the worst lateness.
const WINDOW: i64 = ms(200);

/// The fastest packet of the last two seconds is the reference.
const WINDOWS_OF_BASE: usize = 10;

/// 400 buckets of 5 ms: two seconds.
const BUCKETS: usize = 400;
const BUCKET: i64 = ms(5);

/// Weight of the past at each observation: about 20 s of memory.
const FORGET: f32 = 0.99;

/// Which share of the windows shall have no late packet.
const QUANTILE: f32 = 0.95;

/// A packet that was missed weighs as much as so many windows, so that its like is in time for the
/// next 20 s; but one that took long once, or a run of them, costs no more delay than this.
const MISSED_WEIGHT: f32 = 0.15;
const MISSED_MOST: i64 = ms(60);

/// Where the way is long, a window with a lost packet whose copy came weighs as much as three: two
/// in 20 s are waited for. The 20 ms that a copy takes are little of such a way, and no repair
/// could come in time.
const COPY_WEIGHT: f32 = 0.03;
const LONG_WAY: Duration = Duration::from_millis(300);

/// Added to the quantile for the sound card's block and a late thread.
const RESERVE: i64 = ms(5);

/// And this part of what a packet is longer than 20 ms. They are long where the link is narrow: there
/// a picture on its way makes the next packet later than any before it (narrow200: by 10 to 26 ms).
const PART_OF_LENGTH: i64 = 2;
const MIN_TARGET: i64 = ms(10);
const MAX_TARGET: i64 = ms(500);
/// No lateness but a new reference.
const CLOCK_JUMP: i64 = ms(1000);
/// Before anything is known.
const FIRST_TARGET: i64 = ms(30);
/// The target falls by 20 ms a second, so 1 sample in 50.
const FALL: i64 = 50;

/// Estimates the delay that packets need.
pub(super) struct DelayEstimator {
    /// Smallest arrival - timestamp of each window, oldest first.
    bases: VecDeque<(i64, i64)>,
    window_start: i64,
    window_worst: Option<i64>,
    /// The worst copy of what was lost, where copies weigh more.
    window_copy: Option<i64>,
    long_way: bool,
    histogram: Vec<f32>,
    /// Of a packet.
    length: i64,
    observations: u32,
    target: i64,
    fell_at: i64,
    jitter: f64,
    /// When a missed packet last counted.
    missed_at: Option<i64>,
    last: Option<(i64, i64)>,
}

impl DelayEstimator {
    pub fn new() -> Self {
        Self {
            bases: VecDeque::with_capacity(WINDOWS_OF_BASE + 1),
            window_start: 0,
            window_worst: None,
            window_copy: None,
            long_way: false,
            histogram: vec![0.0; BUCKETS],
            length: FRAME,
            observations: 0,
            target: FIRST_TARGET,
            fell_at: 0,
            jitter: 0.0,
            missed_at: None,
            last: None,
        }
    }

    /// Packets are so long now.
    pub fn set_length(&mut self, length: i64) {
        self.length = length;
    }

    /// The delay to aim at.
    pub fn target(&self) -> i64 {
        self.target
    }

    /// The round trip to the other end.
    pub fn set_round_trip(&mut self, rtt: Duration) {
        self.long_way = rtt >= LONG_WAY;
    }

    /// RFC 3550 interarrival jitter.
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// How much later than the fastest packet's the moment `now` is for `timestamp`.
    pub fn age(&self, now: i64, timestamp: i64) -> i64 {
        let base = self.bases.iter().map(|(_, base)| *base).min().unwrap_or(now - timestamp);
        now - timestamp - base
    }

    pub fn handle_packet(&mut self, arrival: i64, timestamp: i64) {
        self.poll(arrival);
        let transit = arrival - timestamp;
        if let Some((last_arrival, last_timestamp)) = self.last {
            let d = (transit - (last_arrival - last_timestamp)).abs();
            if d < CLOCK_JUMP {
                self.jitter += (d as f64 - self.jitter) / 16.0;
            } else {
                // The sender's clock jumped, or the network stalled for longer than any
                // buffer: neither says anything about the delay to keep.
                self.bases.clear();
                self.window_worst = None;
            }
        }
        self.last = Some((arrival, timestamp));
        let window = arrival / WINDOW;
        match self.bases.back_mut() {
            Some((at, base)) if *at == window => *base = transit.min(*base),
            _ => self.bases.push_back((window, transit)),
        }
        while self.bases.front().is_some_and(|(at, _)| at + (WINDOWS_OF_BASE as i64) <= window) {
            self.bases.pop_front();
        }
        let late = self.age(arrival, timestamp);
        self.window_worst = Some(self.window_worst.map_or(late, |worst| worst.max(late)));
    }

    /// A copy of what was sent at `timestamp` came in a later packet, and nothing else of it: had
    /// it been waited for, it could have been played.
    pub fn handle_copy(&mut self, arrival: i64, timestamp: i64) {
        let late = self.age(arrival, timestamp);
        if self.long_way {
            self.window_copy = Some(self.window_copy.map_or(late, |worst| worst.max(late)));
        }
        self.window_worst = Some(self.window_worst.map_or(late, |worst| worst.max(late)));
    }

    /// A packet came after its turn, and something was played in its place.
    pub fn handle_missed(&mut self, arrival: i64, timestamp: i64) {
        let late = self.age(arrival, timestamp);
        if late > MAX_TARGET || self.missed_at.is_some_and(|at| arrival < at + WINDOW) {
            return; // nothing that waiting could help, or of the run that counted
        }
        self.missed_at = Some(arrival);
        self.weigh(late.min(self.target + MISSED_MOST), MISSED_WEIGHT);
    }

    /// Lets time pass.
    pub fn poll(&mut self, now: i64) {
        let fall = (now - self.fell_at) / FALL;
        if fall > 0 {
            self.fell_at = now;
            self.target = self.wanted().max(self.target - fall);
        }
        if now < self.window_start + WINDOW {
            return;
        }
        self.window_start = now;
        let copy = self.window_copy.take();
        if let Some(worst) = self.window_worst.take() {
            self.observe(worst);
            if let Some(copy) = copy {
                // No more than this: of many one still sees how many.
                self.weigh(copy, COPY_WEIGHT);
            }
        }
    }

    fn observe(&mut self, worst: i64) {
        // The first observations count fully, later ones less and less.
        self.observations = self.observations.saturating_add(1);
        self.weigh(worst, (1.0 - FORGET).max(1.0 / self.observations as f32));
    }

    fn weigh(&mut self, worst: i64, weight: f32) {
        for share in &mut self.histogram {
            *share *= 1.0 - weight;
        }
        let bucket = usize::try_from(worst / BUCKET).unwrap_or(0).min(BUCKETS - 1);
        if let Some(share) = self.histogram.get_mut(bucket) {
            *share += weight;
        }
        self.target = self.target.max(self.wanted());
    }

    fn wanted(&self) -> i64 {
        if self.observations == 0 {
            return FIRST_TARGET;
        }
        let mut sum = 0.0;
        let bucket = self.histogram.iter().position(|share| {
            sum += share;
            sum >= QUANTILE
        });
        let quantile = (bucket.unwrap_or(BUCKETS - 1) as i64 + 1) * BUCKET;
        let reserve = RESERVE + (self.length - FRAME).max(0) / PART_OF_LENGTH;
        (quantile + reserve).clamp(MIN_TARGET, MAX_TARGET)
    }
}
