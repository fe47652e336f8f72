//! Two browser tabs call each other through `visavis serve`.
#![cfg(target_os = "linux")] // drives Debian's Chromium

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::SOON;
use common::chromium::{Chromium, Options, Tab};
use common::clip::Media;
use common::page::join;
use common::process::Server;
use serde_json::json;

/// A reload that takes longer is one a person gives up on.
const BACK: Duration = Duration::from_secs(10);

struct Stage {
    server: Server,
    chromium: Chromium,
    _media: Media,
}

impl Stage {
    async fn set() -> Result<Self> {
        let media = Media::generate()?;
        let (camera, microphone) = (media.camera(), media.microphone());
        let options =
            Options { camera: Some(&camera), microphone: Some(&microphone), ..Options::default() };
        let chromium = Chromium::start(options).await?;
        Ok(Self { server: Server::start().await?, chromium, _media: media })
    }

    async fn join(&self, room: &str) -> Result<Tab> {
        join(&self.chromium, &self.server.url, room).await
    }

    /// Two tabs in a call.
    async fn pair(&self, room: &str) -> Result<(Tab, Tab)> {
        let first = self.join(room).await?;
        first.state("waiting", SOON).await?;
        let second = self.join(room).await?;
        both_connected(&first, &second, SOON).await?;
        Ok((first, second))
    }
}

async fn both_connected(one: &Tab, other: &Tab, limit: Duration) -> Result<()> {
    one.state("connected", limit).await?;
    other.state("connected", limit).await
}

#[tokio::test]
async fn two_tabs_see_and_hear_each_other() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    first.sees_and_hears().await?;
    second.sees_and_hears().await?;
    let codec = first.eval("visavis.stats().then(s => s.videoIn.codec)").await?;
    ensure!(codec == json!("video/H264"), "H.264 comes first, yet the tabs chose {codec}");
    Ok(())
}

#[tokio::test]
async fn the_page_goes_from_the_lobby_into_the_call() -> Result<()> {
    let stage = Stage::set().await?;
    let first = stage.chromium.open(&format!("{}/", stage.server.url)).await?;
    first.state("lobby", SOON).await?;
    first.until("a preview", "document.getElementById('preview').videoWidth > 0", SOON).await?;
    first
        .until(
            "the microphone's level",
            "document.querySelectorAll('#meter .lit').length > 3",
            SOON,
        )
        .await?;
    first
        .eval("for (const [id, value] of [['room', '茶 Room'], ['name', '李雷']]) { \
               const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('input')); }")
        .await?;
    first.click("join").await?;
    first.state("waiting", SOON).await?;
    let path = first.eval("decodeURIComponent(location.pathname)").await?;
    ensure!(path == json!("/room/茶-room"), "the address is {path}");
    let link = first.eval("document.getElementById('link').value").await?;
    let second =
        stage.chromium.open(&format!("{}?join", link.as_str().unwrap_or_default())).await?;
    both_connected(&first, &second, SOON).await?;
    second
        .until("the other's name", "document.getElementById('peerName').innerText === '李雷'", SOON)
        .await?;
    Ok(())
}

#[tokio::test]
async fn who_never_showed_a_picture_is_heard() -> Result<()> {
    let stage = Stage::set().await?;
    let mut tabs = Vec::new();
    for state in ["waiting", "connected"] {
        let tab = stage.chromium.open(&format!("{}/room/tea", stage.server.url)).await?;
        tab.until("a preview", "document.getElementById('preview').videoWidth > 0", SOON).await?;
        tab.click("lobbyCamera").await?;
        tab.until("no camera", "!document.getElementById('preview').srcObject", SOON).await?;
        tab.click("join").await?;
        tab.state(state, SOON).await?;
        tabs.push(tab);
    }
    for tab in &tabs {
        tab.hears_sound(SOON).await?;
        let pictures = tab.eval("document.getElementById('remoteVideo').videoWidth").await?;
        ensure!(pictures == json!(0), "there was a picture");
    }
    Ok(())
}

#[tokio::test]
async fn the_one_who_offers_reloads_and_is_back() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    first.sees_movement(SOON).await?;
    first.reload().await?;
    both_connected(&first, &second, BACK).await?;
    first.sees_and_hears().await?;
    second.sees_and_hears().await
}

#[tokio::test]
async fn the_one_who_answers_reloads_and_is_back() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    second.sees_movement(SOON).await?;
    second.reload().await?;
    both_connected(&first, &second, BACK).await?;
    first.sees_and_hears().await?;
    second.sees_and_hears().await
}

#[tokio::test]
async fn five_reloads_in_turn_and_the_call_still_stands() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    for round in 0..5 {
        let one = if round % 2 == 0 { &first } else { &second };
        one.reload().await?;
        both_connected(&first, &second, BACK).await?;
        first.sees_movement(BACK).await?;
        second.sees_movement(BACK).await?;
    }
    first.hears_sound(SOON).await?;
    second.hears_sound(SOON).await
}

#[tokio::test]
async fn a_third_tab_is_told_full_and_disturbs_nobody() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    let connection = "visavis.stats().then(s => s.videoIn?.frames)";
    let before = first.until("pictures", connection, SOON).await?;
    let third = stage.join("tea").await?;
    third.state("full", SOON).await?;
    let words = third.words("status").await?;
    ensure!(words.contains("full"), "the third is told '{words}'");
    third.reload().await?;
    third.state("full", SOON).await?;
    third.close().await?;
    first.sees_and_hears().await?;
    second.sees_and_hears().await?;
    // A new connection would count its pictures from nothing.
    let after = first.eval(connection).await?;
    ensure!(
        after.as_u64() > before.as_u64(),
        "the call was begun anew: {before} pictures, then {after}"
    );
    Ok(())
}

