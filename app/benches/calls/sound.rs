//! Mouth to ear, and how far sound and pictures are apart. Two measurements:
//!
//! - Between devices: short bursts are played into the microphone of one sound server and recorded, at the
//!   same time, there and at the speaker of another (`PulseAudio`, null sinks). The same for a tab and for us.
//! - Between our own testcard and file: the card bursts at each full second and writes into its pictures
//!   when they were captured; the recording is brought onto the clock by watching it grow.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::UP;
use crate::common::SOON;
use crate::common::netlab::NetLab;
use crate::common::pulse::Pulse;
use crate::ends::ours::Ours;
use crate::ends::{Kind, Server, Stage, now, sound_call};
use crate::trace::{Us, delays, quantile};

const RATE: u64 = 48_000;
/// Of a burst before the next, no whole number of any block.
const PERIOD_MS: u64 = 1037;
const BURST_MS: u64 = 150;
/// A burst heard later than this belongs to the one before.
const LATEST_US: Us = 900_000;

/// All that was measured on one network, milliseconds.
#[derive(Default)]
pub struct Report {
    pub chromium: Vec<f64>,
    pub ours: Vec<f64>,
    pub to_file: Vec<f64>,
    pub apart: Vec<f64>,
    /// The same as the end itself has it.
    pub told: Vec<f64>,
}

impl Report {
    pub fn markdown(mut self, network: &str) -> String {
        let mut text =
            format!("{network}\n\n| sound, ms | p50 | p95 | bursts |\n|---|---|---|---|\n");
        let lists = [
            ("Chromium, microphone to speaker", &mut self.chromium),
            ("Visavis, microphone to speaker", &mut self.ours),
            ("Visavis, testcard to file", &mut self.to_file),
            ("Visavis, sound after its picture", &mut self.apart),
            ("the same by its own account", &mut self.told),
        ];
        let mut middles = [None; 5];
        for ((name, values), middle) in lists.into_iter().zip(&mut middles) {
            values.sort_by(f64::total_cmp);
            *middle = quantile(values, 0.5);
            let shown = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.1}"));
            let p95 = shown(quantile(values, 0.95));
            let _ = writeln!(text, "| {name} | {} | {p95} | {} |", shown(*middle), values.len());
        }
        let [chromium, ours, to_file, apart, _] = middles;
        text.push('\n');
        let mut say = |holds: Option<bool>, what: &str| {
            let word = if holds == Some(true) { "holds" } else { "MISSED" };
            let _ = writeln!(text, "- {word}: {network}, {what}");
        };
        if network == "lan" {
            say(to_file.map(|ms| ms <= 80.0), "testcard to file, p50 at most 80 ms");
            let ratio = ours.zip(chromium).map(|(ours, chromium)| ours <= 0.7 * chromium);
            say(ratio, "microphone to speaker, p50 at most 0.7 of Chromium's");
        }
        if ["lan", "lossy5"].contains(&network) {
            say(apart.map(|ms| ms.abs() <= 40.0), "sound and picture at most 40 ms apart");
        }
        text
    }
}

/// Delays from the microphone to the speaker, milliseconds.
pub async fn mouth_to_ear(
    kind: Kind,
    lab: &NetLab,
    stage: &Stage,
    seconds: u64,
    warmup: Duration,
) -> Result<Vec<f64>> {
    let (mouth, ear) = (Pulse::start().await?, Pulse::start().await?);
    let (_server, ends) = sound_call(kind, lab, stage, [&mouth, &ear], UP).await?;
    let folder = tempfile::tempdir()?;
    let bursts = folder.path().join("bursts.wav");
    write_bursts(&bursts, seconds + warmup.as_secs())?;
    let player = mouth.play("micfeed", bursts)?;
    // Jitter buffers and gain settle on what they hear.
    tokio::time::sleep(warmup).await;
    let said = Recorder::start(&mouth, "micfeed.monitor")?;
    let heard = Recorder::start(&ear, "spk.monitor")?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    drop(player);
    let (said, heard) = (said.onsets()?, heard.onsets()?);
    ensure!(said.len() as u64 >= seconds / 2, "{} bursts were said", said.len());
    let delays = matched(&said, &heard);
    if delays.is_empty() {
        let [left, right] = &ends;
        bail!("no burst was heard\n{}\n{}", left.describe().await, right.describe().await);
    }
    Ok(delays)
}

