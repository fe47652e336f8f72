use super::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

fn picture(format: RawFormat, width: u32, height: u32, data: &[u8]) -> RawPicture<'_> {
    RawPicture { format, width, height, stride: 0, data }
}

fn convert(raw: RawPicture<'_>) -> Result<Frame, ConvertError> {
    Converter::default().convert(&raw)
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len).map(|_| rng.random()).collect()
}

#[track_caller]
fn assert_near(name: &str, got: &[u8], wanted: &[u8], tolerance: u8) {
    assert_eq!(got.len(), wanted.len(), "{name}");
    for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!(got.abs_diff(*wanted) <= tolerance, "{name}[{index}]: {got}, not {wanted}");
    }
}

/// A JPEG of YCbCr samples given by `pixel(x, y)`, with chroma sampled 1:`across` and 1:`down`.
fn jpeg(
    width: usize,
    height: usize,
    sampling: (u8, u8),
    pixel: impl Fn(usize, usize) -> [u8; 3],
) -> Vec<u8> {
    let mut encoder = mozjpeg::Compress::new(ColorSpace::JCS_YCbCr);
    encoder.set_size(width, height);
    encoder.set_color_space(ColorSpace::JCS_YCbCr);
    encoder.set_chroma_sampling_pixel_sizes(sampling, sampling);
    encoder.set_quality(100.0);
    encoder.set_fastest_defaults();
    let mut started = encoder.start_compress(Vec::new()).expect("start");
    let line = |y| (0..width).flat_map(|x| pixel(x, y)).collect::<Vec<u8>>();
    for y in 0..height {
        started.write_scanlines(&line(y)).expect("write");
    }
    started.finish().expect("finish")
}

/// Smooth in both directions, so that JPEG keeps it nearly exact.
fn ramp(x: usize, y: usize) -> [u8; 3] {
    [(40 + 3 * x + 2 * y).min(250) as u8, (60 + 2 * x) as u8, (200 - 2 * y) as u8]
}

fn full_to_limited(value: f64, chroma: bool) -> u8 {
    let limited =
        if chroma { 128.0 + (value - 128.0) * 224.0 / 255.0 } else { 16.0 + value * 219.0 / 255.0 };
    limited.round() as u8
}

#[test]
fn fixed_point_range_conversion_equals_the_rounded_formula() {
    for value in 0..=255u32 {
        let exact = f64::from(value);
        assert_eq!(limited_luma(value), full_to_limited(exact, false), "luma {value}");
        assert_eq!(limited_chroma(value), full_to_limited(exact, true), "chroma {value}");
    }
    assert_eq!((limited_luma(0), limited_luma(255), limited_chroma(128)), (16, 235, 128));
}

#[test]
fn yuyv_keeps_luma_and_averages_the_chroma_of_two_rows() {
    for (width, height) in [(1280u32, 72u32), (64, 48), (7, 5), (1, 1), (33, 2), (2, 3)] {
        let row = width.div_ceil(2) as usize * 4;
        let data = noise(row * height as usize, 1);
        let frame = convert(picture(RawFormat::Yuyv, width, height, &data)).expect("picture");
        let at = |x: usize, y: usize| data[y * row + x];
        let (w, h) = (width as usize, height as usize);
        let luma: Vec<u8> = (0..h).flat_map(|y| (0..w).map(move |x| at(2 * x, y))).collect();
        let chroma = |offset: usize| -> Vec<u8> {
            let mean = |x: usize, y: usize| {
                let second = (2 * y + 1).min(h - 1);
                let sum =
                    u32::from(at(4 * x + offset, 2 * y)) + u32::from(at(4 * x + offset, second));
                sum.div_ceil(2) as u8
            };
            (0..h.div_ceil(2)).flat_map(|y| (0..w.div_ceil(2)).map(move |x| mean(x, y))).collect()
        };
        let [y, u, v] = frame.planes();
        assert_near(&format!("{width}x{height} Y"), y, &luma, 0);
        assert_near(&format!("{width}x{height} U"), u, &chroma(1), 1);
        assert_near(&format!("{width}x{height} V"), v, &chroma(3), 1);
    }
}

