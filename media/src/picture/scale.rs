//! Smaller pictures from bigger ones, and the other way round.
//!
//! A triangle filter as wide as the scale asks for: smooth when enlarging, without aliases when
//! reducing. Halving, the usual case, is a plain mean of four.

use crate::frame::{Frame, FramePool};

/// Scales to `width` x `height`, without regard to the shape. Keeps time, colours and number.
pub fn resize(frame: &Frame, width: u32, height: u32, pool: &FramePool) -> Frame {
    let mut out = pool.take(width, height);
    out.captured_at = frame.captured_at;
    out.matrix = frame.matrix;
    out.strip = frame.strip;
    let [sizes, targets] = [frame, &out].map(plane_sizes);
    for (index, target) in out.planes_mut().into_iter().enumerate() {
        let source = frame.planes()[index];
        resize_plane(source, sizes[index], target, targets[index]);
    }
    out
}

/// Scales into `width` x `height` keeping the shape; black bars fill the rest.
pub fn fit(frame: &Frame, width: u32, height: u32, pool: &FramePool) -> Frame {
    let (from_width, from_height) = (u64::from(frame.width()), u64::from(frame.height()));
    let (to_width, to_height) = (u64::from(width.max(1)), u64::from(height.max(1)));
    // Even sizes and places, so that luma and chroma stay in step.
    let even = |side: u64| (side as u32).max(2) & !1;
    let (inner_width, inner_height) = if from_width * to_height >= to_width * from_height {
        (width, even((from_height * to_width + from_width / 2) / from_width).min(height))
    } else {
        (even((from_width * to_height + from_height / 2) / from_height).min(width), height)
    };
    let inner = resize(frame, inner_width, inner_height, pool);
    if (inner.width(), inner.height()) == (width.max(1), height.max(1)) {
        return inner;
    }
    let mut out = pool.black(width, height);
    out.captured_at = frame.captured_at;
    out.matrix = frame.matrix;
    out.strip = frame.strip;
    let left = (width.saturating_sub(inner_width) / 2) as usize & !1;
    let top = (height.saturating_sub(inner_height) / 2) as usize & !1;
    let [from, to] = [&inner, &out].map(plane_sizes);
    for (index, target) in out.planes_mut().into_iter().enumerate() {
        let (left, top) = if index == 0 { (left, top) } else { (left / 2, top / 2) };
        let (source_width, target_width) = (from[index].0, to[index].0);
        let rows = inner.planes()[index].chunks_exact(source_width);
        for (row, source) in target.chunks_exact_mut(target_width).skip(top).zip(rows) {
            if let Some(part) = row.get_mut(left..left + source_width) {
                part.copy_from_slice(source);
            }
        }
    }
    out
}

type Size = (usize, usize);

fn plane_sizes(frame: &Frame) -> [Size; 3] {
    let luma = (frame.width() as usize, frame.height() as usize);
    let chroma = (frame.chroma_width() as usize, frame.chroma_height() as usize);
    [luma, chroma, chroma]
}

fn resize_plane(source: &[u8], from: Size, target: &mut [u8], to: Size) {
    let half = (from.0 / 2, from.1 / 2);
    if from == to {
        target.copy_from_slice(source);
    } else if from == (2 * to.0, 2 * to.1) {
        halve(source, from.0, target, to.0);
    } else if from.0.is_multiple_of(2)
        && from.1.is_multiple_of(2)
        && half.0 >= to.0
        && half.1 >= to.1
    {
        // Halving is ten times as fast as anything else; the rest then needs few taps.
        let mut between = vec![0; half.0 * half.1];
        halve(source, from.0, &mut between, half.0);
        resize_plane(&between, half, target, to);
    } else {
        convolve(source, from, target, to);
    }
}

fn halve(source: &[u8], source_width: usize, target: &mut [u8], width: usize) {
    for (rows, out) in source.chunks_exact(2 * source_width).zip(target.chunks_exact_mut(width)) {
        let (upper, lower) = rows.split_at(source_width);
        for ((out, upper), lower) in
            out.iter_mut().zip(upper.chunks_exact(2)).zip(lower.chunks_exact(2))
        {
            let sum = u16::from(upper[0])
                + u16::from(upper[1])
                + u16::from(lower[0])
                + u16::from(lower[1]);
            *out = ((sum + 2) / 4) as u8;
        }
    }
}

/// What one row or column of the target is made of: weights of neighbouring sources, in 256ths.
struct Taps {
    first: usize,
    weights: Vec<u16>,
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f32 / to as f32;
    let reach = scale.max(1.0);
    (0..to)
        .map(|index| {
            let centre = (index as f32 + 0.5) * scale - 0.5;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor().max(0.0) as usize).min(from - 1);
            let first = first.min(last);
            let raw: Vec<f32> = (first..=last)
                .map(|at| (1.0 - (at as f32 - centre).abs() / reach).max(0.0))
                .collect();
            let sum: f32 = raw.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            // Rounding what is left over after each weight keeps the sum at exactly 256.
            let (mut passed, mut given) = (0.0, 0);
            let weights = raw
                .iter()
                .map(|weight| {
                    passed += weight / sum * 256.0;
                    let due = (passed.round() as u16).min(256) - given;
                    given += due;
                    due
                })
                .collect();
            Taps { first, weights }
        })
        .collect()
}

/// Taps a column has at most where the width is less than halved.
const FEW: usize = 4;

