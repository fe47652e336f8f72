//! A browser tab and `visavis call --headless` call each other: the tab plays a clip whose strip the
//! desktop reads, the desktop sends the testcard whose strip the tab reads.
#![cfg(target_os = "linux")] // drives Debian's Chromium

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::SOON;
use common::chromium::{Chromium, Options, Tab};
use common::clip::{Media, loudest_second};
use common::page::join;
use common::process::{Desktop, Server};

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(30);
/// -60 dBFS.
const AUDIBLE: f64 = 0.001;

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

    async fn tab_first(&self, room: &str) -> Result<(Tab, Desktop)> {
        let tab = join(&self.chromium, &self.server.url, room).await?;
        tab.state("waiting", SOON).await?;
        let desktop = Desktop::call(&self.server.url, room)?;
        tab.state("connected", UP).await?;
        Ok((tab, desktop))
    }

    async fn desktop_first(&self, room: &str) -> Result<(Tab, Desktop)> {
        let mut desktop = Desktop::call(&self.server.url, room)?;
        desktop.state(&["waiting"], SOON).await?;
        let tab = join(&self.chromium, &self.server.url, room).await?;
        tab.state("connected", UP).await?;
        Ok((tab, desktop))
    }
}

/// Moving pictures and sound, both ways.
async fn call_stands(tab: &Tab, desktop: &mut Desktop) -> Result<()> {
    desktop.sees_and_hears(UP).await?;
    let numbers = tab.sees_movement(UP).await?;
    // The testcard's strip is the clock of the moment of capture: what the tab shows must be recent.
    let newest = numbers.last().copied().unwrap_or_default();
    let age = tab.eval(&format!("(Date.now() % 2 ** 32 - {newest} + 2 ** 32) % 2 ** 32")).await?;
    ensure!(age.as_f64().is_some_and(|ms| ms < 10_000.0), "the pictures are {age} ms old");
    tab.hears_sound(UP).await
}

#[tokio::test]
async fn the_tab_is_there_first() -> Result<()> {
    let stage = Stage::set().await?;
    let (tab, mut desktop) = stage.tab_first("tea").await?;
    call_stands(&tab, &mut desktop).await?;
    tab.until(
        "the desktop's name",
        "document.getElementById('peerName').innerText === 'Desktop'",
        SOON,
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn the_desktop_is_there_first() -> Result<()> {
    let stage = Stage::set().await?;
    let (tab, mut desktop) = stage.desktop_first("tea").await?;
    call_stands(&tab, &mut desktop).await
}

#[tokio::test]
async fn the_tab_reloads_and_the_desktop_rejoins_in_turn() -> Result<()> {
    let stage = Stage::set().await?;
    let (tab, mut desktop) = stage.desktop_first("tea").await?;
    call_stands(&tab, &mut desktop).await?;
    for round in 0..5 {
        if round % 2 == 0 {
            tab.reload().await?;
        } else {
            drop_cleanly(&mut desktop).await?;
            tab.state("left", SOON).await?;
            desktop = Desktop::call(&stage.server.url, "tea")?;
        }
        tab.state("connected", UP).await?;
        call_stands(&tab, &mut desktop).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_desktop_leaves_and_comes_back() -> Result<()> {
    let stage = Stage::set().await?;
    let (tab, mut desktop) = stage.desktop_first("tea").await?;
    call_stands(&tab, &mut desktop).await?;
    drop_cleanly(&mut desktop).await?;
    tab.state("left", SOON).await?;
    let mut desktop = Desktop::call(&stage.server.url, "tea")?;
    tab.state("connected", UP).await?;
    call_stands(&tab, &mut desktop).await
}

#[tokio::test]
async fn the_tab_hangs_up_and_the_desktop_waits_on() -> Result<()> {
    let stage = Stage::set().await?;
    let (tab, mut desktop) = stage.tab_first("tea").await?;
    call_stands(&tab, &mut desktop).await?;
    tab.click("hangUp").await?;
    tab.state("ended", SOON).await?;
    desktop.state(&["waiting"], SOON).await?;
    tab.click("rejoin").await?;
    tab.state("connected", UP).await?;
    call_stands(&tab, &mut desktop).await
}

#[tokio::test]
async fn the_desktop_hangs_up_and_the_tab_is_told() -> Result<()> {
    let stage = Stage::set().await?;
    let (tab, mut desktop) = stage.tab_first("tea").await?;
    call_stands(&tab, &mut desktop).await?;
    drop_cleanly(&mut desktop).await?;
    tab.state("left", SOON).await?;
    let heard = loudest_second(&desktop.heard())?;
    ensure!(heard > AUDIBLE, "what the desktop played is silent: {heard}");
    Ok(())
}

#[tokio::test]
async fn a_third_tab_is_told_full() -> Result<()> {
    let stage = Stage::set().await?;
    let (tab, mut desktop) = stage.tab_first("tea").await?;
    let third = join(&stage.chromium, &stage.server.url, "tea").await?;
    third.state("full", SOON).await?;
    call_stands(&tab, &mut desktop).await
}

/// Ctrl+C: a `bye`, files written to their end, exit code 0.
async fn drop_cleanly(desktop: &mut Desktop) -> Result<()> {
    desktop.process.interrupt()?;
    let status = desktop.process.ended(SOON).await?;
    if status.success() {
        return Ok(());
    }
    Err(desktop.process.failure(&format!("ended with {status} after Ctrl+C")))
}
