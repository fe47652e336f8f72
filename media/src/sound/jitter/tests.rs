use std::collections::BinaryHeap;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;

/// Opus: hybrid, fullband, 20 ms, mono, one frame.
const TOC: u8 = 15 << 3;

/// No voice, but a copy of the frame before.
const LBRR: u8 = 0x40;

/// The packet that carries frame `number`.
fn payload(number: u32) -> Bytes {
    let [a, b, c, d] = number.to_be_bytes();
    vec![TOC, LBRR, a, b, c, d].into()
}

/// The same without a copy of the frame before.
fn plain(number: u32) -> Bytes {
    let mut bytes = payload(number).to_vec();
    bytes[1] = 0;
    bytes.into()
}

fn number(payload: &Bytes) -> u32 {
    u32::from_be_bytes([payload[2], payload[3], payload[4], payload[5]])
}

/// A sender, a network and a sound card, in fake time.
pub(super) struct Call {
    pub buffer: JitterBuffer,
    begin: Instant,
    /// Arrivals (in microseconds, negated for the heap) and frame numbers.
    arrivals: BinaryHeap<(i64, u32)>,
    first_sequence: u16,
    first_timestamp: u32,
    /// Microseconds of the next poll.
    poll_at: i64,
    /// What was played, with its time in microseconds.
    pub played: Vec<(i64, Playout)>,
    /// Whether packets announce in-band FEC, and whether a copy of the one before is in them.
    pub fec: bool,
    pub red: bool,
}

impl Call {
    /// `delay(n)` in milliseconds, or `None` for a lost packet.
    pub fn new(frames: u32, mut delay: impl FnMut(u32) -> Option<f64>) -> Self {
        let arrivals = (0..frames)
            .filter_map(|n| delay(n).map(|d| (-(i64::from(n) * 20_000 + (d * 1000.0) as i64), n)))
            .collect();
        Self {
            buffer: JitterBuffer::new(),
            begin: Instant::now(),
            arrivals,
            first_sequence: 65_500,
            first_timestamp: u32::MAX - 100_000,
            poll_at: 7_000,
            played: Vec::new(),
            fec: true,
            red: false,
        }
    }

    fn at(&self, us: i64) -> Instant {
        self.begin + Duration::from_micros(us as u64)
    }

    /// Plays until `seconds`; stretching takes 5 ms out of a frame or puts it in.
    pub fn run(&mut self, seconds: i64) {
        while self.poll_at < seconds * 1_000_000 {
            while let Some(&(at, n)) = self.arrivals.peek()
                && -at <= self.poll_at
            {
                self.arrivals.pop();
                let (now, seq) = (self.at(-at), self.first_sequence.wrapping_add(n as u16));
                let timestamp = self.first_timestamp.wrapping_add(n * 960);
                let payload = if self.fec { payload(n) } else { plain(n) };
                self.buffer.handle_packet(now, seq, timestamp, payload);
                if self.red && n > 0 {
                    self.buffer.handle_copy(now, 960, plain(n - 1));
                }
            }
            let playout = self.buffer.poll_frame(self.at(self.poll_at));
            let length = match &playout {
                Playout::Play { stretch: Stretch::Accelerate, .. } => 15_000,
                Playout::Play { stretch: Stretch::Expand, .. } => 25_000,
                _ => 20_000,
            };
            self.played.push((self.poll_at, playout));
            self.poll_at += length;
        }
    }

    pub fn frames(&self) -> Vec<u32> {
        let plays = self.played.iter().filter_map(|(_, playout)| match playout {
            Playout::Play { payload, .. } => Some(number(payload)),
            _ => None,
        });
        plays.collect()
    }

    fn count(&self, wanted: impl Fn(&Playout) -> bool) -> usize {
        self.played.iter().filter(|(_, playout)| wanted(playout)).count()
    }

    fn stretched(&self) -> usize {
        self.count(|p| matches!(p, Playout::Play { stretch, .. } if *stretch != Stretch::None))
    }

