//! Two headless ends call each other: pictures by the numbers in their strips, sound by its
//! likeness to what was said, statistics, exit codes, hanging up and coming back.

#![cfg(unix)] // ends them by signals

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::SOON;
use common::headless::{End, Scene, in_order};
use common::process::{Process, Server};
use common::sound_match::{RATE, compare};
use serde_json::Value;

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);

/// Of the clip, which is played over and over.
const PICTURES: u32 = 150;

async fn in_call(scene: &Scene, server: &str, room: &str) -> Result<(End, End)> {
    let mut ada = scene.call("Ada", room, &["--server", server])?;
    ada.state("waiting", SOON).await?;
    let mut bob = scene.call("Bob", room, &["--server", server])?;
    ada.received(15, UP).await?;
    bob.received(15, UP).await?;
    Ok((ada, bob))
}

#[tokio::test]
async fn two_ends_see_and_hear_each_other() -> Result<()> {
    let scene = Scene::set()?;
    let server = Server::start().await?;
    let (mut ada, mut bob) = in_call(&scene, &server.url, "tea").await?;
    // Twelve seconds of pictures.
    ada.received(180, UP).await?;
    bob.received(180, UP).await?;
    ada.hears(&scene.speech, 2 * UP).await?;
    bob.hears(&scene.speech, 2 * UP).await?;
    ada.hang_up("INT").await?;
    bob.says("Ada left the call.", SOON).await?;
    bob.hang_up("TERM").await?;
    for end in [&ada, &bob] {
        let (shown, played) = in_order(&end.shown()?, PICTURES)?;
        ensure!(shown >= 150 && shown * 10 >= played * 9, "{shown} pictures shown of {played}");
        let heard = end.heard()?;
        ensure!(heard.len() > 10 * RATE, "{} samples heard", heard.len());
    }
    Ok(())
}

#[tokio::test]
async fn the_statistics_have_every_documented_figure() -> Result<()> {
    let scene = Scene::set()?;
    let server = Server::start().await?;
    let (mut ada, mut bob) = in_call(&scene, &server.url, "tea").await?;
    // Busy machines begin with smaller pictures.
    let whole = |line: &Value| line["video_in"]["width"] == 640 && known(line);
    let last =
        ada.process.stats("every figure", UP, |line| whole(line).then(|| line.clone())).await?;
    ensure!(last["role"] == "initiator" && last["pair"] == "host/udp", "{last:#}");
    ensure!(last["state"] == "in_call" && last["video_in"]["codec"] == "H264", "{last:#}");
    ada.hang_up("INT").await?;
    bob.hang_up("INT").await?;
    let lines = ada.statistics()?;
    lines.iter().try_for_each(has_every_figure)?;
    let said: Vec<&str> = lines.iter().filter_map(|line| line["state"].as_str()).collect();
    ensure!(said.contains(&"waiting") && said.contains(&"in_call"), "{said:?}");
    Ok(())
}

/// What a call knows once it has lasted for a few seconds.
fn known(line: &Value) -> bool {
    [
        "/rtt_ms",
        "/target_kbps",
        "/connect_ms",
        "/first_frame_ms",
        "/video_out/encode_ms",
        "/video_in/decode_ms",
        "/audio_in/jitter_ms",
        "/audio_in/buffer_ms",
        "/process/cpu_cores",
    ]
    .iter()
    .all(|figure| line.pointer(figure).is_some_and(Value::is_number))
}