/// Of our own ends with testcards: delays of the sound, and how much later than the picture it came.
pub async fn testcard(
    lab: &NetLab,
    stage: &Stage,
    seconds: u64,
    warmup: Duration,
) -> Result<Report> {
    let server = Server::start(&lab.left, stage).await?;
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("heard.wav");
    let source = ["--video-source", "testcard", "--audio-source", "testcard"];
    let sink = format!("file:{}", recording.display());
    let mute = [&source[..], &["--audio-sink", "none"]].concat();
    let listen = [&source[..], &["--audio-sink", &sink]].concat();
    let mut first = Ours::start_with(&lab.left, &server.url, stage, &mute, None)?;
    first.state("waiting", SOON).await?;
    let growth = Growth::watch(&recording);
    let mut second = Ours::start_with(&lab.right, &server.url, stage, &listen, None)?;
    for end in [&mut first, &mut second] {
        end.state("in_call", UP).await?;
    }
    tokio::time::sleep(warmup).await;
    let begin = now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let end = now();
    let window = crate::trace::Window { begin, end };
    let (sent, received) = (first.end(window).await?, second.end(window).await?);
    let samples = read(&recording)?;
    let zero = growth.zero()?;
    let heard: Vec<Us> =
        onsets(&samples).into_iter().map(|at| zero + at * 1_000_000 / RATE).collect();
    let heard: Vec<Us> = heard.into_iter().filter(|at| window.holds(*at)).collect();
    let said: Vec<Us> =
        (begin / 1_000_000..=end / 1_000_000).map(|second| second * 1_000_000).collect();
    let mut report =
        Report { told: received.own_lead_ms.into_iter().collect(), ..Report::default() };
    let pictures = delays(&sent.captured, &received.shown, Duration::MAX);
    for said in said {
        let Some(late) = matched(&[said], &heard).first().copied() else { continue };
        report.to_file.push(late);
        // The pictures captured around then.
        let mut near: Vec<f64> = pictures
            .iter()
            .filter_map(|(shown, delay)| {
                Some((shown.saturating_sub((*delay)? as Us * 1000), (*delay)?))
            })
            .filter(|(captured, _)| captured.abs_diff(said) < 250_000)
            .map(|(_, delay)| delay)
            .collect();
        near.sort_by(f64::total_cmp);
        report.apart.extend(quantile(&near, 0.5).map(|picture| late - picture));
    }
    ensure!(!report.to_file.is_empty(), "no burst was heard");
    Ok(report)
}

/// For each burst said the delay of the first heard after it, if it is soon enough; milliseconds.
fn matched(said: &[Us], heard: &[Us]) -> Vec<f64> {
    said.iter()
        .filter_map(|at| {
            let next = heard.iter().find(|heard| *heard >= at)?;
            (next - at < LATEST_US).then(|| (next - at) as f64 / 1000.0)
        })
        .collect()
}

/// Where bursts begin after silence, in samples.
fn onsets(samples: &[i16]) -> Vec<u64> {
    /// Envelope resolution: half a millisecond.
    const BLOCK: usize = 24;
    /// Silent before it counts as a beginning.
    const QUIET_BLOCKS: usize = 300 * 2;
    let level =
        |block: &[i16]| block.iter().map(|s| u32::from(s.unsigned_abs())).max().unwrap_or(0);
    let levels: Vec<u32> = samples.chunks(BLOCK).map(level).collect();
    let mut sorted = levels.clone();
    sorted.sort_unstable();
    // The bursts are a tenth of the time.
    let loud = sorted.get(sorted.len() * 97 / 100).copied().unwrap_or(0);
    let threshold = loud / 4;
    if threshold < 50 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut quiet = 0;
    for (block, level) in levels.iter().enumerate() {
        if *level < threshold {
            quiet += 1;
        } else {
            if quiet >= QUIET_BLOCKS {
                found.push((block * BLOCK) as u64);
            }
            quiet = 0;
        }
    }
    found
}

