//! Music from a headless end to another, and to a tab: what is on the left is heard on the left.

#![cfg(target_os = "linux")] // drives Debian's Chromium

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::SOON;
use common::chromium::{Chromium, Options};
use common::clip::Media;
use common::page::join;
use common::process::{Process, Server, VISAVIS};
use serde_json::Value;
use tokio::time::Instant;

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);

const RATE: usize = 48_000;
const LEFT: f64 = 440.0;
const RIGHT: f64 = 650.0;

/// Ada plays two tones with these options; waits until the last second of Bob's recording is as `wanted`.
async fn heard(ada_options: &[&str], wanted: fn(&[Vec<f64>]) -> bool) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("visavis-stereo-").tempdir()?;
    let (music, recording) = (folder.path().join("music.wav"), folder.path().join("heard.wav"));
    write_chord(&music)?;
    let server = Server::start().await?;
    let call = |name: &str, source: &str, sink: &str, options: &[&str]| {
        let mut command = Command::new(VISAVIS);
        command.args(["call", "tea", "--headless", "--server", &server.url, "--stats", "-"]);
        command.args(["--video-source", "none", "--audio-source", source, "--audio-sink", sink]);
        command.args(options);
        Process::start(command, name)
    };
    let file = |path: &Path| format!("file:{}", path.display());
    let mut ada = call("Ada", &file(&music), "none", ada_options)?;
    let waiting = |line: &Value| (line["state"] == "waiting").then_some(());
    ada.stats("her seat", SOON, waiting).await?;
    let mut bob = call("Bob", "none", &file(&recording), &[])?;
    let loud = |line: &Value| {
        let level = line.pointer("/audio_in/level_dbfs")?.as_f64()?;
        (level > -30.0).then_some(())
    };
    bob.stats("the music", UP, loud).await?;
    let end = Instant::now() + UP;
    loop {
        let channels = last_second(&recording).unwrap_or_default();
        if wanted(&channels) {
            break;
        }
        if Instant::now() > end {
            let loudness =
                |samples: &Vec<f64>| [LEFT, RIGHT].map(|hertz| amplitude(samples, hertz));
            let told: Vec<_> = channels.iter().map(loudness).collect();
            return Err(bob.failure(&format!("{LEFT} and {RIGHT} Hz in each channel: {told:?}")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for end in [&mut ada, &mut bob] {
        end.interrupt()?;
        let status = end.ended(SOON).await?;
        ensure!(status.success(), end.failure("after Ctrl+C"));
    }
    Ok(())
}

#[tokio::test]
async fn music_is_heard_in_stereo() -> Result<()> {
    heard(&["--stereo", "on"], |channels| {
        let [left, right] = channels else { return false };
        // 20 dB louder on its own side than on the other.
        [(left, right, LEFT), (right, left, RIGHT)].into_iter().all(|(own, other, hertz)| {
            amplitude(own, hertz) > (10.0 * amplitude(other, hertz)).max(0.25)
        })
    })
    .await
}

#[tokio::test]
async fn without_asking_for_it_both_channels_are_one() -> Result<()> {
    heard(&[], |channels| {
        let [mono] = channels else { return false };
        [LEFT, RIGHT].into_iter().all(|hertz| (0.1..0.2).contains(&amplitude(mono, hertz)))
    })
    .await
}

/// How loud both tones are in each channel of what a tab plays: `sides()`.
const SIDES: &str = "(async () => {
  const context = new AudioContext({ sampleRate: 48000 });
  await context.resume();
  const splitter = context.createChannelSplitter(2);
  context.createMediaStreamSource(document.getElementById('remoteVideo').srcObject).connect(splitter);
  const analysers = [0, 1].map((channel) => {
    const analyser = new AnalyserNode(context, { fftSize: 16384 });
    splitter.connect(analyser, channel);
    return analyser;
  });
  const samples = new Float32Array(16384);
  window.sides = () => analysers.map((analyser) => {
    analyser.getFloatTimeDomainData(samples);
    return [440, 650].map((hertz) => {
      let [re, im] = [0, 0];
      samples.forEach((sample, at) => {
        const turn = 2 * Math.PI * hertz * at / 48000;
        re += sample * Math.cos(turn);
        im += sample * Math.sin(turn);
      });
      return 2 * Math.hypot(re, im) / samples.length;
    });
  });
  return true;
})()";

#[tokio::test]
async fn a_tab_plays_music_in_stereo_and_sends_its_voice_in_mono() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("visavis-stereo-").tempdir()?;
    let (music, recording) = (folder.path().join("music.wav"), folder.path().join("heard.wav"));
    write_chord(&music)?;
    let media = Media::generate()?;
    let (camera, microphone) = (media.camera(), media.microphone());
    let options =
        Options { camera: Some(&camera), microphone: Some(&microphone), ..Options::default() };
    let chromium = Chromium::start(options).await?;
    let server = Server::start().await?;
    // Who offers differs, and with it whose description answers.
    for tab_first in [true, false] {
        let room = if tab_first { "tea" } else { "coffee" };
        let desktop = || {
            let mut command = Command::new(VISAVIS);
            command.args(["call", room, "--headless", "--server", &server.url, "--stats", "-"]);
            command.args(["--video-source", "testcard", "--stereo", "on"]);
            command.args(["--audio-source", &format!("file:{}", music.display())]);
            command.args(["--audio-sink", &format!("file:{}", recording.display())]);
            Process::start(command, "desktop")
        };
        let waiting = |line: &Value| (line["state"] == "waiting").then_some(());
        let (tab, mut desktop) = if tab_first {
            let tab = join(&chromium, &server.url, room).await?;
            tab.state("waiting", SOON).await?;
            (tab, desktop()?)
        } else {
            let mut desktop = desktop()?;
            desktop.stats("its seat", SOON, waiting).await?;
            (join(&chromium, &server.url, room).await?, desktop)
        };
        tab.state("connected", UP).await?;
        tab.hears_sound(UP).await?;
        tab.eval_by_hand(SIDES).await?;
        let apart =
            "(([[a, b], [c, d]]) => a > 0.2 && d > 0.2 && a > 10 * c && d > 10 * b)(sides())";
        if let Err(error) = tab.until("each tone on its side", apart, UP).await {
            return Err(error.context(format!("{}", tab.eval("sides()").await?)));
        }
        let kbps = |line: &Value| {
            let level = line.pointer("/audio_in/level_dbfs")?.as_f64()?;
            line.pointer("/audio_in/kbps")?.as_f64().filter(|_| level > -50.0)
        };
        let kbps = desktop.stats("the tab's voice", UP, kbps).await?;
        eprintln!("the tab sends {kbps} kbit/s of voice");
        desktop.interrupt()?;
        let status = desktop.ended(SOON).await?;
        ensure!(status.success(), desktop.failure("after Ctrl+C"));
        let channels = hound::WavReader::open(&recording)?.spec().channels;
        ensure!(channels == 1, "a voice in {channels} channels");
    }
    Ok(())
}

