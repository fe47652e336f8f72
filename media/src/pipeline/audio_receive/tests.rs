//! From captured frames to what a speaker is given, in fake time.

use std::collections::VecDeque;
use std::f32::consts::TAU;

use super::*;
use crate::pipeline::voice::{Path, Voice};
use crate::units::Bitrate;

const LEFT: f32 = 440.0;
const RIGHT: f32 = 650.0;

/// 20 ms of one tone on the left and another on the right, or of both mixed.
fn frame(n: u32, channels: usize) -> Vec<f32> {
    let tone = |at: u32, hertz: f32| {
        0.3 * (TAU * (f64::from(at) * f64::from(hertz) / 48_000.0).fract() as f32).sin()
    };
    let both = (n * 960..(n + 1) * 960).map(|at| [tone(at, LEFT), tone(at, RIGHT)]);
    match channels {
        2 => both.flatten().collect(),
        _ => both.map(|[left, right]| (left + right) / 2.0).collect(),
    }
}

/// How loud a tone is there.
fn amplitude(samples: &[f32], hertz: f32) -> f32 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let turn = TAU * (at as f64 * f64::from(hertz) / 48_000.0).fract() as f32;
        sine += sample * turn.sin();
        cosine += sample * turn.cos();
    }
    (sine * sine + cosine * cosine).sqrt() * 2.0 / samples.len() as f32
}

/// What was played: left, right, and how many channels each piece had.
#[derive(Default)]
struct Heard {
    sides: [Vec<f32>; 2],
    pieces: Vec<(usize, usize)>,
    stats: crate::sound::jitter::JitterStats,
}

impl Heard {
    /// By how many dB each tone is louder on its own side than on the other, over so many samples
    /// from `begin` on; the worse of both.
    fn apart(&self, begin: usize, len: usize) -> f32 {
        let [left, right] = self.sides.each_ref().map(|side| &side[begin..begin + len]);
        let ratio = |own: &[f32], other: &[f32], hertz| {
            20.0 * (amplitude(own, hertz) / amplitude(other, hertz).max(1e-6)).log10()
        };
        ratio(left, right, LEFT).min(ratio(right, left, RIGHT))
    }
}

/// What is sent in frame `n`: the target in kbit/s.
type Target = fn(u32) -> u64;

/// When a packet that leaves at so many ms arrives, if it does.
type Line = fn(u32) -> Option<u32>;

/// `channels` captured for so many frames, sent to an end that likes stereo or not, and played.
fn call(
    frames: u32,
    channels: usize,
    likes: bool,
    wide: bool,
    target: Target,
    line: Line,
) -> Heard {
    let begin = Instant::now();
    let at = |ms: u32| begin + Duration::from_millis(ms.into());
    let mut voice = Voice::new(begin, channels).expect("Opus");
    let inlet = Arc::new(AudioInlet::new(Arc::new(Counters::new())));
    let mut player = Player::new(wide).expect("Opus");
    player.follow(Some(Arc::clone(&inlet)));
    let mut arrivals: VecDeque<(u32, RtpPacket)> = VecDeque::new();
    let (mut sequence_number, mut poll_at) = (0, 7 * 48);
    let mut heard = Heard::default();
    for n in 0..frames {
        let path =
            Path { target: Some(Bitrate::from_kbps(target(n))), stereo: likes, ..Path::default() };
        let packet = voice.push(at(n * 20), &frame(n, channels), n * 960, &path).expect("Opus");
        if let Some(packet) = packet {
            if let Some(due) = line(n * 20) {
                let packet = RtpPacket {
                    sequence_number,
                    timestamp: packet.timestamp,
                    marker: packet.marker,
                    payload: packet.payload,
                };
                arrivals.push_back((due, packet));
            }
            sequence_number += 1;
        }
        while poll_at < (n + 1) * 960 {
            while arrivals.front().is_some_and(|(due, _)| due * 48 <= poll_at) {
                let Some((due, packet)) = arrivals.pop_front() else { break };
                inlet.push(at(due), packet, false);
            }
            let sound = player.next_frame(at(poll_at / 48), Duration::ZERO);
            for frame in sound.samples.chunks(sound.channels) {
                heard.sides[0].push(frame[0]);
                heard.sides[1].push(frame[sound.channels - 1]);
            }
            heard.pieces.push((sound.channels, sound.frames()));
            poll_at += sound.frames() as u32;
        }
    }
    heard.stats = inlet.buffer().stats();
    heard
}

const SECOND: usize = 48_000;

#[test]
fn each_side_stays_where_it_is_through_losses_and_stretching() {
    // One packet in 25 is lost; the way becomes longer and shorter again every two seconds.
    let line = |sent: u32| {
        let lost = sent / 20 % 25 == 7;
        (!lost).then_some(sent + 20 + if sent / 2000 % 2 == 1 { 70 } else { 0 })
    };
    let heard = call(1000, 2, true, true, |_| 2000, line);
    let stretched = heard.pieces.iter().filter(|(_, frames)| *frames != 960).count();
    println!("{stretched} pieces stretched, {:?}", heard.stats);
    assert!(stretched >= 5 && heard.stats.lost >= 20, "{stretched}, {:?}", heard.stats);
    assert!(heard.pieces[10..].iter().all(|(channels, _)| *channels == 2));
    // Of every second, whatever happened in it.
    for second in 1..18 {
        let apart = heard.apart(second * SECOND, SECOND / 4);
        assert!(apart > 20.0, "{apart:.1} dB apart in second {second}");
    }
}

#[test]
fn a_narrow_link_makes_one_voice_of_it_and_a_wide_one_two_channels_again() {
    // Wide, narrow and wide again, for four seconds each.
    let target = |n| if (200..400).contains(&n) { 100 } else { 2000 };
    let heard = call(600, 2, true, true, target, |sent: u32| Some(sent + 20));
    for (from, to, least, most) in [(1, 4, 30.0, 100.0), (5, 8, -1.0, 1.0), (9, 11, 30.0, 100.0)] {
        for second in from..to {
            let apart = heard.apart(second * SECOND, SECOND / 2);
            assert!((least..=most).contains(&apart), "{apart:.1} dB in second {second}");
        }
    }
    for second in 1..11 {
        let loud = amplitude(&heard.sides[0][second * SECOND..][..SECOND / 2], LEFT);
        assert!(loud > 0.1, "{loud} in second {second}");
    }
}

#[test]
fn an_end_that_does_not_like_stereo_and_a_sink_of_one_channel_get_mono() {
    let good = |sent: u32| Some(sent + 20);
    // Captured in one channel; not liked; one speaker.
    for (channels, likes, wide) in [(1, true, true), (2, false, true), (2, true, false)] {
        let heard = call(150, channels, likes, wide, |_| 2000, good);
        assert!(heard.pieces.iter().all(|(channels, _)| *channels == 1));
        for hertz in [LEFT, RIGHT] {
            let loud = amplitude(&heard.sides[0][SECOND..2 * SECOND], hertz);
            assert!((loud - 0.15).abs() < 0.02, "{hertz} Hz at {loud}");
        }
    }
}

#[test]
fn the_echo_cancellers_share_is_the_mean() {
    let stereo = Sound { samples: &[0.5, 0.25, -1.0, 1.0], channels: 2 };
    assert!(stereo.mono().eq([0.375, 0.0]));
    let mono = Sound { samples: &[0.5, 0.25], channels: 1 };
    assert!(mono.mono().eq([0.5, 0.25]));
}
