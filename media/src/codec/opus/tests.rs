//! Voice and music through both codecs.

use super::*;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use std::f32::consts::TAU;

/// Four vowels a second with pauses between them: what voice detection takes for speech.
fn voice(frame: usize) -> [f32; FRAME_SAMPLES] {
    std::array::from_fn(|at| {
        let t = (frame * FRAME_SAMPLES + at) as f32 / SAMPLE_RATE as f32;
        let pitch = 140.0 + 20.0 * (t * 3.0).sin();
        let vowel: f32 = (1..20).map(|n| (t * pitch * n as f32 * TAU).sin() / n as f32).sum();
        0.2 * vowel * (t * 4.0 * TAU).sin().max(0.0)
    })
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
}

fn packets(encoder: &mut OpusEncoder, count: usize) -> Vec<Bytes> {
    (0..count).map(|frame| encoder.encode(&voice(frame)).unwrap()).collect()
}

#[test]
fn a_tone_comes_back_as_the_same_tone() {
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(32)).unwrap();
    let mut decoder = OpusDecoder::new().unwrap();
    let mut sent = Vec::new();
    let mut heard = Vec::new();
    let mut out = [0.0; FRAME_SAMPLES];
    for frame in 0..50 {
        let samples = voice(frame);
        sent.extend_from_slice(&samples);
        let packet = encoder.encode(&samples).unwrap();
        assert_eq!(decoder.decode(&packet, &mut out).unwrap(), FRAME_SAMPLES);
        heard.extend_from_slice(&out);
    }
    let sent = &sent[9600..40_000];
    // Opus looks ahead 6.5 ms (312 samples) and shifts phases a little.
    let best = (250..400)
        .map(|lag| {
            let heard = &heard[9600 + lag..40_000 + lag];
            let product: f32 = sent.iter().zip(heard).map(|(a, b)| a * b).sum();
            product / (energy(sent) * energy(heard)).sqrt() / sent.len() as f32
        })
        .fold(0.0, f32::max);
    assert!(best > 0.8, "correlation {best}");
}

#[test]
fn the_bitrate_follows_its_setting() {
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(32)).unwrap();
    let rate = |encoder: &mut OpusEncoder| {
        packets(encoder, 100).iter().map(|packet| packet.len() * 8).sum::<usize>() / 2000
    };
    let high = rate(&mut encoder);
    encoder.set_bitrate(Bitrate::from_kbps(12)).unwrap();
    let low = rate(&mut encoder);
    // Pauses take less than their share.
    assert!((18..=36).contains(&high) && (7..=14).contains(&low), "{high}, then {low} kbit/s");
}

#[test]
fn a_lost_packet_is_recovered_from_the_next_better_than_concealed() {
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(32)).unwrap();
    encoder.set_packet_loss_perc(20).unwrap();
    let packets = packets(&mut encoder, 100);
    let run = |lost: fn(usize) -> bool, fec: bool| {
        let mut decoder = OpusDecoder::new().unwrap();
        let mut heard = Vec::new();
        let mut out = [0.0; FRAME_SAMPLES];
        for (index, packet) in packets.iter().enumerate() {
            match packets.get(index + 1) {
                Some(next) if lost(index) && fec => decoder.decode_fec(next, &mut out).unwrap(),
                _ if lost(index) => decoder.conceal(&mut out).unwrap(),
                _ => assert_eq!(decoder.decode(packet, &mut out).unwrap(), FRAME_SAMPLES),
            }
            heard.extend_from_slice(&out);
        }
        heard
    };
    let whole = run(|_| false, false);
    let damage =
        |heard: &[f32]| energy(&whole.iter().zip(heard).map(|(a, b)| a - b).collect::<Vec<_>>());
    let recovered = damage(&run(|index| index % 7 == 3, true));
    let concealed = damage(&run(|index| index % 7 == 3, false));
    assert!(recovered < concealed / 2.0, "recovered {recovered}, concealed {concealed}");
}

#[test]
fn stereo_and_long_packets_are_heard_in_mono() {
    let mut encoder =
        opus::Encoder::new(SAMPLE_RATE, Channels::Stereo, Application::Audio).unwrap();
    let mut decoder = OpusDecoder::new().unwrap();
    let mut out = [0.0; LONGEST_PACKET_SAMPLES];
    for milliseconds in [10, 20, 40, 60] {
        let samples = 48 * milliseconds;
        let tone: Vec<f32> = (0..2 * samples).map(|at| (at as f32 * 0.05).sin() * 0.5).collect();
        let packet = encoder.encode_vec_float(&tone, 4000).unwrap();
        assert_eq!(decoder.decode(&packet, &mut out).unwrap(), samples);
    }
    assert!(energy(&out[..2000]) > 0.01);
    let long = encoder.encode_vec_float(&vec![0.1; 2 * 2880], 4000).unwrap();
    let mut short = [0.0; FRAME_SAMPLES];
    let refused = decoder.decode(&long, &mut short).unwrap_err();
    assert!(refused.to_string().contains("2880 samples where 960"), "{refused}");
}

