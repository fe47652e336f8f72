//! Sound like speech, of which no second is like another: seeded syllables of gliding pitch
//! with pauses, in WAV files.

use std::f64::consts::TAU;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::sound_match::RATE;

/// So many seconds of it, -1 to 1.
pub fn generate(seed: u64, seconds: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut samples = Vec::with_capacity(seconds * RATE);
    let mut phase = 0.0_f64;
    while samples.len() < seconds * RATE {
        let length = random.random_range(RATE / 8..RATE / 4);
        let (from, to) = (random.random_range(90.0..220.0), random.random_range(90.0..220.0));
        // Two formants make a vowel.
        let formants = [random.random_range(300.0..900.0), random.random_range(900.0..2500.0)];
        for at in 0..length {
            let part = at as f64 / length as f64;
            let pitch = from + (to - from) * part;
            phase += pitch / RATE as f64;
            let voice: f64 = (1..=16)
                .map(|n| {
                    let near = |formant: f64| {
                        let off = (pitch * f64::from(n) - formant) / 150.0;
                        1.0 / (1.0 + off * off)
                    };
                    let loudness = 0.1 / f64::from(n) + formants.map(near).iter().sum::<f64>();
                    loudness * (TAU * phase * f64::from(n)).sin()
                })
                .sum();
            samples.push((0.12 * voice * (TAU * part / 2.0).sin()) as f32);
        }
        let pause = random.random_range(0..RATE / 12);
        samples.extend(std::iter::repeat_n(0.0, pause));
    }
    samples.truncate(seconds * RATE);
    samples
}

/// Writes 48 kHz mono 16 bit.
pub fn write(path: &Path, samples: &[f32]) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec)?;
    for sample in samples {
        file.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0) as i16)?;
    }
    Ok(file.finalize()?)
}

/// Reads a whole 48 kHz mono file; one that is cut short is an error.
pub fn read(path: &Path) -> Result<Vec<f32>> {
    let named = || format!("{}", path.display());
    let mut file = hound::WavReader::open(path).with_context(named)?;
    let spec = file.spec();
    ensure!(
        (spec.channels, spec.sample_rate, spec.bits_per_sample) == (1, RATE as u32, 16),
        "{}: {spec:?}",
        path.display()
    );
    let samples: Result<Vec<i16>, _> = file.samples::<i16>().collect();
    let samples = samples.with_context(named)?;
    Ok(samples.iter().map(|s| f32::from(*s) / 32_768.0).collect())
}