/// A figure may be null, but not absent, and there are no others.
fn has_every_figure(line: &Value) -> Result<()> {
    let names = |value: &Value| -> Vec<String> {
        let names = value.as_object().map(|object| object.keys().cloned());
        let mut names: Vec<String> = names.into_iter().flatten().collect();
        names.sort();
        names
    };
    let documented = |text: &str| {
        let mut names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        names.sort();
        names
    };
    let video = "codec width height fps kbps frames dropped key_frames lost retransmitted recovered freezes \
                 frozen_ms";
    let audio = "kbps lost jitter_ms buffer_ms concealed_ms recovered_ms level_dbfs";
    for (at, expected) in [
        (
            "",
            "unix_ms state role pair rtt_ms target_kbps queue_ms congestion connect_ms first_frame_ms video_out \
             video_in audio_out audio_in av_offset_ms process",
        ),
        ("/video_out", &format!("{video} encode_ms")),
        ("/video_in", &format!("{video} decode_ms")),
        ("/audio_out", audio),
        ("/audio_in", audio),
        ("/process", "cpu_cores rss_mib"),
    ] {
        let there = line.pointer(at).map(names).unwrap_or_default();
        ensure!(there == documented(expected), "{at}: {there:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_third_caller_is_told_that_the_room_is_full() -> Result<()> {
    let scene = Scene::set()?;
    let server = Server::start().await?;
    let (mut ada, mut bob) = in_call(&scene, &server.url, "tea").await?;
    let mut eve = scene.call("Eve", "tea", &["--server", &server.url])?;
    let status = eve.process.ended(SOON).await?;
    let said = eve.process.errors().join("\n");
    ensure!(status.code() == Some(4), "{status}: {said}");
    ensure!(said.contains("The room \"tea\" is full: two people are in it."), "{said}");
    // The two go on.
    ada.received(60, UP).await?;
    bob.received(60, UP).await
}

#[tokio::test]
async fn an_end_that_starts_again_is_back_in_the_call() -> Result<()> {
    let scene = Scene::set()?;
    // Whoever is killed has no token left: its seat is free when it is no longer held.
    let server = Server::with(&["--hold", "1"]).await?;
    let (mut ada, mut bob) = in_call(&scene, &server.url, "tea").await?;
    for signal in ["INT", "KILL"] {
        bob.process.signal(signal)?;
        bob.process.ended(SOON).await?;
        ada.state("waiting", SOON).await?;
        bob = scene.call("Bob", "tea", &["--server", &server.url])?;
        bob.received(15, UP).await?;
        ada.received(15, UP).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_call_ends_by_itself_after_its_duration() -> Result<()> {
    let scene = Scene::set()?;
    let server = Server::start().await?;
    let more = ["--server", &server.url, "--duration", "2.5"];
    let mut ada = scene.call("Ada", "tea", &more)?;
    let status = ada.process.ended(UP).await?;
    ensure!(status.success(), "{}", ada.process.failure("not its end"));
    // Two and a half seconds of silence, whole.
    let heard = ada.heard()?;
    ensure!(heard.len() > RATE && heard.iter().all(|sample| *sample == 0.0));
    Ok(())
}

#[tokio::test]
async fn an_end_without_any_media_still_joins() -> Result<()> {
    let scene = Scene::set()?;
    let server = Server::start().await?;
    let mut ada = scene.call("Ada", "tea", &["--server", &server.url])?;
    ada.state("waiting", SOON).await?;
    let mut bob = Process::visavis(&[
        "call",
        &format!("{}/room/tea", server.url),
        "--headless",
        "--video-source",
        "none",
        "--audio-source",
        "none",
        "--stats",
        "-",
    ])?;
    let pictures = |line: &Value| {
        let frames = line.pointer("/video_in/frames")?.as_u64()?;
        (frames > 15).then_some(())
    };
    bob.stats("Ada's pictures", UP, pictures).await?;
    ada.state("in_call", SOON).await
}

/// What a call is worth on a machine that has nothing else to do. `VISAVIS_CLIP` and
/// `VISAVIS_SPEECH` name a 1280x720 clip of `VISAVIS_PICTURES` pictures at 30 a second with
/// strips, and real speech; without them generated ones are played.
#[tokio::test]
#[ignore = "takes a minute of an idle machine"]
async fn a_minute_of_speech_is_heard_as_it_was_said() -> Result<()> {
    let path = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let (scene, period, fps) = match (path("VISAVIS_CLIP"), path("VISAVIS_SPEECH")) {
        (Some(clip), Some(speech)) => {
            let pictures = std::env::var("VISAVIS_PICTURES")?.parse()?;
            (Scene::of(clip, speech)?, pictures, 30)
        }
        _ => (Scene::set()?, PICTURES, 15),
    };
    let server = Server::start().await?;
    let (mut ada, mut bob) = in_call(&scene, &server.url, "tea").await?;
    ada.received(62 * fps, 3 * UP).await?;
    bob.received(62 * fps, 3 * UP).await?;
    ada.hang_up("INT").await?;
    bob.hang_up("INT").await?;
    for end in [&ada, &bob] {
        let (shown, played) = in_order(&end.shown()?, period)?;
        let likeness = compare(&scene.speech, &end.heard()?);
        eprintln!("{shown} pictures shown of {played}; {likeness}");
        ensure!(shown * 30 >= played * 29, "{shown} of {played}");
        ensure!(likeness.windows.len() + likeness.silent >= 60, "{likeness}");
        ensure!(likeness.median() > 0.9, "{likeness}");
        ensure!(likeness.share_above(0.7) >= 0.98, "{likeness}");
        ensure!(likeness.drift_ms().abs() < 20.0, "{likeness}");
    }
    Ok(())
}
