//! Which packets to ask for again (RFC 4585 section 6.2.1).
//!
//! A packet that was repaired counts as received under its original sequence number; who does
//! not tell that here asks for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sequence::{SequenceUnwrapper, Unwrapped};

/// A gap may be mere reordering for so long,
const REORDER_GRACE: Duration = Duration::from_millis(10);

/// or until more packets than this came behind it.
const REORDER_PACKETS: u64 = 3;

/// A repair is not asked for again earlier than this, nor than one round trip and a bit.
const SHORTEST_REPEAT: Duration = Duration::from_millis(20);
const REPEAT_RESERVE: Duration = Duration::from_millis(10);

/// Assumed until a round trip was measured.
const FIRST_RTT: Duration = Duration::from_millis(100);

const MAX_TRIES: u32 = 10;

/// More than this at once is no loss to repair: a key frame is cheaper.
const MAX_MISSING: usize = 500;

/// Numbers since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NackStats {
    /// Sequence numbers that were missing after the grace for reordering.
    pub lost: u64,
    /// Sequence numbers asked for, each time counted.
    pub asked: u64,
    /// Packets that came after they were asked for.
    pub repaired: u64,
    /// Packets that were not asked for any more.
    pub given_up: u64,
}

struct Missing {
    noticed_at: Instant,
    asked_at: Option<Instant>,
    tries: u32,
}

/// Finds the gaps of one media SSRC.
pub struct NackGenerator {
    sequence: SequenceUnwrapper,
    missing: BTreeMap<u64, Missing>,
    give_up_after: Duration,
    rtt: Duration,
    stats: NackStats,
}

impl Default for NackGenerator {
    fn default() -> Self {
        Self::new(Duration::from_secs(1))
    }
}

impl NackGenerator {
    /// Asks for a packet for at most `give_up_after` since it was missed.
    pub fn new(give_up_after: Duration) -> Self {
        Self {
            sequence: SequenceUnwrapper::new(),
            missing: BTreeMap::new(),
            give_up_after,
            rtt: FIRST_RTT,
            stats: NackStats::default(),
        }
    }

    /// A packet arrived: as media, as padding, or repaired (its original sequence number).
    pub fn handle_received(&mut self, sequence_number: u16, now: Instant) {
        let highest = self.sequence.highest();
        let index = match self.sequence.unwrap(sequence_number) {
            Unwrapped::Index(index) => index,
            Unwrapped::Suspect => return,
            Unwrapped::Restarted(_) => {
                self.give_up_all();
                return;
            }
        };
        let Some(highest) = highest else {
            return;
        };
        if index <= highest {
            if let Some(found) = self.missing.remove(&index)
                && found.tries > 0
            {
                self.stats.repaired += 1;
            }
            return;
        }
        let gap = highest + 1..index;
        if self.missing.len() + (index - highest - 1) as usize > MAX_MISSING {
            self.give_up_all();
            return;
        }
        for index in gap {
            let missing = Missing { noticed_at: now, asked_at: None, tries: 0 };
            self.missing.insert(index, missing);
        }
    }

    /// The sequence numbers to ask for now, in order. `rtt` is the newest round trip measured.
    pub fn poll(&mut self, now: Instant, rtt: Option<Duration>) -> Vec<u16> {
        self.rtt = rtt.unwrap_or(self.rtt);
        let (limit, given_up) = (self.give_up_after, &mut self.stats.given_up);
        self.missing.retain(|_, missing| {
            let keep = missing.tries < MAX_TRIES && now < missing.noticed_at + limit;
            *given_up += u64::from(!keep);
            keep
        });
        let (repeat, highest) = (self.repeat_after(), self.sequence.highest().unwrap_or(0));
        let mut wanted = Vec::new();
        for (&index, missing) in &mut self.missing {
            if now < missing.due(index, highest, repeat) {
                continue;
            }
            self.stats.lost += u64::from(missing.tries == 0);
            self.stats.asked += 1;
            missing.tries += 1;
            missing.asked_at = Some(now);
            wanted.push(index as u16);
        }
        wanted
    }