    /// Milliseconds from capture to playing for each frame played.
    pub fn delays(&self) -> Vec<(u32, f64)> {
        let plays = self.played.iter().filter_map(|(at, playout)| match playout {
            Playout::Play { payload, .. } => {
                let n = number(payload);
                Some((n, (at - i64::from(n) * 20_000) as f64 / 1000.0))
            }
            _ => None,
        });
        plays.collect()
    }
}

#[test]
fn a_clean_network_plays_every_frame_once_at_one_constant_delay() {
    for phase in 0..20 {
        let mut call = Call::new(4000, |_| Some(3.0));
        call.poll_at = phase * 1000;
        call.run(80);
        assert_eq!(call.frames(), (0..call.frames().len() as u32).collect::<Vec<_>>());
        // A few steps while it learns that there is no jitter, and none from then on.
        let delays = call.delays();
        let (settled, last) = (&delays[500..], delays[delays.len() - 1].1);
        assert!(settled.iter().all(|(_, delay)| *delay == last), "phase {phase}");
        assert!(delays[0].1 < 48.0 && last < 27.0, "{delays:?}");
        assert!(call.stretched() <= 4, "{} times", call.stretched());
        assert_eq!(call.buffer.stats().concealed_ms, 0);
    }
}

#[test]
fn a_sound_card_that_fetches_three_frames_at_once_settles() {
    let mut buffer = JitterBuffer::new();
    let begin = Instant::now();
    let (mut fetch_at, mut stretched_late) = (5, 0);
    for ms in 0..60_000_u32 {
        let now = begin + Duration::from_millis(1) * ms;
        if ms % 20 == 0 {
            let n = ms / 20;
            buffer.handle_packet(now, n as u16, n * 960, payload(n));
        }
        if ms < fetch_at {
            continue;
        }
        for _ in 0..3 {
            let length = match buffer.poll_frame(now) {
                Playout::Play { stretch: Stretch::Accelerate, .. } => 15,
                Playout::Play { stretch: Stretch::Expand, .. } => 25,
                _ => 20,
            };
            stretched_late += u32::from(length != 20 && ms > 6_000);
            fetch_at += length;
        }
    }
    assert_eq!(stretched_late, 0);
    assert!(buffer.stats().concealed_ms <= 60, "{:?}", buffer.stats());
}

#[test]
fn a_hurried_scheduler_does_not_make_it_stretch() {
    let mut random = StdRng::seed_from_u64(2);
    let mut call = Call::new(3100, |_| Some(2.0 + random.random_range(0.0..8.0)));
    call.run(60);
    assert_eq!(call.stretched(), 0);
    assert_eq!(call.buffer.stats().lost, 0);
    assert_eq!(call.buffer.stats().concealed_ms, 0);
}

#[test]
fn a_lost_frame_is_rebuilt_from_the_next_or_concealed_and_the_delay_stays() {
    let mut call = Call::new(600, |n| (n % 50 != 40).then_some(3.0));
    call.run(11);
    let delays = call.delays();
    let (_, first) = delays[0];
    assert!(delays.iter().all(|(_, delay)| *delay == first), "no drift from loss");
    let stats = call.buffer.stats();
    assert_eq!(stats.lost, 11);
    assert_eq!((stats.concealed_ms, stats.recovered_ms), (0, 20 * 11));
    assert!(call.count(|p| matches!(p, Playout::Fec { .. })) >= 10);
}

#[test]
fn only_the_last_frame_of_a_hole_comes_from_the_next_packet() {
    // A delay that has seen jitter, so that packets behind the hole are there in time.
    let mut call = Call::new(600, |n| {
        (!(500..503).contains(&n)).then_some(if n % 5 == 0 { 80.0 } else { 0.0 })
    });
    call.run(12);
    let hole = call
        .played
        .iter()
        .position(|(_, p)| matches!(p, Playout::Play { payload, .. } if number(payload) == 499));
    let after: Vec<&Playout> = call.played[hole.unwrap() + 1..].iter().map(|(_, p)| p).collect();
    assert_eq!(after[..2], [&Playout::Conceal, &Playout::Conceal]);
    assert_eq!(*after[2], Playout::Fec { payload: payload(503), samples: 960 });
    assert!(matches!(after[3], Playout::Play { payload, .. } if number(payload) == 503));
}

