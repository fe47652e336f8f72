//! Writes a WAV file that is readable at any time.

use super::BLOCK;
use crate::sound::{SAMPLE_RATE, SoundError};
use hound::{SampleFormat, WavSpec, WavWriter};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// The header is brought up to date after so many blocks: once a second.
const FLUSH_BLOCKS: u32 = 100;

/// Where the sizes in the header would overflow 32 bits: 12 hours.
const LONGEST: u32 = (u32::MAX - 1024) / 2 / BLOCK as u32;

/// A recording; finished when dropped.
pub(super) struct WavSink {
    name: String,
    file: WavWriter<BufWriter<File>>,
    blocks: u32,
}

impl WavSink {
    pub fn create(path: &Path) -> Result<Self, SoundError> {
        let name = path.display().to_string();
        let spec = WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let file = WavWriter::create(path, spec).map_err(|error| failed(&name, &error))?;
        Ok(Self { name, file, blocks: 0 })
    }

    pub fn write(&mut self, block: &[f32]) -> Result<(), SoundError> {
        if self.blocks >= LONGEST {
            let reason = "12 hours are the most a WAV file can hold".into();
            return Err(SoundError::File { path: self.name.clone(), reason });
        }
        for sample in block {
            // NaN becomes silence.
            self.file
                .write_sample((sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16)
                .map_err(|error| failed(&self.name, &error))?;
        }
        self.blocks += 1;
        if self.blocks % FLUSH_BLOCKS == 1 {
            self.file.flush().map_err(|error| failed(&self.name, &error))?;
        }
        Ok(())
    }
}

fn failed(name: &str, error: &hound::Error) -> SoundError {
    SoundError::File { path: name.into(), reason: error.to_string() }
}
