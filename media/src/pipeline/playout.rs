//! When a decoded picture is shown: at once, unless the network delivers so unevenly that motion
//! would stutter, or its sound is far behind. Pure.
//!
//! Live pictures are worth more now than smooth: a hold starts only where the spread of delays
//! is large, lasts for most of that spread, and ends with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pictures whose delays are remembered: five seconds.
const WINDOW: usize = 150;

/// Fewer say nothing about the network.
const ENOUGH: usize = 60;

/// Seconds between the median and the 95th percentile of the delays at which a hold starts, and
/// below which it ends: a good part of the time between two pictures, so that some are shown twice
/// as long as others.
const UNEVEN: f64 = 0.025;
const EVEN: f64 = 0.016;

/// A hold makes up for so much of the spread. The last few pictures are as late as all the others
/// together would have to be.
const HELD_FOR: f64 = 0.85;

/// A hold grows by so much a picture and shrinks by so much a second.
const GROWTH: f64 = 0.003;
const SHRINKAGE: f64 = 0.020;

/// Never held for longer, whatever the network and the sound do. Seconds.
const LONGEST: f64 = 0.150;

/// While pictures are missing, those before them stand for at most so long each: not much more is a
/// freeze (W3C webrtc-stats, `freezeCount`: 150 ms more than usual).
const SLOWEST: Duration = Duration::from_millis(174);

/// Stalls of such a length happen where packets are lost and sent again on a long path. Pictures that
/// wait for so long when they come in the middle of the jitter, or so much longer than for jitter, are
/// enough to slow down over them: mostly two are there when the next is overdue.
const BRIDGED: std::ops::Range<Duration> = Duration::from_millis(150)..Duration::from_millis(450);
const BRIDGE: f64 = 0.062;
const BRIDGE_BESIDE_JITTER: f64 = 0.005;

/// A hold of so much for jitter is nearly enough for stalls, too. Seconds.
const NEARLY_BRIDGED: f64 = 0.045;

/// Two stalls this soon after each other show that there are more to come, for as long; those that
/// follow one another at once are of one accident, such as a rate that drops.
const STALLS_WITHIN: Duration = Duration::from_secs(30);
const ONE_ACCIDENT: Duration = Duration::from_secs(3);

/// With such a round trip the first loss is a stall of that length: it is prepared for from the beginning,
/// until there was none for so long, and one shows that there are more to come.
const LONG_TRIP: std::ops::Range<Duration> = Duration::from_millis(180)..Duration::from_millis(450);
const EXPECTED_FOR: Duration = Duration::from_secs(30);
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Where stalls happen, the next picture counts as overdue so soon after its time. Not where so much
/// time passes between two that one more wait would be seen. Seconds.
const OVERDUE: f64 = 0.010;
const SELDOM: f64 = 0.045;

/// Beside a round trip, a repair takes about so long: until the gap is noticed, and in queues.
const REPAIR: Duration = Duration::from_millis(40);

/// So many pictures in a row that are faster by so many seconds than any before came a shorter way: what
/// was known of the longer one is worth nothing.
const SHORTER: (usize, f64) = (5, 0.015);

/// A jump of the sender's clock, or a pause: the delays from before say nothing.
const JUMP: f64 = 5.0;

/// Decides for the pictures of one stream.
#[derive(Debug, Default)]
pub struct Playout {
    epoch: Option<(Instant, u32)>,
    /// Ready minus captured, in seconds, with an offset that is the same for all.
    delays: VecDeque<f64>,
    uneven: bool,
    hold: f64,
    /// Pictures in a row that were faster than all before them.
    faster: usize,
    /// Smoothed time between two pictures as they were captured; 0 before there were two.
    interval: f64,
    captured: Option<u32>,
    last: Option<Instant>,
    /// When the last two stalls ended.
    stalls: [Option<Instant>; 2],
    /// Whether the round trip is a long one, and when it first was.
    long_trip: bool,
    long_since: Option<Instant>,
    /// A stall is prepared for although there was hardly one yet.
    expecting: bool,
}