#[test]
fn jitter_raises_the_delay_until_few_frames_are_late_and_calm_lowers_it() {
    let mut random = StdRng::seed_from_u64(4);
    let mut call =
        Call::new(6000, |n| Some(if n < 2000 { random.random_range(0.0..80.0) } else { 2.0 }));
    call.run(40);
    let early = call.buffer.stats();
    assert!((70.0..110.0).contains(&early.target_ms), "{early:?}");
    assert!(early.concealed_ms < 400, "{early:?}");
    assert!((15.0..40.0).contains(&early.jitter_ms), "{early:?}");
    call.run(119);
    let (_, last) = *call.delays().last().unwrap();
    assert!(last < 60.0, "{last} ms after 80 s of calm");
    assert!(call.buffer.stats().concealed_ms - early.concealed_ms < 60);
}

#[test]
fn reordered_and_doubled_packets_play_in_order() {
    let mut call = Call::new(500, |n| Some(if n % 10 == 3 { 24.0 } else { 1.0 }));
    let again: Vec<_> = call.arrivals.iter().map(|(at, n)| (at - 500, *n)).collect();
    call.arrivals.extend(again);
    call.run(9);
    let frames = call.frames();
    assert!(frames.is_sorted_by(|a, b| a < b));
    assert!(frames.len() > 440, "{}", frames.len());
    let stats = call.buffer.stats();
    assert!(stats.duplicates + stats.late >= 440, "{stats:?}");
    assert_eq!(stats.lost, 0);
}

