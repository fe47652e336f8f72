//! What packet reports say about the path: queue, spread, rate, loss. Seconds and bits.

use std::collections::VecDeque;
use std::time::Instant;

use super::PacketReport;

/// The smallest delay of so many buckets of a second is the path without a queue.
const BASE_BUCKETS: usize = 60;

/// Arrivals kept for the rates.
const KEPT: f64 = 1.0;
const MAX_KEPT: usize = 4096;

/// Arrivals over which the rate is taken; at the start, and under a queue, over fewer.
const RATE_WINDOW: f64 = 0.5;
const SHORT_RATE_WINDOW: f64 = 0.3;
const START: f64 = 2.0;
const LONG_QUEUE: f64 = 0.100;

/// The newest rate is taken over this much, or four times the spread.
const NEWEST_WINDOW: (f64, f64) = (0.120, 0.400);

/// Arrivals of which the smallest delay is the standing queue.
const QUEUE_WINDOW: (f64, f64) = (0.050, 0.200);

const LOSS_WINDOW: f64 = 2.5;
const SENT_WINDOW: f64 = 0.5;

/// Standing queues are remembered for so long.
const QUEUES_KEPT: f64 = 4.0;

const FEWEST_REPORTS: usize = 3;

/// Under a queue longer than this the spread is the queue's, not the path's.
const SPREAD_BELOW: f64 = 0.050;
const FIRST_SPREADS: u32 = 8;

/// The two clocks do not come apart by more between two reports, unless one of them jumps.
const CLOCK_JUMP: f64 = 5.0;

/// Before it is measured.
const FEEDBACK_INTERVAL: f64 = 0.075;

struct Arrival {
    at: f64,
    delay: f64,
    bits: f64,
}

pub(super) struct Measurements {
    began: Option<f64>,
    /// Smallest one-way delay in each second of our clock, oldest first.
    bases: VecDeque<(u64, f64)>,
    /// Sorted by arrival.
    arrivals: VecDeque<Arrival>,
    /// The newest arrival and when its report came: a jump of either clock shows.
    clocks: Option<(f64, f64)>,
    acknowledged: Option<f64>,
    /// When, lost, covered.
    losses: VecDeque<(f64, u32, u32)>,
    sent: VecDeque<(f64, f64)>,
    sent_bits: f64,
    standing: f64,
    newest: f64,
    top: f64,
    spread: f64,
    spreads: u32,
    report_loss: f64,
    report_lost: u32,
    report_arrived: u32,
    queues: VecDeque<(f64, f64)>,
    rtt: Option<f64>,
    min_rtt: f64,
    reported_at: Option<f64>,
    interval: f64,
}

impl Measurements {
    pub fn new() -> Self {
        Self {
            began: None,
            bases: VecDeque::new(),
            arrivals: VecDeque::new(),
            clocks: None,
            acknowledged: None,
            losses: VecDeque::new(),
            sent: VecDeque::new(),
            sent_bits: 0.0,
            standing: 0.0,
            newest: 0.0,
            top: 0.0,
            spread: 0.0,
            spreads: 0,
            report_loss: 0.0,
            report_lost: 0,
            report_arrived: 0,
            queues: VecDeque::new(),
            rtt: None,
            min_rtt: 1.0,
            reported_at: None,
            interval: FEEDBACK_INTERVAL,
        }
    }

    pub fn add_sent(&mut self, t: f64, bytes: usize) {
        let bits = 8.0 * bytes as f64;
        self.sent.push_back((t, bits));
        self.sent_bits += bits;
        self.forget_sent(t);
    }

    fn forget_sent(&mut self, t: f64) {
        while let Some(&(at, bits)) = self.sent.front()
            && (at < t - SENT_WINDOW || self.sent.len() > MAX_KEPT)
        {
            self.sent.pop_front();
            self.sent_bits -= bits;
        }
    }

