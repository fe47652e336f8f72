//! Writes a WAV file that is readable at any time.

use super::BLOCK;
use crate::sound::{SAMPLE_RATE, SoundError};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// The header is brought up to date after so many blocks: once a second.
const FLUSH_BLOCKS: u32 = 100;

/// What the sizes in the header can tell in 32 bits, in blocks of one channel: 12 hours.
const LONGEST: u32 = (u32::MAX - 1024) / 2 / BLOCK as u32;

/// A recording; finished when dropped. It has one channel until there are two to tell apart: then
/// what was written is written again with two.
pub(super) struct WavSink {
    path: PathBuf,
    /// Nothing only while it is replaced.
    file: Option<WavWriter<BufWriter<File>>>,
    channels: u16,
    /// It could not be written again.
    stays_mono: bool,
    blocks: u32,
}

impl WavSink {
    pub fn create(path: &Path) -> Result<Self, SoundError> {
        let file = WavWriter::create(path, format(1)).map_err(|error| failed(path, &error))?;
        let path = path.to_path_buf();
        Ok(Self { path, file: Some(file), channels: 1, stays_mono: false, blocks: 0 })
    }

    /// Writes 10 ms of two channels by turns.
    pub fn write(&mut self, block: &[f32]) -> Result<(), SoundError> {
        let frames = block.as_chunks::<2>().0;
        if self.channels == 1 && !self.stays_mono && frames.iter().any(|[l, r]| l != r) {
            self.widen()?;
        }
        if self.blocks >= LONGEST / u32::from(self.channels) {
            let reason = format!("{} hours are the most a WAV file can hold", 12 / self.channels);
            return Err(SoundError::File { path: self.path.display().to_string(), reason });
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        for [left, right] in frames {
            let written = match self.channels {
                1 => file.write_sample(whole((left + right) / 2.0)),
                _ => {
                    file.write_sample(whole(*left)).and_then(|()| file.write_sample(whole(*right)))
                }
            };
            written.map_err(|error| failed(&self.path, &error))?;
        }
        self.blocks += 1;
        if self.blocks % FLUSH_BLOCKS == 1 {
            file.flush().map_err(|error| failed(&self.path, &error))?;
        }
        Ok(())
    }

    /// From here on there are two channels. Where a file beside this one cannot be written, it goes
    /// on with one.
    fn widen(&mut self) -> Result<(), SoundError> {
        if let Some(file) = self.file.take() {
            file.finalize().map_err(|error| failed(&self.path, &error))?;
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        match copy_wide(&self.path, &beside) {
            Ok(file) => (self.file, self.channels) = (Some(file), 2),
            Err(error) => {
                tracing::warn!("{}: {error}; it stays mono", self.path.display());
                let _ = fs::remove_file(&beside);
                let file =
                    WavWriter::append(&self.path).map_err(|error| failed(&self.path, &error))?;
                (self.file, self.stays_mono) = (Some(file), true);
            }
        }
        Ok(())
    }
}

/// Puts a file of two channels in the place of one; returns it, to be written on.
fn copy_wide(path: &Path, beside: &Path) -> Result<WavWriter<BufWriter<File>>, hound::Error> {
    let mut mono = WavReader::open(path)?;
    let mut wide = WavWriter::create(beside, format(2))?;
    for sample in mono.samples::<i16>() {
        let sample = sample?;
        wide.write_sample(sample)?;
        wide.write_sample(sample)?;
    }
    wide.flush()?;
    drop(mono);
    fs::rename(beside, path).map_err(hound::Error::IoError)?;
    Ok(wide)
}

fn format(channels: u16) -> WavSpec {
    let sample_format = SampleFormat::Int;
    WavSpec { channels, sample_rate: SAMPLE_RATE, bits_per_sample: 16, sample_format }
}

/// NaN becomes silence.
fn whole(sample: f32) -> i16 {
    (sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16
}

fn failed(path: &Path, error: &hound::Error) -> SoundError {
    SoundError::File { path: path.display().to_string(), reason: error.to_string() }
}
