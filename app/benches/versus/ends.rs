//! The ends of a call: a tab in a browser of its own, our program without a window, our window.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::common::chromium::{Chromium, Options, Tab};
use crate::usage::Usage;
use crate::xvfb::Display;

const ROOM: &str = "versus";
const POLL: Duration = Duration::from_millis(50);

/// Notes, in the page, when the call's two seats were taken and when the first remote picture was shown.
const FIRST_FRAME: &str = "(() => {
  const marks = window.marks = { connected: null, first: null };
  const timer = setInterval(() => {
    if (window.visavis?.state !== 'connected') return;
    marks.connected = performance.now();
    clearInterval(timer);
  }, 4);
  document.getElementById('remoteVideo').requestVideoFrameCallback(() => { marks.first = performance.now(); });
})()";

/// What stands at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Chromium,
    Headless,
    Window,
}

/// What every end is made from.
pub struct Stage {
    pub program: PathBuf,
    pub clip: PathBuf,
    pub speech: PathBuf,
}

/// A running end.
pub enum End {
    Tab { tab: Tab, browser: Box<Chromium> },
    Ours { program: Ours, display: Option<Display> },
}

/// Where an end stood when watching began.
pub struct Mark {
    usage: Usage,
    display: Option<Usage>,
    received: Received,
}

/// What an end received so far.
struct Received {
    at: Instant,
    frames: f64,
    bytes: f64,
}

/// What an end did while it was watched.
#[derive(Clone, Debug)]
pub struct Figures {
    pub cpu_cores: f64,
    pub pss_mib: f64,
    /// The X server's, which draws for a window and for nobody else.
    pub display_cores: Option<f64>,
    pub width: f64,
    pub height: f64,
    pub fps: f64,
    pub kbps: f64,
    pub connect_ms: Option<f64>,
    pub first_frame_ms: Option<f64>,
}

impl End {
    pub async fn start(kind: Kind, server: &str, stage: &Stage) -> Result<Self> {
        if kind == Kind::Chromium {
            return Self::tab(server, stage).await;
        }
        let source = |path: &Path| format!("file:{}", path.display());
        let folder = tempfile::tempdir()?;
        let stats = folder.path().join("stats.jsonl");
        let (video, audio) = (source(&stage.clip), source(&stage.speech));
        let stats_path = stats.display().to_string();
        let mut args = vec!["call", ROOM, "--server", server];
        args.extend(["--video-source", &video, "--audio-source", &audio]);
        args.extend(["--audio-sink", "none", "--stats", &stats_path]);
        let (mut program, display) = if kind == Kind::Window {
            let display = Display::start().await?;
            (window(&stage.program, &display, folder.path(), &args)?, Some(display))
        } else {
            args.push("--headless");
            (Ours::start(&mut Command::new(&stage.program), folder.path(), &args)?, None)
        };
        program.stats = stats;
        program.folder = Some(folder);
        Ok(Self::Ours { program, display })
    }

    async fn tab(server: &str, stage: &Stage) -> Result<Self> {
        let browser = Chromium::start(Options {
            camera: Some(&stage.clip),
            microphone: Some(&stage.speech),
            beside_others: true,
            ..Options::default()
        })
        .await?;
        let tab = browser.open(&format!("{server}/room/{ROOM}?join")).await?;
        tab.until("the page", "!!window.visavis", crate::SOON).await?;
        tab.eval(FIRST_FRAME).await?;
        Ok(Self::Tab { tab, browser: Box::new(browser) })
    }

    pub async fn waiting(&self, limit: Duration) -> Result<()> {
        match self {
            Self::Tab { tab, .. } => tab.state("waiting", limit).await,
            Self::Ours { program, .. } => program.state("waiting", limit).await,
        }
    }

    pub async fn in_call(&self, limit: Duration) -> Result<()> {
        match self {
            Self::Tab { tab, .. } => tab.state("connected", limit).await,
            Self::Ours { program, .. } => program.state("in_call", limit).await,
        }
    }

    /// Begins watching.
    pub async fn mark(&self) -> Result<Mark> {
        let (usage, display) = self.usage()?;
        Ok(Mark { received: self.received().await?, usage, display })
    }

