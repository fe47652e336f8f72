//! The encoder against the decoder.

use super::*;
use crate::codec::scene::{FPS, Scene};
use crate::codec::video::EncoderConfig;
use crate::codec::{CodecError, Decoded, EncodedPicture};
use crate::frame::{Frame, FramePool};
use crate::picture::scale;
use crate::strip;
use crate::units::Bitrate;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

fn encoder(width: u32, height: u32, kbps: u64) -> Vp8Encoder {
    let bitrate = Bitrate::from_kbps(kbps);
    Vp8Encoder::new(EncoderConfig { width, height, max_fps: FPS, bitrate, quantizer_floor: 2 })
        .unwrap()
}

fn encode(encoder: &mut Vp8Encoder, frame: &Frame, force: bool) -> EncodedPicture {
    encoder.encode(frame, force).unwrap().expect("no picture is skipped")
}

fn picture(decoded: Decoded) -> Frame {
    match decoded {
        Decoded::Picture(frame) => frame,
        other => panic!("{other:?} where a picture was due"),
    }
}

#[test]
fn each_picture_comes_out_at_once_and_a_key_frame_when_asked_for() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(640, 360, 800), Vp8Decoder::new().unwrap());
    for number in 0..20 {
        let encoded = encode(&mut encoder, &scene.next(640, 360), number == 11);
        assert_eq!(encoded.key_frame, number == 0 || number == 11);
        let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
        assert_eq!((shown.width(), shown.height()), (640, 360));
        assert_eq!(strip::read(&shown), Some(number));
        let [_, u, v] = shown.planes();
        let middle = u.len() / 2 + 100;
        assert!(u[middle].abs_diff(110) < 6 && v[middle].abs_diff(140) < 6);
    }
    // A late joiner starts at the key frame alone.
    let mut late = Vp8Decoder::new().unwrap();
    let inter = encode(&mut encoder, &scene.next(640, 360), false);
    assert!(matches!(late.decode(&inter.data, &scene.pool), Ok(Decoded::Damaged)));
    let key = encode(&mut encoder, &scene.next(640, 360), true);
    assert_eq!(strip::read(&picture(late.decode(&key.data, &scene.pool).unwrap())), Some(21));
}

/// Bits per second over the last of three seconds.
fn settled_rate(encoder: &mut Vp8Encoder, scene: &mut Scene, width: u32, height: u32) -> f64 {
    let sizes: Vec<usize> = (0..90)
        .map(|_| encode(encoder, &scene.next(width, height), false).data.len() * 8)
        .collect();
    sizes[60..].iter().sum::<usize>() as f64 / 1000.0
}

#[test]
fn the_bitrate_can_be_lowered_and_raised_far_above_the_first() {
    let mut scene = Scene::new();
    let mut encoder = encoder(640, 360, 300);
    for kbps in [300, 1500, 300, 3000] {
        encoder.set_bitrate(Bitrate::from_kbps(kbps)).unwrap();
        let rate = settled_rate(&mut encoder, &mut scene, 640, 360);
        let share = rate / kbps as f64;
        assert!((0.7..1.25).contains(&share), "{rate:.0} of {kbps} kbit/s");
    }
}

#[test]
fn a_coarser_floor_saves_what_nobody_sees() {
    let mut scene = Scene::new();
    let mut encoder = encoder(320, 180, 8_000);
    let fine = settled_rate(&mut encoder, &mut scene, 320, 180);
    encoder.set_quantizer_floor(30).unwrap();
    let next = encode(&mut encoder, &scene.next(320, 180), false);
    assert!(!next.key_frame);
    let coarse = settled_rate(&mut encoder, &mut scene, 320, 180);
    assert!(coarse < fine * 0.5, "{fine:.0}, then {coarse:.0} kbit/s");
}

