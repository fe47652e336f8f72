//! The ends of a call on the two hosts of an emulated network: a tab in a browser of its own, or our
//! program, without a window or with one on a display of its own.

pub mod ours;
mod tab;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, ensure};
use visavis_media::units::unix_us;

use crate::common::netlab::{LEFT, NetLab};
use crate::common::netns::Host;
use crate::common::process::Process;
use crate::common::pulse::Pulse;
use crate::common::{SOON, netlab};
use crate::trace::{Trace, Us, Window};
use ours::Ours;
use tab::Tab;

const ROOM: &str = "calls";
const PORT: u16 = 8080;
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
    /// How many pictures the clip has.
    pub pictures: u32,
    pub speech: PathBuf,
    /// Keep samples of pictures.
    pub samples: bool,
    /// Read counters each second.
    pub series: bool,
}

/// The signaling server, on the left host.
pub struct Server {
    _process: Process,
    pub url: String,
    _state: tempfile::TempDir,
}

impl Server {
    pub async fn start(host: &Host, stage: &Stage) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let address = format!("{LEFT}:{PORT}");
        let mut command = started_on(host, &stage.program);
        command.args(["serve", "--listen", &address, "--tls", "off", "--state-dir"]);
        command.arg(state.path());
        let mut process = Process::start(command, "the server")?;
        let listens = |_: &[String], _: &[String]| netlab::connect(host, (LEFT, PORT).into()).ok();
        process.until("open port", SOON, listens).await?;
        Ok(Self { _process: process, url: format!("http://{address}"), _state: state })
    }
}

fn started_on(host: &Host, program: &std::path::Path) -> std::process::Command {
    let words = host.enter();
    let mut command = std::process::Command::new(words.first().map_or("", String::as_str));
    command.args(words.iter().skip(1)).arg(program);
    command
}

/// A running end.
pub enum End {
    Tab(Box<Tab>),
    Ours(Ours),
}

impl End {
    pub async fn start(kind: Kind, host: &Host, server: &str, stage: &Stage) -> Result<Self> {
        Ok(match kind {
            Kind::Chromium => Self::Tab(Box::new(Tab::start(host, server, stage).await?)),
            Kind::Headless => Self::Ours(Ours::start(host, server, stage)?),
            Kind::Window => Self::Ours(Ours::start_window(host, server, stage).await?),
        })
    }

    pub async fn waiting(&mut self, limit: Duration) -> Result<()> {
        match self {
            Self::Tab(tab) => tab.state("waiting", limit).await,
            Self::Ours(ours) => ours.state("waiting", limit).await,
        }
    }

    pub async fn in_call(&mut self, limit: Duration) -> Result<()> {
        match self {
            Self::Tab(tab) => tab.state("connected", limit).await,
            Self::Ours(ours) => ours.state("in_call", limit).await,
        }
    }

    /// The measured time begins.
    pub async fn begin(&mut self) -> Result<()> {
        match self {
            Self::Tab(tab) => tab.begin().await,
            Self::Ours(ours) => ours.begin(),
        }
    }

    /// It is over: what was written down.
    pub async fn end(self, window: Window) -> Result<Trace> {
        match self {
            Self::Tab(tab) => tab.end().await,
            Self::Ours(ours) => ours.end(window).await,
        }
    }
}

/// As [`call`], with sound alone, from the microphone of the first sound server to the speaker of the second.
pub async fn sound_call(
    kind: Kind,
    lab: &NetLab,
    stage: &Stage,
    sound: [&Pulse; 2],
    limit: Duration,
) -> Result<(Server, [End; 2])> {
    let server = Server::start(&lab.left, stage).await?;
    let devices = ["--video-source", "none", "--audio-source", "mic", "--audio-sink", "speaker"];
    let mut ends = Vec::new();
    for (host, sound) in [&lab.left, &lab.right].into_iter().zip(sound) {
        let mut end = match kind {
            Kind::Chromium => {
                End::Tab(Box::new(Tab::start_with_sound(host, &server.url, stage, sound).await?))
            }
            Kind::Headless | Kind::Window => {
                End::Ours(Ours::start_with(host, &server.url, stage, &devices, Some(sound))?)
            }
        };
        if ends.is_empty() {
            end.waiting(limit).await?;
        }
        ends.push(end);
    }
    for end in &mut ends {
        end.in_call(limit).await?;
    }
    let ends = ends.try_into().map_err(|_| anyhow!("two ends"))?;
    Ok((server, ends))
}

/// Both ends and the server of one call, on the hosts of `lab`.
pub async fn call(
    kinds: [Kind; 2],
    lab: &NetLab,
    stage: &Stage,
    limit: Duration,
) -> Result<(Server, [End; 2])> {
    let server = Server::start(&lab.left, stage).await?;
    let mut first = End::start(kinds[0], &lab.left, &server.url, stage).await?;
    first.waiting(limit).await?;
    let mut second = End::start(kinds[1], &lab.right, &server.url, stage).await?;
    first.in_call(limit).await?;
    second.in_call(limit).await?;
    Ok((server, [first, second]))
}

pub fn now() -> Us {
    unix_us(SystemTime::now())
}

/// Wrong clocks would give wrong delays.
pub fn check_clock(there: f64, asked: Us, answered: Us) -> Result<()> {
    let (asked, answered) = (asked as f64 / 1000.0, answered as f64 / 1000.0);
    ensure!(
        (asked - 5.0..answered + 5.0).contains(&there),
        "a page's clock is off: {there} ms is not between {asked} and {answered}"
    );
    Ok(())
}
