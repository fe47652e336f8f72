//! A second machine comes by the invite of the first: its browser gets the page over TLS, with a
//! camera, and its app recognises the server by the fingerprint in the link and refuses another.
#![cfg(target_os = "linux")] // network namespaces, Debian's Chromium

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::SOON;
use common::chromium::{Chromium, Options};
use common::clip::Media;
use common::lab::lab;
use common::netns::Host;
use common::process::{Desktop, Process, STATE_VARIABLE};
use visavis_signaling::CallLink;

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(60);

const LINK_VARIABLE: &str = "VISAVIS_TEST_LINK";

/// Names a file that appears once the browser may leave.
const LEAVE_VARIABLE: &str = "VISAVIS_TEST_LEAVE";

/// The words that start a program there, with its server's key in a folder.
fn with_key_in(host: &Host, folder: &Path) -> Vec<String> {
    let mut words = host.enter();
    words.extend(["env".to_owned(), format!("{STATE_VARIABLE}={}", folder.display())]);
    words
}

#[tokio::test]
async fn a_browser_on_another_machine_opens_the_invite_and_has_a_camera() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let mut left = Desktop::start(&lab.left.enter(), &["tea"])?;
    let link = left.invite(SOON).await?;
    // The browser is steered over loopback, so whoever steers it has to be on its machine.
    let enter = lab.right.enter();
    let (first, rest) = enter.split_first().context("no words")?;
    let mut browser = Command::new(first);
    browser.args(rest).arg(std::env::current_exe()?).env(LINK_VARIABLE, &link);
    let folder = tempfile::tempdir()?;
    let leave = folder.path().join("leave");
    browser.env(LEAVE_VARIABLE, &leave);
    browser.args(["--ignored", "--exact", "--nocapture", "the_browser_on_the_other_machine"]);
    let mut browser = Process::start(browser, "the browser's side")?;
    left.sees_and_hears(UP).await.map_err(|error| browser.failure(&format!("{error:#}")))?;
    std::fs::write(&leave, "")?;
    let status = browser.ended(2 * UP).await?;
    ensure!(status.success(), browser.failure(&status.to_string()));
    Ok(())
}

/// Opens the link, as a person would who has compared the fingerprint.
#[tokio::test]
#[ignore = "started by another test, on the other machine"]
async fn the_browser_on_the_other_machine() -> Result<()> {
    let link: CallLink = std::env::var(LINK_VARIABLE)?.parse()?;
    let fingerprint = link.fingerprint.context("the invite tells no fingerprint")?;
    let media = Media::generate()?;
    let (camera, microphone) = (media.camera(), media.microphone());
    // Takes this key and no other; everything else is as for any certificate.
    let trusted = format!("--ignore-certificate-errors-spki-list={}", fingerprint.to_base64());
    let chromium = Chromium::start(Options {
        camera: Some(&camera),
        microphone: Some(&microphone),
        flags: &[&trusted],
        ..Options::default()
    })
    .await?;
    // An address in the open leads to the same page, and keeps what follows the `#`.
    let open = format!("http://{}:8080/room/tea?join#fp={fingerprint}", link.server.host());
    let tab = chromium.open(&open).await?;
    tab.state("connected", UP).await?;
    let secure = format!("{}/room/tea?join#fp={fingerprint}", link.server);
    tab.until("the page over TLS", &format!("location.href === '{secure}'"), SOON).await?;
    tab.until("a secure context", "window.isSecureContext", SOON).await?;
    let camera = "navigator.mediaDevices.getUserMedia({video: true}).then(s => s.active)";
    tab.until("a camera", camera, SOON).await?;
    let shown = format!("document.getElementById('link').value === '{link}'");
    tab.until("the invite to pass on", &shown, SOON).await?;
    tab.sees_movement(UP).await?;
    tab.hears_sound(UP).await?;
    let leave = std::path::PathBuf::from(std::env::var_os(LEAVE_VARIABLE).context("no file")?);
    let end = Instant::now() + 2 * UP;
    while !leave.exists() {
        ensure!(Instant::now() < end, "the host never had enough of the call");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn the_app_joins_by_the_invite_and_refuses_another_server_at_its_address() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (own, others) = (folder.path().join("own"), folder.path().join("others"));
    let mut left = Desktop::start(&with_key_in(&lab.left, &own), &["tea"])?;
    let link = left.invite(SOON).await?;
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    left.sees_and_hears(UP).await?;
    right.sees_and_hears(UP).await?;
    right.process.interrupt()?;
    right.process.ended(SOON).await?;
    left.process.interrupt()?;
    left.process.ended(SOON).await?;

    // Another server takes the address over.
    let mut left = Desktop::start(&with_key_in(&lab.left, &others), &["tea"])?;
    let other = left.invite(SOON).await?;
    ensure!(other != link, "the same key in another folder: {other}");
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    let status = right.process.ended(SOON).await?;
    let said = right.process.errors().join("\n");
    ensure!(status.code() == Some(5), "{status}: {said}");
    ensure!(said.contains("is not the server that the link names"), "{said}");
    left.process.interrupt()?;
    left.process.ended(SOON).await?;

    // The first one comes back and is recognised.
    let mut left = Desktop::start(&with_key_in(&lab.left, &own), &["tea"])?;
    ensure!(left.invite(SOON).await? == link, "the key was not kept");
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    right.state(&["in_call"], UP).await
}

#[tokio::test]
async fn a_link_without_a_fingerprint_needs_one_from_the_user() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let mut left = Desktop::start(&lab.left.enter(), &["tea"])?;
    let link: CallLink = left.invite(SOON).await?.parse()?;
    let fingerprint = link.fingerprint.context("no fingerprint")?;
    let bare = CallLink { fingerprint: None, ..link }.to_string();
    let mut right = Desktop::start(&lab.right.enter(), &[&bare])?;
    let status = right.process.ended(SOON).await?;
    let said = right.process.errors().join("\n");
    ensure!(status.code() == Some(5), "{status}: {said}");
    ensure!(
        said.contains(&fingerprint.grouped()) && said.contains("--trust-fingerprint"),
        "{said}"
    );
    let trusted = fingerprint.to_string();
    // Plain HTTP leads to the same server, under the same rules.
    for link in [bare, "http://10.77.0.1:8080/room/tea".to_owned()] {
        let arguments = [&link, "--trust-fingerprint", &trusted];
        let mut right = Desktop::start(&lab.right.enter(), &arguments)?;
        right.state(&["in_call"], UP).await?;
        right.process.interrupt()?;
        right.process.ended(SOON).await?;
        left.state(&["waiting"], SOON).await?;
    }
    Ok(())
}
