//! The encoder against the decoder.

use super::*;
use crate::annexb::nal_units;
use crate::codec::scene::{FPS, Scene};
use crate::codec::{CodecError, Decoded, EncodedPicture};
use crate::frame::{Frame, FramePool, Matrix};
use crate::picture::scale;
use crate::strip;
use crate::units::Bitrate;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

fn encoder(width: u32, height: u32, kbps: u64) -> H264Encoder {
    let bitrate = Bitrate::from_kbps(kbps);
    H264Encoder::new(H264Config { width, height, max_fps: FPS, bitrate, quantizer_floor: 0 })
        .unwrap()
}

fn encode(encoder: &mut H264Encoder, frame: &Frame, force: bool) -> EncodedPicture {
    encoder.encode(frame, force).unwrap().expect("no picture is skipped")
}

fn picture(decoded: Decoded) -> Frame {
    match decoded {
        Decoded::Picture(frame) => frame,
        other => panic!("{other:?} where a picture was due"),
    }
}

fn kinds(data: &[u8]) -> Vec<u8> {
    nal_units(data).map(|unit| unit[0] & 0x1f).collect()
}

#[test]
fn each_access_unit_gives_its_own_picture_at_once() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(640, 360, 800), H264Decoder::new().unwrap());
    for number in 0..20 {
        let encoded = encode(&mut encoder, &scene.next(640, 360), false);
        assert_eq!(encoded.key_frame, number == 0);
        let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
        assert_eq!((shown.width(), shown.height()), (640, 360));
        assert_eq!(strip::read(&shown), Some(number));
        let [_, u, v] = shown.planes();
        let middle = u.len() / 2 + 100;
        assert!(u[middle].abs_diff(110) < 6 && v[middle].abs_diff(140) < 6);
    }
}

#[test]
fn a_key_frame_comes_when_asked_for_with_its_parameter_sets() {
    let mut scene = Scene::new();
    let mut encoder = encoder(320, 180, 300);
    for number in 0..12 {
        let encoded = encode(&mut encoder, &scene.next(320, 180), number == 7);
        assert_eq!(encoded.key_frame, number == 0 || number == 7);
        let kinds = kinds(&encoded.data);
        if encoded.key_frame {
            assert_eq!(kinds, [7, 8, 5]);
            let sps = nal_units(&encoded.data).next().unwrap();
            assert_eq!((sps[1], sps[2] & 0x40, sps[3]), (66, 0x40, 31), "constrained baseline 3.1");
        } else {
            assert_eq!(kinds, [1]);
        }
    }
    // A late joiner starts at the key frame alone.
    let encoded = encode(&mut encoder, &scene.next(320, 180), true);
    let shown = H264Decoder::new().unwrap().decode(&encoded.data, &scene.pool).unwrap();
    assert_eq!(strip::read(&picture(shown)), Some(12));
}

#[test]
fn nothing_is_shown_between_a_lost_picture_and_the_next_key_frame() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(320, 180, 300), H264Decoder::new().unwrap());
    for number in 0..30 {
        let encoded = encode(&mut encoder, &scene.next(320, 180), number == 20);
        if number == 10 {
            continue;
        }
        let decoded = decoder.decode(&encoded.data, &scene.pool).unwrap();
        if (11..20).contains(&number) {
            assert!(matches!(decoded, Decoded::Damaged), "{number}: {decoded:?}");
        } else {
            assert_eq!(strip::read(&picture(decoded)), Some(number));
        }
    }
    let mut late = H264Decoder::new().unwrap();
    let encoded = encode(&mut encoder, &scene.next(320, 180), false);
    let decoded = late.decode(&encoded.data, &scene.pool).unwrap();
    assert!(matches!(decoded, Decoded::Damaged), "no parameter sets yet: {decoded:?}");
}

/// Bits per second over the last of three seconds.
fn settled_rate(encoder: &mut H264Encoder, scene: &mut Scene, width: u32, height: u32) -> f64 {
    let sizes: Vec<usize> = (0..90)
        .map(|_| encode(encoder, &scene.next(width, height), false).data.len() * 8)
        .collect();
    sizes[60..].iter().sum::<usize>() as f64 / 1000.0
}

#[test]
fn the_bitrate_can_be_lowered_and_raised_far_above_the_first() {
    let mut scene = Scene::new();
    let mut encoder = encoder(640, 360, 300);
    for kbps in [300, 1500, 200, 3000] {
        encoder.set_bitrate(Bitrate::from_kbps(kbps)).unwrap();
        let rate = settled_rate(&mut encoder, &mut scene, 640, 360);
        let share = rate / kbps as f64;
        assert!((0.7..1.25).contains(&share), "{rate:.0} of {kbps} kbit/s");
    }
}

/// Bytes of key frames every 80 pictures, of each with the seven after it, and of a second from there on.
fn key_frames(encoder: &mut H264Encoder) -> Vec<[usize; 3]> {
    let mut scene = Scene::new();
    let mut sizes = Vec::new();
    for number in 0..240 {
        let force = number % 80 == 0;
        let encoded = encode(encoder, &scene.next(640, 360), force);
        assert_eq!(encoded.key_frame, force);
        sizes.push(encoded.data.len());
    }
    let of = |chunk: &[usize]| [chunk[0], chunk[..8].iter().sum(), chunk[8..38].iter().sum()];
    sizes.chunks(80).map(of).collect()
}

