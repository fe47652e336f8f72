//! A microphone that hears the speaker, as in every room, over a real sound server.
#![cfg(target_os = "linux")] // PulseAudio

mod common;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::SOON;
use common::headless::Scene;
use common::process::{Process, Server, VISAVIS};
use common::pulse::Pulse;
use common::speech;
use serde_json::Value;

const UP: Duration = Duration::from_secs(40);
const RATE: usize = 48_000;

/// So often it is listened: a machine that stalls moves the echo, and the canceller learns anew.
const WINDOWS: usize = 5;

/// The loudness of what is sent, of what is heard at the microphone and of what arrives, over
/// the last seconds of a call: dBFS.
struct Heard {
    microphone: f32,
    arrived: f32,
}

/// Ada sits in a room with speaker and microphone; Bob speaks from a file and records.
struct Room {
    pulse: Pulse,
    scene: Scene,
    _server: Server,
    ada: Process,
    bob: Process,
}

impl Room {
    async fn enter(ada_options: &[&str]) -> Result<Self> {
        let pulse = Pulse::start().await?;
        pulse.room(60, 10)?;
        let scene = Scene::set()?;
        let server = Server::start().await?;
        let mut ada = pulse.command(VISAVIS);
        ada.args(["call", "tea", "--headless", "--server", &server.url, "--stats", "-"]);
        ada.args(["--video-source", "none", "--audio-source", "mic", "--audio-sink", "speaker"]);
        ada.args(ada_options);
        let mut ada = Process::start(ada, "Ada")?;
        let waiting = |line: &Value| (line["state"] == "waiting").then_some(());
        ada.stats("her seat", SOON, waiting).await?;
        let file = |name: &str| format!("file:{}", scene.path(name).display());
        let mut bob = std::process::Command::new(VISAVIS);
        bob.args(["call", "tea", "--headless", "--server", &server.url, "--stats", "-"]);
        bob.args(["--video-source", "none", "--audio-source", &file("speech.wav")]);
        bob.args(["--audio-sink", &file("heard.wav")]);
        let bob = Process::start(bob, "Bob")?;
        let playing = |line: &Value| {
            let level = line.pointer("/audio_in/level_dbfs")?.as_f64()?;
            (level > -50.0).then_some(())
        };
        ada.stats("Bob's voice", UP, playing).await?;
        Ok(Self { pulse, scene, _server: server, ada, bob })
    }

    /// Listens for some seconds to the microphone and to what arrives at Bob's.
    async fn listen(&mut self, seconds: usize) -> Result<Heard> {
        let raw = self.scene.path("microphone.wav");
        let recorder = self.pulse.record("mic", raw.clone())?;
        tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
        let arrived = speech::read(&self.scene.path("heard.wav"))?;
        let tail = arrived.len().saturating_sub(seconds * RATE);
        let mut recorder = recorder;
        recorder.signal("TERM")?;
        recorder.ended(SOON).await?;
        Ok(Heard {
            microphone: dbfs(&recorded(&raw)?),
            arrived: dbfs(arrived.get(tail..).context("nothing arrived")?),
        })
    }

    async fn leave(mut self) -> Result<()> {
        for end in [&mut self.ada, &mut self.bob] {
            end.interrupt()?;
            let status = end.ended(SOON).await?;
            ensure!(status.success(), end.failure("after Ctrl+C"));
        }
        Ok(())
    }
}

fn dbfs(samples: &[f32]) -> f32 {
    let power = samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32;
    10.0 * power.max(1e-12).log10()
}

/// A recorder that was stopped may not have completed the header: take the samples as they are.
fn recorded(path: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    let (samples, _) = bytes.get(44..).unwrap_or_default().as_chunks::<2>();
    Ok(samples.iter().map(|s| f32::from(i16::from_le_bytes(*s)) / 32_768.0).collect())
}

/// Without the canceller, or with the speaker's sound in the wrong place, nothing is taken away.
const CANCELLED: f32 = 15.0;

/// What a room with one echo can be brought to, where no thread is ever late. Decibels.
const GONE: f32 = 35.0;

#[tokio::test]
async fn who_speaks_does_not_hear_an_echo() -> Result<()> {
    echo_is_down_by(CANCELLED).await
}

#[tokio::test]
#[ignore = "needs a machine with nothing else to do: a late thread moves the echo"]
async fn on_a_quiet_machine_the_echo_is_gone() -> Result<()> {
    echo_is_down_by(GONE).await
}

async fn echo_is_down_by(wanted: f32) -> Result<()> {
    let mut room = Room::enter(&[]).await?;
    // The canceller is given two seconds to learn the room.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut down = f32::NEG_INFINITY;
    for _ in 0..WINDOWS {
        let heard = room.listen(6).await?;
        let Heard { microphone, arrived } = heard;
        eprintln!("echo {microphone:.1} dBFS at the microphone, {arrived:.1} at the other end");
        ensure!(microphone > -50.0, "there is no echo to cancel: {microphone:.1} dBFS");
        down = down.max(microphone - arrived);
        if down >= wanted {
            return room.leave().await;
        }
    }
    bail!("the echo is at best {down:.1} dB down, not {wanted}")
}

#[tokio::test]
async fn both_may_speak_at_once() -> Result<()> {
    let mut room = Room::enter(&["--auto-gain", "off"]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Ada speaks too, as loudly as Bob, into the microphone that hears him.
    let near = room.scene.path("near.wav");
    let voice = speech::generate(8, 45);
    speech::write(&near, &voice)?;
    let _speaking = room.pulse.play("micfeed", near)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let voice = dbfs(&voice);
    for _ in 0..WINDOWS {
        let Heard { arrived, .. } = room.listen(6).await?;
        eprintln!("Ada speaks at {voice:.1} dBFS; {arrived:.1} arrive");
        if (arrived - voice).abs() <= 3.0 {
            return room.leave().await;
        }
    }
    bail!("what Ada says does not arrive as loud as she speaks")
}
