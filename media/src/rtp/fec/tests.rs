//! Encoder against decoder over paths that lose.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;
use crate::units::Bitrate;

const SSRC: u32 = 0x1234_5678;
const NARROW: Bitrate = Bitrate::from_kbps(1_000);

struct Packet {
    sequence_number: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

impl Packet {
    fn media(&self) -> Media<'_> {
        Media {
            sequence_number: self.sequence_number,
            timestamp: self.timestamp,
            marker: self.marker,
            payload_type: 102,
            payload: &self.payload,
        }
    }

    fn is(&self, recovered: &Recovered) -> bool {
        recovered.sequence_number == self.sequence_number
            && recovered.timestamp == self.timestamp
            && recovered.marker == self.marker
            && recovered.payload_type == 102
            && recovered.payload == self.payload
    }
}

fn frame(random: &mut StdRng, first: u16, packets: u16) -> Vec<Packet> {
    let timestamp = random.random();
    (0..packets)
        .map(|number| {
            let mut payload = vec![0; random.random_range(0..1150)];
            random.fill_bytes(&mut payload);
            Packet {
                sequence_number: first.wrapping_add(number),
                timestamp,
                marker: number + 1 == packets,
                payload,
            }
        })
        .collect()
}

#[test]
fn every_loss_of_up_to_m_packets_is_repaired() {
    let mut random = StdRng::seed_from_u64(1);
    for (packets, repairs) in [(1u16, 1usize), (1, 2), (2, 2), (5, 3), (8, 3), (10, 2)] {
        // Across the wrap of sequence numbers.
        let frame = frame(&mut random, 65_533, packets);
        let mut encoder = FecEncoder::new(SSRC);
        frame.iter().for_each(|packet| encoder.handle_media(&packet.media()));
        let sent = encoder.finish_frame(Strength { repairs, frames: 1 });
        assert_eq!(sent.len(), repairs);
        for lost in 1u32..1 << packets {
            if lost.count_ones() as usize > repairs {
                continue;
            }
            let mut decoder = FecDecoder::new(SSRC);
            // The packet before the frame founds the stream.
            let before =
                Packet { sequence_number: 65_532, timestamp: 0, marker: true, payload: vec![1] };
            decoder.handle_media(&before.media());
            for (number, packet) in frame.iter().enumerate() {
                if lost >> number & 1 == 0 {
                    assert!(decoder.handle_media(&packet.media()).is_empty());
                }
            }
            // The last ones: the first are lost, too.
            let needed = lost.count_ones() as usize;
            let recovered: Vec<Recovered> =
                sent[repairs - needed..].iter().flat_map(|r| decoder.handle_repair(r)).collect();
            let missing = frame.iter().enumerate().filter(|(n, _)| lost >> n & 1 == 1);
            assert_eq!(recovered.len(), needed);
            assert!(missing.zip(&recovered).all(|((_, packet), found)| packet.is(found)));
        }
    }
}

#[test]
fn a_burst_that_took_all_of_a_frame_is_repaired_by_the_next_ones() {
    let mut random = StdRng::seed_from_u64(2);
    let mut encoder = FecEncoder::new(SSRC);
    let mut decoder = FecDecoder::new(SSRC);
    let mut recovered = Vec::new();
    let mut lost = Vec::new();
    for number in 0..6u16 {
        let frame = frame(&mut random, 100 + number * 6, 6);
        frame.iter().for_each(|packet| encoder.handle_media(&packet.media()));
        let repairs = encoder.finish_frame(Strength { repairs: 3, frames: 4 });
        if number == 2 {
            lost = frame;
            continue;
        }
        for packet in &frame {
            recovered.extend(decoder.handle_media(&packet.media()));
        }
        for repair in &repairs {
            recovered.extend(decoder.handle_repair(repair));
        }
        if number == 3 {
            assert!(recovered.is_empty(), "three equations, six unknown");
        }
    }
    assert_eq!(recovered.len(), 6);
    assert!(lost.iter().zip(&recovered).all(|(packet, found)| packet.is(found)));
    assert_eq!(decoder.stats().recovered, 6);
}