#[test]
fn a_stall_of_the_network_is_caught_up_by_a_jump() {
    // Everything from 5 s to 5.6 s arrives together.
    let mut call = Call::new(1000, |n| {
        Some(if (250..280).contains(&n) { f64::from(280 - n) * 20.0 } else { 2.0 })
    });
    call.run(6);
    assert!(call.buffer.stats().skipped > 10, "{:?}", call.buffer.stats());
    call.run(7);
    let (_, delay) = *call.delays().last().unwrap();
    assert!(delay < 250.0, "{delay} ms");
    call.run(19);
    let frames = call.frames();
    assert!(frames.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_pause_of_the_sender_is_silence_and_no_loss() {
    let mut call = Call::new(100, |_| Some(3.0));
    // Frames 100.. are sent two seconds later with the sequence numbers going on.
    call.run(3);
    assert_eq!(call.buffer.poll_frame(call.at(3_000_000)), Playout::Comfort);
    let concealed = call.buffer.stats().concealed_ms;
    assert!(concealed <= 120, "{concealed}");
    for n in 0..50u32 {
        let sequence = call.first_sequence.wrapping_add(100 + n as u16);
        let timestamp = call.first_timestamp.wrapping_add((200 + n) * 960);
        let now = call.at(i64::from(200 + n) * 20_000 + 3000);
        call.buffer.handle_packet(now, sequence, timestamp, payload(n));
        let playout = call.buffer.poll_frame(call.at(i64::from(200 + n) * 20_000 + 15_000));
        if n > 3 {
            assert!(matches!(playout, Playout::Play { .. }), "frame {n}: {playout:?}");
        }
    }
    assert_eq!(call.buffer.stats().lost, 0);
    assert_eq!(call.buffer.stats().concealed_ms, concealed);
}

#[test]
fn a_sender_whose_clock_jumps_is_followed() {
    for jump in [1u32 << 31, 48_000 * 60, 0u32.wrapping_sub(48_000 * 60)] {
        let mut buffer = JitterBuffer::new();
        let begin = Instant::now();
        let mut plays = 0;
        for n in 0..500u32 {
            let offset = if n < 200 { 0 } else { jump };
            let now = begin + Duration::from_millis(u64::from(n) * 20);
            buffer.handle_packet(now, n as u16, offset.wrapping_add(n * 960), payload(n));
            let playout = buffer.poll_frame(now + Duration::from_millis(10));
            plays += u32::from(n > 250 && matches!(playout, Playout::Play { .. }));
        }
        assert!(plays > 240, "{plays} after a jump of {jump}");
        assert!(buffer.stats().target_ms < 40.0, "{:?}", buffer.stats());
    }
}

#[test]
fn a_sender_that_starts_over_is_followed() {
    let mut call = Call::new(100, |_| Some(3.0));
    call.run(2);
    call.first_sequence = 20_000;
    call.first_timestamp = 12;
    call.arrivals.extend((100..200).map(|n| (-(n * 20_000), n as u32)));
    call.run(4);
    assert!(call.frames().iter().filter(|n| **n >= 100).count() > 90);
}

#[test]
fn two_clocks_that_differ_meet_by_stretching_now_and_then() {
    // 500 ppm for four minutes: 120 ms in all.
    for factor in [0.9995, 1.0005] {
        let mut call =
            Call::new(13_000, |n| Some(3.0 + f64::from(n) * 20.0 * (factor - 1.0) + 200.0));
        call.run(240);
        let stats = call.buffer.stats();
        assert!((5..60).contains(&call.stretched()), "{} times", call.stretched());
        assert!(stats.concealed_ms <= 100, "{stats:?}");
        assert_eq!(stats.lost, 0);
        let (_, delay) = *call.delays().last().unwrap();
        let network = 203.0 + 240_000.0 * (factor - 1.0);
        assert!((0.0..60.0).contains(&(delay - network)), "{delay} with {network}");
    }
}

#[test]
fn the_memory_is_bounded_without_anybody_playing() {
    let mut buffer = JitterBuffer::new();
    let now = Instant::now();
    for n in 0..10_000u32 {
        buffer.handle_packet(now, n as u16, n * 960, payload(n));
        assert!(buffer.packets.len() <= MAX_PACKETS);
    }
    assert_eq!(buffer.stats().skipped, 10_000 - MAX_PACKETS as u64);
}

#[test]
fn long_packets_are_waited_for_a_little_longer() {
    let target = |frames: u32| {
        let (mut buffer, begin) = (JitterBuffer::new(), Instant::now());
        for n in 0..500 {
            let now = begin + Duration::from_millis(20) * frames * n;
            let payload = vec![TOC | 3, frames as u8, 0, 0, 0].into();
            buffer.handle_packet(now, n as u16, n * frames * 960, payload);
            buffer.poll_frame(now);
        }
        buffer.stats().target_ms
    };
    assert_eq!((target(1), target(3)), (10.0, 30.0));
}

#[test]
fn no_packets_from_a_peer_can_end_it() {
    let mut random = StdRng::seed_from_u64(9);
    let mut buffer = JitterBuffer::new();
    let mut now = Instant::now();
    let (mut sequence, mut timestamp) = (0u16, 0u32);
    for _ in 0..50_000 {
        sequence = sequence.wrapping_add(1);
        timestamp = timestamp.wrapping_add(960);
        match random.random_range(0..100) {
            0 => sequence = random.random(),
            1 => timestamp = random.random(),
            2..10 => sequence = sequence.wrapping_sub(random.random_range(0..50)),
            10..20 => timestamp = timestamp.wrapping_sub(random.random_range(0..50_000)),
            _ => {}
        }
        let mut bytes = vec![0; random.random_range(0..12)];
        random.fill_bytes(&mut bytes);
        let bytes = Bytes::from(bytes);
        buffer.handle_packet(now, sequence, timestamp, bytes.clone());
        buffer.handle_copy(now, random.random_range(0..20) * 480, bytes);
        for _ in 0..random.random_range(0..3) {
            buffer.poll_frame(now);
        }
        assert!(buffer.packets.len() <= MAX_PACKETS);
        let stats = buffer.stats();
        assert!((10.0..=500.0).contains(&stats.target_ms), "{stats:?}");
        now += Duration::from_millis(random.random_range(0..30));
    }
}
