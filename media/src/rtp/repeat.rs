//! Sent pictures' packets, kept so that they can be sent again: asked for (RFC 4585 section 6.2.1)
//! or as padding. What a peer can cause by asking is bounded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// 2 s at the largest rate; older packets' pictures have been given up by then.
const MAX_KEPT: usize = 1024;
const KEPT: Duration = Duration::from_secs(2);

/// Share of the target that repairs take in the long run, and how much at once (a fade of that
/// length is repaired without delay).
const SHARE: f64 = 0.25;
const AT_ONCE: Duration = Duration::from_millis(150);
const LEAST_AT_ONCE: f64 = 6_000.0;

/// Before it is measured, and however short it is: so often a packet is sent again at most.
const UNKNOWN_RTT: Duration = Duration::from_millis(100);
const LEAST_RTT: Duration = Duration::from_millis(10);

/// Padding is taken from so many of the newest packets.
const PADDING_FROM: usize = 32;

struct Kept<P> {
    packet: P,
    bytes: usize,
    sent_at: Instant,
    repeated_at: Option<Instant>,
    padded: u32,
}

/// The packets of one stream by sequence number.
pub struct Repeater<P> {
    /// Number of the newest.
    newest: u16,
    /// In order, without gaps: `None` where a number was skipped.
    packets: VecDeque<Option<Kept<P>>>,
    /// Bytes that repairs may take now.
    budget: f64,
    refilled_at: Instant,
}

impl<P: Clone> Repeater<P> {
    /// Nothing is kept.
    pub fn new(now: Instant) -> Self {
        let packets = VecDeque::new();
        Self { newest: 0, packets, budget: LEAST_AT_ONCE, refilled_at: now }
    }

    /// A packet left for the first time.
    pub fn add(&mut self, now: Instant, number: u16, packet: P, bytes: usize) {
        let skipped = if self.packets.is_empty() {
            0
        } else {
            let step = number.wrapping_sub(self.newest);
            if step == 0 || step > 0x8000 {
                return; // not the order in which they are numbered
            }
            usize::from(step) - 1
        };
        if skipped >= MAX_KEPT {
            self.packets.clear();
        } else {
            (0..skipped).for_each(|_| self.packets.push_back(None));
        }
        let kept = Kept { packet, bytes, sent_at: now, repeated_at: None, padded: 0 };
        self.packets.push_back(Some(kept));
        self.newest = number;
        let is_old =
            |kept: &Option<Kept<P>>| kept.as_ref().is_none_or(|kept| now > kept.sent_at + KEPT);
        while self.packets.len() > MAX_KEPT || self.packets.front().is_some_and(is_old) {
            self.packets.pop_front();
        }
    }

    /// Nothing sent so far is worth a repair.
    pub fn clear(&mut self) {
        self.packets.clear();
    }

    /// Whether something could be sent again.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The peer asks for a packet: it and its size, if it is kept, was not sent again within the
    /// round trip, and the budget (a share of `target`) has room.
    pub fn repair(
        &mut self,
        now: Instant,
        number: u16,
        rtt: Option<Duration>,
        target: Bitrate,
    ) -> Option<(P, usize)> {
        self.refill(now, target);
        let back = usize::from(self.newest.wrapping_sub(number));
        let place = self.packets.len().checked_sub(1)?.checked_sub(back)?;
        let kept = self.packets.get_mut(place)?.as_mut()?;
        let every = rtt.unwrap_or(UNKNOWN_RTT).max(LEAST_RTT);
        let again = kept.repeated_at.is_some_and(|at| now < at + every);
        if again || kept.bytes as f64 > self.budget || now > kept.sent_at + KEPT {
            return None;
        }
        self.budget -= kept.bytes as f64;
        kept.repeated_at = Some(now);
        Some((kept.packet.clone(), kept.bytes))
    }

    fn refill(&mut self, now: Instant, target: Bitrate) {
        let bytes = target.bps() as f64 / 8.0;
        let passed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.refilled_at = now;
        let most = (bytes * AT_ONCE.as_secs_f64()).max(LEAST_AT_ONCE);
        self.budget = (self.budget + SHARE * bytes * passed).min(most);
    }

