//! A camera and a microphone that can be recognised at the other end: a clip whose strip carries each
//! picture's number, and a voice-like sound that noise suppression lets pass.

use std::f64::consts::TAU;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FPS: u32 = 15;
/// Ten seconds; Chromium then begins again at number 0.
const FRAMES: u32 = 150;
const WHITE: u8 = 235;
const BLACK: u8 = 16;

/// Both files, in a folder that lives as long as this.
pub struct Media {
    folder: tempfile::TempDir,
}

impl Media {
    pub fn generate() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-media-").tempdir()?;
        let media = Self { folder };
        write_clip(&media.camera())?;
        write_voice(&media.microphone())?;
        Ok(media)
    }

    pub fn camera(&self) -> PathBuf {
        self.folder.path().join("camera.y4m")
    }

    pub fn microphone(&self) -> PathBuf {
        self.folder.path().join("microphone.wav")
    }
}

/// The level of each of the strip's 40 cells for a number.
fn strip_cells(number: u32) -> [u8; 40] {
    let checksum = (0..8).fold(0, |sum, nibble| sum ^ (number >> (4 * nibble) & 0xf));
    std::array::from_fn(|cell| {
        let white = match cell {
            0 | 38 => true,
            2..=33 => number >> (33 - cell) & 1 == 1,
            34..=37 => checksum >> (37 - cell) & 1 == 1,
            _ => false,
        };
        if white { WHITE } else { BLACK }
    })
}

fn write_clip(path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FPS}:1 Ip A1:1 C420")?;
    let strip_height = HEIGHT / 18;
    for number in 0..FRAMES {
        let shift = number as usize * 4;
        let mut luma = vec![0_u8; WIDTH * HEIGHT];
        for (y, row) in luma.chunks_exact_mut(WIDTH).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                // A wave that moves: without motion an encoder has nothing to send.
                *pixel = 60 + (((x + shift) / 4 + y / 3) % 120) as u8;
            }
        }
        let cells = strip_cells(number);
        for row in luma.chunks_exact_mut(WIDTH).take(strip_height) {
            for (cell, pixels) in cells.iter().zip(row.chunks_exact_mut(WIDTH / 40)) {
                pixels.fill(*cell);
            }
        }
        file.write_all(b"FRAME\n")?;
        file.write_all(&luma)?;
        for (base, slope) in [(96, 1), (150, 0)] {
            let plane = vec![(base + slope * (number % 32)) as u8; WIDTH * HEIGHT / 4];
            let mut plane = plane;
            plane[..WIDTH / 2 * (strip_height / 2)].fill(128);
            file.write_all(&plane)?;
        }
    }
    Ok(file.flush()?)
}

/// Ten seconds of syllables: harmonics of a gliding pitch, four a second.
fn write_voice(path: &Path) -> Result<()> {
    let rate = 48_000_u32;
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec)?;
    let mut phase = 0.0_f64;
    for index in 0..rate * 10 {
        let time = f64::from(index) / f64::from(rate);
        let pitch = 150.0 + 40.0 * (TAU * 0.7 * time).sin();
        phase += pitch / f64::from(rate);
        let voice: f64 = (1..=12).map(|n| (TAU * phase * f64::from(n)).sin() / f64::from(n)).sum();
        let syllable = (TAU * 4.0 * time).sin().max(0.0);
        file.write_sample((voice * syllable * 9000.0) as i16)?;
    }
    Ok(file.finalize()?)
}

/// The loudest second of a WAV file, as root mean square of full scale.
pub fn loudest_second(path: &Path) -> Result<f64> {
    let mut file = hound::WavReader::open(path)?;
    let spec = file.spec();
    let samples: Vec<f64> = match spec.sample_format {
        hound::SampleFormat::Float => {
            file.samples::<f32>().map(|sample| sample.map(f64::from)).collect::<Result<_, _>>()?
        }
        hound::SampleFormat::Int => {
            let full = f64::from(1_u32 << (spec.bits_per_sample - 1));
            file.samples::<i32>()
                .map(|sample| sample.map(|value| f64::from(value) / full))
                .collect::<Result<_, _>>()?
        }
    };
    let second = spec.sample_rate as usize * usize::from(spec.channels);
    let power = |window: &[f64]| {
        window.iter().map(|value| value * value).sum::<f64>() / window.len() as f64
    };
    Ok(samples.chunks(second).map(power).fold(0.0, f64::max).sqrt())
}