#[tokio::test]
async fn who_is_left_is_told_and_takes_the_next_caller() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    first.click("hangUp").await?;
    first.state("ended", SOON).await?;
    second.state("left", SOON).await?;
    let words = second.words("status").await?;
    ensure!(words.contains("left"), "the one who stays is told '{words}'");
    let light = first.eval("document.getElementById('localVideo').srcObject === null").await?;
    ensure!(light == json!(true), "the camera is still open after hanging up");
    first.click("rejoin").await?;
    both_connected(&first, &second, SOON).await?;
    first.sees_and_hears().await?;
    second.sees_and_hears().await?;
    second.close().await?;
    first.state("left", SOON).await
}

/// Notes when the line to the server goes down, and when the call does.
const WATCH: &str = "window.seen = {down: false, broke: ''}; \
    new MutationObserver(() => { \
        if (!document.getElementById('hint').hidden) seen.down = true; \
        if (visavis.state !== 'connected') seen.broke = visavis.state; \
    }).observe(document.getElementById('call'), {attributes: true, childList: true, subtree: true}); \
    true";

#[tokio::test]
async fn the_server_is_killed_and_the_call_goes_on() -> Result<()> {
    let mut stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    first.sees_movement(SOON).await?;
    for tab in [&first, &second] {
        tab.eval(WATCH).await?;
    }
    stage.server.restart().await?;
    for tab in [&first, &second] {
        let up = "seen.down && document.getElementById('hint').hidden";
        tab.until("a line that was down and is up", up, SOON).await?;
    }
    // What the two say to each other arrives again, in the same call.
    for (here, there) in [(&first, &second), (&second, &first)] {
        here.click("mute").await?;
        let muted = "!document.getElementById('peerMuted').hidden";
        there.until("the sign of silence", muted, SOON).await?;
        here.click("mute").await?;
        let heard = "document.getElementById('peerMuted').hidden";
        there.until("no sign of silence", heard, SOON).await?;
        let broke = here.eval("seen.broke").await?;
        ensure!(broke == "", "the call was {broke} meanwhile");
    }
    first.sees_and_hears().await?;
    second.sees_and_hears().await
}

#[tokio::test]
async fn a_camera_switched_off_shows_a_name_and_comes_back() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    second.sees_movement(SOON).await?;
    first.click("cameraToggle").await?;
    second
        .until("the placeholder", "!document.getElementById('remotePlaceholder').hidden", SOON)
        .await?;
    second.hears_sound(SOON).await?;
    first.click("cameraToggle").await?;
    second
        .until("the picture", "document.getElementById('remotePlaceholder').hidden", SOON)
        .await?;
    second.sees_movement(SOON).await?;
    first.click("mute").await?;
    second
        .until("the sign of silence", "!document.getElementById('peerMuted').hidden", SOON)
        .await?;
    Ok(())
}

#[tokio::test]
async fn pictures_that_the_link_of_the_other_cannot_carry_are_not_shown_frozen() -> Result<()> {
    let stage = Stage::set().await?;
    let (first, second) = stage.pair("tea").await?;
    second.sees_movement(SOON).await?;
    // A tab never says so itself: its line is borrowed.
    first
        .eval(
            "{ const send = WebSocket.prototype.send;
               WebSocket.prototype.send = function (text) { window.line = this; send.call(this, text); };
               true }",
        )
        .await?;
    first.click("mute").await?;
    first.until("the line", "window.line !== undefined", SOON).await?;
    let says = |paused: bool| {
        let message = format!("{{type: 'pictures', paused: {paused}}}");
        format!("line.send(JSON.stringify({{type: 'message', message: {message}}})), true")
    };
    first.eval(&says(true)).await?;
    let told = "document.querySelector('#remotePlaceholder .why').textContent.includes('slow') \
                && !document.getElementById('remotePlaceholder').hidden";
    second.until("why there is no picture", told, SOON).await?;
    first.eval(&says(false)).await?;
    second
        .until("the picture", "document.getElementById('remotePlaceholder').hidden", SOON)
        .await?;
    second.sees_movement(SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_tab_without_permission_still_sees_and_says_what_to_do() -> Result<()> {
    let media = Media::generate()?;
    let (camera, microphone) = (media.camera(), media.microphone());
    let options = Options {
        camera: Some(&camera),
        microphone: Some(&microphone),
        ask_permission: true,
        ..Options::default()
    };
    let chromium = Chromium::start(options).await?;
    let server = Server::start().await?;
    // To the browser two names of one server are two origins, each with permissions of its own.
    let denied = server.other_origin();
    chromium.set_permission(&denied, false).await?;
    chromium.set_permission(&server.url, true).await?;
    for denied_first in [true, false] {
        let room = if denied_first { "first" } else { "second" };
        let origins = if denied_first { [&denied, &server.url] } else { [&server.url, &denied] };
        let one = join(&chromium, origins[0], room).await?;
        one.state("waiting", SOON).await?;
        let other = join(&chromium, origins[1], room).await?;
        both_connected(&one, &other, SOON).await?;
        let watcher = if denied_first { &one } else { &other };
        watcher.sees_movement(SOON).await?;
        // Without a camera or a touch the browser plays no sound: there is a button for it.
        watcher
            .until("the sound's button", "!document.getElementById('play').hidden", SOON)
            .await?;
        watcher.click("play").await?;
        watcher.hears_sound(SOON).await?;
        let words = watcher.words("callProblems").await?;
        ensure!(words.contains("blocked") && words.contains("Allow"), "the page says '{words}'");
    }
    Ok(())
}