/// Losses as of the Gilbert model with mean runs of `run`; returns the share of frames that
/// were whole when the `late`th frame after them had come.
fn whole_frames(seed: u64, loss: f64, run: f64, packets: u16, rtt_ms: u64, late: usize) -> f64 {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut encoder, mut decoder) = (FecEncoder::new(SSRC), FecDecoder::new(SSRC));
    let mut path = PathLoss::default();
    (0..40).for_each(|_| {
        let lost = (1000.0 * loss) as u16;
        path.handle_report(1000, lost, (f64::from(lost) / run).round() as u16);
    });
    let rtt = Some(Duration::from_millis(rtt_ms));
    let leave = 1.0 / run;
    let enter = loss * leave / (1.0 - loss);
    let mut bad = false;
    let mut lost = move |random: &mut StdRng| {
        bad = if bad { !random.random_bool(leave) } else { random.random_bool(enter) };
        bad
    };
    let mut missing = BTreeSet::new();
    let mut whole = 0;
    let mut first = 0u16;
    let frames = 2000;
    for number in 0..frames {
        let frame = frame(&mut random, first, packets);
        first = first.wrapping_add(packets);
        for packet in &frame {
            encoder.handle_media(&packet.media());
            if lost(&mut random) {
                missing.insert((number, packet.sequence_number));
                continue;
            }
            for found in decoder.handle_media(&packet.media()) {
                missing.retain(|(_, lost)| *lost != found.sequence_number);
            }
        }
        let strength = strength(usize::from(packets), false, false, &path, rtt, NARROW);
        for repair in encoder.finish_frame(strength) {
            if !lost(&mut random) {
                for found in decoder.handle_repair(&repair) {
                    missing.retain(|(_, lost)| *lost != found.sequence_number);
                }
            }
        }
        whole += usize::from(number < late || !missing.iter().any(|(of, _)| of + late == number));
        missing.retain(|(of, _)| of + 10 > number);
    }
    whole as f64 / frames as f64
}

#[test]
fn nearly_every_frame_is_whole_at_five_percent_and_soon_after_in_bursts() {
    let at_once = whole_frames(3, 0.05, 1.0, 8, 100, 0);
    assert!(at_once > 0.99, "{at_once}");
    let soon = whole_frames(3, 0.05, 1.0, 8, 100, 2);
    assert!(soon > 0.9995, "{soon}");
    let bursts = whole_frames(4, 0.10, 3.0, 8, 100, 3);
    assert!(bursts > 0.985, "{bursts}");
    let satellite = whole_frames(5, 0.01, 3.0, 8, 600, 3);
    assert!(satellite > 0.9985, "{satellite}");
}

#[test]
fn strength_follows_the_loss_and_never_takes_more_than_half() {
    let mut path = PathLoss::default();
    let at = |path: &PathLoss, packets, ms| {
        strength(packets, false, false, path, Some(Duration::from_millis(ms)), NARROW).repairs
    };
    path.handle_report(1000, 0, 0);
    assert_eq!((at(&path, 8, 100), at(&path, 8, 600)), (0, 5), "nothing is lost, yet");
    assert_eq!((at(&path, 4, 600), at(&path, 2, 600)), (0, 0), "not worth half of a narrow link");
    (0..10).for_each(|_| path.handle_report(1000, 0, 0));
    assert_eq!((at(&path, 8, 100), at(&path, 8, 600)), (0, 0), "nothing is lost");
    (0..10).for_each(|_| path.handle_report(1000, 50, 50));
    assert_eq!(at(&path, 8, 20), 0, "a retransmission is soon enough");
    assert_eq!([1, 2, 4, 8, 24].map(|k| at(&path, k, 100)), [1, 1, 2, 3, 5]);
    (0..10).for_each(|_| path.handle_report(1000, 100, 100));
    assert_eq!([1, 2, 4, 8, 24].map(|k| at(&path, k, 100)), [1, 2, 3, 4, 8]);
    assert!((path.loss() - 0.1).abs() < 0.01);
    for packets in 0..200 {
        assert!(at(&path, packets, 900) <= packets);
    }
    // Bursts get as much as takes to bridge them.
    let mut bursts = PathLoss::default();
    (0..10).for_each(|_| bursts.handle_report(1000, 10, 3));
    assert_eq!((at(&bursts, 8, 600), at(&bursts, 8, 100)), (5, 1));
    assert!(bursts.mean_run() > 3.0);
    let mut seldom = PathLoss::default();
    (0..10).for_each(|_| seldom.handle_report(1000, 4, 4));
    let wide = Bitrate::from_kbps(3_000);
    for (target, ms, repairs) in [(NARROW, 90, 0), (wide, 90, 2), (wide, 30, 0), (NARROW, 130, 1)] {
        let trip = Some(Duration::from_millis(ms));
        let found = strength(7, false, false, &seldom, trip, target).repairs;
        assert_eq!(found, repairs, "{target:?} and {ms} ms");
    }
    let trip = Some(Duration::from_millis(230));
    let small = |packets| strength(packets, false, false, &bursts, trip, NARROW);
    assert_eq!(strength(3, false, true, &bursts, trip, NARROW).repairs, 3, "few pictures a second");
    assert_eq!(
        (small(1), small(4)),
        (Strength::default(), Strength::default()),
        "slowed down over"
    );
    assert_eq!(small(5).repairs, 5);
    // And when the path is clean again, protection ends.
    (0..30).for_each(|_| bursts.handle_report(1000, 0, 0));
    assert_eq!(at(&bursts, 8, 600), 0);
}

