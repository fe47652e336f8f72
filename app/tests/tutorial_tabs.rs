//! Two tabs with a page of the tutorial's shape call each other through `visavis serve --page`.
#![cfg(target_os = "linux")] // drives Debian's Chromium

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::SOON;
use common::chromium::Tab;
use common::tutorial::{CLIENTS, Stage, UP};

const AT_ONCE: Duration = Duration::ZERO;

async fn both_see(one: &Tab, other: &Tab) -> Result<()> {
    one.tutorial_sees(UP).await?;
    other.tutorial_sees(UP).await
}

/// A call, four reloads in turn with the call back after each, a third tab that is full and harmless.
async fn the_story(stage: &Stage, client: &str) -> Result<()> {
    let first = stage.tab("foo", client, AT_ONCE).await?;
    first.until("a camera", "document.getElementById('localVideo').videoWidth > 0", SOON).await?;
    let second = stage.tab("foo", client, AT_ONCE).await?;
    both_see(&first, &second).await?;
    println!("client {client}: call up");
    for reload in 0..4 {
        let one = if reload % 2 == 0 { &first } else { &second };
        one.reload().await?;
        both_see(&first, &second).await?;
        println!("client {client}: call back after reload {}", reload + 1);
    }
    let third = stage.tab("foo", client, AT_ONCE).await?;
    third.until("a camera", "document.getElementById('localVideo').videoWidth > 0", SOON).await?;
    third.reload().await?;
    third.until("a camera", "document.getElementById('localVideo').videoWidth > 0", SOON).await?;
    let remote = third.eval("document.getElementById('remoteVideo').srcObject").await?;
    ensure!(remote.is_null(), "the third sees {remote}");
    both_see(&first, &second).await?;
    third.close().await?;
    both_see(&first, &second).await?;
    println!("client {client}: a third tab came, reloaded and went; the call stands");
    Ok(())
}

async fn two_rooms(stage: &Stage, client: &str) -> Result<()> {
    let first = stage.tab("foo", client, AT_ONCE).await?;
    first.until("the seat", "seen.events.length > 0 && seen.camera", SOON).await?;
    let second = stage.tab("foo", client, AT_ONCE).await?;
    both_see(&first, &second).await?;
    let third = stage.tab("bar", client, AT_ONCE).await?;
    third.until("the seat", "seen.events.length > 0 && seen.camera", SOON).await?;
    let fourth = stage.tab("bar", client, AT_ONCE).await?;
    both_see(&third, &fourth).await?;
    fourth.reload().await?;
    both_see(&third, &fourth).await?;
    both_see(&first, &second).await?;
    for tab in [&first, &second] {
        ensure!(tab.starts().await? == 1, "the first call was begun anew");
        ensure!(tab.heard("join").await? + tab.heard("joined").await? == 1, "a stranger came");
    }
    println!("client {client}: two calls at once, one reloaded, the other undisturbed");
    for tab in [first, second, third, fourth] {
        tab.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn with_client_1_7_the_call_survives_reloads_and_a_third_tab() -> Result<()> {
    the_story(&Stage::set().await?, CLIENTS[0]).await
}

#[tokio::test]
async fn with_client_2_5_the_call_survives_reloads_and_a_third_tab() -> Result<()> {
    the_story(&Stage::set().await?, CLIENTS[1]).await
}

#[tokio::test]
async fn with_client_4_8_the_call_survives_reloads_and_a_third_tab() -> Result<()> {
    the_story(&Stage::set().await?, CLIENTS[2]).await
}

#[tokio::test]
async fn two_rooms_do_not_disturb_each_other() -> Result<()> {
    let stage = Stage::set().await?;
    for client in CLIENTS {
        two_rooms(&stage, client).await?;
    }
    Ok(())
}

/// The same story with a tutorial's own page: VISAVIS_TUTORIAL names its folder.
#[tokio::test]
#[ignore = "needs a tutorial's page, which is not part of this project"]
async fn an_unmodified_page_tells_the_same_story() -> Result<()> {
    for client in CLIENTS {
        if let Some(stage) = Stage::of_the_tutorial().await? {
            the_story(&stage, client).await?;
        }
    }
    Ok(())
}
