//! The network changes under a call: an address is replaced, a cable is pulled for good, a machine
//! sleeps. How long each took is printed, not judged: that is for a quiet machine.
#![cfg(target_os = "linux")] // network namespaces, Debian's Chromium

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::SOON;
use common::chromium::{Chromium, Options};
use common::clip::Media;
use common::lab::{lab, routed};
use common::netns::Host;
use common::process::{Desktop, Process, Server};
use serde_json::Value;

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);

/// How many pictures the connection has sent; a new one begins at none.
async fn sent(end: &mut Desktop) -> Result<u64> {
    let frames = |line: &Value| line.pointer("/video_out/frames")?.as_u64();
    end.process.stats("pictures sent", SOON, frames).await
}

/// What begins at the old address is dead at once.
fn replace(host: &Host, old: &str, new: &str, gateway: Option<&str>) -> Result<()> {
    host.ip(&format!("address del {old}/24 dev cable"))?;
    host.ip(&format!("address add {new}/24 dev cable"))?;
    gateway.map_or(Ok(()), |gateway| host.ip(&format!("route add default via {gateway}")))
}

async fn serve(host: &Host) -> Result<Process> {
    let args = ["serve", "--listen", "0.0.0.0:8080", "--tls", "off", "--turn", "off"];
    let mut server = Process::visavis_through(&host.enter(), &args)?;
    let started = |output: &[String], errors: &[String]| {
        output.iter().chain(errors).any(|line| line.contains(":8080")).then_some(())
    };
    server.until("its address", SOON, started).await?;
    Ok(server)
}

#[tokio::test]
async fn an_address_is_replaced_at_either_end_and_the_call_goes_on() -> Result<()> {
    let Some(lab) = routed(true)? else { return Ok(()) };
    let _server = serve(&lab.middle).await?;
    let arguments = |server| ["tea", "--server", server];
    let mut first = Desktop::start(&lab.left.enter(), &arguments("http://10.78.1.1:8080"))?;
    first.state(&["waiting"], SOON).await?;
    let mut second = Desktop::start(&lab.right.enter(), &arguments("http://10.78.2.1:8080"))?;
    first.sees_and_hears(UP).await?;
    second.sees_and_hears(UP).await?;
    for (name, host, net) in [("second", &lab.right, "10.78.2"), ("first", &lab.left, "10.78.1")] {
        let before = [sent(&mut first).await?, sent(&mut second).await?];
        let start = Instant::now();
        replace(host, &format!("{net}.2"), &format!("{net}.3"), Some(&format!("{net}.1")))?;
        first.sees(UP).await?;
        second.sees(UP).await?;
        eprintln!("{name}'s address replaced: both see pictures after {:?}", start.elapsed());
        for (end, before) in [&mut first, &mut second].into_iter().zip(before) {
            // Which of the two it was depends on how busy the machine is.
            let how = if sent(end).await? > before { "a restart" } else { "a new connection" };
            eprintln!("by {how}");
        }
    }
    first.sees_and_hears(UP).await?;
    second.sees_and_hears(UP).await
}

const FOLDER_VARIABLE: &str = "VISAVIS_TEST_FOLDER";

/// The browser is steered over loopback, so whoever steers it has to be on its machine; files tell
/// what each side has come to.
struct Signs(PathBuf);

impl Signs {
    fn set(&self, name: &str) -> Result<()> {
        Ok(std::fs::write(self.0.join(name), "")?)
    }

