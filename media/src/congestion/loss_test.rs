//! High loss with a flat delay: is it the path's nature, or a policer that drops what is too much?
//! Send less for a while and see.

use super::Controller;

/// Loss over 2.5 s that is looked into; a multiple of what is known already, and more, is added.
const HIGH_LOSS: f64 = 0.12;
const MORE_THAN_KNOWN: (f64, f64) = (1.5, 0.05);

/// Fewer packets, or reports over less time, are no statistic.
const LEAST_PACKETS: u32 = 100;
const LEAST_SPAN: f64 = 1.5;

/// The rate during the test: a share of the target and of what arrives.
const TEST_RATE: f64 = 0.75;
const TEST_ARRIVED: f64 = 0.9;

/// Known inherent loss is halved this often: paths change.
const FORGET: f64 = 30.0;

pub(super) struct LossTest {
    began: f64,
    rate_before: f64,
    loss_before: f64,
}

impl Controller {
    /// Whether a test runs, or has just begun or ended.
    pub(super) fn test_loss(&mut self, t: f64, arrived: f64) -> bool {
        let rtt = self.measured.rtt().unwrap_or(0.1);
        if let Some(test) = &self.loss_test {
            if t - test.began > 1.2 + 2.0 * rtt {
                let (lost, covered) = self.measured.loss_since(test.began + rtt + 0.15);
                let loss = f64::from(lost) / f64::from(covered.max(1));
                let (before, rate) = (test.loss_before, test.rate_before);
                self.conclude(t, arrived, loss, before, rate);
            }
            return true;
        }
        if t - self.inherent.1 > FORGET {
            self.inherent = (self.inherent.0 / 2.0, t);
        }
        let (_, covered) = self.measured.loss_since(f64::NEG_INFINITY);
        let loss = self.measured.loss();
        let known = MORE_THAN_KNOWN.0 * self.inherent.0 + MORE_THAN_KNOWN.1;
        let worth_it = covered >= LEAST_PACKETS
            && self.measured.loss_span() > LEAST_SPAN
            && loss > HIGH_LOSS.max(known)
            && self.since_cut(t) > 1.0
            && self.measured.sent_rate(t) > 0.7 * self.rate;
        if worth_it {
            self.loss_test = Some(LossTest { began: t, rate_before: self.rate, loss_before: loss });
            self.rate = (TEST_RATE * self.rate).min(TEST_ARRIVED * arrived);
        }
        worth_it
    }

    fn conclude(&mut self, t: f64, arrived: f64, loss: f64, before: f64, rate: f64) {
        self.loss_test = None;
        self.measured.forget_loss();
        if loss < 0.5 * before {
            self.capacity = Some((arrived, t));
            self.rate = self.rate.min(arrived);
            self.hold_until = t + 2.0;
            // What passed as a burst does so no more.
            self.prober.forget_room(t);
            self.prober.back_off();
        } else {
            self.inherent = (self.inherent.0.max(loss.min(before)), t);
            self.rate = self.rate.max(rate);
        }
    }
}