impl Playout {
    /// A picture captured at `rtp_timestamp` (90 kHz), whose last packet came at `arrived`, is ready;
    /// its sound asks for `sync` of delay. Returns when to show it: `now`, or at most 150 ms later.
    pub fn handle_ready(
        &mut self,
        now: Instant,
        arrived: Instant,
        rtp_timestamp: u32,
        sync: Duration,
    ) -> Instant {
        // Not when it was ready: what waited for another one's repair says nothing about jitter.
        let delay = self.delay(arrived, rtp_timestamp);
        if let Some(before) = self.captured.replace(rtp_timestamp) {
            let interval = f64::from(rtp_timestamp.wrapping_sub(before)) / 90_000.0;
            let weight = if self.interval > 0.0 { 0.1 } else { 1.0 };
            // Longer is a pause.
            if interval < 1.0 {
                self.interval += weight * (interval - self.interval);
            }
        }
        if self.delays.back().is_some_and(|before| (delay - before).abs() > JUMP) {
            *self = Self::default();
            return now + sync.min(Duration::from_secs_f64(LONGEST));
        }
        let earlier = self.delays.iter().rev().skip(self.faster).copied();
        let faster = delay < earlier.fold(f64::INFINITY, f64::min) - SHORTER.1;
        self.faster = if faster && !self.delays.is_empty() { self.faster + 1 } else { 0 };
        if self.faster == SHORTER.0 {
            self.delays.drain(..self.delays.len() + 1 - SHORTER.0);
            (self.hold, self.faster) = (0.0, 0);
        }
        if self.delays.len() == WINDOW {
            self.delays.pop_front();
        }
        self.delays.push_back(delay);
        let mut sorted: Vec<f64> = self.delays.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((sorted.len() - 1) as f64 * share) as usize).copied();
        let (Some(fastest), Some(median), Some(held_for), Some(slow)) =
            (at(0.0), at(0.5), at(HELD_FOR), at(0.95))
        else {
            return now;
        };
        let spread = slow - median;
        self.uneven = sorted.len() >= ENOUGH && spread > if self.uneven { EVEN } else { UNEVEN };
        let for_jitter = if self.uneven { held_for - fastest } else { 0.0 };
        let small = for_jitter < NEARLY_BRIDGED;
        self.expecting = small && self.expects_stalls(now);
        let wanted = match (small, self.stalls_often(now) || self.expecting) {
            (_, false) => for_jitter,
            (true, true) => for_jitter.max(median - fastest + BRIDGE),
            (false, true) => for_jitter + BRIDGE_BESIDE_JITTER,
        };
        let wanted = wanted.min(LONGEST);
        let passed =
            self.last.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.last = Some(now);
        self.hold = if wanted > self.hold {
            wanted.min(self.hold + GROWTH)
        } else {
            wanted.max(self.hold - SHRINKAGE * passed)
        };
        // What came as fast as any waits for the whole hold, what came late for the rest of it.
        let waited = now.saturating_duration_since(arrived).as_secs_f64();
        let wait = fastest + self.hold - delay - waited;
        // Where they come unevenly their sound is no worse off, and the slow ones would be slower still.
        let sync = if self.uneven { 0.0 } else { sync.as_secs_f64() };
        let wait = wait.max(sync).clamp(0.0, LONGEST);
        now + Duration::from_secs_f64(wait)
    }

    /// The round trip as last measured.
    pub fn handle_rtt(&mut self, now: Instant, rtt: Option<Duration>) {
        self.long_trip = rtt.is_some_and(|rtt| LONG_TRIP.contains(&rtt));
        if self.long_trip {
            // Once: one that comes and goes would be prepared for for ever.
            self.long_since.get_or_insert(now);
        }
    }

    /// Pictures stood still for so long until a repair came.
    pub fn handle_stall(&mut self, now: Instant, length: Duration) {
        let before = self.stalls[1];
        if BRIDGED.contains(&length) && before.is_none_or(|before| now > before + ONE_ACCIDENT) {
            self.stalls = [before, Some(now)];
        }
    }

    /// How long after a picture the next one is overdue, where it may have been lost: then the last
    /// one decoded is better kept until another is there.
    pub fn overdue_after(&self, now: Instant) -> Option<Duration> {
        let stalls = self.stalls_often(now) || self.expecting;
        let often = self.interval > 0.0 && self.interval < SELDOM && stalls;
        often.then(|| Duration::from_secs_f64(self.interval + OVERDUE))
    }

    fn expects_stalls(&self, now: Instant) -> bool {
        let lately = self.stalls[1].is_some_and(|last| now < last + REMEMBERED_FOR);
        let new = self.long_since.is_some_and(|since| now < since + EXPECTED_FOR);
        self.long_trip && (lately || new)
    }

    fn stalls_often(&self, now: Instant) -> bool {
        let [Some(before), Some(last)] = self.stalls else {
            return false;
        };
        last < before + STALLS_WITHIN && now < last + STALLS_WITHIN
    }

    /// How long the fastest pictures are held now for the sake of even motion.
    pub fn hold(&self) -> Duration {
        Duration::from_secs_f64(self.hold)
    }

    fn delay(&mut self, arrived: Instant, rtp_timestamp: u32) -> f64 {
        let (epoch, first) = *self.epoch.get_or_insert((arrived, rtp_timestamp));
        let captured = f64::from(rtp_timestamp.wrapping_sub(first) as i32) / 90_000.0;
        // One that waited for repairs came before the first.
        let before = epoch.saturating_duration_since(arrived).as_secs_f64();
        arrived.saturating_duration_since(epoch).as_secs_f64() - before - captured
    }
}