    /// One feedback's reports.
    pub fn add(&mut self, t: f64, epoch: Instant, reports: &[PacketReport]) {
        self.began.get_or_insert(t);
        if let Some(before) = self.reported_at.replace(t) {
            self.interval += 0.1 * ((t - before).clamp(0.010, 0.250) - self.interval);
        }
        let (mut lost, mut newest_sent) = (0, None::<f64>);
        let mut fresh: Vec<(f64, f64)> = Vec::with_capacity(reports.len());
        for report in reports {
            let Some(arrival) = report.arrival else {
                lost += 1;
                continue;
            };
            let departure = report.departure.saturating_duration_since(epoch).as_secs_f64();
            newest_sent = Some(newest_sent.map_or(departure, |newest| newest.max(departure)));
            let (at, bits) = (arrival.as_secs_f64(), 8.0 * report.size as f64);
            self.add_arrival(t, at, at - departure, bits);
            fresh.push((at, at - departure));
        }
        if let Some(sent) = newest_sent {
            let rtt = (t - sent).max(0.0);
            self.rtt = Some(self.rtt.map_or(rtt, |old| old + 0.2 * (rtt - old)));
            self.min_rtt = self.min_rtt.min(rtt);
        }
        let covered = u32::try_from(reports.len()).unwrap_or(u32::MAX);
        (self.report_lost, self.report_arrived) = (lost, covered.saturating_sub(lost));
        self.report_loss = f64::from(lost) / f64::from(covered.max(1));
        self.losses.push_back((t, lost, covered));
        while self.losses.front().is_some_and(|(at, ..)| *at < t - LOSS_WINDOW) {
            self.losses.pop_front();
        }
        self.update_queue(t, &mut fresh);
        self.update_acknowledged(t);
    }

    fn add_arrival(&mut self, t: f64, at: f64, delay: f64, bits: f64) {
        if let Some((last, since)) = self.clocks
            && ((at - last) - (t - since)).abs() > CLOCK_JUMP
        {
            // A clock jumped: nothing before compares.
            self.arrivals.clear();
            self.bases.clear();
            self.queues.clear();
        }
        self.clocks = Some((at, t));
        let second = t as u64;
        match self.bases.back_mut() {
            Some((bucket, base)) if *bucket == second => *base = delay.min(*base),
            _ => self.bases.push_back((second, delay)),
        }
        while self.bases.front().is_some_and(|(s, _)| s + (BASE_BUCKETS as u64) < second) {
            self.bases.pop_front();
        }
        let place = self.arrivals.partition_point(|other| other.at <= at);
        self.arrivals.insert(place, Arrival { at, delay, bits });
        while self.arrivals.len() > MAX_KEPT
            || self.arrivals.front().is_some_and(|first| first.at < at - KEPT)
        {
            self.arrivals.pop_front();
        }
    }

    /// The smallest one-way delay known, clock offset included; infinite before there is one.
    pub fn base(&self) -> f64 {
        self.bases.iter().map(|(_, base)| *base).fold(f64::INFINITY, f64::min)
    }

    /// While someone else fills the queue, its smallest length is no path without one: what was
    /// known before stays.
    pub fn pin_base(&mut self, t: f64) {
        let base = self.base();
        if base.is_finite() {
            self.bases.clear();
            self.bases.push_back((t as u64, base));
        }
    }

    /// The smallest queue of the last packets: what stands, not what passes with a frame.
    fn update_queue(&mut self, t: f64, fresh: &mut [(f64, f64)]) {
        let Some(last) = self.arrivals.back() else {
            return;
        };
        let base = self.base();
        let window = (3.0 * self.spread).clamp(QUEUE_WINDOW.0, QUEUE_WINDOW.1);
        let from = last.at - window;
        let window = self.arrivals.iter().rev().take_while(|a| a.at >= from);
        let mut queues: Vec<f64> = window.map(|a| a.delay - base).collect();
        queues.sort_by(f64::total_cmp);
        let (Some(&smallest), Some(&largest)) = (queues.first(), queues.last()) else {
            return;
        };
        self.standing = smallest.max(0.0);
        self.top = if self.top > 0.0 { 0.9 * self.top + 0.1 * largest } else { largest };
        let high = queues.get(queues.len() * 9 / 10).copied().unwrap_or(largest);
        self.spreads = self.spreads.saturating_add(1);
        if self.standing < SPREAD_BELOW || self.spreads < FIRST_SPREADS {
            let weight = (1.0 / (f64::from(self.spreads) + 1.0)).max(0.05);
            self.spread += weight * ((high - smallest).min(0.5) - self.spread);
        }
        fresh.sort_by(|a, b| f64::total_cmp(&a.0, &b.0));
        let newest = fresh.iter().rev().take((fresh.len() / 2).max(3));
        let newest = newest.map(|(_, delay)| delay - base).fold(f64::INFINITY, f64::min);
        self.newest = if newest.is_finite() { newest.max(0.0) } else { self.standing };
        self.queues.push_back((t, self.standing));
        while self.queues.front().is_some_and(|(at, _)| *at < t - QUEUES_KEPT) {
            self.queues.pop_front();
        }
    }