#[test]
fn nv12_is_taken_apart_exactly_whatever_its_stride() {
    for (width, height, stride) in [(64u32, 48u32, 0usize), (5, 3, 0), (6, 4, 32), (1, 1, 2)] {
        let row = if stride == 0 { width.div_ceil(2) as usize * 2 } else { stride };
        let (w, h) = (width as usize, height as usize);
        let data = noise(row * (h + h.div_ceil(2)), 2);
        let raw = RawPicture { stride, ..picture(RawFormat::Nv12, width, height, &data) };
        let frame = convert(raw).expect("picture");
        let [y, u, v] = frame.planes();
        for (index, got) in y.iter().enumerate() {
            assert_eq!(*got, data[index / w * row + index % w]);
        }
        let half = w.div_ceil(2);
        for (index, (u, v)) in u.iter().zip(v).enumerate() {
            let at = (h + index / half) * row + index % half * 2;
            assert_eq!((*u, *v), (data[at], data[at + 1]));
        }
    }
}

#[test]
fn rgb_in_every_order_follows_bt601() {
    let colours: [[u8; 3]; 4] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]];
    for [r, g, b] in colours {
        let rgb: Vec<u8> = [r, g, b].repeat(9 * 7);
        let bgr: Vec<u8> = [b, g, r].repeat(9 * 7);
        let rgbx: Vec<u8> = [r, g, b, 77].repeat(9 * 7);
        let bgrx: Vec<u8> = [b, g, r, 77].repeat(9 * 7);
        let [rf, gf, bf] = [r, g, b].map(|c| f64::from(c) / 255.0);
        let luma = 0.299 * rf + 0.587 * gf + 0.114 * bf;
        let wanted = [
            16.0 + 219.0 * luma,
            128.0 + 224.0 * (bf - luma) / 1.772,
            128.0 + 224.0 * (rf - luma) / 1.402,
        ];
        let orders = [
            (RawFormat::Rgb, rgb),
            (RawFormat::Bgr, bgr),
            (RawFormat::Rgbx, rgbx),
            (RawFormat::Bgrx, bgrx),
        ];
        for (format, data) in orders {
            let frame = convert(picture(format, 9, 7, &data)).expect("picture");
            for (plane, wanted) in frame.planes().into_iter().zip(wanted) {
                assert_near("plane", plane, &vec![wanted.round() as u8; plane.len()], 1);
            }
        }
    }
}

#[test]
fn grey_has_no_colour() {
    let frame = convert(picture(RawFormat::Gray, 3, 1, &[0, 128, 255])).expect("picture");
    assert_eq!(frame.planes()[0], [16, 126, 235]);
    assert_eq!(frame.planes()[1..], [[128u8, 128].as_slice(), &[128, 128]]);
}

#[test]
fn jpegs_of_every_sampling_come_out_in_limited_range() {
    for sampling in [(1, 1), (2, 1), (2, 2), (1, 2)] {
        for (width, height) in [(64, 48), (35, 21), (17, 16), (1, 1)] {
            let data = jpeg(width, height, sampling, ramp);
            let raw = picture(RawFormat::Mjpeg, width as u32, height as u32, &data);
            let frame = convert(raw).unwrap_or_else(|error| panic!("{sampling:?}: {error}"));
            let name = format!("{sampling:?} {width}x{height}");
            let wanted = |component: usize, step: usize| -> Vec<u8> {
                let (columns, rows) = (width.div_ceil(step), height.div_ceil(step));
                let mut plane = Vec::new();
                for y in 0..rows {
                    for x in 0..columns {
                        let mut sum = 0.0;
                        for dy in 0..step {
                            for dx in 0..step {
                                let (x, y) = (x * step + dx, y * step + dy);
                                let pixel = ramp(x.min(width - 1), y.min(height - 1));
                                sum += f64::from(pixel[component]);
                            }
                        }
                        let mean = sum / (step * step) as f64;
                        plane.push(full_to_limited(mean, component > 0));
                    }
                }
                plane
            };
            let [y, u, v] = frame.planes();
            assert_near(&format!("{name} Y"), y, &wanted(0, 1), 3);
            assert_near(&format!("{name} U"), u, &wanted(1, 2), 3);
            assert_near(&format!("{name} V"), v, &wanted(2, 2), 3);
        }
    }
}

