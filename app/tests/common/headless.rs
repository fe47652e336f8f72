//! `visavis call --headless` with a clip and speech from files, and what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::SOON;
use super::clip::Media;
use super::process::{Process, VISAVIS};
use super::sound_match::{Window, compare};
use super::speech;

/// What both ends play, in a folder that lives as long as this.
pub struct Scene {
    _media: Option<Media>,
    clip: PathBuf,
    speech_file: PathBuf,
    folder: tempfile::TempDir,
    /// What is said.
    pub speech: Vec<f32>,
}

impl Scene {
    pub fn set() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-call-").tempdir()?;
        let speech = speech::generate(7, 20);
        let speech_file = folder.path().join("speech.wav");
        speech::write(&speech_file, &speech)?;
        let media = Media::generate()?;
        Ok(Self { clip: media.camera(), _media: Some(media), speech_file, folder, speech })
    }

    /// With files of one's own: a clip with strips, and 48 kHz mono 16 bit.
    pub fn of(clip: PathBuf, speech_file: PathBuf) -> Result<Self> {
        Ok(Self {
            _media: None,
            clip,
            speech: speech::read(&speech_file)?,
            speech_file,
            folder: tempfile::Builder::new().prefix("visavis-call-").tempdir()?,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sources and sinks in files named after `end`.
    pub fn media_arguments(&self, end: &str) -> Vec<String> {
        let file = |path: PathBuf| format!("file:{}", path.display());
        let pairs = [
            ("--video-source", file(self.clip.clone())),
            ("--audio-source", file(self.speech_file.clone())),
            ("--audio-sink", file(self.path(&format!("{end}.wav")))),
            ("--frame-log", self.path(&format!("{end}.csv")).display().to_string()),
            ("--stats", "-".to_owned()),
            ("--name", end.to_owned()),
        ];
        pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }

    /// Calls `target` as `end`; `more` are further arguments.
    pub fn call(&self, end: &str, target: &str, more: &[&str]) -> Result<End> {
        self.call_by(Command::new(VISAVIS), end, target, more)
    }

    /// The same by a command that runs our program.
    pub fn call_by(
        &self,
        mut command: Command,
        end: &str,
        target: &str,
        more: &[&str],
    ) -> Result<End> {
        command.args(["call", target, "--headless"]).args(self.media_arguments(end)).args(more);
        Ok(End {
            process: Process::start(command, &format!("{end} (visavis call {target})"))?,
            log: self.path(&format!("{end}.csv")),
            heard: self.path(&format!("{end}.wav")),
        })
    }
}

/// One end of a call.
pub struct End {
    pub process: Process,
    log: PathBuf,
    heard: PathBuf,
}

impl End {
    /// Waits for a statistics line with this state.
    pub async fn state(&mut self, state: &str, limit: Duration) -> Result<()> {
        let wanted = |line: &Value| (line.get("state")?.as_str()? == state).then_some(());
        self.process.stats(&format!("state {state}"), limit, wanted).await
    }

    /// Waits until this connection has decoded so many pictures and sound is heard.
    pub async fn received(&mut self, pictures: u64, limit: Duration) -> Result<()> {
        let what = format!("{pictures} pictures and sound");
        let wanted = |line: &Value| {
            let frames = line.pointer("/video_in/frames")?.as_u64()?;
            let level = line.pointer("/audio_in/level_dbfs")?.as_f64()?;
            (frames >= pictures && level > -50.0).then_some(())
        };
        self.process.stats(&what, limit, wanted).await
    }

    /// Waits for a line on standard error that contains `text`.
    pub async fn says(&mut self, text: &str, limit: Duration) -> Result<String> {
        let pick = |_: &[String], errors: &[String]| {
            errors.iter().find(|line| line.contains(text)).cloned()
        };
        self.process.until(&format!("{text:?} on stderr"), limit, pick).await
    }

    /// Ends it by a signal; it must end well.
    pub async fn hang_up(&mut self, signal: &str) -> Result<()> {
        self.process.signal(signal)?;
        let status = self.process.ended(SOON).await?;
        if status.success() {
            return Ok(());
        }
        Err(self.process.failure(&format!("{status} after SIG{signal}")))
    }

    /// Waits until some seconds of what was heard are clearly `speech`. On a busy machine not
    /// every second is: the delay has to follow what the machine holds up.
    pub async fn hears(&self, speech: &[f32], limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let likeness = compare(speech, &self.heard()?);
            let clear = |window: &&Window| window.correlation > 0.85;
            if likeness.windows.iter().filter(clear).count() >= 4 {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.process.failure(&format!("heard: {likeness}")));
            }
        }
    }

    /// The whole sound heard so far; the file is readable at any time.
    pub fn heard(&self) -> Result<Vec<f32>> {
        speech::read(&self.heard)
    }

    /// The strips' numbers of the pictures shown. Once ended.
    pub fn shown(&self) -> Result<Vec<u32>> {
        numbers(&self.log, "shown")
    }

    /// The statistics lines so far.
    pub fn statistics(&self) -> Result<Vec<Value>> {
        let lines = self.process.output();
        lines.iter().map(|line| serde_json::from_str(line).with_context(|| line.clone())).collect()
    }
}

/// The numbers of one event in a frame log; every line must be as documented.
fn numbers(log: &Path, wanted: &str) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(log)?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some("event,unix_us,strip"), "{}", log.display());
    let mut numbers = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [event, unix_us, strip] = fields[..] else {
            anyhow::bail!("{}: {line}", log.display());
        };
        unix_us.parse::<u64>().with_context(|| line.to_owned())?;
        if event == wanted && !strip.is_empty() {
            numbers.push(strip.parse().with_context(|| line.to_owned())?);
        }
    }
    Ok(numbers)
}

/// Of a clip of `period` pictures played over and over: how many were shown, and how many
/// there were from the first to the last that was shown. An error where one came out of order.
pub fn in_order(numbers: &[u32], period: u32) -> Result<(usize, usize)> {
    let mut span = 1;
    for pair in numbers.windows(2) {
        let step = (pair[1] + period - pair[0]) % period;
        ensure!(step != 0 && step <= period / 2, "{} after {}: {numbers:?}", pair[1], pair[0]);
        span += step as usize;
    }
    Ok((numbers.len(), span))
}
