//! A queue stands: the cut, the drain after it, and what it means when the queue does not go.

use super::competing::Competing;
use super::{CUT, Controller, FLAT, HIGH_QUEUE, HOLD, LOW_QUEUE};

/// For so long after competition the base of the delay does not expire.
pub(super) const PINNED: f64 = 20.0;

/// What arrives is no measure of a path that carries less than this share of it.
const LEAST_OF_ARRIVED: f64 = 0.25;

/// The older rate counts only while it is no more than this multiple of the newest: right after a
/// drop the longer window still shows the rate before it.
const STALE: f64 = 1.25;

/// What feedback has not reported yet may be a queue of at most this.
const MAX_HIDDEN_QUEUE: f64 = 1.5;

/// Rates of repeated cuts, as shares of the capacity.
const REPEATED_CUTS: [f64; 4] = [CUT, 0.75, 0.6, 0.5];

/// What waits for the pacer longer than this at a cut is not worth sending.
const STALE_BACKLOG: f64 = 0.150;

/// After a flush, a small frame passes the gate for so long.
const RECOVERY_BURST: f64 = 0.250;

/// Loss in one report that, with a queue, shows a full one.
const OVERFLOW_LOSS: f64 = 0.06;
const HEAVY_LOSS: f64 = 0.10;
const OVERFLOW_QUEUE: f64 = 0.300;

/// A queue that is still longer than this share of what it was has not been drained by us.
const STUCK: f64 = 0.6;

/// Above this, a queue that stays is someone else's.
const COMPETITOR: (f64, f64) = (0.075, 1.0);

/// Soon after competition, competition is what to expect.
const COMPETED_LATELY: f64 = 15.0;

pub(super) struct Drain {
    /// What the path carries, bits per second.
    pub capacity: f64,
    /// When to cut again.
    until: f64,
    /// The gate is open for the recovery frame.
    pub burst_until: f64,
    began: f64,
    queue_at_cut: f64,
    /// With what feedback had not reported yet.
    whole_queue: f64,
    arrived_before: f64,
    repeats: usize,
    flushed: bool,
}

impl Controller {
    /// A queue stands: sends less than arrives until it is gone.
    pub(super) fn cut(&mut self, t: f64, arrived: f64, in_flight: usize) {
        let capacity = self.capacity_now(arrived);
        self.rate = self.rate.min(CUT * capacity);
        let queue = self.measured.standing_queue();
        let whole_queue = self.whole_queue(capacity, in_flight);
        self.loss_test = None;
        self.cuts += 1;
        self.band = None;
        let mut drain = Drain {
            capacity,
            until: self.drained_at(t, whole_queue),
            burst_until: t,
            began: t,
            queue_at_cut: queue,
            whole_queue,
            arrived_before: arrived,
            repeats: 0,
            flushed: false,
        };
        if self.measured.report_loss() > HEAVY_LOSS + self.inherent.0 {
            self.flush_now(t, &mut drain);
        } else if 8.0 * self.backlog as f64 > STALE_BACKLOG * self.rate {
            self.flush = true;
        }
        self.drain = Some(drain);
        self.after_cut(t, capacity);
    }

    fn after_cut(&mut self, t: f64, capacity: f64) {
        self.capacity = Some((capacity, t));
        self.last_cut = Some(t);
        self.prober.handle_cut(t);
        self.clamp();
    }

    fn capacity_now(&self, arrived: f64) -> f64 {
        let capacity = match self.measured.newest_rate() {
            Some(newest) if arrived > STALE * newest => newest,
            Some(newest) => newest.max(arrived),
            None => arrived,
        };
        capacity.max(LEAST_OF_ARRIVED * arrived).max(self.limits.min.bps() as f64)
    }

    /// The queue, with what is in flight beyond the path and its feedback.
    fn whole_queue(&self, capacity: f64, in_flight: usize) -> f64 {
        let flight = 8.0 * in_flight as f64 / capacity;
        let on_the_way = self.measured.min_rtt() + self.measured.feedback_interval() / 2.0;
        self.measured.standing_queue().max((flight - on_the_way).min(MAX_HIDDEN_QUEUE))
    }

    fn drained_at(&self, t: f64, queue: f64) -> f64 {
        t + self.measured.min_rtt() + 0.150 + 1.3 * queue
    }

    fn flush_now(&mut self, t: f64, drain: &mut Drain) {
        self.flush = true;
        drain.flushed = true;
        drain.burst_until = t + RECOVERY_BURST;
    }