    fn update_acknowledged(&mut self, t: f64) {
        let young = self.began.is_none_or(|began| t - began < START);
        let short = young || self.standing > LONG_QUEUE;
        let window = if short { SHORT_RATE_WINDOW } else { RATE_WINDOW };
        let least = (0.5 * window).min(0.150);
        if let Some(rate) = self.rate(window, false).filter(|(_, span)| *span >= least) {
            self.acknowledged = Some(rate.0);
        }
    }

    /// The rate by arrival times, and over which time. `reach`: from the last packet before the
    /// window on.
    fn rate(&self, window: f64, reach: bool) -> Option<(f64, f64)> {
        let last = self.arrivals.back()?;
        let (mut bits, mut first, mut count) = (0.0, last, 0);
        for arrival in self.arrivals.iter().rev() {
            let outside = last.at - arrival.at > window;
            if outside && !reach {
                break;
            }
            bits += arrival.bits;
            first = arrival;
            count += 1;
            if outside {
                break;
            }
        }
        let span = last.at - first.at;
        // The first packet took its time before the window.
        (count >= 4).then(|| ((bits - first.bits) / span.max(0.050), span))
    }

    /// The path got longer: what stands is its new delay.
    pub fn rebase(&mut self, t: f64, by: f64) {
        let base = self.base() + by;
        self.bases.clear();
        self.bases.push_back((t as u64, base));
        self.arrivals.clear();
        self.queues.clear();
        self.min_rtt += by;
        self.standing = 0.0;
    }

    /// Smallest and largest standing queue since then; `None` where too few reports came to tell.
    pub fn queues_since(&self, since: f64) -> Option<(f64, f64)> {
        let queues = self.queues.iter().filter(|(at, _)| *at > since).map(|(_, queue)| *queue);
        if queues.clone().count() < FEWEST_REPORTS {
            return None;
        }
        queues.fold(None, |range, queue| match range {
            None => Some((queue, queue)),
            Some((low, high)) => Some((queue.min(low), queue.max(high))),
        })
    }

    /// The queue that even the luckiest of the last packets waited in.
    pub fn standing_queue(&self) -> f64 {
        self.standing
    }

    /// The same over the newer half of the last report.
    pub fn newest_queue(&self) -> f64 {
        self.newest
    }

    /// The largest queues lately.
    pub fn top_queue(&self) -> f64 {
        self.top
    }

    /// How far apart delays are without a queue.
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// The rate that arrives.
    pub fn acknowledged(&self) -> Option<f64> {
        self.acknowledged
    }

    /// The rate that arrived just now, where packets came close enough.
    pub fn newest_rate(&self) -> Option<f64> {
        let window = (4.0 * self.spread).clamp(NEWEST_WINDOW.0, NEWEST_WINDOW.1);
        self.rate(window, true).filter(|(_, span)| *span >= 0.6 * window).map(|(rate, _)| rate)
    }

    /// The rate that was sent over the last half second, padding left out.
    pub fn sent_rate(&mut self, t: f64) -> f64 {
        self.forget_sent(t);
        self.sent_bits.max(0.0) / SENT_WINDOW
    }

    pub fn rtt(&self) -> Option<f64> {
        self.rtt
    }

    pub fn min_rtt(&self) -> f64 {
        self.min_rtt
    }

    /// Between two reports.
    pub fn feedback_interval(&self) -> f64 {
        self.interval
    }

    /// Share lost of the last report; how many it lost, how many arrived.
    pub fn report_loss(&self) -> f64 {
        self.report_loss
    }

    pub fn report_lost(&self) -> u32 {
        self.report_lost
    }

    pub fn report_arrived(&self) -> u32 {
        self.report_arrived
    }

    /// Share of packets lost over the last 2.5 s.
    pub fn loss(&self) -> f64 {
        let (lost, covered) = self.loss_since(f64::NEG_INFINITY);
        f64::from(lost) / f64::from(covered.max(1))
    }

    /// Packets lost and covered in reports after that moment, of the last 2.5 s.
    pub fn loss_since(&self, since: f64) -> (u32, u32) {
        let reports = self.losses.iter().filter(|(at, ..)| *at > since);
        reports.fold((0, 0), |(l, c), (_, lost, covered)| (l + lost, c + covered))
    }

    /// Over which time losses are known.
    pub fn loss_span(&self) -> f64 {
        match (self.losses.front(), self.losses.back()) {
            (Some((first, ..)), Some((last, ..))) => last - first,
            _ => 0.0,
        }
    }

    pub fn forget_loss(&mut self) {
        self.losses.clear();
    }
}
