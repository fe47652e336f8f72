//! How like the clip a shown picture is: the mean structural similarity of luma (Wang, Bovik, Sheikh and
//! Simoncelli, 2004), at the clip's size, in blocks of 8x8, without the strip.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use visavis_media::frame::{Frame, FramePool};
use visavis_media::strip;

use crate::trace::{SAMPLE_EVERY, Sample, Us, Window};

const BLOCK: usize = 8;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// A Y4M clip whose pictures are numbered from 0 by their strip.
pub struct Clip {
    file: File,
    begin: u64,
    pub width: usize,
    pub height: usize,
    pub pictures: u32,
}

const MARK: &[u8] = b"FRAME\n";

impl Clip {
    pub fn open(path: &Path) -> Result<Self> {
        let mut reader =
            BufReader::new(File::open(path).with_context(|| path.display().to_string())?);
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let number = |letter: char| {
            let words = header.split_ascii_whitespace().skip(1);
            words.filter_map(|word| word.strip_prefix(letter)).find_map(|word| word.parse().ok())
        };
        let width: usize = number('W').context("a clip without a width")?;
        let height: usize = number('H').context("a clip without a height")?;
        ensure!(header.contains(" F30:1"), "the clip must have 30 pictures a second: {header}");
        let begin = header.len() as u64;
        let mut clip = Self { file: reader.into_inner(), begin, width, height, pictures: 0 };
        let length = clip.file.metadata()?.len() - begin;
        clip.pictures = (length / (MARK.len() + clip.size()) as u64) as u32;
        ensure!(clip.pictures > SAMPLE_EVERY, "the clip is too short");
        Ok(clip)
    }

    /// Whether every picture, as far as one looks, carries its number.
    pub fn is_numbered(&mut self) -> Result<bool> {
        for number in [0, self.pictures / 2, self.pictures - 1] {
            if strip::read(&self.frame(number)?) != Some(number) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How long it lasts.
    pub fn period(&self) -> Duration {
        Duration::from_secs(1) * self.pictures / 30
    }

    /// Bytes of a picture.
    fn size(&self) -> usize {
        self.width * self.height + 2 * self.width.div_ceil(2) * self.height.div_ceil(2)
    }

    pub fn frame(&mut self, number: u32) -> Result<Frame> {
        let mut bytes = vec![0; MARK.len() + self.size()];
        self.file.seek(SeekFrom::Start(self.begin + u64::from(number) * bytes.len() as u64))?;
        self.file.read_exact(&mut bytes)?;
        ensure!(bytes.starts_with(MARK), "picture {number} of the clip has parameters of its own");
        let mut frame = FramePool::new().take(self.width as u32, self.height as u32);
        let mut rest = &bytes[MARK.len()..];
        for plane in frame.planes_mut() {
            rest.read_exact(plane)?;
        }
        Ok(frame)
    }
}

/// The mean over all samples of the measured time, each compared with what should have been shown.
pub fn similarity(
    clip: &mut Clip,
    samples: &[Sample],
    captured: &[(Us, u32)],
    window: Window,
) -> Result<Option<f64>> {
    let mut values = Vec::new();
    for sample in samples {
        let scaled = scale(&sample.luma, (sample.width, sample.height), (clip.width, clip.height));
        let numbers = if sample.stands_for.is_empty() {
            unseen(sample, captured, window)
        } else if window.holds(sample.at) {
            sample.stands_for.clone()
        } else {
            continue;
        };
        for number in numbers {
            let wanted = clip.frame(number)?;
            let [luma, ..] = wanted.planes();
            values.push(ssim(luma, &scaled, clip.width, clip.height));
        }
    }
    let count = values.len() as f64;
    Ok((count > 0.0).then(|| values.iter().sum::<f64>() / count))
}

/// The picture on show at the end may have stood there for long: what it covered.
fn unseen(last: &Sample, captured: &[(Us, u32)], window: Window) -> Vec<u32> {
    /// Later than this a picture is missing rather than under way.
    const LATE: Us = 1_000_000;
    let until = window.end.saturating_sub(LATE);
    let from = captured.iter().rposition(|(us, number)| *us <= last.at && *number == last.shown);
    let after = captured.iter().skip(from.map_or(captured.len(), |from| from + 1));
    let missing = after.filter(|(us, _)| *us < until).map(|(_, number)| *number);
    missing.step_by(SAMPLE_EVERY as usize).collect()
}

/// Bilinear, pixel centres aligned.
fn scale(from: &[u8], (width, height): (usize, usize), to: (usize, usize)) -> Vec<u8> {
    if (width, height) == to {
        return from.to_vec();
    }
    let axis = |index: usize, from: usize, to: usize| {
        let at =
            ((index as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0);
        let low = at as usize;
        (low, (low + 1).min(from - 1), ((at - low as f64) * 256.0) as u32)
    };
    let columns: Vec<_> = (0..to.0).map(|x| axis(x, width, to.0)).collect();
    let mut scaled = Vec::with_capacity(to.0 * to.1);
    for y in 0..to.1 {
        let (above, below, part_y) = axis(y, height, to.1);
        let (above, below) = (&from[above * width..][..width], &from[below * width..][..width]);
        scaled.extend(columns.iter().map(|&(left, right, part_x)| {
            let mix =
                |row: &[u8]| u32::from(row[left]) * (256 - part_x) + u32::from(row[right]) * part_x;
            ((mix(above) * (256 - part_y) + mix(below) * part_y + (1 << 15)) >> 16) as u8
        }));
    }
    scaled
}

fn ssim(a: &[u8], b: &[u8], width: usize, height: usize) -> f64 {
    // The strip says nothing about quality.
    let top = (height / 18).next_multiple_of(BLOCK);
    let (mut sum, mut count) = (0.0, 0_u32);
    for y in (top..height + 1 - BLOCK).step_by(BLOCK) {
        for x in (0..width + 1 - BLOCK).step_by(BLOCK) {
            let (mut s, mut t, mut ss, mut tt, mut st) = (0_u32, 0_u32, 0_u32, 0_u32, 0_u32);
            for row in y..y + BLOCK {
                let at = row * width + x;
                for (&p, &q) in a[at..at + BLOCK].iter().zip(&b[at..at + BLOCK]) {
                    let (p, q) = (u32::from(p), u32::from(q));
                    s += p;
                    t += q;
                    ss += p * p;
                    tt += q * q;
                    st += p * q;
                }
            }
            let n = (BLOCK * BLOCK) as f64;
            let (ma, mb) = (f64::from(s) / n, f64::from(t) / n);
            let (va, vb) = (f64::from(ss) / n - ma * ma, f64::from(tt) / n - mb * mb);
            let covariance = f64::from(st) / n - ma * mb;
            sum += (2.0 * ma * mb + C1) * (2.0 * covariance + C2)
                / ((ma * ma + mb * mb + C1) * (va + vb + C2));
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}