/// 20 ms of a tone on the left and another, half as loud, on the right.
fn chord(frame: usize) -> Vec<f32> {
    let tone = |at: usize, hertz: f32| {
        let turns = (at as f64 * f64::from(hertz) / f64::from(SAMPLE_RATE)).fract() as f32;
        (turns * TAU).sin()
    };
    (frame * FRAME_SAMPLES..(frame + 1) * FRAME_SAMPLES)
        .flat_map(|at| [0.4 * tone(at, 440.0), 0.2 * tone(at, 650.0)])
        .collect()
}

fn side(samples: &[f32], channel: usize) -> Vec<f32> {
    samples.iter().skip(channel).step_by(2).copied().collect()
}

#[test]
fn what_is_on_the_left_only_stays_there() {
    let mut encoder = OpusEncoder::stereo(Bitrate::from_kbps(64)).unwrap();
    encoder.set_music(true).unwrap();
    let (mut wide, mut narrow) = (OpusDecoder::stereo().unwrap(), OpusDecoder::new().unwrap());
    let (mut both, mut mixed) = (Vec::new(), Vec::new());
    for frame in 0..50 {
        let mut sound = chord(frame);
        sound.as_chunks_mut::<2>().0.iter_mut().for_each(|[_, right]| *right = 0.0);
        let packet = encoder.encode(&sound).unwrap();
        let mut out = [0.0; 2 * FRAME_SAMPLES];
        assert_eq!(wide.decode(&packet, &mut out).unwrap(), 2 * FRAME_SAMPLES);
        both.extend_from_slice(&out);
        assert_eq!(narrow.decode(&packet, &mut out).unwrap(), FRAME_SAMPLES);
        mixed.extend_from_slice(&out[..FRAME_SAMPLES]);
    }
    let [left, right] = [0, 1].map(|channel| energy(&side(&both, channel)[9600..]));
    assert!((left / 0.08 - 1.0).abs() < 0.1, "{left}");
    assert!(right < left / 10_000.0, "{right} of {left}");
    // To one channel, it is half as loud.
    let mixed = energy(&mixed[9600..]) / left;
    assert!((mixed - 0.25).abs() < 0.03, "{mixed}");
    assert_eq!((wide.channels(), narrow.channels()), (2, 1));
}

#[test]
fn mono_is_decoded_to_one_channel() {
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(32)).unwrap();
    let mut decoder = OpusDecoder::stereo().unwrap();
    let mut out = [0.0; FRAME_SAMPLES];
    for packet in packets(&mut encoder, 20) {
        assert_eq!(decoder.decode(&packet, &mut out).unwrap(), FRAME_SAMPLES);
        decoder.decode_fec(&packet, &mut out).unwrap();
        decoder.conceal(&mut out).unwrap();
        assert_eq!(decoder.channels(), 1);
    }
}

/// As it is where a link becomes wider, narrower and wider again.
#[test]
fn a_change_between_mono_and_stereo_is_not_heard() {
    let mut encoder = OpusEncoder::stereo(Bitrate::from_kbps(64)).unwrap();
    let mut decoder = OpusDecoder::stereo().unwrap();
    let mut all_along = start_decoder(Channels::Stereo).unwrap();
    let (mut heard, mut reference) = (Vec::new(), Vec::new());
    for frame in 0..200 {
        encoder.set_music(frame / 40 % 2 == 1).unwrap();
        let packet = encoder.encode(&chord(frame)).unwrap();
        let mut out = [0.0; 2 * FRAME_SAMPLES];
        let written = decoder.decode(&packet, &mut out).unwrap();
        match decoder.channels() {
            1 => heard.extend(out[..written].iter().flat_map(|sample| [*sample; 2])),
            _ => heard.extend_from_slice(&out[..written]),
        }
        all_along.decode_float(&packet, &mut out, false).unwrap();
        reference.extend_from_slice(&out);
    }
    let off: Vec<f32> = heard.iter().zip(&reference).map(|(a, b)| a - b).collect();
    let worst = off.chunks(480).map(energy).fold(0.0, f32::max);
    let below = 10.0 * (energy(&reference) / worst).log10();
    println!("the worst 5 ms are {below:.1} dB below");
    assert!(below > 20.0, "{below} dB");
}

#[test]
fn garbage_is_refused_or_decoded_to_bounded_sound() {
    let mut random = StdRng::seed_from_u64(7);
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(32)).unwrap();
    let honest = packets(&mut encoder, 10);
    let mut decoder = OpusDecoder::stereo().unwrap();
    let mut out = [0.0; 2 * LONGEST_PACKET_SAMPLES];
    let mut frame = [0.0; 2 * FRAME_SAMPLES];
    for round in 0..3000 {
        let mut packet = if round % 2 == 0 {
            honest[round % honest.len()].to_vec()
        } else {
            vec![0; random.random_range(0..400)]
        };
        if round % 2 == 0 {
            let at = random.random_range(0..packet.len());
            packet[at] ^= random.random::<u8>();
        } else {
            random.fill_bytes(&mut packet);
        }
        let written = decoder.decode(&packet, &mut out).unwrap_or(0);
        assert!(out[..written].iter().all(|sample| sample.abs() <= 1.0));
        let _ = decoder.decode_fec(&packet, &mut frame);
        assert!(frame.iter().all(|sample| sample.abs() <= 1.0));
    }
    assert!(decoder.decode(&[], &mut out).unwrap_err().to_string().contains("empty"));
    assert!(decoder.decode(&vec![0; 9000], &mut out).is_err());
}