    /// A report while the queue drains.
    pub(super) fn drain(&mut self, t: f64, arrived: f64, in_flight: usize) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        let (low, high) = (self.threshold(LOW_QUEUE), self.threshold(HIGH_QUEUE));
        let queue = self.measured.standing_queue();
        // Later what arrives is the little that may leave.
        let full = t - drain.began < drain.whole_queue + self.measured.min_rtt();
        if queue > 0.050 && self.measured.report_arrived() > 3 && drain.repeats == 0 && full {
            self.lower_capacity(t, &mut drain);
        }
        let loss = self.measured.report_loss();
        let overflow = loss > OVERFLOW_LOSS + 1.3 * self.inherent.0
            || (self.measured.report_lost() > 0
                && drain.whole_queue > OVERFLOW_QUEUE
                && self.inherent.0 < 0.02);
        if overflow && self.measured.newest_queue() > high && !drain.flushed {
            self.flush_now(t, &mut drain);
        }
        let due = t > drain.until;
        let empty = queue < low + 0.010 || (due && queue < 0.8 * high);
        if empty && t - drain.began > self.measured.min_rtt() + 0.050 {
            self.rate = CUT * drain.capacity;
            self.hold_until = t + HOLD.max(0.7 * self.measured.rtt().unwrap_or(0.0));
            self.measured.forget_loss();
            return;
        }
        if due {
            drain.repeats += 1;
            if self.is_stuck(t, &drain) && self.explain_queue(t, &drain) {
                return;
            }
            self.cut_again(t, arrived, in_flight, &mut drain);
        }
        self.drain = Some(drain);
    }

    /// Under a queue what arrives is what the path carries, and that may be less than thought.
    fn lower_capacity(&mut self, t: f64, drain: &mut Drain) {
        let Some(newest) = self.measured.newest_rate() else {
            return;
        };
        let floor = (0.5 * drain.capacity).max(self.limits.min.bps() as f64);
        drain.capacity = drain.capacity.min(1.02 * newest).max(floor);
        self.capacity = Some((drain.capacity, t));
        self.rate = self.rate.min(CUT * drain.capacity);
    }

    fn cut_again(&mut self, t: f64, arrived: f64, in_flight: usize, drain: &mut Drain) {
        let capacity = self.capacity_now(arrived);
        drain.capacity = capacity.min(drain.capacity).max(0.6 * drain.capacity);
        let share = REPEATED_CUTS.get(drain.repeats).copied().unwrap_or(0.5);
        self.rate = self.rate.min(share * drain.capacity);
        drain.until = self.drained_at(t, self.whole_queue(drain.capacity, in_flight));
        drain.began = t;
        if self.measured.report_loss() > HEAVY_LOSS + self.inherent.0 && !drain.flushed {
            self.flush_now(t, drain);
        }
        self.after_cut(t, drain.capacity);
    }

    /// Whether sending less has not shortened the queue.
    fn is_stuck(&self, t: f64, drain: &Drain) -> bool {
        let lately = self.competed_at.is_some_and(|at| t - at < COMPETED_LATELY);
        let patience = if lately { 1 } else { 2 };
        drain.repeats >= patience && self.measured.standing_queue() > STUCK * drain.queue_at_cut
    }

    /// A queue that stays whatever we do: a longer route if it is flat, else someone else's.
    fn explain_queue(&mut self, t: f64, drain: &Drain) -> bool {
        let flat = self.threshold(FLAT);
        if let Some((smallest, largest)) = self.measured.queues_since(t - 1.0)
            && largest - smallest < flat
            && self.measured.loss() < 0.02
        {
            self.measured.rebase(t, smallest);
            self.rate = self.rate.max(CUT * drain.capacity).max(0.85 * drain.arrived_before);
            return true;
        }
        let someone = self.threshold(HIGH_QUEUE).max(self.threshold(COMPETITOR));
        if self.measured.standing_queue() <= someone {
            return false;
        }
        let lately = self.competed_at.is_some_and(|at| t - at < COMPETED_LATELY);
        let share = if lately { 0.8 } else { 0.5 };
        self.rate = self.rate.max(0.9 * drain.capacity).max(share * drain.arrived_before);
        self.competing = Some(Competing::new(t));
        true
    }

    /// After a flush nothing from before it is worth a repair.
    pub fn repairs_wait(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.flushed)
    }
}