/// Two seconds of one tone on the left and another on the right, 48 kHz 16 bit.
fn write_chord(path: &Path) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec)?;
    for at in 0..2 * RATE {
        for hertz in [LEFT, RIGHT] {
            let turns = at as f64 * hertz / RATE as f64;
            file.write_sample((10_000.0 * (turns * std::f64::consts::TAU).sin()) as i16)?;
        }
    }
    Ok(file.finalize()?)
}

/// Each channel's last second, once there are three.
fn last_second(path: &Path) -> Result<Vec<Vec<f64>>> {
    let mut file = hound::WavReader::open(path)?;
    let channels = usize::from(file.spec().channels);
    let samples: Vec<f64> = file
        .samples::<i16>()
        .map_while(Result::ok)
        .map(|sample| f64::from(sample) / 32_768.0)
        .collect();
    let begin = (samples.len() / channels).checked_sub(RATE).filter(|begin| *begin > 2 * RATE);
    let begin = begin.context("a short recording")?;
    let of = |channel| {
        samples.iter().skip(begin * channels + channel).step_by(channels).copied().collect()
    };
    Ok((0..channels).map(of).collect())
}

/// How loud a tone is there.
fn amplitude(samples: &[f64], hertz: f64) -> f64 {
    let step = std::f64::consts::TAU * hertz / RATE as f64;
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let (sin, cos) = (step * n as f64).sin_cos();
        re += sample * cos;
        im += sample * sin;
    }
    2.0 * re.hypot(im) / samples.len() as f64
}