#[test]
fn another_size_starts_with_a_key_frame_and_the_decoder_goes_on() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(640, 360, 600), Vp8Decoder::new().unwrap());
    let sizes = [(640, 360), (640, 360), (320, 180), (320, 180), (1280, 720), (177, 145)];
    let mut last = (0, 0);
    for (number, (width, height)) in (0..).zip(sizes) {
        let encoded = encode(&mut encoder, &scene.next(width, height), false);
        assert_eq!(encoded.key_frame, (width, height) != last, "{width}x{height}");
        assert_eq!((encoded.width, encoded.height), (width, height));
        let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
        assert_eq!((shown.width(), shown.height()), (width, height));
        assert_eq!(strip::read(&shown), Some(number));
        last = (width, height);
    }
    assert_eq!(encoder.config().bitrate, Bitrate::from_kbps(600));
}

#[test]
fn sizes_no_encoder_takes_are_refused_with_the_size() {
    let mut scene = Scene::new();
    let bitrate = Bitrate::from_kbps(100);
    let (width, height, max_fps) = (14, 9000, f32::NAN);
    let tiny = EncoderConfig { width, height, max_fps, bitrate, quantizer_floor: 0 };
    let refused = Vp8Encoder::new(tiny).err().expect("refused").to_string();
    assert!(refused.contains("14x9000"), "{refused}");
    let mut encoder = encoder(320, 180, 100);
    assert!(encoder.encode(&scene.next(15, 2), false).is_err());
    assert_eq!(encode(&mut encoder, &scene.next(320, 180), true).width, 320);
}

#[test]
fn the_strip_survives_scaling_and_a_starved_encoder() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(320, 180, 60), Vp8Decoder::new().unwrap());
    for number in 0..30 {
        let small = scale::resize(&scene.next(1280, 720), 320, 180, &scene.pool);
        let encoded = encode(&mut encoder, &small, false);
        let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
        assert_eq!(strip::read(&shown), Some(number));
    }
}

#[test]
fn refused_pictures_say_why() {
    let pool = FramePool::new();
    let mut decoder = Vp8Decoder::new().unwrap();
    let mut refusal = |picture: &[u8]| match decoder.decode(picture, &pool) {
        Err(CodecError::Decode { reason, .. }) => reason,
        other => panic!("{other:?} where a refusal was due"),
    };
    assert!(refusal(&vec![0; 5 << 20]).contains("bytes are more than"));
    let huge = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f, 0, 0];
    assert!(refusal(&huge).contains("16383x16383"));
    assert!(matches!(decoder.decode(&[], &pool), Ok(Decoded::Nothing)));
    assert!(matches!(decoder.decode(b"not a stream", &pool), Ok(Decoded::Damaged)));
}

#[test]
fn broken_streams_never_end_the_process_and_a_key_frame_heals() {
    for seed in 0..3 {
        torment(seed);
    }
}

fn torment(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(320, 180, 400), Vp8Decoder::new().unwrap());
    let units: Vec<EncodedPicture> = (0..24)
        .map(|number| encode(&mut encoder, &scene.next(320, 180), number % 8 == 0))
        .collect();
    for round in 0..500 {
        let mut data = units[round % units.len()].data.to_vec();
        match random.random_range(0..4) {
            0 => data.truncate(random.random_range(0..data.len())),
            1 => {
                let from = random.random_range(0..data.len());
                let to = (from + random.random_range(0..64)).min(data.len());
                random.fill_bytes(&mut data[from..to]);
            }
            2 => {
                for _ in 0..random.random_range(1..6) {
                    let at = random.random_range(0..data.len());
                    data[at] ^= 1 << random.random_range(0..8);
                }
            }
            _ => random.fill_bytes(&mut data[3..]),
        }
        if let Ok(Decoded::Picture(frame)) = decoder.decode(&data, &scene.pool) {
            assert!(frame.width() <= 4096 && frame.height() <= 4096);
        }
    }
    let encoded = encode(&mut encoder, &scene.next(320, 180), true);
    let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
    assert_eq!(strip::read(&shown), Some(24), "seed {seed}");
}