fn convolve(source: &[u8], from: Size, target: &mut [u8], to: Size) {
    let (columns, rows) = (taps(from.0, to.0), taps(from.1, to.1));
    let few: Option<Vec<(usize, [u16; FEW])>> = columns.iter().map(padded).collect();
    // One row of the target at the source's width: values times 256 fill sixteen bits exactly.
    let mut between = vec![0_u16; from.0 + FEW];
    for (out, row) in target.chunks_exact_mut(to.0).zip(&rows) {
        between.fill(0);
        let lines = source.chunks_exact(from.0).skip(row.first);
        for (line, &weight) in lines.zip(&row.weights) {
            for (sum, &value) in between.iter_mut().zip(line) {
                *sum += u16::from(value) * weight;
            }
        }
        match &few {
            Some(columns) => {
                for (out, (first, weights)) in out.iter_mut().zip(columns) {
                    if let Some(values) = between.get(*first..first + FEW) {
                        *out = weighted(values, weights);
                    }
                }
            }
            None => {
                for (out, column) in out.iter_mut().zip(&columns) {
                    let values = between.get(column.first..).unwrap_or_default();
                    *out = weighted(values, &column.weights);
                }
            }
        }
    }
}

#[inline]
fn weighted(values: &[u16], weights: &[u16]) -> u8 {
    let sum: u32 = values
        .iter()
        .zip(weights)
        .map(|(&value, &weight)| u32::from(value) * u32::from(weight))
        .sum();
    ((sum + 0x8000) >> 16) as u8
}

fn padded(taps: &Taps) -> Option<(usize, [u16; FEW])> {
    let mut weights = [0; FEW];
    weights.get_mut(..taps.weights.len())?.copy_from_slice(&taps.weights);
    Some((taps.first, weights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strip;

    fn ramp(width: u32, height: u32) -> Frame {
        let mut frame = FramePool::new().black(width, height);
        let [y, u, v] = frame.planes_mut();
        for (at, value) in y.iter_mut().enumerate() {
            *value = (at % width as usize * 200 / width as usize) as u8 + 20;
        }
        u.fill(90);
        v.fill(160);
        frame
    }

    #[test]
    fn every_size_keeps_brightness_and_gradient() {
        let pool = FramePool::new();
        let frame = ramp(320, 180);
        for (width, height) in
            [(160, 90), (80, 45), (213, 121), (640, 360), (333, 7), (1, 1), (319, 179)]
        {
            let small = resize(&frame, width, height, &pool);
            let [y, u, v] = small.planes();
            let row = &y[y.len() / 2..][..width as usize / 2];
            assert!(row.is_sorted(), "{width}x{height}");
            let mean = y.iter().map(|&value| f64::from(value)).sum::<f64>() / y.len() as f64;
            assert!((mean - 119.4).abs() < 2.0, "{width}x{height}: {mean}");
            assert!(u.iter().all(|&value| value == 90) && v.iter().all(|&value| value == 160));
        }
    }

    #[test]
    fn white_stays_white_and_black_black() {
        let pool = FramePool::new();
        for value in [0, 255] {
            let mut frame = pool.take(97, 61);
            frame.planes_mut()[0].fill(value);
            for (width, height) in [(48, 30), (11, 7), (300, 200)] {
                let out = resize(&frame, width, height, &pool);
                assert!(
                    out.planes()[0].iter().all(|&it| it == value),
                    "{value} at {width}x{height}"
                );
            }
        }
    }

    #[test]
    fn a_fine_pattern_becomes_grey_instead_of_aliases() {
        let pool = FramePool::new();
        let mut frame = pool.black(640, 360);
        for (at, value) in frame.planes_mut()[0].iter_mut().enumerate() {
            *value = if (at % 640 + at / 640) % 2 == 0 { 235 } else { 15 };
        }
        let small = resize(&frame, 200, 113, &pool);
        assert!(small.planes()[0].iter().all(|&value| value.abs_diff(125) < 12));
    }

    #[test]
    fn the_strip_is_read_at_every_size_of_the_ladder() {
        let pool = FramePool::new();
        let mut frame = ramp(1280, 720);
        strip::write(&mut frame, 0xcafe_f00d);
        for (width, height) in [(960, 540), (854, 480), (640, 360), (480, 270), (320, 180)] {
            let small = resize(&frame, width, height, &pool);
            assert_eq!(strip::read(&small), Some(0xcafe_f00d), "{width}x{height}");
        }
    }

    #[test]
    fn another_shape_gets_black_bars() {
        let pool = FramePool::new();
        let wide = fit(&ramp(320, 180), 320, 240, &pool);
        let [y, u, _] = wide.planes();
        assert_eq!((y[0], y[29 * 320], u[0], y[239 * 320 + 5]), (16, 16, 128, 16));
        assert!(y[30 * 320 + 5] != 16 && y[209 * 320 + 5] != 16);
        let tall = fit(&ramp(180, 320), 320, 180, &pool);
        let [y, ..] = tall.planes();
        assert_eq!((y[90 * 320], y[90 * 320 + 319]), (16, 16));
        assert_ne!(y[90 * 320 + 160], 16);
        let same = fit(&ramp(640, 360), 320, 180, &pool);
        assert_ne!(same.planes()[0][0], 16);
        assert_eq!(fit(&ramp(16, 4000), 33, 17, &pool).width(), 33);
    }
}
