//! The real window, once, on a display of its own: it opens, hosts a call, and shows moving
//! pictures of the other end. The flows inside it are tested without a display in `src/ui`.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Far above what a slow machine needs to open a window and connect.
const LIMIT: Duration = Duration::from_secs(60);

/// A second call on this machine would use the first one's server, and lose it with the first.
static ONE_HOST: Mutex<()> = Mutex::new(());

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A display nobody sees, whose pixels lie in `folder`; returns its name.
fn display(folder: &Path) -> Result<(Running, String)> {
    let child = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "1280x760x24", "-noreset", "-nolisten", "tcp"])
        .arg("-fbdir")
        .arg(folder)
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
    let mut command = command(folder, display, arguments);
    Ok(Running(command.spawn().context("starting visavis")?))
}

fn command(folder: &Path, display: Option<&str>, arguments: &[&str]) -> Command {
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
    command
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
    let _one = ONE_HOST.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let (_xvfb, display) = display(folder.path())?;
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

/// The colours of the clip's quarters, from left to right and top to bottom: as its planes have
/// them, and which of red, green and blue are bright on the screen.
const QUARTERS: [([u8; 3], [bool; 3]); 4] = [
    ([81, 90, 240], [true, false, false]),
    ([145, 54, 34], [false, true, false]),
    ([41, 240, 110], [false, false, true]),
    ([235, 128, 128], [true, true, true]),
];

/// A clip of one picture in four colours.
fn clip(path: &Path, width: usize, height: usize) -> Result<()> {
    let mut bytes =
        format!("YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\nFRAME\n").into_bytes();
    for plane in 0..3 {
        let (width, height) = if plane == 0 { (width, height) } else { (width / 2, height / 2) };
        let place = |at: usize| (at % width * 2 / width) + at / width * 2 / height * 2;
        bytes.extend((0..width * height).map(|at| QUARTERS[place(at)].0[plane]));
    }
    std::fs::write(path, bytes).context("writing a clip")
}

/// Whether the screen shows the four colours, in the middle of the window, where no controls are.
fn quarters_are_shown(screen: &Path) -> Result<bool> {
    let bytes = std::fs::read(screen)?;
    // X11/XWDFile.h: words of 32 bits, the header's length first, then a table of colours.
    let word = |at: usize| {
        let word = bytes.get(at * 4..at * 4 + 4).and_then(|word| word.try_into().ok());
        word.map(|word| u32::from_be_bytes(word) as usize).context("no picture of the screen")
    };
    let (header, width, height, row, colours) =
        (word(0)?, word(4)?, word(5)?, word(12)?, word(19)?);
    let places = [0, 1, 2, 3].map(|quarter| {
        let (x, y) = (width / 4 + quarter % 2 * width / 2, height * (4 + quarter / 2 * 2) / 10);
        header + colours * 12 + y * row + x * 4
    });
    Ok(places.iter().zip(QUARTERS).all(|(at, (_, bright))| {
        bytes.get(*at..at + 3).is_some_and(|bgr| {
            bgr.iter().rev().zip(bright).all(|(value, bright)| (*value > 170) == bright)
                && bgr.iter().all(|value| !(60..=170).contains(value))
        })
    }))
}

#[test]
fn every_renderer_paints_the_colours_where_they_belong() -> Result<()> {
    let _one = ONE_HOST.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let (_xvfb, display) = display(folder.path())?;
    let screen = folder.path().join("Xvfb_screen0");
    // The first is as large as the window, the second is enlarged.
    for (number, (width, height)) in [(1280, 720), (320, 180)].into_iter().enumerate() {
        let path = folder.path().join("quarters.y4m");
        clip(&path, width, height)?;
        let source = format!("file:{}", path.display());
        for renderer in ["copy", "yuv", "rgba"] {
            let room = format!("{renderer}-{number}-{}", std::process::id());
            let mute = ["--audio-source", "none", "--audio-sink", "none", "--video-source"];
            let hosting = [&["call", &room][..], &mute, &["none"]].concat();
            let mut window = command(folder.path(), Some(&display), &hosting);
            let mut window = window.env("VISAVIS_RENDERER", renderer).spawn().map(Running)?;
            let link = invite(&mut window)?;
            let joining = [&["call", &link, "--headless"][..], &mute, &[&source]].concat();
            let _other = visavis(folder.path(), None, &joining)?;
            let end = Instant::now() + LIMIT;
            while !quarters_are_shown(&screen)? {
                ensure!(window.0.try_wait()?.is_none(), "{renderer}: the window closed");
                ensure!(Instant::now() < end, "{renderer}: {width}x{height} is not shown");
                std::thread::sleep(Duration::from_millis(50));
            }
            drop(window);
            // The next one must paint for itself.
            while quarters_are_shown(&screen)? {
                ensure!(Instant::now() < end, "the window stays");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(())
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
