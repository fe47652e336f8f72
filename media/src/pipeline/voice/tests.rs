use std::collections::VecDeque;
use std::f32::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::codec::opus::{LONGEST_PACKET_SAMPLES, OpusDecoder};
use crate::pipeline::audio_receive::AudioInlet;
use crate::rtp::assemble::RtpPacket;
use crate::rtp::loss_runs::LossRuns;
use crate::sound::jitter::{JitterStats, Playout};
use crate::stats::Counters;

const RED: u8 = 63;

/// Vowels over a little noise; where `speaks` is false the noise alone.
fn frame(n: u32, speaks: bool, random: &mut StdRng) -> [f32; FRAME_SAMPLES] {
    std::array::from_fn(|at| {
        let t = (n as f32 * FRAME_SAMPLES as f32 + at as f32) / 48_000.0;
        let pitch = 140.0 + 20.0 * (t * 3.0).sin();
        let vowel: f32 = (1..15).map(|k| (t * pitch * k as f32 * TAU).sin() / k as f32).sum();
        let voice = 0.2 * vowel * (t * 4.0 * TAU).sin().max(0.0);
        (if speaks { voice } else { 0.0 }) + random.random_range(-0.003..0.003)
    })
}

/// A line that loses packets, singly or in runs (Gilbert), after 50 ms with a little jitter.
struct Line {
    random: StdRng,
    loss: f64,
    run: f64,
    losing: bool,
    latest: f64,
}

impl Line {
    fn new(seed: u64, loss: f64, run: f64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), loss, run, losing: false, latest: 0.0 }
    }

    /// When what is sent at `now` arrives, in milliseconds.
    fn carry(&mut self, now: f64) -> Option<f64> {
        let draw: f64 = self.random.random();
        self.losing = if self.run <= 1.0 {
            draw < self.loss
        } else if self.losing {
            draw >= 1.0 / self.run
        } else {
            draw < self.loss / self.run / (1.0 - self.loss)
        };
        self.latest = self.latest.max(now + 50.0 + self.random.random_range(0.0..5.0));
        (!self.losing).then_some(self.latest)
    }
}

struct Outcome {
    stats: JitterStats,
    concealed_percent: f64,
    kbps: f64,
    packets: u32,
    plan: Plan,
}

/// One end speaks for so many seconds to another that plays in blocks of 20 ms; the target is
/// what congestion control always says.
fn call(seconds: u32, line: &mut Line, red: Option<u8>, target_kbps: u64) -> Outcome {
    let begin = Instant::now();
    let at = |ms: f64| begin + Duration::from_micros((ms * 1000.0) as u64);
    let mut voice = Voice::new(begin, 1).expect("Opus");
    let inlet = AudioInlet::new(Arc::new(Counters::new()));
    let mut losses = LossRuns::default();
    let mut random = StdRng::seed_from_u64(1);
    let mut arrivals: VecDeque<(f64, RtpPacket, bool)> = VecDeque::new();
    let mut feedback: VecDeque<(f64, u16, bool)> = VecDeque::new();
    let (mut number, mut bytes, mut poll_at, mut concealed_at_10) = (0u16, 0, 7.0, 0);
    for n in 0..seconds * 50 {
        let now = f64::from(n) * 20.0;
        while feedback.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, number, arrived)) = feedback.pop_front() else { break };
            losses.handle_feedback(number, [arrived]);
        }
        let path = Path {
            red,
            loss: losses.loss(),
            target: Some(Bitrate::from_kbps(target_kbps)),
            stereo: true,
        };
        let sound = frame(n, true, &mut random);
        if let Some(packet) = voice.push(at(now), &sound, n * 960, &path).expect("Opus") {
            bytes += packet.payload.len();
            losses.handle_sent(number);
            let due = line.carry(now);
            feedback.push_back((now + 150.0, number, due.is_some()));
            if let Some(due) = due {
                let is_red = packet.payload_type == Some(RED);
                let packet = RtpPacket {
                    sequence_number: number,
                    timestamp: packet.timestamp,
                    marker: packet.marker,
                    payload: packet.payload,
                };
                arrivals.push_back((due, packet, is_red));
            }
            number += 1;
        }
        while poll_at < now + 20.0 {
            while arrivals.front().is_some_and(|(due, ..)| *due <= poll_at) {
                let Some((due, packet, is_red)) = arrivals.pop_front() else { break };
                inlet.push(at(due), packet, is_red);
            }
            poll_at += match inlet.buffer().poll_frame(at(poll_at)) {
                Playout::Play { payload, .. } => {
                    OpusDecoder::packet_samples(&payload).expect("valid") as f64 / 48.0
                }
                Playout::Fec { samples, .. } => samples as f64 / 48.0,
                _ => 20.0,
            };
        }
        if n == 500 {
            concealed_at_10 = inlet.buffer().stats().concealed_ms;
        }
    }
    let stats = inlet.buffer().stats();
    let heard = f64::from(seconds - 10) * 1000.0;
    Outcome {
        stats,
        concealed_percent: (stats.concealed_ms - concealed_at_10) as f64 / heard * 100.0,
        kbps: bytes as f64 * 8.0 / f64::from(seconds) / 1000.0,
        packets: u32::from(number),
        plan: voice.plan,
    }
}