    /// When [`poll`](Self::poll) will have something to ask for, if nothing arrives before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (repeat, highest) = (self.repeat_after(), self.sequence.highest().unwrap_or(0));
        self.missing.iter().map(|(&index, missing)| missing.due(index, highest, repeat)).min()
    }

    /// A new key frame arrived or the stream starts over: nothing before is of use.
    pub fn give_up_all(&mut self) {
        self.stats.given_up += self.missing.len() as u64;
        self.missing.clear();
    }

    /// Numbers since the beginning.
    pub fn stats(&self) -> NackStats {
        self.stats
    }

    fn repeat_after(&self) -> Duration {
        SHORTEST_REPEAT.max(self.rtt + REPEAT_RESERVE)
    }
}

impl Missing {
    fn due(&self, index: u64, highest: u64, repeat: Duration) -> Instant {
        match self.asked_at {
            Some(asked) => asked + repeat,
            None if highest.saturating_sub(index) > REORDER_PACKETS => self.noticed_at,
            None => self.noticed_at + REORDER_GRACE,
        }
    }
}

/// One entry of a generic NACK: a lost packet and which of the 16 after it are lost, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NackPair {
    /// PID.
    pub packet_id: u16,
    /// BLP: bit i stands for `packet_id + i + 1`.
    pub lost_packets: u16,
}

impl NackPair {
    /// All sequence numbers it names.
    pub fn sequence_numbers(self) -> impl Iterator<Item = u16> {
        let after = (0..16u16)
            .filter(move |bit| self.lost_packets >> bit & 1 == 1)
            .map(move |bit| self.packet_id.wrapping_add(bit + 1));
        std::iter::once(self.packet_id).chain(after)
    }
}

