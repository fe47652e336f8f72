//! Our program, and the files it leaves.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{ROOM, Stage, started_on};
use crate::common::SOON;
use crate::common::netns::Host;
use crate::common::process::Process;
use crate::common::pulse::{PULSE_SERVER, Pulse};
use crate::trace::{Counters, SAMPLE_EVERY, Sample, Trace, Us, Window, median};
use crate::usage::Usage;
use crate::xvfb::Display;

pub struct Ours {
    process: Process,
    folder: tempfile::TempDir,
    before: Option<Usage>,
    after: Option<Usage>,
    _display: Option<Display>,
}

const LOG: &str = "frames.csv";
const SAMPLES: &str = "samples";

impl Ours {
    /// Without a window.
    pub fn start(host: &Host, server: &str, stage: &Stage) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-calls-end-").tempdir()?;
        let mut command = started_on(host, &stage.program);
        arguments(&mut command, server, stage, folder.path());
        command.arg("--headless");
        if stage.samples {
            let samples = folder.path().join(SAMPLES);
            let spec = format!("samples:{SAMPLE_EVERY}/{}:{}", stage.pictures, samples.display());
            command.args(["--video-sink", &spec]);
        }
        let process = Process::start(command, "visavis call --headless")?;
        Ok(Self { process, folder, before: None, after: None, _display: None })
    }

    /// With its window and preview, drawn by software.
    pub async fn start_window(host: &Host, server: &str, stage: &Stage) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-calls-end-").tempdir()?;
        let display = Display::start().await?;
        let mut command = started_on(host, &stage.program);
        arguments(&mut command, server, stage, folder.path());
        command
            .env("DISPLAY", display.name())
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("WAYLAND_SOCKET")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env("XDG_RUNTIME_DIR", folder.path())
            .env("VISAVIS_CONFIG_DIR", folder.path());
        let process = Process::start(command, "visavis call")?;
        Ok(Self { process, folder, before: None, after: None, _display: Some(display) })
    }

    /// Without a window and without files of its own: other sources and sinks, and a sound server's devices.
    pub fn start_with(
        host: &Host,
        server: &str,
        stage: &Stage,
        words: &[&str],
        sound: Option<&Pulse>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-calls-end-").tempdir()?;
        let mut command = started_on(host, &stage.program);
        command.args(["call", ROOM, "--server", server, "--stats", "-", "--headless"]);
        command.args(words).arg("--frame-log").arg(folder.path().join(LOG));
        if let Some(sound) = sound {
            command.env(PULSE_SERVER, sound.address());
        }
        let process = Process::start(command, "visavis call --headless")?;
        Ok(Self { process, folder, before: None, after: None, _display: None })
    }

    pub async fn state(&mut self, state: &str, limit: Duration) -> Result<()> {
        let line = |line: &String| serde_json::from_str::<Value>(line).ok();
        let pick = |output: &[String], _: &[String]| {
            let now = output.iter().rev().find_map(line)?;
            (now.get("state")?.as_str()? == state).then_some(())
        };
        self.process.until(state, limit, pick).await
    }

    /// Whether its last word was that it is.
    pub fn is_in_call(&self) -> Result<bool> {
        let last = self.process.output().pop().context("it said nothing")?;
        let line: Value = serde_json::from_str(&last)?;
        Ok(line.get("state").and_then(Value::as_str) == Some("in_call"))
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// All it said so far.
    pub fn statistics(&self) -> Result<Vec<Value>> {
        let lines = self.process.output();
        Ok(lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?)
    }

    pub fn begin(&mut self) -> Result<()> {
        self.before = Some(Usage::of_tree(self.process.id())?);
        Ok(())
    }

    pub fn describe(&self) -> String {
        self.process.failure("visavis").to_string()
    }

    pub fn over(&mut self) -> Result<()> {
        self.after = Some(Usage::of_tree(self.process.id())?);
        Ok(())
    }

    pub async fn end(mut self, window: Window) -> Result<Trace> {
        self.process.interrupt()?;
        let status = self.process.ended(SOON).await?;
        ensure!(status.success(), self.process.failure(&status.to_string()));
        let mut trace = Trace::default();
        if let Some((before, after)) = self.before.take().zip(self.after.take()) {
            trace.cpu_cores = after.cores_since(&before);
            trace.pss_mib = after.pss_mib;
        }
        self.read_log(&mut trace)?;
        self.read_statistics(&mut trace, window)?;
        let samples = self.folder.path().join(SAMPLES);
        if samples.exists() {
            trace.samples = read_samples(&samples)?;
        }
        Ok(trace)
    }

    fn read_log(&self, trace: &mut Trace) -> Result<()> {
        let text = std::fs::read_to_string(self.folder.path().join(LOG))?;
        for line in text.lines().skip(1) {
            let mut fields = line.split(',');
            let event = fields.next().unwrap_or_default();
            let us: Us = fields.next().and_then(|us| us.parse().ok()).context("a frame log")?;
            let strip: Option<u32> = fields.next().and_then(|strip| strip.parse().ok());
            match event {
                "captured" => trace.captured.extend(strip.map(|strip| (us, strip))),
                "shown" => trace.shown.push((us, strip)),
                _ => {}
            }
        }
        trace.captured.sort_unstable();
        trace.shown.sort_unstable();
        Ok(())
    }

    fn read_statistics(&self, trace: &mut Trace, window: Window) -> Result<()> {
        let lines = self.statistics()?;
        let mut sum = Counters::default();
        let mut last_at = None;
        let (mut freezes_at, mut freezes) = (None, 0.0);
        let mut leads = Vec::new();
        for line in &lines {
            let number = |pointer: &str| line.pointer(pointer).and_then(Value::as_f64);
            let at = number("/unix_ms").context("a line without its time")? * 1000.0;
            // Rates are those since the line before.
            let seconds = last_at.map_or(0.0, |last: f64| (at - last) / 1e6);
            last_at = Some(at);
            let bytes = |kbps: Option<f64>| kbps.unwrap_or(0.0) * seconds * 1000.0 / 8.0;
            sum.at = at as Us;
            sum.video += bytes(number("/video_in/kbps"));
            sum.audio += bytes(number("/audio_in/kbps"));
            sum.concealed = number("/audio_in/concealed_ms").unwrap_or(0.0) / 1000.0;
            sum.played = at / 1e6;
            if let Some((width, height)) = number("/video_in/width").zip(number("/video_in/height"))
            {
                trace.sizes.push((sum.at, width as u32, height as u32));
            }
            // A line before and after as well: rates of whole seconds.
            if sum.at + 500_000 >= window.begin && sum.at < window.end + 500_000 {
                trace.counters.push(sum);
                freezes = number("/video_in/freezes").unwrap_or(0.0);
                freezes_at.get_or_insert(freezes);
                leads.extend(number("/av_offset_ms"));
            }
            trace.connect_ms = number("/connect_ms").or(trace.connect_ms);
            trace.first_frame_ms = number("/first_frame_ms").or(trace.first_frame_ms);
            let codec = line.pointer("/video_in/codec").and_then(Value::as_str);
            trace.codec = codec.unwrap_or_default().to_owned();
        }
        trace.own_freezes = freezes_at.map(|before| freezes - before);
        trace.own_lead_ms = median(leads);
        Ok(())
    }
}

fn arguments(command: &mut Command, server: &str, stage: &Stage, folder: &Path) {
    let file = |path: &Path| format!("file:{}", path.display());
    command.args(["call", ROOM, "--server", server, "--stats", "-"]);
    command.args(["--video-source", &file(&stage.clip)]);
    command.args(["--audio-source", &file(&stage.speech), "--audio-sink", "none"]);
    command.arg("--frame-log").arg(folder.join(LOG));
}

fn read_samples(path: &Path) -> Result<Vec<Sample>> {
    let mut file = BufReader::new(std::fs::File::open(path)?);
    let mut samples = Vec::new();
    let mut line = String::new();
    while file.read_line(&mut line)? > 0 {
        let fields: Vec<&str> = line.trim_end().split(',').collect();
        let [at, shown, width, height, numbers] = fields[..] else {
            anyhow::bail!("samples: {line:?}");
        };
        let (width, height): (usize, usize) = (width.parse()?, height.parse()?);
        let mut luma = vec![0; width * height];
        file.read_exact(&mut luma)?;
        samples.push(Sample {
            at: at.parse()?,
            shown: shown.parse()?,
            stands_for: numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?,
            width,
            height,
            luma,
        });
        line.clear();
    }
    Ok(samples)
}