#[test]
fn of_five_percent_single_losses_next_to_nothing_is_concealed() {
    // Opus' own FEC copies only frames of voice, and half of ours are between vowels.
    for (red, most) in [(Some(RED), 0.5), (None, 2.5)] {
        let outcome = call(60, &mut Line::new(3, 0.05, 1.0), red, 2000);
        println!("RED {red:?}: {:.2} %, {:.0} kbit/s", outcome.concealed_percent, outcome.kbps);
        assert!(outcome.concealed_percent <= most, "{:.2} %", outcome.concealed_percent);
        assert!(outcome.stats.recovered_ms > 1500, "{:?}", outcome.stats);
        assert_eq!(outcome.plan.red.is_empty(), red.is_none());
        assert!(outcome.kbps < if red.is_some() { 110.0 } else { 45.0 }, "{}", outcome.kbps);
    }
}

#[test]
fn of_ten_percent_in_runs_of_three_little_is_concealed() {
    let outcome = call(120, &mut Line::new(4, 0.10, 3.0), Some(RED), 2000);
    println!("{:.2} %, {:.0} kbit/s, {:?}", outcome.concealed_percent, outcome.kbps, outcome.stats);
    assert_eq!(outcome.plan.red, [2, 4]);
    assert!(outcome.concealed_percent <= 2.0, "{:.2} %", outcome.concealed_percent);
}

#[test]
fn a_clean_line_carries_nothing_twice() {
    let outcome = call(20, &mut Line::new(5, 0.0, 1.0), Some(RED), 2000);
    assert!(outcome.kbps < 45.0, "{} kbit/s", outcome.kbps);
    assert_eq!((outcome.plan.red, outcome.stats.recovered_ms), (&[][..], 0));
    assert!(outcome.stats.concealed_ms <= 40, "{:?}", outcome.stats);
}

#[test]
fn a_narrow_line_carries_a_third_of_the_packets_and_loses_as_little() {
    let outcome = call(40, &mut Line::new(6, 0.0, 1.0), Some(RED), 150);
    assert!((660..=690).contains(&outcome.packets), "{} packets", outcome.packets);
    assert!(outcome.kbps < 28.0, "{} kbit/s", outcome.kbps);
    assert!(outcome.concealed_percent <= 0.1, "{:?}", outcome.stats);
    let lossy = call(60, &mut Line::new(7, 0.03, 1.0), Some(RED), 150);
    println!("{:.2} %, {:?}", lossy.concealed_percent, lossy.stats);
    assert!(lossy.concealed_percent <= 1.5, "{:?}", lossy.stats);
}

/// Two seconds of voice, three of the noise behind it, and voice again.
#[test]
fn a_pause_is_not_sent_and_sounds_like_the_noise_behind_the_voice() {
    let begin = Instant::now();
    let mut voice = Voice::new(begin, 1).expect("Opus");
    let inlet = AudioInlet::new(Arc::new(Counters::new()));
    let path = Path { red: None, loss: None, target: Some(Bitrate::from_kbps(100)), stereo: true };
    let mut decoder = OpusDecoder::new().expect("Opus");
    let mut random = StdRng::seed_from_u64(2);
    let (mut sent, mut sequence_number, mut poll_at) = ([0; 2], 0, 7u32);
    let (mut comfort, mut noise) = (Vec::new(), Vec::new());
    let mut sound = [0.0; LONGEST_PACKET_SAMPLES];
    for n in 0..350u32 {
        let speaks = !(100..250).contains(&n);
        let now = begin + Duration::from_millis(20) * n;
        let captured = frame(n, speaks, &mut random);
        if (150..250).contains(&n) {
            noise.extend_from_slice(&captured);
        }
        if let Some(packet) = voice.push(now, &captured, n * 960, &path).expect("Opus") {
            sent[usize::from((130..250).contains(&n))] += 1;
            let packet = RtpPacket {
                sequence_number,
                timestamp: packet.timestamp,
                marker: packet.marker,
                payload: packet.payload,
            };
            sequence_number += 1;
            inlet.push(now, packet, false);
        }
        while poll_at < (n + 1) * 20 {
            let playout = inlet.buffer().poll_frame(begin + Duration::from_millis(poll_at.into()));
            let samples = match playout {
                Playout::Play { payload, .. } => {
                    decoder.decode(&payload, &mut sound).expect("valid")
                }
                Playout::Fec { .. } => panic!("nothing is lost"),
                Playout::Conceal | Playout::Comfort | Playout::Silence => {
                    decoder.conceal(&mut sound[..FRAME_SAMPLES]).expect("conceals");
                    FRAME_SAMPLES
                }
            };
            if (170..240).contains(&n) {
                comfort.extend_from_slice(&sound[..samples]);
            }
            poll_at += samples as u32 / 48;
        }
    }
    let db = crate::pipeline::audio_send::dbfs;
    println!("{sent:?} packets; noise {:.1}, comfort {:.1} dBFS", db(&noise), db(&comfort));
    assert!(sent[1] <= 12, "{} packets in 2.4 s of pause", sent[1]);
    assert!((db(&comfort) - db(&noise)).abs() < 10.0, "{} and {}", db(&comfort), db(&noise));
    let stats = inlet.buffer().stats();
    assert!(stats.concealed_ms <= 60 && stats.lost == 0, "{stats:?}");
}