/// Packs sequence numbers, in sending order, into as few entries as possible.
pub fn nack_pairs(sequence_numbers: &[u16]) -> Vec<NackPair> {
    let mut pairs: Vec<NackPair> = Vec::new();
    for &number in sequence_numbers {
        if let Some(pair) = pairs.last_mut() {
            match number.wrapping_sub(pair.packet_id) {
                0 => continue,
                after @ 1..=16 => {
                    pair.lost_packets |= 1 << (after - 1);
                    continue;
                }
                _ => {}
            }
        }
        pairs.push(NackPair { packet_id: number, lost_packets: 0 });
    }
    pairs
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RTT: Option<Duration> = Some(Duration::from_millis(50));

    fn received(numbers: impl IntoIterator<Item = u16>, now: Instant) -> NackGenerator {
        let mut nack = NackGenerator::default();
        numbers.into_iter().for_each(|number| nack.handle_received(number, now));
        nack
    }

    #[test]
    fn reordering_within_the_grace_asks_for_nothing() {
        let now = Instant::now();
        let mut nack = received([65_535, 1], now);
        assert!(nack.poll(now + 9 * MS, RTT).is_empty());
        nack.handle_received(0, now + 9 * MS);
        assert_eq!(nack.poll_timeout(), None);
        assert!(nack.poll(now + 500 * MS, RTT).is_empty());
        assert_eq!(nack.stats(), NackStats::default());
    }

    #[test]
    fn a_loss_is_asked_for_after_the_grace_or_once_packets_behind_it_say_so() {
        let now = Instant::now();
        let mut nack = received([65_534, 1], now);
        assert_eq!(nack.poll_timeout(), Some(now + 10 * MS));
        assert_eq!(nack.poll(now + 10 * MS, RTT), [65_535, 0]);
        let mut nack = received([10, 12, 13, 14], now);
        assert!(nack.poll(now, RTT).is_empty());
        nack.handle_received(15, now);
        assert_eq!(nack.poll(now, RTT), [11]);
    }

    #[test]
    fn it_asks_again_after_a_round_trip_and_stops_in_the_end() {
        let now = Instant::now();
        let mut nack = received([10, 12], now);
        let mut asked = Vec::new();
        for ms in 0..2000 {
            if !nack.poll(now + ms * MS, RTT).is_empty() {
                asked.push(ms);
            }
        }
        assert_eq!(asked, [10, 70, 130, 190, 250, 310, 370, 430, 490, 550]);
        assert_eq!(nack.stats().given_up, 1);
        assert_eq!(nack.poll_timeout(), None);
        // On a long path time is up before the tries are.
        let mut nack = received([10, 12], now);
        let rtt = Some(400 * MS);
        let asked = (0..2000).filter(|ms| !nack.poll(now + *ms * MS, rtt).is_empty()).count();
        assert_eq!(asked, 3);
    }

    #[test]
    fn a_repaired_packet_is_not_asked_for_again() {
        let now = Instant::now();
        let mut nack = received([10, 13], now);
        assert_eq!(nack.poll(now + 10 * MS, RTT), [11, 12]);
        nack.handle_received(11, now + 60 * MS);
        assert_eq!(nack.poll(now + 70 * MS, RTT), [12]);
        assert_eq!(nack.stats(), NackStats { lost: 2, asked: 3, repaired: 1, given_up: 0 });
    }

    #[test]
    fn a_large_hole_is_for_a_key_frame_to_fill() {
        let now = Instant::now();
        let mut nack = received([0, 1000], now);
        assert!(nack.poll(now + 20 * MS, RTT).is_empty());
        nack.handle_received(1002, now + 20 * MS);
        assert_eq!(nack.poll(now + 30 * MS, RTT), [1001]);
        // A sender that starts over.
        nack.handle_received(40_000, now);
        nack.handle_received(40_001, now);
        assert!(nack.poll(now + 100 * MS, RTT).is_empty());
    }

    #[test]
    fn on_a_lossy_path_everything_is_repaired_without_a_storm() {
        let mut random = StdRng::seed_from_u64(3);
        let begin = Instant::now();
        let mut nack = NackGenerator::default();
        let mut repairs: Vec<(u32, u16)> = Vec::new();
        let mut lost = 0u64;
        for ms in 0..60_000u32 {
            let now = begin + ms * MS;
            if ms % 4 == 0 {
                let number = (ms / 4) as u16;
                if ms == 0 || random.random_bool(0.95) {
                    nack.handle_received(number, now);
                } else {
                    lost += 1;
                }
            }
            repairs.retain(|(due, number)| {
                if *due == ms {
                    nack.handle_received(*number, now);
                }
                *due != ms
            });
            for number in nack.poll(now, RTT) {
                if random.random_bool(0.95) {
                    repairs.push((ms + 50, number));
                }
            }
        }
        let stats = nack.stats();
        assert!(stats.repaired + 5 >= lost && stats.given_up == 0, "{stats:?} of {lost}");
        assert!(stats.asked < lost * 112 / 100, "{stats:?} of {lost}");
    }

    #[test]
    fn pairs_name_what_was_asked_for_across_the_wrap() {
        let numbers = [65_530, 65_531, 10, 11, 12, 400, 416, 417];
        let pairs = nack_pairs(&numbers);
        assert_eq!(
            pairs,
            [
                NackPair { packet_id: 65_530, lost_packets: 0b1000_0000_0000_0001 },
                NackPair { packet_id: 11, lost_packets: 1 },
                NackPair { packet_id: 400, lost_packets: 0x8000 },
                NackPair { packet_id: 417, lost_packets: 0 },
            ]
        );
        let back: Vec<u16> = pairs.iter().flat_map(|pair| pair.sequence_numbers()).collect();
        assert_eq!(back, numbers);
    }

    #[test]
    fn any_order_of_numbers_keeps_the_list_bounded() {
        let mut random = StdRng::seed_from_u64(8);
        let mut nack = NackGenerator::default();
        let mut now = Instant::now();
        let mut number = 0u16;
        for _ in 0..100_000 {
            number = match random.random_range(0..100) {
                0 => random.random(),
                1..5 => number.wrapping_add(random.random_range(0..2000)),
                5..10 => number.wrapping_sub(random.random_range(0..100)),
                _ => number.wrapping_add(1),
            };
            nack.handle_received(number, now);
            nack.poll(now, None);
            assert!(nack.missing.len() <= MAX_MISSING);
            now += random.random_range(0..10) * MS;
        }
    }
}