    /// A recent packet of about this size, to be sent again as padding.
    pub fn padding(&mut self, bytes: usize) -> Option<(P, usize)> {
        let limit = bytes + bytes / 3;
        let recent = self.packets.iter_mut().rev().take(PADDING_FROM).flatten();
        // Too large is worse than too small; what was padding least often is next.
        let kept = recent.min_by_key(|kept| {
            let excess = kept.bytes.saturating_sub(limit);
            (excess, kept.bytes < bytes / 2, kept.padded, bytes.abs_diff(kept.bytes))
        })?;
        kept.padded = kept.padded.saturating_add(1);
        Some((kept.packet.clone(), kept.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TARGET: Bitrate = Bitrate::from_kbps(800);
    const RTT: Option<Duration> = Some(Duration::from_millis(50));

    fn filled(count: u16, bytes: usize) -> (Repeater<u16>, Instant) {
        let now = Instant::now();
        let mut repeater = Repeater::new(now);
        (0..count).for_each(|n| repeater.add(now, 65_530_u16.wrapping_add(n), n, bytes));
        (repeater, now)
    }

    #[test]
    fn a_packet_is_found_by_its_number_and_sent_once_a_round_trip() {
        let (mut repeater, now) = filled(20, 100);
        assert_eq!(repeater.repair(now, 65_530, RTT, TARGET), Some((0, 100)));
        assert_eq!(repeater.repair(now, 3, RTT, TARGET), Some((9, 100)));
        assert_eq!(repeater.repair(now + 49 * MS, 3, RTT, TARGET), None);
        assert_eq!(repeater.repair(now + 50 * MS, 3, RTT, TARGET), Some((9, 100)));
        for unknown in [65_529, 14, 20_000] {
            assert_eq!(repeater.repair(now, unknown, RTT, TARGET), None);
        }
        assert_eq!(repeater.repair(now + 3000 * MS, 5, RTT, TARGET), None, "too old");
    }

    #[test]
    fn a_flood_of_requests_gets_a_share_of_the_target() {
        let now = Instant::now();
        let mut repeater = Repeater::new(now);
        let mut bytes = 0;
        for ms in 0..10_000_u32 {
            let now = now + ms * MS;
            if ms % 10 == 0 {
                repeater.add(now, (ms / 10) as u16, ms, 1000);
            }
            for back in 0..50 {
                let number = ((ms / 10) as u16).wrapping_sub(back);
                let repaired = repeater.repair(now, number, RTT, TARGET);
                bytes += repaired.map_or(0, |(_, bytes)| bytes);
            }
        }
        // A quarter of 100 kB a second, and what may go at once.
        assert!((245_000..=266_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn skipped_numbers_and_jumps_are_fine() {
        let (mut repeater, now) = filled(3, 100);
        repeater.add(now, 2, 8, 100);
        assert_eq!(repeater.repair(now, 0, RTT, TARGET), None);
        assert_eq!(repeater.repair(now, 65_531, RTT, TARGET), Some((1, 100)));
        repeater.add(now, 2, 99, 100);
        repeater.add(now, 1, 99, 100);
        assert_eq!(repeater.repair(now, 2, RTT, TARGET), Some((8, 100)));
        repeater.add(now, 20_000, 5, 100);
        assert_eq!(repeater.packets.len(), 1);
        repeater.clear();
        assert_eq!(repeater.repair(now, 20_000, RTT, TARGET), None);
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut repeater = Repeater::new(now);
        (0..60_000_u16).for_each(|n| repeater.add(now, n, n, 100));
        assert_eq!(repeater.packets.len(), MAX_KEPT);
        repeater.add(now + 5000 * MS, 60_000, 0, 100);
        assert_eq!(repeater.packets.len(), 1);
    }

    #[test]
    fn padding_takes_turns_among_packets_that_fit() {
        let now = Instant::now();
        let mut repeater = Repeater::new(now);
        for (number, bytes) in [(1, 1200), (2, 480), (3, 510), (4, 90)] {
            repeater.add(now, number, number, bytes);
        }
        let taken: Vec<u16> = (0..3).filter_map(|_| repeater.padding(500)).map(|p| p.0).collect();
        assert_eq!(taken, [3, 2, 3]);
        assert_eq!(Repeater::<u16>::new(now).padding(500), None);
    }
}