    /// What it did since `before`.
    pub async fn figures(&self, before: &Mark) -> Result<Figures> {
        let (usage, display) = self.usage()?;
        let received = self.received().await?;
        let seconds = (received.at - before.received.at).as_secs_f64();
        let facts = self.facts().await?;
        let number = |pointer: &str| facts.pointer(pointer).and_then(Value::as_f64);
        let (connect_ms, first_frame_ms) = match self {
            Self::Tab { .. } => (number("/connectMs"), number("/firstFrameMs")),
            Self::Ours { .. } => (number("/connect_ms"), number("/first_frame_ms")),
        };
        let size =
            |side| number(&format!("/videoIn/{side}")).or(number(&format!("/video_in/{side}")));
        Ok(Figures {
            cpu_cores: usage.cores_since(&before.usage),
            pss_mib: usage.pss_mib,
            display_cores: display
                .zip(before.display.as_ref())
                .map(|(now, before)| now.cores_since(before)),
            width: size("width").context("no picture is received")?,
            height: size("height").context("no picture is received")?,
            fps: (received.frames - before.received.frames) / seconds,
            kbps: (received.bytes - before.received.bytes) * 8.0 / seconds / 1000.0,
            connect_ms,
            first_frame_ms,
        })
    }

    fn usage(&self) -> Result<(Usage, Option<Usage>)> {
        Ok(match self {
            Self::Tab { browser, .. } => (Usage::of_tree(browser.pid())?, None),
            Self::Ours { program, display } => {
                let display = display.as_ref().map(|display| Usage::of_tree(display.pid()));
                (Usage::of_tree(program.pid())?, display.transpose()?)
            }
        })
    }

    async fn received(&self) -> Result<Received> {
        match self {
            Self::Tab { .. } => {
                let facts = self.facts().await?;
                let number = |pointer| facts.pointer(pointer).and_then(Value::as_f64);
                Ok(Received {
                    at: Instant::now(),
                    frames: number("/videoIn/frames").context("no picture is received")?,
                    bytes: number("/videoIn/bytes").context("no picture is received")?,
                })
            }
            Self::Ours { program, .. } => program.received().await,
        }
    }

    async fn facts(&self) -> Result<Value> {
        match self {
            Self::Tab { tab, .. } => {
                tab.eval(
                    "visavis.stats().then((s) => ({ ...s, firstFrameMs: marks.first === null || s.connectMs === null \
                     ? null : s.connectMs + marks.first - marks.connected }))",
                )
                .await
            }
            Self::Ours { program, .. } => program.lines()?.pop().context("no statistics"),
        }
    }
}

/// Our window on a display of its own, with its settings in `folder`.
pub fn window(program: &Path, display: &Display, folder: &Path, args: &[&str]) -> Result<Ours> {
    let mut command = Command::new(program);
    command
        .env("DISPLAY", display.name())
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("WAYLAND_SOCKET")
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("XDG_RUNTIME_DIR", folder)
        .env("VISAVIS_CONFIG_DIR", folder);
    Ours::start(&mut command, folder, args)
}

/// Our running program; ended on drop.
pub struct Ours {
    child: Child,
    stats: PathBuf,
    /// Its standard error.
    said: PathBuf,
    /// Holds both files.
    folder: Option<tempfile::TempDir>,
}

impl Ours {
    fn start(command: &mut Command, folder: &Path, args: &[&str]) -> Result<Self> {
        let said = folder.join("said");
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said)?)
            .spawn()
            .with_context(|| format!("starting visavis {args:?}"))?;
        Ok(Self { child, stats: PathBuf::new(), said, folder: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The statistics so far, a second a line.
    fn lines(&self) -> Result<Vec<Value>> {
        let text = match std::fs::read_to_string(&self.stats) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    async fn state(&self, state: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let mut last = None;
        while Instant::now() < end {
            last = self.lines()?.pop();
            let now = last.as_ref().and_then(|line| line.get("state")?.as_str());
            if now == Some(state) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        let said = std::fs::read_to_string(&self.said).unwrap_or_default();
        bail!("visavis is not {state} within {limit:?}: {last:?}\n{said}")
    }

    /// As of the next line to come, so that its moment is known.
    async fn received(&self) -> Result<Received> {
        let already = self.lines()?.len();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            let lines = self.lines()?;
            if let Some(newest) = lines.get(already..).and_then(<[Value]>::last) {
                let frames = newest.pointer("/video_in/frames").and_then(Value::as_f64);
                // Each line tells its own second's rate.
                let bits: f64 =
                    lines.iter().filter_map(|line| line.pointer("/video_in/kbps")?.as_f64()).sum();
                return Ok(Received {
                    at: Instant::now(),
                    frames: frames.context("no picture is received")?,
                    bytes: bits * 1000.0 / 8.0,
                });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("visavis writes no statistics any more")
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