fn write_bursts(path: &Path, seconds: u64) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec)?;
    let (period, burst) = (PERIOD_MS * RATE / 1000, BURST_MS * RATE / 1000);
    for index in 0..seconds * RATE {
        let within = index % period;
        let time = within as f64 / RATE as f64;
        // A syllable, with harmonics and a gliding pitch: a tab suppresses a tone as noise.
        let phase = std::f64::consts::TAU * (150.0 * time + 100.0 * time * time);
        let voice: f64 = (1..=12).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum();
        file.write_sample(if within < burst { (voice * 12_000.0) as i16 } else { 0 })?;
    }
    Ok(file.finalize()?)
}

/// What is in a WAV file that is still being written or was cut short.
fn read(path: &Path) -> Result<Vec<i16>> {
    let bytes = std::fs::read(path)?;
    let (samples, _) = bytes.get(HEADER..).context("an empty recording")?.as_chunks::<2>();
    Ok(samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect())
}

/// Of a plain WAV file, bytes.
const HEADER: usize = 44;

/// Watches a recording of ours grow, to learn when its first sample was taken.
struct Growth {
    zero: Arc<Mutex<Option<Us>>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Growth {
    fn watch(path: &Path) -> Self {
        let this = Self { zero: Arc::default(), stop: Arc::default() };
        let (path, zero, stop) = (path.to_owned(), Arc::clone(&this.zero), Arc::clone(&this.stop));
        std::thread::spawn(move || {
            let mut before = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                if length > before && length > HEADER as u64 {
                    before = length;
                    let samples = (length - HEADER as u64) / 2;
                    // It may have been written a while ago, never later.
                    let began = now().saturating_sub(samples * 1_000_000 / RATE);
                    let mut zero = zero.lock().unwrap_or_else(PoisonError::into_inner);
                    *zero = Some(zero.map_or(began, |zero| zero.min(began)));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        this
    }

    fn zero(&self) -> Result<Us> {
        let zero = *self.zero.lock().unwrap_or_else(PoisonError::into_inner);
        zero.context("nothing was recorded")
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

struct Recording {
    /// When its first sample was taken.
    zero: Us,
    samples: Vec<i16>,
}

/// A source of a sound server, recorded with the time of each piece.
struct Recorder {
    child: Child,
    reader: Option<std::thread::JoinHandle<Result<Recording>>>,
}

impl Recorder {
    fn start(pulse: &Pulse, source: &str) -> Result<Self> {
        let mut parec: Command = pulse.command("parec");
        parec.args(["--raw", "--rate=48000", "--channels=1", "--format=s16le", "--latency-msec=5"]);
        let mut child =
            parec.args(["-d", source]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut out = child.stdout.take().context("no stdout")?;
        let reader = std::thread::spawn(move || {
            let (mut bytes, mut zero) = (Vec::new(), None::<Us>);
            let mut piece = [0; 4096];
            loop {
                let length = out.read(&mut piece)?;
                if length == 0 {
                    break;
                }
                bytes.extend_from_slice(&piece[..length]);
                let began = now().saturating_sub(bytes.len() as u64 / 2 * 1_000_000 / RATE);
                zero = Some(zero.map_or(began, |zero| zero.min(began)));
            }
            let (samples, _) = bytes.as_chunks::<2>();
            let samples = samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect();
            Ok(Recording { zero: zero.context("nothing was recorded")?, samples })
        });
        Ok(Self { child, reader: Some(reader) })
    }

    /// When bursts began.
    fn onsets(mut self) -> Result<Vec<Us>> {
        self.child.kill()?;
        let Some(reader) = self.reader.take() else { bail!("read already") };
        let end = Instant::now() + SOON;
        while !reader.is_finished() {
            ensure!(Instant::now() < end, "parec does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        let Recording { zero, samples } = read?;
        Ok(onsets(&samples).into_iter().map(|at| zero + at * 1_000_000 / RATE).collect())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
