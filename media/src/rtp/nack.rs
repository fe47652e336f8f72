//! Which packets to ask for again (RFC 4585 section 6.2.1).
//!
//! A packet that was repaired counts as received under its original sequence number; who does
//! not tell that here asks for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sequence::{SequenceUnwrapper, Unwrapped};

/// On a path that was seen to swap packets a gap may be mere reordering for so long,
const REORDER_GRACE: Duration = Duration::from_millis(10);

/// or until more packets than this came behind it; it is such a path for so long after each swap.
const REORDER_PACKETS: u64 = 3;
const REORDERS_FOR: Duration = Duration::from_secs(60);

/// Where repairs come unasked, those of the frame itself and of the next one go first.
const FORWARD_REPAIR: Duration = Duration::from_millis(40);

/// A repair is not asked for again earlier than this, nor than one round trip and a bit.
const SHORTEST_REPEAT: Duration = Duration::from_millis(20);
const REPEAT_RESERVE: Duration = Duration::from_millis(10);

/// On a path this long each request is made twice: a lost request, or a lost repair, would cost
/// another round trip.
const LONG_TRIP: Duration = Duration::from_millis(80);

/// The second one a quarter of the round trip later, out of the same burst of losses.
const TWICE_AFTER: u32 = 4;

/// Assumed until a round trip was measured.
const FIRST_RTT: Duration = Duration::from_millis(100);

const MAX_TRIES: u32 = 12;

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
    /// When the first request of the present round was made; a round has one or two.
    asked_at: Option<Instant>,
    again: bool,
    tries: u32,
}

/// When a missing packet is asked for.
#[derive(Clone, Copy)]
struct Rhythm {
    grace: Duration,
    early: bool,
    twice_after: Option<Duration>,
    repeat_after: Duration,
}

/// Finds the gaps of one media SSRC.
pub struct NackGenerator {
    sequence: SequenceUnwrapper,
    missing: BTreeMap<u64, Missing>,
    rtt: Duration,
    repairs_coming: bool,
    /// When a packet last came behind a later one.
    reordered_at: Option<Instant>,
    stats: NackStats,
}

impl Default for NackGenerator {
    fn default() -> Self {
        Self::new()
    }
}

impl NackGenerator {
    /// Has seen nothing.
    pub fn new() -> Self {
        Self {
            sequence: SequenceUnwrapper::new(),
            missing: BTreeMap::new(),
            rtt: FIRST_RTT,
            repairs_coming: false,
            reordered_at: None,
            stats: NackStats::default(),
        }
    }

    /// Whether the sender adds forward error correction: then nothing is asked for before that
    /// had its chance.
    pub fn set_repairs_coming(&mut self, coming: bool) {
        self.repairs_coming = coming;
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
            if let Some(found) = self.missing.remove(&index) {
                self.stats.repaired += u64::from(found.tries > 0);
                // Sooner than any answer could be here.
                if found.asked_at.is_none_or(|asked| now < asked + self.rtt / 2) {
                    self.reordered_at = Some(now);
                }
            }
            return;
        }
        let gap = highest + 1..index;
        if self.missing.len() + (index - highest - 1) as usize > MAX_MISSING {
            self.give_up_all();
            return;
        }
        for index in gap {
            let missing = Missing { noticed_at: now, asked_at: None, again: false, tries: 0 };
            self.missing.insert(index, missing);
        }
    }

    /// The sequence numbers to ask for now, in order. `rtt` is the newest round trip measured.
    pub fn poll(&mut self, now: Instant, rtt: Option<Duration>) -> Vec<u16> {
        self.rtt = rtt.unwrap_or(self.rtt);
        let (limit, given_up) = (give_up_after(self.rtt), &mut self.stats.given_up);
        self.missing.retain(|_, missing| {
            let keep = missing.tries < MAX_TRIES && now < missing.noticed_at + limit;
            *given_up += u64::from(!keep);
            keep
        });
        let (rhythm, highest) = (self.rhythm(now), self.sequence.highest().unwrap_or(0));
        let mut wanted = Vec::new();
        for (&index, missing) in &mut self.missing {
            if now < missing.due(index, highest, rhythm) {
                continue;
            }
            self.stats.lost += u64::from(missing.tries == 0);
            self.stats.asked += 1;
            missing.ask(now, rhythm);
            wanted.push(index as u16);
        }
        wanted
    }

    /// When [`poll`](Self::poll) will have something to ask for, if nothing arrives before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let highest = self.sequence.highest().unwrap_or(0);
        let due = |(&index, missing): (&u64, &Missing)| {
            missing.due(index, highest, self.rhythm(missing.noticed_at))
        };
        self.missing.iter().map(due).min()
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

    fn rhythm(&self, now: Instant) -> Rhythm {
        let reorders = self.reordered_at.is_some_and(|at| now < at + REORDERS_FOR);
        let grace = match (self.repairs_coming, reorders) {
            (true, _) => FORWARD_REPAIR,
            (false, true) => REORDER_GRACE,
            (false, false) => Duration::ZERO,
        };
        Rhythm {
            grace,
            early: !self.repairs_coming,
            twice_after: (self.rtt >= LONG_TRIP).then(|| self.rtt / TWICE_AFTER),
            repeat_after: SHORTEST_REPEAT.max(self.rtt + REPEAT_RESERVE),
        }
    }
}