#[test]
fn key_frames_for_a_narrow_link_are_smaller_and_nothing_pays_for_it() {
    let plain = key_frames(&mut encoder(640, 360, 800));
    let mut limited = encoder(640, 360, 800);
    limited.set_key_frame_size(6_000);
    let limited = key_frames(&mut limited);
    for ([whole, eight, second], [small, small_eight, small_second]) in
        plain.into_iter().zip(limited)
    {
        assert!(small * 4 < whole * 3, "{small} bytes in place of {whole}");
        assert!(small_eight < eight, "{small_eight} bytes in eight pictures, {eight} otherwise");
        let share = small_second as f64 / second as f64;
        assert!(share > 0.7, "{share:.2} of the bytes in the second after them");
    }
}

#[test]
fn half_the_frame_rate_gets_twice_the_bits_a_picture() {
    let mut scene = Scene::new();
    let mut encoder = encoder(640, 360, 600);
    let full = settled_rate(&mut encoder, &mut scene, 640, 360);
    encoder.set_frame_rate(15.0).unwrap();
    let half = settled_rate(&mut encoder, &mut scene, 640, 360);
    assert!((1.6..2.5).contains(&(half / full)), "{full:.0}, then {half:.0} kbit per 30 pictures");
}

#[test]
fn another_size_starts_with_a_key_frame_and_the_decoder_goes_on() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(640, 360, 600), H264Decoder::new().unwrap());
    let sizes =
        [(640, 360), (640, 360), (320, 180), (320, 180), (1280, 720), (177, 145), (176, 144)];
    let mut last = (0, 0);
    for (number, (width, height)) in (0..).zip(sizes) {
        let even = (width & !1, height & !1);
        let encoded = encode(&mut encoder, &scene.next(width, height), false);
        assert_eq!(encoded.key_frame, even != last, "{width}x{height}");
        assert_eq!((encoded.width, encoded.height), even);
        let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
        assert_eq!((shown.width(), shown.height()), even, "odd sizes lose their last line");
        assert_eq!(strip::read(&shown), Some(number));
        last = even;
    }
    assert_eq!(encoder.config().bitrate, Bitrate::from_kbps(600));
}

#[test]
fn sizes_no_encoder_takes_are_refused_with_the_size() {
    let mut scene = Scene::new();
    let bitrate = Bitrate::from_kbps(100);
    let (width, height, max_fps) = (14, 9000, f32::NAN);
    let tiny = H264Config { width, height, max_fps, bitrate, quantizer_floor: 0 };
    let refused = H264Encoder::new(tiny).err().expect("refused").to_string();
    assert!(refused.contains("14x9000"), "{refused}");
    let mut encoder = encoder(320, 180, 100);
    assert!(encoder.encode(&scene.next(15, 2), false).is_err());
    assert_eq!(encode(&mut encoder, &scene.next(320, 180), true).width, 320);
}

#[test]
fn the_colour_matrix_travels_with_the_stream() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(320, 180, 300), H264Decoder::new().unwrap());
    for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt601] {
        let mut frame = scene.next(320, 180);
        frame.matrix = matrix;
        let encoded = encode(&mut encoder, &frame, false);
        assert!(encoded.key_frame);
        let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
        assert_eq!(shown.matrix, matrix);
    }
}

#[test]
fn the_strip_survives_scaling_and_a_starved_encoder() {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(320, 180, 60), H264Decoder::new().unwrap());
    for number in 0..30 {
        let small = scale::resize(&scene.next(1280, 720), 320, 180, &scene.pool);
        let encoded = encode(&mut encoder, &small, false);
        let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
        assert_eq!(strip::read(&shown), Some(number));
    }
}

#[test]
fn refused_streams_say_why() {
    let pool = FramePool::new();
    let mut decoder = H264Decoder::new().unwrap();
    let mut refusal = |stream: &[u8]| match decoder.decode(stream, &pool) {
        Err(CodecError::Decode { reason, .. }) => reason,
        other => panic!("{other:?} where a refusal was due"),
    };
    assert!(refusal(&[0, 0, 1, 0x6f, 1, 2, 3]).contains("type 15"));
    assert!(refusal(&vec![0; 5 << 20]).contains("bytes are more than"));
    let huge: Vec<u8> = [0, 0, 0, 1].into_iter().chain(sps::tests::huge()).collect();
    assert!(refusal(&huge).contains("16384x16384"));
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
    let (mut encoder, mut decoder) = (encoder(320, 180, 400), H264Decoder::new().unwrap());
    let units: Vec<EncodedPicture> = (0..24)
        .map(|number| encode(&mut encoder, &scene.next(320, 180), number % 8 == 0))
        .collect();
    let mut clean = 0;
    for round in 0..500 {
        let mut data = units[round % units.len()].data.to_vec();
        match random.random_range(0..6) {
            0 => data.truncate(random.random_range(0..data.len())),
            1 => {
                let from = random.random_range(0..data.len());
                let to = (from + random.random_range(0..64)).min(data.len());
                random.fill_bytes(&mut data[from..to]);
            }
            2 | 3 => {
                for _ in 0..random.random_range(1..6) {
                    let at = random.random_range(0..data.len());
                    data[at] ^= 1 << random.random_range(0..8);
                }
            }
            4 => {
                let other = &units[random.random_range(0..units.len())].data;
                data.extend_from_slice(other);
            }
            _ => random.fill_bytes(&mut data[5..]),
        }
        if let Ok(Decoded::Picture(frame)) = decoder.decode(&data, &scene.pool) {
            assert!(frame.width() <= 4096 && frame.height() <= 4096);
            clean += 1;
        }
    }
    assert!(clean > 0, "seed {seed}");
    let encoded = encode(&mut encoder, &scene.next(320, 180), true);
    let shown = picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
    assert_eq!(strip::read(&shown), Some(24), "seed {seed}");
}