#[test]
fn a_jpeg_without_huffman_tables_uses_the_standard_ones() {
    let whole = jpeg(64, 48, (2, 1), ramp);
    // Many webcams leave the DHT segments out (USB Video Class, MJPEG payload 1.5, section 3.3).
    let mut bare = whole[..2].to_vec();
    let mut at = 2;
    loop {
        let marker = whole[at + 1];
        let len = 2 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
        if marker != 0xC4 {
            bare.extend_from_slice(&whole[at..at + len]);
        }
        at += len;
        if marker == 0xDA {
            break;
        }
    }
    bare.extend_from_slice(&whole[at..]);
    assert!(bare.len() + 300 < whole.len(), "no table was cut out");
    let whole = convert(picture(RawFormat::Mjpeg, 64, 48, &whole)).expect("whole");
    let bare = convert(picture(RawFormat::Mjpeg, 64, 48, &bare)).expect("bare");
    assert_eq!(whole.planes(), bare.planes());
}

#[test]
fn what_follows_a_jpeg_in_a_cameras_buffer_is_ignored() {
    let mut data = jpeg(64, 48, (2, 1), ramp);
    let alone = convert(picture(RawFormat::Mjpeg, 64, 48, &data)).expect("alone");
    data.extend(noise(100_000, 3));
    let padded = convert(picture(RawFormat::Mjpeg, 64, 48, &data)).expect("padded");
    assert_eq!(alone.planes(), padded.planes());
}

#[test]
fn a_jpeg_of_another_size_is_refused_not_sheared() {
    let data = jpeg(64, 48, (2, 1), ramp);
    let error = convert(picture(RawFormat::Mjpeg, 48, 64, &data)).expect_err("sheared");
    assert_eq!(error.to_string(), "the JPEG is 64x48 but 48x64 was negotiated");
}

#[test]
fn a_jpeg_cut_off_anywhere_is_an_error() {
    let data = jpeg(64, 48, (2, 2), ramp);
    for len in 0..data.len() {
        let result = convert(picture(RawFormat::Mjpeg, 64, 48, &data[..len]));
        assert!(
            matches!(result, Err(ConvertError::Jpeg(_))),
            "{len} of {}: {result:?}",
            data.len()
        );
    }
}

#[test]
fn damaged_jpegs_never_panic() {
    let good = jpeg(64, 48, (2, 1), |x, y| [(x * 37 + y * 11) as u8, (x * 5) as u8, (y * 7) as u8]);
    let mut rng = StdRng::seed_from_u64(4);
    let mut converter = Converter::default();
    let mut refused = 0;
    for _ in 0..3000 {
        let mut data = good.clone();
        for _ in 0..rng.random_range(1..12) {
            let at = rng.random_range(0..data.len());
            data[at] = rng.random();
        }
        refused += u32::from(converter.convert(&picture(RawFormat::Mjpeg, 64, 48, &data)).is_err());
    }
    assert!(refused > 500, "only {refused} of 3000 were refused");
    // And the decoder still works after all that.
    assert!(converter.convert(&picture(RawFormat::Mjpeg, 64, 48, &good)).is_ok());
}

#[test]
fn short_buffers_and_overlapping_rows_are_named() {
    use RawFormat::{Bgr, Gray, Nv12, Rgb, Yuyv};
    for (format, needed) in [(Yuyv, 80), (Nv12, 60), (Gray, 40), (Rgb, 120), (Bgr, 120)] {
        let data = vec![0; needed];
        assert!(convert(picture(format, 10, 4, &data)).is_ok(), "{format:?}");
        let result = convert(picture(format, 10, 4, &data[1..]));
        assert_eq!(result.err(), Some(ConvertError::Short { got: needed - 1, needed }));
        let raw = RawPicture { stride: 3, ..picture(format, 10, 4, &data) };
        assert!(matches!(convert(raw), Err(ConvertError::Stride { stride: 3, .. })));
    }
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_taken() {
    for (width, height) in [(0, 10), (10, 0), (u32::MAX, u32::MAX), (MAX_SIDE + 1, 1)] {
        let result = convert(picture(RawFormat::Yuyv, width, height, &[0; 64]));
        assert_eq!(result.err(), Some(ConvertError::Size { width, height }));
    }
}

#[test]
fn rows_may_be_padded_and_the_last_padding_missing() {
    let data = noise(24 * 3 + 16, 5);
    let raw = RawPicture { stride: 24, ..picture(RawFormat::Yuyv, 8, 4, &data) };
    let frame = convert(raw).expect("picture");
    for (index, got) in frame.planes()[0].iter().enumerate() {
        assert_eq!(*got, data[index / 8 * 24 + index % 8 * 2]);
    }
}