impl Missing {
    fn due(&self, index: u64, highest: u64, rhythm: Rhythm) -> Instant {
        match (self.asked_at, rhythm.twice_after) {
            (Some(asked), Some(after)) if self.again => asked + after,
            (Some(asked), _) => asked + rhythm.repeat_after,
            (None, _) if rhythm.early && highest.saturating_sub(index) > REORDER_PACKETS => {
                self.noticed_at
            }
            (None, _) => self.noticed_at + rhythm.grace,
        }
    }

    fn ask(&mut self, now: Instant, rhythm: Rhythm) {
        self.tries += 1;
        if self.again && rhythm.twice_after.is_some() {
            self.again = false;
            return;
        }
        self.asked_at = Some(now);
        self.again = rhythm.twice_after.is_some();
    }
}

/// How long a missing packet is asked and waited for on a path with this round trip: two rounds
/// and a bit. What is not there by then comes too late to be played.
pub fn give_up_after(rtt: Duration) -> Duration {
    let rounds = rtt * 5 / 2 + Duration::from_millis(150);
    rounds.clamp(Duration::from_millis(400), Duration::from_secs(3))
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
    fn where_packets_are_swapped_reordering_within_the_grace_asks_for_nothing() {
        let now = Instant::now();
        let mut nack = received([65_533, 65_535, 65_534, 1], now);
        assert!(nack.poll(now + 9 * MS, RTT).is_empty());
        nack.handle_received(0, now + 9 * MS);
        assert_eq!(nack.poll_timeout(), None);
        assert!(nack.poll(now + 500 * MS, RTT).is_empty());
        assert_eq!(nack.stats(), NackStats::default());
        nack.handle_received(3, now + 70_000 * MS);
        assert_eq!(nack.poll_timeout(), Some(now + 70_000 * MS), "long ago");
        // Asked for, and there before the answer could be.
        assert_eq!(nack.poll(now + 70_000 * MS, RTT), [2]);
        nack.handle_received(2, now + 70_005 * MS);
        nack.handle_received(5, now + 70_020 * MS);
        assert_eq!(nack.poll_timeout(), Some(now + 70_030 * MS));
        assert_eq!(nack.poll(now + 70_030 * MS, RTT), [4]);
        nack.handle_received(4, now + 70_080 * MS);
        assert_eq!(nack.reordered_at, Some(now + 70_005 * MS), "that was the answer");
    }

    #[test]
    fn a_loss_is_asked_for_at_once_or_after_the_grace_or_once_packets_behind_it_say_so() {
        let now = Instant::now();
        let mut nack = received([65_534, 1], now);
        assert_eq!(nack.poll_timeout(), Some(now));
        assert_eq!(nack.poll(now, RTT), [65_535, 0]);
        let mut nack = received([65_531, 65_533, 65_532, 65_534, 1], now);
        assert_eq!(nack.poll_timeout(), Some(now + 10 * MS));
        assert_eq!(nack.poll(now + 10 * MS, RTT), [65_535, 0]);
        let mut nack = received([7, 9, 8, 10, 12, 13, 14], now);
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
        assert_eq!(asked, [0, 60, 120, 180, 240, 300, 360]);
        assert_eq!(nack.stats().given_up, 1);
        assert_eq!(nack.poll_timeout(), None);
    }

    #[test]
    fn on_a_long_path_each_request_is_made_twice() {
        let now = Instant::now();
        for (rtt, expected) in [
            (100, vec![0, 25, 110, 135, 220, 245, 330, 355]),
            (600, vec![0, 150, 610, 760, 1220, 1370]),
        ] {
            let mut nack = received([10, 12], now);
            let asked: Vec<u32> = (0..4000)
                .filter(|ms| !nack.poll(now + *ms * MS, Some(rtt * MS)).is_empty())
                .collect();
            assert_eq!(asked, expected);
        }
    }

    #[test]
    fn forward_error_correction_goes_first() {
        let now = Instant::now();
        let mut nack = received([10, 13], now);
        nack.set_repairs_coming(true);
        for number in 14..30 {
            nack.handle_received(number, now + 5 * MS);
        }
        assert_eq!(nack.poll_timeout(), Some(now + 40 * MS));
        nack.handle_received(11, now + 20 * MS);
        assert_eq!(nack.poll(now + 40 * MS, RTT), [12]);
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
