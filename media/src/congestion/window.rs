//! What packet reports say about the path: queue, spread, rate, loss. Seconds and bits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::PacketReport;

/// The smallest delay of so many buckets of a second is the path without a queue.
const BASE_BUCKETS: usize = 60;

/// Arrivals kept for the rates.
const KEPT: f64 = 1.0;
const MAX_KEPT: usize = 4096;

const RATE_WINDOW: f64 = 0.5;
const RECENT_WINDOW: f64 = 0.15;

const LOSS_WINDOW: Duration = Duration::from_millis(2500);

struct Arrival {
    at: f64,
    departure: f64,
    size: f64,
    queue: f64,
}

#[derive(Default)]
pub(super) struct Measurements {
    /// Smallest one-way delay in each second (of our clock), oldest first.
    bases: VecDeque<(Instant, f64)>,
    /// Sorted by arrival.
    arrivals: VecDeque<Arrival>,
    /// Lost and covered packets of each feedback.
    losses: VecDeque<(Instant, u32, u32)>,
    standing: f64,
    spread: f64,
    spreads: u32,
}

impl Measurements {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, now: Instant, reports: &[PacketReport]) {
        let (mut lost, mut covered) = (0, 0);
        for report in reports {
            covered += 1;
            let Some(arrival) = report.arrival else {
                lost += 1;
                continue;
            };
            self.add_arrival(now, report, arrival);
        }
        self.losses.push_back((now, lost, covered));
        while self.losses.front().is_some_and(|(at, ..)| now > *at + LOSS_WINDOW) {
            self.losses.pop_front();
        }
        self.update_queue();
    }

    fn add_arrival(&mut self, now: Instant, report: &PacketReport, arrival: Duration) {
        let (at, departure) = (arrival.as_secs_f64(), report.departure.as_secs_f64());
        if let Some(last) = self.arrivals.back()
            && (at - last.at).abs() > 10.0
        {
            // The peer's clock jumped: nothing before compares.
            self.arrivals.clear();
            self.bases.clear();
        }
        let delay = at - departure;
        match self.bases.back_mut() {
            Some((since, base)) if now < *since + Duration::from_secs(1) => {
                *base = delay.min(*base);
            }
            _ => self.bases.push_back((now, delay)),
        }
        if self.bases.len() > BASE_BUCKETS {
            self.bases.pop_front();
        }
        let queue = delay - self.base();
        let place = self.arrivals.partition_point(|other| other.at <= at);
        let size = 8.0 * report.size as f64;
        self.arrivals.insert(place, Arrival { at, departure, size, queue });
        while self.arrivals.len() > MAX_KEPT
            || self.arrivals.front().is_some_and(|first| first.at < at - KEPT)
        {
            self.arrivals.pop_front();
        }
    }

    fn base(&self) -> f64 {
        self.bases.iter().map(|(_, base)| *base).fold(f64::INFINITY, f64::min)
    }

    /// The smallest queue of the last packets: what stands, not what passes with a frame.
    fn update_queue(&mut self) {
        let Some(last) = self.arrivals.back() else {
            return;
        };
        let window = (3.0 * self.spread).clamp(0.050, 0.200);
        let from = last.at - window;
        let mut queues: Vec<f64> =
            self.arrivals.iter().rev().take_while(|a| a.at >= from).map(|a| a.queue).collect();
        queues.sort_by(f64::total_cmp);
        let Some(&smallest) = queues.first() else {
            return;
        };
        self.standing = smallest.max(0.0);
        let high = queues.get((queues.len() - 1) * 9 / 10).copied().unwrap_or(smallest);
        // Under a queue the spread is the queue's, not the path's.
        if self.standing < 0.050 || self.spreads < 8 {
            self.spreads = self.spreads.saturating_add(1);
            let weight = (1.0 / f64::from(self.spreads)).max(0.05);
            self.spread += weight * ((high - smallest).min(0.3) - self.spread);
        }
    }

    /// The path got longer: what stands is its new delay.
    pub fn rebase(&mut self) {
        for (_, base) in &mut self.bases {
            *base += self.standing;
        }
        for arrival in &mut self.arrivals {
            arrival.queue -= self.standing;
        }
        self.standing = 0.0;
    }

    pub fn standing_queue(&self) -> f64 {
        self.standing
    }

    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// The rate by arrival times.
    pub fn acknowledged(&self) -> Option<f64> {
        self.rate(RATE_WINDOW)
    }

    /// The same over a shorter time.
    pub fn recently_acknowledged(&self) -> Option<f64> {
        self.rate((4.0 * self.spread).clamp(RECENT_WINDOW, 0.400))
    }

    fn rate(&self, window: f64) -> Option<f64> {
        let last = self.arrivals.back()?;
        let from = last.at - window;
        let mut bits = 0.0;
        let mut first: Option<&Arrival> = None;
        let mut count = 0;
        for arrival in self.arrivals.iter().rev().take_while(|a| a.at >= from) {
            bits += arrival.size;
            first = Some(arrival);
            count += 1;
        }
        let first = first?;
        // The first packet took its time before the window.
        let passed = last.at - first.at;
        (count >= 5 && passed > 0.010).then(|| (bits - first.size) / passed)
    }

    /// The rate by departure times, of packets that arrived, scaled by what was lost.
    pub fn sent(&self) -> f64 {
        let first = self.arrivals.iter().map(|a| a.departure).fold(f64::INFINITY, f64::min);
        let last = self.arrivals.iter().map(|a| a.departure).fold(0.0, f64::max);
        let bits: f64 = self.arrivals.iter().map(|a| a.size).sum();
        let passed = (last - first).max(0.1);
        if self.arrivals.is_empty() { 0.0 } else { bits / passed / (1.0 - self.loss()).max(0.1) }
    }

    /// Share of packets lost over the last 2.5 s.
    pub fn loss(&self) -> f64 {
        let (lost, covered) =
            self.losses.iter().fold((0, 0), |(l, c), (_, lost, covered)| (l + lost, c + covered));
        // A handful of packets is no statistic.
        if covered < 20 { 0.0 } else { f64::from(lost) / f64::from(covered) }
    }

    pub fn forget_loss(&mut self) {
        self.losses.clear();
    }
}
