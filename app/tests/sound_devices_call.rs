//! A call from microphone to speaker over a real sound server.
#![cfg(target_os = "linux")] // PulseAudio

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::SOON;
use common::headless::Scene;
use common::process::{Process, Server, VISAVIS};
use common::pulse::Pulse;
use common::sound_match::compare;
use common::speech;
use serde_json::Value;

const UP: Duration = Duration::from_secs(40);

#[tokio::test]
async fn what_is_said_into_the_microphone_comes_out_of_the_other_speaker() -> Result<()> {
    let pulse = Pulse::start().await?;
    let scene = Scene::set()?;
    let server = Server::start().await?;
    // Ada speaks and hears nothing, so that nothing but her voice is at the speaker.
    let mut ada = pulse.command(VISAVIS);
    ada.args(["call", "tea", "--headless", "--server", &server.url, "--stats", "-"]);
    ada.args(["--video-source", "none", "--audio-source", "mic", "--audio-sink", "none"]);
    // What is compared is the way through the devices, not what is done to a voice.
    ada.args(["--echo-cancel", "off", "--noise-suppression", "off", "--auto-gain", "off"]);
    let mut ada = Process::start(ada, "Ada")?;
    waits(&mut ada).await?;
    let mut bob = pulse.command(VISAVIS);
    bob.args(["call", "tea", "--headless", "--server", &server.url, "--stats", "-"]);
    bob.args(["--video-source", "none", "--audio-source", "none", "--audio-sink", "speaker"]);
    let mut bob = Process::start(bob, "Bob")?;
    // Nothing is said yet: next to nothing is sent, and nothing waits in the buffer.
    let arrives = |line: &Value| line.pointer("/audio_in/kbps").and_then(Value::as_f64);
    bob.stats("sound", UP, |line| arrives(line).filter(|kbps| *kbps > 0.0)).await?;
    let recording = scene.path("heard.wav");
    let recorder = pulse.record("spk.monitor", recording.clone())?;
    let mut player = pulse.play("micfeed", scene.path("speech.wav"))?;
    let status = player.ended(Duration::from_secs(60)).await?;
    ensure!(status.success(), player.failure("did not play"));
    // Until the last word has come through.
    let quiet = |line: &Value| {
        let level = line.pointer("/audio_in/level_dbfs")?.as_f64()?;
        (level < -70.0).then_some(())
    };
    bob.stats("silence after the last word", UP, quiet).await?;
    recorder.signal("TERM")?;
    let mut recorder = recorder;
    recorder.ended(SOON).await?;
    let likeness = compare(&scene.speech, &read_cut_short(&recording)?);
    eprintln!("{likeness}");
    ensure!(likeness.windows.len() >= 10, "{likeness}");
    // On a busy machine not every second is like what was said: the delay has to follow.
    let clear = likeness.windows.iter().filter(|w| w.correlation > 0.85);
    ensure!(clear.count() >= 4, "{likeness}");
    for end in [&mut ada, &mut bob] {
        end.interrupt()?;
        let status = end.ended(SOON).await?;
        ensure!(status.success(), end.failure("after Ctrl+C"));
    }
    Ok(())
}

async fn waits(end: &mut Process) -> Result<()> {
    let waiting = |line: &Value| (line["state"] == "waiting").then_some(());
    end.stats("its seat", SOON, waiting).await
}

/// A recorder that was stopped, or still runs, may not have completed the header: take the samples
/// as they are.
fn read_cut_short(path: &std::path::Path) -> Result<Vec<f32>> {
    if let Ok(samples) = speech::read(path)
        && !samples.is_empty()
    {
        return Ok(samples);
    }
    let bytes = std::fs::read(path)?;
    let (samples, _) = bytes.get(44..).unwrap_or_default().as_chunks::<2>();
    Ok(samples.iter().map(|s| f32::from(i16::from_le_bytes(*s)) / 32_768.0).collect())
}

