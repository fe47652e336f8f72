//! From a device's rate to 48 kHz and back, inside the callback: allocates only when made.

use cpal::ErrorKind;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler as _, SincInterpolationParameters, WindowFunction};

/// Converts mono samples in blocks of 10 ms.
pub(crate) struct Resampler {
    inner: Async<f32>,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
}

impl Resampler {
    /// From `from` to `to` samples a second.
    ///
    /// # Errors
    /// When a rate is zero.
    pub(crate) fn new(from: u32, to: u32) -> Result<Self, cpal::Error> {
        if from == 0 || to == 0 {
            return Err(ErrorKind::UnsupportedConfig.into());
        }
        let parameters = SincInterpolationParameters::new(128, WindowFunction::BlackmanHarris2);
        let block = from.div_ceil(100) as usize;
        let ratio = f64::from(to) / f64::from(from);
        let inner = Async::new_sinc(ratio, 1.0, &parameters, block, 1, FixedAsync::Input).map_err(
            |error| cpal::Error::with_message(ErrorKind::UnsupportedConfig, error.to_string()),
        )?;
        let output = vec![0.0; inner.output_frames_max()];
        Ok(Self { inner, input: vec![0.0; block], filled: 0, output })
    }

    /// Takes one sample; with every full block come the converted ones.
    pub(crate) fn push(&mut self, sample: f32) -> Option<&[f32]> {
        if let Some(slot) = self.input.get_mut(self.filled) {
            *slot = sample;
            self.filled += 1;
        }
        if self.filled < self.input.len() {
            return None;
        }
        self.filled = 0;
        // Only buffers of a wrong size are refused, and these are of its own choice.
        let input = InterleavedSlice::new(&self.input, 1, self.input.len()).ok()?;
        let frames = self.output.len();
        let mut output = InterleavedSlice::new_mut(&mut self.output, 1, frames).ok()?;
        let (_, len) = self.inner.process_into_buffer(&input, &mut output, None).ok()?;
        self.output.get(..len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, seconds: f64) -> Vec<f32> {
        let step = std::f64::consts::TAU * 1000.0 / f64::from(rate);
        (0..(f64::from(rate) * seconds) as usize).map(|n| (step * n as f64).sin() as f32).collect()
    }

    fn convert(from: u32, to: u32, input: &[f32]) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).expect("rates");
        let mut output = Vec::new();
        for sample in input {
            if let Some(block) = resampler.push(*sample) {
                output.extend_from_slice(block);
            }
        }
        output
    }

    #[test]
    fn a_tone_keeps_pitch_level_and_length() {
        for (from, to) in [(44_100, 48_000), (48_000, 44_100), (16_000, 48_000), (96_000, 48_000)] {
            let output = convert(from, to, &tone(from, 2.0));
            assert!(output.len().abs_diff(2 * to as usize) < 300, "{from}: {}", output.len());
            let steady = &output[to as usize / 10..];
            let rises = steady.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
            let hertz = rises as f64 * f64::from(to) / steady.len() as f64;
            assert!((hertz - 1000.0).abs() < 2.0, "{from} to {to}: {hertz} Hz");
            let power = steady.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
            let rms = (power / steady.len() as f64).sqrt();
            assert!((rms - std::f64::consts::FRAC_1_SQRT_2).abs() < 0.005, "{from} to {to}: {rms}");
        }
    }

    #[test]
    fn a_rate_of_zero_is_an_error() {
        assert!(Resampler::new(48_000, 0).is_err());
        assert!(Resampler::new(0, 48_000).is_err());
    }
}