/// What is known of a gap that keeps newer pictures from being decoded.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// When it was noticed.
    pub since: Instant,
    /// How long a repair that was asked for takes.
    pub rtt: Duration,
}

/// When the `place`-th of `count` pictures that are decoded and wait is to be shown, the one before
/// all of them having been shown at `shown`: evenly until the gap behind them can be closed. Motion
/// slows down where it would stand still.
pub fn slowed(shown: Instant, gap: Gap, place: usize, count: usize) -> Instant {
    let repaired = gap.since + gap.rtt + REPAIR;
    let intervals = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    let interval = (repaired.saturating_duration_since(shown) / intervals).min(SLOWEST);
    shown + interval * u32::try_from(place).unwrap_or(u32::MAX).min(1000)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// 30 pictures a second with the delays given, in milliseconds: how long each waited, and
    /// the intervals at which they were shown.
    fn play(playout: &mut Playout, begin: Instant, delays: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut waits = Vec::new();
        let mut shown: Vec<Instant> = Vec::new();
        let mut last = begin;
        for (number, delay) in delays.iter().enumerate() {
            let captured = Duration::from_secs_f64(number as f64 / 30.0);
            // The network keeps the order.
            last = last.max(begin + captured + Duration::from_secs_f64(delay / 1000.0));
            let timestamp = 4_294_900_000u32.wrapping_add(number as u32 * 3000);
            let at = playout.handle_ready(last, last, timestamp, Duration::ZERO);
            let at = shown.last().map_or(at, |before| at.max(*before));
            waits.push(at.saturating_duration_since(last).as_secs_f64() * 1000.0);
            shown.push(at);
        }
        let intervals =
            shown.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1000.0).collect();
        (waits, intervals)
    }

    fn spread(seed: u64, sigma: f64, count: usize) -> Vec<f64> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut normal = move || {
            let sum: f64 = (0..12).map(|_| random.random::<f64>()).sum();
            (sum - 6.0).abs() * sigma
        };
        (0..count).map(|_| 50.0 + normal()).collect()
    }

    #[test]
    fn pictures_before_a_gap_stretch_over_it_and_stand_no_longer_than_a_freeze() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let gap = |rtt| Gap { since: start + ms(20), rtt: ms(rtt) };
        let at = |gap, place| slowed(start, gap, place, 2) - start;
        assert_eq!(at(gap(240), 1), ms(100));
        assert_eq!(at(gap(240), 2), ms(200), "and 100 ms later the repair is there");
        assert_eq!(at(gap(900), 2), ms(348));
        assert_eq!(at(gap(0), 1), ms(20), "sooner than they are due: nothing changes");
    }

    #[test]
    fn stalls_are_prepared_for_while_they_happen() {
        let (mut playout, begin, ms) = (Playout::default(), Instant::now(), Duration::from_millis);
        let held = |playout: &mut Playout, from: u64| {
            for picture in 0..30 {
                let at = from + picture * 33;
                let at = begin + ms(at);
                let timestamp = (at - begin).as_millis() as u32 * 90;
                playout.handle_ready(at, at, timestamp, Duration::ZERO);
            }
            playout.hold()
        };
        playout.handle_stall(begin, ms(300));
        assert_eq!(held(&mut playout, 0), Duration::ZERO, "once");
        playout.handle_stall(begin + ms(1000), ms(300));
        playout.handle_stall(begin + ms(10_000), ms(900));
        assert_eq!(
            held(&mut playout, 10_000),
            Duration::ZERO,
            "one accident, one too long to bridge"
        );
        playout.handle_stall(begin + ms(20_000), ms(300));
        assert_eq!(held(&mut playout, 20_000), ms(62));
        let overdue = playout.overdue_after(begin + ms(21_000)).expect("at 30 a second");
        assert!((ms(42)..ms(44)).contains(&overdue), "{overdue:?}");
        assert_eq!(held(&mut playout, 45_000), ms(62));
        held(&mut playout, 50_100);
        assert_eq!(held(&mut playout, 60_000), Duration::ZERO, "and no more since");
        assert_eq!(playout.overdue_after(begin + ms(61_000)), None);
    }

    #[test]
    fn a_long_way_is_prepared_for_until_nothing_came_of_it() {
        let (mut playout, begin, ms) = (Playout::default(), Instant::now(), Duration::from_millis);
        let held = |playout: &mut Playout, from: u64, rtt: u64| {
            for picture in 0..60 {
                let at = ms(from + picture * 33);
                playout.handle_rtt(begin + at, Some(ms(rtt)));
                playout.handle_ready(begin + at, begin + at, at.as_millis() as u32 * 90, ms(0));
            }
            playout.hold()
        };
        assert_eq!(held(&mut playout, 0, 100), Duration::ZERO);
        assert_eq!(held(&mut playout, 3_000, 220), ms(62));
        held(&mut playout, 34_000, 220);
        assert_eq!(held(&mut playout, 37_000, 220), Duration::ZERO, "nothing was lost");
        held(&mut playout, 38_000, 170);
        assert_eq!(held(&mut playout, 38_500, 220), Duration::ZERO, "it is no news");
        playout.handle_stall(begin + ms(40_000), ms(260));
        assert_eq!(held(&mut playout, 41_000, 220), ms(62), "one is enough");
        held(&mut playout, 60_000, 220);
        assert_eq!(held(&mut playout, 90_000, 220), ms(62));
        held(&mut playout, 100_100, 220);
        assert_eq!(held(&mut playout, 104_000, 220), Duration::ZERO);
    }

    #[test]
    fn an_even_network_is_never_held_up() {
        let (waits, _) = play(&mut Playout::default(), Instant::now(), &spread(1, 4.0, 600));
        assert!(waits.iter().all(|wait| *wait == 0.0));
        // Nor one that loses a picture's time now and then to a repair.
        let rare: Vec<f64> = (0..600).map(|n| if n % 100 == 0 { 160.0 } else { 50.0 }).collect();
        let (waits, _) = play(&mut Playout::default(), Instant::now(), &rare);
        assert!(waits.iter().all(|wait| *wait == 0.0));
    }

    #[test]
    fn an_uneven_network_is_evened_out() {
        let delays = spread(2, 30.0, 900);
        let (waits, held) = play(&mut Playout::default(), Instant::now(), &delays);
        let long = |intervals: &[f64]| intervals.iter().filter(|long| **long > 66.0).count();
        let unheld: Vec<f64> = (1..delays.len())
            .map(|n| (1000.0 / 30.0 + delays[n] - delays[n - 1]).max(0.0))
            .collect();
        let (held, unheld) = (long(&held[300..]), long(&unheld[300..]));
        assert!(held * 5 <= unheld, "{held} of {unheld}");
        assert!(waits.iter().all(|wait| *wait <= 150.0));
        let mean = waits[300..].iter().sum::<f64>() / 600.0;
        assert!((15.0..70.0).contains(&mean), "{mean} ms more");
    }

    #[test]
    fn the_hold_grows_gently_and_ends_with_the_unevenness() {
        let mut playout = Playout::default();
        let mut delays = spread(3, 60.0, 300);
        let begin = Instant::now();
        play(&mut playout, begin, &delays);
        assert!(playout.hold() > Duration::from_millis(60));
        delays.extend(vec![50.0; 600]);
        let mut playout = Playout::default();
        let (waits, _) = play(&mut playout, begin, &delays);
        assert_eq!(playout.hold(), Duration::ZERO);
        assert_eq!(waits.last(), Some(&0.0));
    }

    #[test]
    fn a_shorter_way_ends_the_hold_at_once() {
        let mut delays = spread(5, 60.0, 300);
        delays.extend(vec![2.0; 40]);
        let (waits, _) = play(&mut Playout::default(), Instant::now(), &delays);
        assert!(waits[280..300].iter().any(|wait| *wait > 0.0), "{:?}", &waits[280..300]);
        // In their order, the first of them come no sooner than the last slow one.
        assert!(waits[315..].iter().all(|wait| *wait == 0.0), "{:?}", &waits[300..]);
    }

    #[test]
    fn sound_far_behind_holds_a_picture_and_nothing_for_longer_than_the_cap() {
        let mut playout = Playout::default();
        let now = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(playout.handle_ready(now, now, 5, ms(70)), now + ms(70));
        let next = now + ms(33);
        assert_eq!(playout.handle_ready(next, next, 3005, ms(900)), now + ms(183));
        // The sender's clock jumps.
        let next = now + ms(66);
        assert_eq!(playout.handle_ready(next, next, 900_000_000, ms(0)), next);
        let mut random = StdRng::seed_from_u64(4);
        let mut at = now;
        for _ in 0..5000 {
            at += ms(random.random_range(0..100));
            let sync = ms(random.random_range(0..500));
            let show = playout.handle_ready(at, at, random.random(), sync);
            assert!((at..=at + ms(151)).contains(&show));
        }
    }
}