#[tokio::test]
async fn devices_are_listed_and_chosen_by_their_real_names() -> Result<()> {
    let pulse = Pulse::start().await?;
    let mut devices = pulse.command(VISAVIS);
    devices.arg("devices");
    let mut devices = Process::start(devices, "visavis devices")?;
    let status = devices.ended(SOON).await?;
    let lines = devices.output();
    ensure!(status.success() && devices.errors().is_empty(), devices.failure("not a clean list"));
    let listed = |kind: &str, name: &str| {
        lines.iter().any(|line| line.starts_with(kind) && line.contains(name))
    };
    ensure!(listed("microphone", "Desk Microphone (default)"), "{lines:?}");
    ensure!(listed("speaker", "Loud Speaker (default)"), "{lines:?}");
    ensure!(
        !listed("microphone", "Loud Speaker"),
        "a speaker's monitor is no microphone: {lines:?}"
    );
    let mut json = pulse.command(VISAVIS);
    json.args(["devices", "--json"]);
    let mut json = Process::start(json, "visavis devices --json")?;
    json.ended(SOON).await?;
    let list: Value = serde_json::from_str(&json.output().concat())?;
    let name = list.pointer("/speakers/0/name").and_then(Value::as_str);
    ensure!(name.is_some(), "{list:#}");
    // A name that is none is answered with those there are.
    let server = Server::start().await?;
    for (option, value, kind, real) in [
        ("--audio-source", "mic:Cyclops", "microphone", "Desk Microphone"),
        ("--audio-sink", "speaker:Cyclops", "speaker", "Loud Speaker"),
    ] {
        let mut call = pulse.command(VISAVIS);
        call.args(["call", "tea", "--headless", "--server", &server.url, "--video-source", "none"]);
        call.args([option, value]);
        let mut call = Process::start(call, value)?;
        let status = call.ended(SOON).await?;
        let said = call.errors().join("\n");
        ensure!(status.code() == Some(6), "{status}: {said}");
        for word in [kind, "Cyclops", real] {
            ensure!(said.contains(word), "{word}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_speaker_that_goes_gives_way_and_takes_its_place_again() -> Result<()> {
    let pulse = Pulse::start().await?;
    let headset = pulse.plug_speaker("headset", "Head Set")?;
    let scene = Scene::set()?;
    let server = Server::start().await?;
    let mut ada = scene.call("ada", "tea", &["--server", &server.url])?;
    ada.state("waiting", SOON).await?;
    let mut bob = pulse.command(VISAVIS);
    bob.args(["call", "tea", "--headless", "--server", &server.url, "--stats", "-"]);
    bob.args(["--video-source", "none", "--audio-source", "none"]);
    bob.args(["--audio-sink", "speaker:Head Set"]);
    let mut bob = Process::start(bob, "Bob")?;
    let playing = |line: &Value| {
        let level = line.pointer("/audio_in/level_dbfs")?.as_f64()?;
        (line["state"] == "in_call" && level > -50.0).then_some(())
    };
    bob.stats("Ada's voice", UP, playing).await?;

    pulse.unplug(&headset)?;
    says(&mut bob, "The speaker is now \"Loud Speaker\".").await?;
    let recording = scene.path("instead.wav");
    let mut recorder = pulse.record("spk.monitor", recording.clone())?;
    // Two seconds of it, whenever they come.
    let end = tokio::time::Instant::now() + UP;
    loop {
        let heard = read_cut_short(&recording).unwrap_or_default();
        let loud = heard.iter().filter(|sample| sample.abs() > 0.01).count();
        if loud > 48_000 {
            break;
        }
        ensure!(tokio::time::Instant::now() < end, "{loud} of {} samples are loud", heard.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    recorder.signal("TERM")?;
    recorder.ended(SOON).await?;

    pulse.plug_speaker("headset", "Head Set")?;
    says(&mut bob, "The speaker is now \"Head Set\".").await?;
    bob.stats("the same call", UP, playing).await?;
    bob.interrupt()?;
    let status = bob.ended(SOON).await?;
    ensure!(status.success(), bob.failure("after Ctrl+C"));
    ada.hang_up("INT").await
}

async fn says(end: &mut Process, sentence: &str) -> Result<()> {
    let said = |_: &[String], errors: &[String]| {
        errors.iter().any(|line| line.contains(sentence)).then_some(())
    };
    end.until(sentence, UP, said).await
}
