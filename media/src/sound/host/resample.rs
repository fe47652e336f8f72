//! From a device's rate to 48 kHz and back, inside the callback: allocates only when made.

use cpal::ErrorKind;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, WindowFunction,
};

/// Length of the filter; the resampler remembers twice as many samples.
const SINC: usize = 128;

/// Converts one channel, or two by turns, in blocks of 10 ms.
///
/// Two are converted as their mean and half their difference: where mono comes in two channels, the
/// difference is silence, which costs nothing to convert.
pub(crate) struct Resampler {
    inner: Async<f32>,
    channels: usize,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    /// Blocks in a row in which both channels were the same.
    same: usize,
    /// After so many the resampler remembers nothing but the same.
    forgotten: usize,
    mean_alone: Indexing,
}

impl Resampler {
    /// From `from` to `to` samples a second, of one channel or two.
    ///
    /// # Errors
    /// When a rate is zero.
    pub(crate) fn new(from: u32, to: u32, channels: usize) -> Result<Self, cpal::Error> {
        if from == 0 || to == 0 || !(1..=2).contains(&channels) {
            return Err(ErrorKind::UnsupportedConfig.into());
        }
        let parameters = SincInterpolationParameters::new(SINC, WindowFunction::BlackmanHarris2);
        let block = from.div_ceil(100) as usize;
        let ratio = f64::from(to) / f64::from(from);
        let fixed = FixedAsync::Input;
        let inner =
            Async::new_sinc(ratio, 1.0, &parameters, block, channels, fixed).map_err(|error| {
                cpal::Error::with_message(ErrorKind::UnsupportedConfig, error.to_string())
            })?;
        let output = vec![0.0; inner.output_frames_max() * channels];
        Ok(Self {
            inner,
            channels,
            input: vec![0.0; block * channels],
            filled: 0,
            output,
            same: 0,
            forgotten: 1 + (2 * SINC).div_ceil(block),
            mean_alone: Indexing::new().active_channels_mask(vec![true, false]),
        })
    }

    /// Takes one sample of each channel; with every full block come the converted ones.
    pub(crate) fn push(&mut self, frame: &[f32]) -> Option<&[f32]> {
        let slots = self.input.get_mut(self.filled..).unwrap_or_default();
        match (slots, frame, self.channels) {
            ([slot, ..], [sample, ..], 1) => *slot = *sample,
            ([mean, side, ..], [left, right, ..], 2) => {
                (*mean, *side) = ((left + right) / 2.0, (left - right) / 2.0);
            }
            _ => return None,
        }
        self.filled += self.channels;
        if self.filled < self.input.len() {
            return None;
        }
        self.filled = 0;
        let len = self.convert()?;
        self.output.get(..len)
    }

    /// Returns how many samples there are now.
    fn convert(&mut self) -> Option<usize> {
        let (input, channels) = (&self.input, self.channels);
        let two = channels == 2;
        let same = two && input.as_chunks::<2>().0.iter().all(|[_, side]| *side == 0.0);
        self.same = if same { self.same.saturating_add(1) } else { 0 };
        let mean_alone = self.same > self.forgotten;
        // Only buffers of a wrong size are refused, and these are of its own choice.
        let input = InterleavedSlice::new(input, channels, input.len() / channels).ok()?;
        let frames = self.output.len() / channels;
        let mut output = InterleavedSlice::new_mut(&mut self.output, channels, frames).ok()?;
        let indexing = mean_alone.then_some(&self.mean_alone);
        let (_, len) = self.inner.process_into_buffer(&input, &mut output, indexing).ok()?;
        if two {
            for pair in self.output.as_chunks_mut::<2>().0.iter_mut().take(len) {
                let [mean, side] = *pair;
                // What is not converted is left as it was.
                *pair = if mean_alone { [mean; 2] } else { [mean + side, mean - side] };
            }
        }
        Some(len * channels)
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
        let mut resampler = Resampler::new(from, to, 1).expect("rates");
        let mut output = Vec::new();
        for sample in input {
            if let Some(block) = resampler.push(&[*sample]) {
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

    /// A second of mono in two channels, one of stereo, and mono again.
    #[test]
    fn two_channels_are_each_converted_as_one_alone() {
        for (from, to) in [(48_000, 44_100), (44_100, 48_000), (8_000, 48_000)] {
            let left = tone(from, 3.0);
            let mut right = left.clone();
            for (at, sample) in right.iter_mut().enumerate() {
                if at / from as usize == 1 {
                    *sample = (at as f32 * 0.3).sin() * 0.5;
                }
            }
            let mut both = Resampler::new(from, to, 2).expect("rates");
            let (mut heard, mut halves) = ([Vec::new(), Vec::new()], 0);
            for pair in left.iter().zip(&right) {
                if let Some(block) = both.push(&[*pair.0, *pair.1]) {
                    for [left, right] in block.as_chunks().0 {
                        heard[0].push(*left);
                        heard[1].push(*right);
                    }
                    halves += u32::from(both.same > both.forgotten);
                }
            }
            for (heard, alone) in heard.iter().zip([&left, &right]) {
                let alone = convert(from, to, alone);
                assert_eq!(heard.len(), alone.len());
                let worst =
                    heard.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{from} to {to}: {worst}");
            }
            // Of two seconds of mono, nearly all was converted once.
            assert!((170..200).contains(&halves), "{halves} blocks");
        }
    }

    #[test]
    fn a_rate_of_zero_is_an_error() {
        assert!(Resampler::new(48_000, 0, 1).is_err());
        assert!(Resampler::new(0, 48_000, 1).is_err());
    }
}