#[test]
fn start_codes_of_both_lengths_part_the_units() {
    let stream = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 3, 0, 0];
    let units: Vec<&[u8]> = nal_units(&stream).collect();
    assert_eq!(units, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
    assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
    assert_eq!(nal_units(&[]).count(), 0);
}

/// Encodes 90 pictures, of which `lost` never arrive. Confirmations take `late` pictures, and so
/// do requests. Returns the numbers of the pictures shown, and the sizes of all.
fn with_references(
    lost: std::ops::Range<u32>,
    confirm: bool,
    late: usize,
) -> (Vec<u32>, Vec<usize>) {
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(640, 360, 800), H264Decoder::new().unwrap());
    // Has everything: what recovers is to be bit-exact, and this one never had to.
    let mut whole = H264Decoder::new().unwrap();
    let (mut shown, mut sizes) = (Vec::new(), Vec::new());
    let mut confirmed: Vec<(usize, Reference)> = Vec::new();
    let mut asked: Option<(usize, Reference, u16)> = None;
    let mut good = None;
    for number in 0..90u32 {
        let now = number as usize;
        confirmed.retain(|(due, reference)| {
            if *due == now {
                encoder.confirm_reference(*reference).unwrap();
            }
            *due > now
        });
        if let Some((_, good, damaged)) = asked.filter(|(due, ..)| *due == now) {
            encoder.recover(good, damaged).unwrap();
        }
        let encoded = encode(&mut encoder, &scene.next(640, 360), false);
        sizes.push(encoded.data.len());
        assert_eq!(encoded.key_frame, number == 0, "picture {number}");
        let expected = picture(whole.decode(&encoded.data, &scene.pool).unwrap());
        if lost.contains(&number) {
            continue;
        }
        match decoder.decode(&encoded.data, &scene.pool).unwrap() {
            Decoded::Picture(frame) => {
                assert_eq!(frame.planes(), expected.planes(), "picture {number}");
                shown.push(number);
                good = decoder.position();
                if let Some(reference) = decoder.marked_reference().filter(|_| confirm) {
                    confirmed.push((now + late, reference));
                }
            }
            Decoded::Damaged if asked.is_none() => {
                let good = good.unwrap();
                asked = Some((now + late, good, good.frame + 1));
            }
            other => assert!(matches!(other, Decoded::Damaged), "{other:?}"),
        }
    }
    (shown, sizes)
}

#[test]
fn a_lost_picture_is_recovered_from_a_reference_bit_by_bit_without_a_key_frame() {
    for late in [3, 9] {
        let (shown, sizes) = with_references(45..47, true, late);
        let back = 47 + late as u32;
        let expected: Vec<u32> = (0..45).chain(back..90).collect();
        assert_eq!(shown, expected, "the request came {late} pictures later");
        assert!(sizes[back as usize] < sizes[0], "{} and {}", sizes[back as usize], sizes[0]);
    }
}

#[test]
fn without_a_confirmation_the_key_frame_itself_is_the_reference() {
    let (shown, _) = with_references(45..46, false, 3);
    assert_eq!(shown.last(), Some(&89));
}

#[test]
fn nonsense_about_references_ends_nothing() {
    let mut random = StdRng::seed_from_u64(1);
    let mut scene = Scene::new();
    let (mut encoder, mut decoder) = (encoder(320, 180, 400), H264Decoder::new().unwrap());
    for _ in 0..200 {
        let mut reference = || Reference { idr: random.random_range(0..3), frame: random.random() };
        let (confirmed, wanted) = (reference(), reference());
        encoder.confirm_reference(confirmed).unwrap();
        encoder.recover(wanted, confirmed.frame).unwrap();
        // The library may refuse the picture then: a fresh encoder goes on.
        match encoder.encode(&scene.next(320, 180), false) {
            Ok(Some(encoded)) => drop(decoder.decode(&encoded.data, &scene.pool).unwrap()),
            Ok(None) => {}
            Err(_) => encoder = self::encoder(320, 180, 400),
        }
    }
    let encoded = encode(&mut encoder, &scene.next(320, 180), true);
    picture(decoder.decode(&encoded.data, &scene.pool).unwrap());
}
