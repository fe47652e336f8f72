//! Reads a WAV file of any usual kind as an endless 48 kHz stream of one channel or two.

use super::BLOCK;
use crate::sound::{SAMPLE_RATE, SoundError};
use hound::{SampleFormat, WavSpec};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

const RATES: std::ops::RangeInclusive<u32> = 4000..=384_000;

/// An endless stream out of a file.
pub(super) struct WavReader {
    path: PathBuf,
    file: hound::WavReader<BufReader<File>>,
    spec: WavSpec,
    /// How many channels are read.
    channels: usize,
    /// Frames (one sample a channel) read since the last rewind.
    read: u32,
    warned: bool,
    resampler: Option<Async<f32>>,
    input: Vec<f32>,
}

impl WavReader {
    /// Opens a file for the mean of its channels, or for its first two (`channels`) if there are.
    pub fn open(path: &Path, channels: u16) -> Result<Self, SoundError> {
        let name = path.display().to_string();
        let failed = |reason: String| SoundError::File { path: name.clone(), reason };
        let file = hound::WavReader::open(path).map_err(|error| failed(explain(&error)))?;
        let spec = file.spec();
        let known = match spec.sample_format {
            SampleFormat::Int => matches!(spec.bits_per_sample, 8 | 16 | 24 | 32),
            SampleFormat::Float => spec.bits_per_sample == 32,
        };
        if !known {
            return Err(failed(format!(
                "its samples are {}-bit {:?}: 8, 16, 24 or 32 bit PCM or 32 bit float can be played",
                spec.bits_per_sample, spec.sample_format
            )));
        }
        if spec.channels == 0 || !RATES.contains(&spec.sample_rate) {
            return Err(failed(format!(
                "{} channels at {} Hz: 4 to 384 kHz can be played",
                spec.channels, spec.sample_rate
            )));
        }
        if file.duration() == 0 {
            return Err(failed("it holds no sound".into()));
        }
        let channels = usize::from(channels.min(spec.channels).clamp(1, 2));
        let resampler = (spec.sample_rate != SAMPLE_RATE)
            .then(|| {
                Async::new_sinc(
                    f64::from(SAMPLE_RATE) / f64::from(spec.sample_rate),
                    1.0,
                    &SincInterpolationParameters::new(128, WindowFunction::BlackmanHarris2),
                    BLOCK,
                    channels,
                    FixedAsync::Output,
                )
            })
            .transpose()
            .map_err(|error| failed(error.to_string()))?;
        let mut this = Self {
            path: path.to_path_buf(),
            file,
            spec,
            channels,
            read: 0,
            warned: false,
            resampler,
            input: Vec::new(),
        };
        // A header may promise more than there is.
        this.read_frames(&mut [0.0; 2][..channels])?;
        this.read = 0;
        this.file.seek(0).map_err(|error| failed(format!("it cannot be rewound: {error}")))?;
        Ok(this)
    }

    /// How many channels there are, 1 or 2.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Fills `block` (10 ms) with what comes next.
    pub fn read(&mut self, block: &mut [f32]) -> Result<(), SoundError> {
        let Some(mut resampler) = self.resampler.take() else {
            return self.read_frames(block);
        };
        let (wanted, channels) = (resampler.input_frames_next(), self.channels);
        let mut input = std::mem::take(&mut self.input);
        input.resize(wanted * channels, 0.0);
        let result = self.read_frames(&mut input).and_then(|()| {
            let frames = block.len() / channels;
            let source = InterleavedSlice::new(&input, channels, wanted)
                .map_err(|error| self.failed(error.to_string()))?;
            let mut target = InterleavedSlice::new_mut(block, channels, frames)
                .map_err(|error| self.failed(error.to_string()))?;
            resampler
                .process_into_buffer(&source, &mut target, None)
                .map_err(|error| self.failed(error.to_string()))?;
            Ok(())
        });
        self.input = input;
        self.resampler = Some(resampler);
        result
    }

    /// Fills `out` at the file's rate, from the beginning again after its end.
    fn read_frames(&mut self, out: &mut [f32]) -> Result<(), SoundError> {
        // What each channel has of the file's.
        let share = if self.channels == 1 { 1.0 / f32::from(self.spec.channels) } else { 1.0 };
        for frame in out.chunks_exact_mut(self.channels) {
            frame.fill(0.0);
            let mut channel = 0;
            while channel < usize::from(self.spec.channels) {
                match self.next_sample() {
                    Some(Ok(value)) => {
                        let at = if self.channels == 1 { 0 } else { channel };
                        if let Some(sample) = frame.get_mut(at) {
                            *sample += value * share;
                        }
                        channel += 1;
                    }
                    end => {
                        self.rewind(end.and_then(Result::err))?;
                        frame.fill(0.0);
                        channel = 0;
                    }
                }
            }
            self.read = self.read.saturating_add(1);
            frame.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
        }
        Ok(())
    }

    fn next_sample(&mut self) -> Option<Result<f32, hound::Error>> {
        match self.spec.sample_format {
            SampleFormat::Float => {
                let value = self.file.samples::<f32>().next()?;
                Some(value.map(|value| if value.is_finite() { value } else { 0.0 }))
            }
            SampleFormat::Int => {
                let full = 1_i64 << (self.spec.bits_per_sample - 1);
                let value = self.file.samples::<i32>().next()?;
                Some(value.map(|value| value as f32 / full as f32))
            }
        }
    }

    fn rewind(&mut self, error: Option<hound::Error>) -> Result<(), SoundError> {
        if self.read == 0 {
            let reason = error.map_or("it holds no sound".into(), |error| explain(&error));
            return Err(self.failed(reason));
        }
        let read = std::mem::take(&mut self.read);
        let Some(error) = error else {
            return self
                .file
                .seek(0)
                .map_err(|error| self.failed(format!("it cannot be rewound: {error}")));
        };
        if !self.warned {
            self.warned = true;
            tracing::warn!(
                "{} ends early, after {read} samples ({}); it is played up to there",
                self.path.display(),
                explain(&error)
            );
        }
        // Seeking counts from where reading stands, which is unknown after an error.
        self.file =
            hound::WavReader::open(&self.path).map_err(|error| self.failed(explain(&error)))?;
        if self.file.spec() == self.spec {
            Ok(())
        } else {
            Err(self.failed("it was replaced by another while it was played".into()))
        }
    }

    fn failed(&self, reason: String) -> SoundError {
        SoundError::File { path: self.path.display().to_string(), reason }
    }
}

fn explain(error: &hound::Error) -> String {
    match error {
        hound::Error::FormatError(reason) => format!("it is no WAV file: {reason}"),
        hound::Error::Unsupported => "this kind of WAV file is not supported: use PCM".into(),
        other => other.to_string(),
    }
}
