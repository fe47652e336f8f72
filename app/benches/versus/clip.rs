//! What every end plays unless told otherwise: the testcard as a clip, and a voice-like sound.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use visavis_media::frame::FramePool;
use visavis_media::source::testcard::{Card, draw};
use visavis_media::strip;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
const FPS: u32 = 30;
const SECONDS: u32 = 5;

/// The files, in a folder that lives as long as this.
pub struct Media {
    folder: tempfile::TempDir,
    voice: crate::common::clip::Media,
}

impl Media {
    pub fn generate(with_clip: bool) -> Result<Self> {
        let media = Self {
            folder: tempfile::Builder::new().prefix("visavis-versus-").tempdir()?,
            voice: crate::common::clip::Media::generate()?,
        };
        if with_clip {
            write_clip(&media.clip())?;
        }
        Ok(media)
    }

    pub fn clip(&self) -> PathBuf {
        self.folder.path().join("clip.y4m")
    }

    pub fn speech(&self) -> PathBuf {
        self.voice.microphone()
    }
}

fn write_clip(path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FPS}:1 Ip A1:1 C420jpeg")?;
    let card = Card::new(WIDTH, HEIGHT, "versus");
    let mut frame = FramePool::new().take(WIDTH, HEIGHT);
    for number in 0..FPS * SECONDS {
        draw(&mut frame, u64::from(number) * 1000 / u64::from(FPS), &card);
        strip::write(&mut frame, number);
        file.write_all(b"FRAME\n")?;
        for plane in frame.planes() {
            file.write_all(plane)?;
        }
    }
    Ok(file.flush()?)
}
