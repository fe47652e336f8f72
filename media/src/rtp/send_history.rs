//! What was sent, until the peer's feedback says what became of it (transport-wide congestion
//! control, draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::congestion::PacketReport;

/// Feedback that comes later says nothing any more.
const KEPT: Duration = Duration::from_secs(5);

/// More than 5 s of packets at the largest rate; half the numbers there are at most.
const MAX_KEPT: usize = 8192;

struct Sent {
    bytes: usize,
    departure: Instant,
    probe: Option<u32>,
    /// No feedback covered it or anything after it.
    in_flight: bool,
    reported: bool,
}

/// Packets by their transport-wide sequence number.
#[derive(Default)]
pub struct SendHistory {
    /// The number of the first kept, unwrapped.
    first: u64,
    packets: VecDeque<Sent>,
    in_flight: usize,
}

impl SendHistory {
    /// Nothing was sent.
    pub fn new() -> Self {
        Self::default()
    }

    /// A packet leaves; returns its number.
    pub fn add(&mut self, now: Instant, bytes: usize, probe: Option<u32>) -> u16 {
        let sent = Sent { bytes, departure: now, probe, in_flight: true, reported: false };
        self.packets.push_back(sent);
        self.in_flight += bytes;
        while self.packets.len() > MAX_KEPT
            || self.packets.front().is_some_and(|first| now > first.departure + KEPT)
        {
            self.forget_first();
        }
        (self.first + self.packets.len() as u64 - 1) as u16
    }

    fn forget_first(&mut self) {
        if let Some(sent) = self.packets.pop_front() {
            self.first += 1;
            if sent.in_flight {
                self.in_flight -= sent.bytes;
            }
        }
    }

    /// Bytes sent and not covered by feedback: neither they nor anything sent later.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Feedback about consecutive packets from number `base` on: when each arrived by the peer's
    /// clock, or that it did not. Returns a report for each that is known and was in none before.
    pub fn handle_feedback(
        &mut self,
        base: u16,
        arrivals: impl IntoIterator<Item = Status>,
    ) -> Vec<PacketReport> {
        let mut reports = Vec::new();
        let Some(begin) = self.position(base) else {
            return reports;
        };
        // Feedback about what came before was lost.
        let limit = usize::try_from(begin).unwrap_or(0).min(self.packets.len());
        for sent in self.packets.iter_mut().take(limit) {
            if std::mem::take(&mut sent.in_flight) {
                self.in_flight -= sent.bytes;
            }
        }
        for (offset, status) in arrivals.into_iter().enumerate() {
            let place = begin + offset as i64;
            if place >= self.packets.len() as i64 {
                break; // never sent
            }
            let Some(sent) =
                usize::try_from(place).ok().and_then(|place| self.packets.get_mut(place))
            else {
                continue; // no longer kept
            };
            if std::mem::take(&mut sent.in_flight) {
                self.in_flight -= sent.bytes;
            }
            let arrival = match status {
                Status::Arrived(at) => Some(at),
                Status::Lost => None,
                Status::Unknown => continue,
            };
            if std::mem::replace(&mut sent.reported, true) {
                continue;
            }
            reports.push(PacketReport {
                sequence: self.first + place as u64,
                size: sent.bytes,
                departure: sent.departure,
                arrival,
                probe: sent.probe,
            });
        }
        reports
    }

    /// The place of the newest packet with that number, counted from the first kept; negative for
    /// one that is no longer kept.
    fn position(&self, number: u16) -> Option<i64> {
        let newest = self.first + self.packets.len().checked_sub(1)? as u64;
        let back = i64::from((newest as u16).wrapping_sub(number));
        // The peer may be ahead only by mistake.
        let position = self.packets.len() as i64 - 1 - back;
        (back < 0x8000).then_some(position)
    }
}

/// What feedback says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// When, by the peer's clock.
    Arrived(Duration),
    /// Not, so far.
    Lost,
    /// Arrived, but not when.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn arrived(ms: &[u64]) -> Vec<Status> {
        ms.iter()
            .map(|ms| if *ms == 0 { Status::Lost } else { Status::Arrived(*ms as u32 * MS) })
            .collect()
    }

    #[test]
    fn numbers_wrap_and_reports_do_not() {
        let mut history = SendHistory::new();
        let begin = Instant::now();
        for n in 0..70_000_u32 {
            let now = begin + n * MS;
            assert_eq!(history.add(now, 100, None), n as u16);
            let reports = history.handle_feedback(n as u16, arrived(&[u64::from(n) + 1]));
            assert_eq!(reports.len(), 1);
            assert_eq!((reports[0].sequence, reports[0].departure), (u64::from(n), now));
            assert_eq!(history.in_flight(), 0);
        }
        assert!(history.packets.len() <= MAX_KEPT);
    }

    #[test]
    fn what_lost_feedback_covered_is_unknown_and_not_in_flight() {
        let (mut history, now) = (SendHistory::new(), Instant::now());
        (0..10).for_each(|_| _ = history.add(now, 100, None));
        let reports = history.handle_feedback(4, arrived(&[5, 0, 7]));
        assert_eq!(reports.iter().map(|r| r.sequence).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(reports[1].arrival, None);
        assert_eq!(history.in_flight(), 300, "the three after it");
        // It was only late: now it is known.
        let late = history.handle_feedback(0, arrived(&[1, 2, 3, 4]));
        assert_eq!(late.len(), 4);
        assert_eq!(history.in_flight(), 300);
    }

    #[test]
    fn nothing_is_reported_twice_nor_what_was_never_sent() {
        let (mut history, now) = (SendHistory::new(), Instant::now());
        assert!(history.handle_feedback(0, arrived(&[1])).is_empty());
        (0..3).for_each(|_| _ = history.add(now, 100, Some(1)));
        assert_eq!(history.handle_feedback(0, arrived(&[1, 2])).len(), 2);
        assert_eq!(history.handle_feedback(0, arrived(&[1, 2, 3, 4, 5])).len(), 1);
        assert!(history.handle_feedback(9, arrived(&[1])).is_empty());
        assert!(history.handle_feedback(40_000, arrived(&[1])).is_empty());
    }

    #[test]
    fn any_feedback_is_bounded_work() {
        use rand::{Rng, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(3);
        let (mut history, mut now) = (SendHistory::new(), Instant::now());
        for _ in 0..20_000 {
            now += random.random_range(0..4) * MS;
            history.add(now, random.random_range(0..2000), None);
            if random.random_bool(0.2) {
                let count = random.random_range(0..200);
                let arrivals = (0..count).map(|_| match random.random_range(0..3) {
                    0 => Status::Lost,
                    1 => Status::Unknown,
                    _ => Status::Arrived(Duration::from_micros(random.random())),
                });
                let arrivals: Vec<Status> = arrivals.collect();
                let known = history.packets.len();
                assert!(history.handle_feedback(random.random(), arrivals).len() <= known);
            }
            let flying: usize =
                history.packets.iter().filter(|sent| sent.in_flight).map(|sent| sent.bytes).sum();
            assert_eq!(flying, history.in_flight());
        }
    }
}
