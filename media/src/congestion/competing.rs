//! Someone else keeps the queue full: hold a share against loss-based flows (TCP), and test now
//! and then whether we are alone again.

use super::{CUT, Controller, LOW_QUEUE};

/// A queue below the low threshold for so long: nobody fills it any more.
const ALONE_AFTER: f64 = 1.0;

/// The first test comes after this, the next after that, later ones after the last.
const TEST_AFTER: [f64; 4] = [2.0, 10.0, 10.0, 20.0];

/// While testing, this share is sent.
const TEST_SHARE: f64 = 0.55;

/// A shorter queue needs no test.
const TEST_ABOVE: f64 = 0.080;

/// Losses count as congestion with a queue above this.
const CONGESTED: f64 = 0.050;

/// A queue longer than this is too long for a conversation whoever fills it.
const TOO_LONG: f64 = 0.500;

pub(super) struct Competing {
    /// Since the begin or the last test.
    since: f64,
    tests: usize,
    test: Option<Test>,
    updated_at: f64,
    cut_at: f64,
    /// For how long the queue was low, on balance.
    low_for: f64,
}

/// Are we alone? Then a queue that we do not feed is gone by `until`.
struct Test {
    until: f64,
    rate_before: f64,
}

impl Competing {
    pub fn new(t: f64) -> Self {
        Self { since: t, tests: 0, test: None, updated_at: t, cut_at: t, low_for: 0.0 }
    }
}

impl Controller {
    /// A report while someone else keeps the queue full.
    pub(super) fn compete(&mut self, t: f64, arrived: f64) {
        let Some(mut competing) = self.competing.take() else {
            return;
        };
        let passed = (t - competing.updated_at).min(0.3);
        competing.updated_at = t;
        let low = self.threshold(LOW_QUEUE);
        let queue = self.measured.standing_queue();
        competing.low_for = if queue < low {
            competing.low_for + passed
        } else {
            (competing.low_for - passed).max(0.0)
        };
        if competing.low_for > ALONE_AFTER {
            self.competed_at = Some(t);
            return;
        }
        if let Some(test) = &competing.test {
            if queue < low + 0.010 {
                // What filled the queue was ours.
                let shared = arrived < test.rate_before;
                self.rate = if shared { 0.8 * arrived } else { 0.85 * test.rate_before };
                self.hold_until = t + 0.5;
                self.competed_at = Some(t);
                return;
            }
            if t > test.until {
                self.rate = test.rate_before;
                competing.test = None;
                competing.tests += 1;
                (competing.since, competing.cut_at) = (t, t);
            }
        } else if queue > TEST_ABOVE && t - competing.since > test_after(competing.tests) {
            let rtt = self.measured.rtt().unwrap_or(0.1);
            let until = t + (queue / (1.0 - TEST_SHARE) + rtt + 0.2).min(2.0);
            competing.test = Some(Test { until, rate_before: self.rate });
            self.rate = TEST_SHARE * arrived.min(self.rate);
        } else {
            self.hold_share(t, passed, arrived, &mut competing);
        }
        self.competing = Some(competing);
    }

    /// As TCP does: up by a packet a round trip, down at a loss.
    fn hold_share(&mut self, t: f64, passed: f64, arrived: f64, competing: &mut Competing) {
        let rtt = self.measured.rtt().unwrap_or(0.1).max(0.050);
        let queue = self.measured.standing_queue();
        let lost = self.measured.report_lost() > 0
            && self.measured.report_loss() > self.inherent.0 + 0.005
            && queue > CONGESTED;
        let since_cut = t - competing.cut_at;
        if lost && since_cut > (1.2 * rtt).max(0.3) {
            self.rate = CUT * self.rate.min(1.25 * arrived);
            competing.cut_at = t;
        } else if queue > TOO_LONG && since_cut > 1.0 {
            self.rate = 0.8 * arrived;
            competing.cut_at = t;
        } else {
            let grown = self.rate + 1200.0 * 8.0 / rtt * passed / rtt;
            self.rate = grown.min(1.25 * arrived + 50_000.0);
        }
    }
}

fn test_after(tests: usize) -> f64 {
    TEST_AFTER.get(tests).copied().unwrap_or(20.0)
}
