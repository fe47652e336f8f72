//! The real window, once, on a display of its own: it opens, hosts a call, and shows moving
//! pictures of the other end. The flows inside it are tested without a display in `src/ui`.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Far above what a slow machine needs to open a window and connect.
const LIMIT: Duration = Duration::from_secs(60);

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A display nobody sees; returns its name.
fn display() -> Result<(Running, String)> {
    let child = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "1280x760x24", "-noreset", "-nolisten", "tcp"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("Xvfb is needed: install Debian's package xvfb")?;
    let mut running = Running(child);
    let mut line = String::new();
    let out = running.0.stdout.take().context("no standard output")?;
    BufReader::new(out).read_line(&mut line)?;
    ensure!(!line.trim().is_empty(), "Xvfb found no free display");
    Ok((running, format!(":{}", line.trim())))
}

fn visavis(folder: &Path, display: Option<&str>, arguments: &[&str]) -> Result<Running> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visavis"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("VISAVIS_CONFIG_DIR", folder.join("settings"))
        .env("XDG_RUNTIME_DIR", folder)
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("DISPLAY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(display) = display {
        command.env("DISPLAY", display);
    }
    Ok(Running(command.spawn().context("starting visavis")?))
}

/// Different numbers among the pictures shown so far.
fn shown(log: &Path) -> BTreeSet<u32> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("shown,")?.split(',').nth(1)?.parse().ok())
        .collect()
}

/// Waits until `log` holds `count` different shown pictures.
fn wait_for_pictures(log: &Path, count: usize, window: &mut Running) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while shown(log).len() < count {
        if let Some(status) = window.0.try_wait()? {
            let mut words = String::new();
            if let Some(mut err) = window.0.stderr.take() {
                err.read_to_string(&mut words)?;
            }
            bail!("the window closed ({status}): {words}");
        }
        ensure!(Instant::now() < end, "only {} pictures were shown", shown(log).len());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn the_window_shows_the_other_end_and_closes_on_ctrl_c() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_xvfb, display) = display()?;
    let room = format!("window-{}", std::process::id());
    let media =
        ["--video-source", "testcard", "--audio-source", "testcard", "--audio-sink", "none"];
    let hosting = ["call", &room, "--frame-log", "window.csv"];
    let mut window = visavis(folder.path(), Some(&display), &[&hosting[..], &media].concat())?;
    let link = invite(&mut window)?;
    let joining = ["call", &link, "--headless", "--frame-log", "other.csv"];
    let mut other = visavis(folder.path(), None, &[&joining[..], &media].concat())?;
    wait_for_pictures(&folder.path().join("window.csv"), 30, &mut window)?;
    wait_for_pictures(&folder.path().join("other.csv"), 30, &mut other)?;
    let interrupted = Command::new("kill").args(["-INT", &window.0.id().to_string()]).status()?;
    ensure!(interrupted.success(), "kill: {interrupted}");
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(status) = window.0.try_wait()? {
            ensure!(status.success(), "the window ended with {status}");
            return Ok(());
        }
        ensure!(Instant::now() < end, "the window did not close on Ctrl-C");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The link that a hosted call says on standard error.
fn invite(window: &mut Running) -> Result<String> {
    let err = window.0.stderr.take().context("no standard error")?;
    let (found, link) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(err).lines().map_while(Result::ok) {
            if let Some((_, link)) = line.split_once("Invite: ") {
                let _ = found.send(link.trim().to_owned());
            }
        }
    });
    link.recv_timeout(LIMIT).context("the window named no link")
}

#[test]
fn without_a_display_one_sentence_says_what_to_use() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut visavis = visavis(folder.path(), None, &[])?;
    let status = visavis.0.wait()?;
    let (mut out, mut err) = (String::new(), String::new());
    visavis.0.stdout.take().context("no standard output")?.read_to_string(&mut out)?;
    visavis.0.stderr.take().context("no standard error")?.read_to_string(&mut err)?;
    ensure!(status.code() == Some(3), "{status}");
    ensure!(out.is_empty() && err.lines().count() == 1, "{out}{err}");
    ensure!(err.contains("visavis call ROOM --headless") && err.contains("visavis serve"), "{err}");
    Ok(())
}
