//! A bulk flow beside the call: slow start, CUBIC growth (RFC 9438), three duplicate
//! acknowledgements, a timeout.

use std::collections::HashSet;

pub const SEGMENT: usize = 1500;

pub struct Tcp {
    pub start: f64,
    pub stop: f64,
    window: f64,
    threshold: f64,
    largest: f64,
    epoch: Option<f64>,
    next: u64,
    under_way: HashSet<u64>,
    lost: Vec<u64>,
    recovered_at: u64,
    rtt: f64,
    heard_at: f64,
    /// Acknowledged bytes, and when.
    pub delivered: Vec<(f64, usize)>,
}

impl Tcp {
    pub fn new(start: f64, stop: f64) -> Self {
        Self {
            start,
            stop,
            window: 10.0,
            threshold: 1e9,
            largest: 0.0,
            epoch: None,
            next: 0,
            under_way: HashSet::new(),
            lost: Vec::new(),
            recovered_at: 0,
            rtt: 0.1,
            heard_at: start,
            delivered: Vec::new(),
        }
    }

    /// The next segment to send, if the window has room.
    pub fn poll_send(&mut self, t: f64) -> Option<u64> {
        let has_room = self.under_way.len() < self.window as usize && t < self.stop;
        has_room.then(|| {
            self.next += 1;
            self.under_way.insert(self.next);
            self.next
        })
    }

    pub fn handle_lost(&mut self, segment: u64) {
        self.lost.push(segment);
    }

    pub fn handle_timer(&mut self, t: f64) {
        if t - self.heard_at > 1.0 {
            (self.window, self.threshold) = (2.0, 10.0);
            self.under_way.clear();
            self.lost.clear();
            self.heard_at = t;
        }
    }

    pub fn handle_acknowledged(&mut self, t: f64, segment: u64, sent: f64) {
        self.heard_at = t;
        self.delivered.push((t, SEGMENT));
        self.under_way.remove(&segment);
        self.rtt = 0.9 * self.rtt + 0.1 * (t - sent);
        let gone: Vec<u64> = self.lost.extract_if(.., |lost| *lost + 3 <= segment).collect();
        if let Some(last) = gone.iter().max().copied() {
            self.under_way.retain(|segment| !gone.contains(segment));
            if last > self.recovered_at {
                self.largest = self.window;
                self.window = (0.7 * self.window).max(2.0);
                self.threshold = self.window;
                self.epoch = Some(t);
                self.recovered_at = self.next;
            }
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else {
            let epoch = *self.epoch.get_or_insert(t);
            let k = (self.largest * 0.3 / 0.4).cbrt();
            let passed = t - epoch + self.rtt;
            let cubic = 0.4 * (passed - k).powi(3) + self.largest;
            let reno = self.largest * 0.7 + 0.53 * (passed / self.rtt);
            self.window += ((cubic.max(reno) - self.window) / self.window).clamp(0.0, 0.5);
        }
    }
}