#[test]
fn a_large_frame_and_a_jump_of_numbers_stay_within_the_window() {
    let mut random = StdRng::seed_from_u64(6);
    let mut encoder = FecEncoder::new(SSRC);
    for packet in frame(&mut random, 0, 200) {
        encoder.handle_media(&packet.media());
        assert!(encoder.open_packets() <= MAX_WINDOW);
    }
    let repair =
        encoder.finish_frame(Strength { repairs: 1, frames: 3 }).pop().expect("one repair");
    assert_eq!((repair[6..9].to_vec(), repair.len() > HEADER), (vec![0, 136, 64], true));
    let next = frame(&mut random, 1000, 1);
    encoder.handle_media(&next[0].media());
    let repair =
        encoder.finish_frame(Strength { repairs: 1, frames: 3 }).pop().expect("one repair");
    assert_eq!(repair[8], 1, "nothing from before the jump");
    assert!(
        FecEncoder::new(SSRC).finish_frame(Strength { repairs: 2, frames: 3 }).is_empty(),
        "nothing to protect"
    );
}

#[test]
fn a_packet_that_was_only_late_takes_part() {
    let mut random = StdRng::seed_from_u64(7);
    let packets = frame(&mut random, 10, 4);
    let mut encoder = FecEncoder::new(SSRC);
    packets.iter().for_each(|packet| encoder.handle_media(&packet.media()));
    let repairs = encoder.finish_frame(Strength { repairs: 1, frames: 1 });
    let mut decoder = FecDecoder::new(SSRC);
    decoder.handle_media(&packets[0].media());
    decoder.handle_media(&packets[3].media());
    assert!(decoder.handle_repair(&repairs[0]).is_empty());
    let recovered = decoder.handle_media(&packets[1].media());
    assert!(recovered.len() == 1 && packets[2].is(&recovered[0]));
    assert!(decoder.handle_media(&packets[2].media()).is_empty(), "known already");
}

#[test]
fn any_bytes_for_repairs_are_bounded_work() {
    let mut random = StdRng::seed_from_u64(8);
    let mut decoder = FecDecoder::new(SSRC);
    let mut number = 0u16;
    for _ in 0..20_000 {
        number = match random.random_range(0..50) {
            0 => random.random(),
            _ => number.wrapping_add(random.random_range(0..3)),
        };
        let mut payload = vec![0; random.random_range(0..60)];
        random.fill_bytes(&mut payload);
        if random.random_bool(0.5) {
            let media = Media {
                sequence_number: number,
                timestamp: random.random(),
                marker: false,
                payload_type: random.random(),
                payload: &payload,
            };
            decoder.handle_media(&media);
        } else if random.random_bool(0.9) && payload.len() > HEADER {
            payload[0] = VERSION;
            payload[2..6].copy_from_slice(&SSRC.to_be_bytes());
            payload[6..8].copy_from_slice(&number.wrapping_sub(5).to_be_bytes());
            payload[8] &= 15;
            decoder.handle_repair(&payload);
        } else {
            decoder.handle_repair(&payload);
        }
        assert!(decoder.pending() <= 32 && decoder.kept() <= 2 * 256 + MAX_WINDOW);
    }
    assert!(decoder.stats().malformed > 0 && decoder.stats().repairs > 5000);
}