    async fn wait(&self, name: &str) -> Result<()> {
        let end = Instant::now() + 3 * UP;
        while !self.0.join(name).exists() {
            ensure!(Instant::now() < end, "nobody said \"{name}\"");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn browser(host: &Host, folder: &Path) -> Result<Process> {
    let enter = host.enter();
    let (first, rest) = enter.split_first().context("no words")?;
    let mut command = Command::new(first);
    command.args(rest).arg(std::env::current_exe()?).env(FOLDER_VARIABLE, folder);
    command.args(["--ignored", "--exact", "--nocapture", "the_browser_on_the_other_machine"]);
    Process::start(command, "the browser's side")
}

#[tokio::test]
#[ignore = "started by another test, on the other machine"]
async fn the_browser_on_the_other_machine() -> Result<()> {
    let signs = Signs(std::env::var_os(FOLDER_VARIABLE).context("no folder")?.into());
    let media = Media::generate()?;
    let (camera, microphone) = (media.camera(), media.microphone());
    let options =
        Options { camera: Some(&camera), microphone: Some(&microphone), ..Options::default() };
    let chromium = Chromium::start(options).await?;
    let tab = chromium.open("http://127.0.0.1:8080/room/tea?join").await?;
    tab.until("a seat", "['waiting', 'connecting', 'connected'].includes(visavis.state)", SOON)
        .await?;
    signs.set("there")?;
    tab.state("connected", 2 * UP).await?;
    tab.sees_movement(UP).await?;
    signs.set("connected")?;
    signs.wait("moved").await?;
    tab.sees_movement(UP).await?;
    signs.set("again")?;
    signs.wait("enough").await
}

async fn moves_under_a_call_with_a_tab(desktop_first: bool) -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let _server = serve(&lab.left).await?;
    let folder = tempfile::tempdir()?;
    let signs = Signs(folder.path().to_owned());
    let call = || Desktop::start(&lab.right.enter(), &["tea", "--server", "http://10.77.0.1:8080"]);
    let (mut desktop, mut browser) = if desktop_first {
        let mut desktop = call()?;
        desktop.state(&["waiting"], SOON).await?;
        (desktop, browser(&lab.left, folder.path())?)
    } else {
        let browser = browser(&lab.left, folder.path())?;
        signs.wait("there").await?;
        (call()?, browser)
    };
    let role = if desktop_first { "initiator" } else { "responder" };
    let up = async {
        signs.wait("connected").await?;
        desktop.sees_and_hears(UP).await
    };
    up.await.map_err(|error| browser.failure(&format!("{error:#}")))?;
    let is = |line: &Value| (line.get("role")?.as_str()? == role).then_some(());
    desktop.process.stats(role, SOON, is).await?;
    let start = Instant::now();
    replace(&lab.right, "10.77.0.2", "10.77.0.3", None)?;
    signs.set("moved")?;
    desktop.sees(UP).await.map_err(|error| browser.failure(&format!("{error:#}")))?;
    eprintln!("the desktop ({role}) sees the tab again after {:?}", start.elapsed());
    signs.wait("again").await.map_err(|error| browser.failure(&format!("{error:#}")))?;
    eprintln!("and the tab the desktop after {:?}", start.elapsed());
    desktop.sees_and_hears(UP).await?;
    signs.set("enough")?;
    let status = browser.ended(2 * UP).await?;
    ensure!(status.success(), browser.failure(&status.to_string()));
    Ok(())
}

#[tokio::test]
async fn a_desktop_that_was_first_moves_under_a_call_with_a_tab() -> Result<()> {
    moves_under_a_call_with_a_tab(true).await
}

#[tokio::test]
async fn a_desktop_that_was_second_moves_under_a_call_with_a_tab() -> Result<()> {
    moves_under_a_call_with_a_tab(false).await
}

#[tokio::test]
async fn whoever_vanishes_is_given_up_and_found_again() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let mut left = Desktop::start(&lab.left.enter(), &["tea"])?;
    let link = left.invite(SOON).await?;
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    left.sees_and_hears(UP).await?;
    right.sees_and_hears(UP).await?;
    let start = Instant::now();
    lab.right.ip("link set cable down")?;
    left.state(&["reconnecting"], SOON).await?;
    eprintln!("noticed after {:?}, as statistics once a second tell", start.elapsed());
    left.state(&["waiting"], 2 * UP).await?;
    let said = |_: &[String], errors: &[String]| {
        let given_up = |line: &String| line.contains("could not be reached for 30 seconds");
        errors.iter().any(given_up).then_some(())
    };
    left.process.until("word of giving up", SOON, said).await?;
    right.process.until("word of giving up", SOON, said).await?;
    lab.right.ip("link set cable up")?;
    left.sees_and_hears(2 * UP).await?;
    right.sees_and_hears(UP).await
}

#[tokio::test]
async fn a_machine_that_slept_is_back_in_the_call() -> Result<()> {
    let server = Server::start().await?;
    let mut first = Desktop::call(&server.url, "tea")?;
    first.state(&["waiting"], SOON).await?;
    let mut second = Desktop::call(&server.url, "tea")?;
    first.sees_and_hears(UP).await?;
    second.sees_and_hears(UP).await?;
    second.process.signal("STOP")?;
    first.state(&["reconnecting"], SOON).await?;
    tokio::time::sleep(Duration::from_secs(3)).await; // sleeps, for as long as counts as sleep
    second.process.signal("CONT")?;
    first.state(&["in_call"], UP).await?;
    first.sees_and_hears(UP).await?;
    second.sees_and_hears(UP).await
}
