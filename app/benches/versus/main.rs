//! What a call costs, beside Chromium's: one run measures, in turn and several times over, Chromium
//! calling Chromium on our own page, a call without a window, and a window on a virtual display; then a
//! window idling in the lobby. `make bench-window BENCH_ARGS='--seconds 30 --rounds 3'`
//!
//! Needs Linux, Debian's Chromium and Xvfb. Every end plays the same clip and the same speech.

#[path = "../../tests/common/mod.rs"]
mod common;

mod clip;
mod ends;
mod report;
mod usage;
mod xvfb;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use common::SOON;
use common::process::Server;
use ends::{End, Figures, Kind, Stage};
use report::{Conditions, Idle, Measured};
use usage::{Machine, Usage};

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);
/// The lobby's own opening (fonts, device lists) is not idling.
const SETTLE: Duration = Duration::from_secs(6);

#[derive(Parser)]
#[command(about = "Measures calls beside Chromium's")]
struct Args {
    /// Our program, as it is released.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/visavis"))]
    program: PathBuf,
    /// How long each call is measured.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// How long each call runs before it is measured: bitrates climb first.
    #[arg(long, default_value_t = 20.0)]
    warmup: f64,
    /// How often each kind of call is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long the idle window is measured.
    #[arg(long, default_value_t = 20.0)]
    idle: f64,
    /// A Y4M clip, 1280x720 at 30 fps, instead of a generated one; an absolute path.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// A WAV file instead of generated speech; an absolute path.
    #[arg(long)]
    speech: Option<PathBuf>,
    /// Where the table goes; `-` only prints it.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/measurements.md"))]
    write: PathBuf,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    // `cargo test --all-targets` starts every benchmark as if it were a test.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("measures only under `cargo bench`");
        return Ok(());
    }
    let args = Args::parse();
    ensure!(
        cfg!(target_os = "linux"),
        "this benchmark reads /proc and drives Xvfb: it needs Linux"
    );
    ensure!(args.seconds >= 3.0 && args.rounds >= 1, "give at least 3 seconds and 1 round");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(run(&args))
}

async fn run(args: &Args) -> Result<()> {
    let program =
        path(&args.program).context("build it first: cargo build --release -p visavis")?;
    let generated = clip::Media::generate(args.clip.is_none())?;
    let stage = Stage {
        clip: path(args.clip.as_ref().unwrap_or(&generated.clip()))?,
        speech: path(args.speech.as_ref().unwrap_or(&generated.speech()))?,
        program,
    };
    let pairings = [
        [Kind::Chromium, Kind::Chromium],
        [Kind::Headless, Kind::Headless],
        [Kind::Window, Kind::Headless],
    ];
    let mut measured = Vec::new();
    for round in 1..=args.rounds {
        for kinds in pairings {
            let call = measure(args, kinds, &stage)
                .await
                .with_context(|| format!("round {round}, {kinds:?}"))?;
            for line in call.lines() {
                eprintln!("round {round}: {line}");
            }
            measured.push(call);
        }
    }
    let idle = idle(args.idle, &stage.program).await.context("the idle window")?;
    let conditions = Conditions::of_this_machine(args.clip.as_deref())?;
    let text = report::markdown(&conditions, &measured, &idle);
    println!("{text}");
    if args.write.as_os_str() != "-" {
        report::write(&args.write, &text)?;
    }
    Ok(())
}

fn path(given: &Path) -> Result<PathBuf> {
    given.canonicalize().with_context(|| format!("no such file: {}", given.display()))
}

/// One call: both ends up, warm, then watched for `--seconds`.
async fn measure(args: &Args, kinds: [Kind; 2], stage: &Stage) -> Result<Measured> {
    let server = Server::start().await?;
    let first = End::start(kinds[0], &server.url, stage).await?;
    first.waiting(SOON).await?;
    let second = End::start(kinds[1], &server.url, stage).await?;
    first.in_call(UP).await?;
    second.in_call(UP).await?;
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let ends = [first, second];
    let mut before = Vec::new();
    for end in &ends {
        before.push(end.mark().await?);
    }
    let machine = Machine::now()?;
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let busy = Machine::now()?.busy_cores_since(&machine);
    let mut figures: Vec<(Kind, Figures)> = Vec::new();
    for ((end, before), kind) in ends.iter().zip(&before).zip(kinds) {
        figures.push((kind, end.figures(before).await?));
    }
    let ours: f64 =
        figures.iter().map(|(_, end)| end.cpu_cores + end.display_cores.unwrap_or(0.0)).sum();
    Ok(Measured { ends: figures, others_cores: (busy - ours).max(0.0) })
}

/// A window in the lobby, camera and microphone off.
async fn idle(seconds: f64, program: &Path) -> Result<Idle> {
    let folder = tempfile::tempdir()?;
    let off = r#"{"camera_on": false, "microphone_on": false}"#;
    std::fs::write(folder.path().join("settings.json"), off)?;
    let display = xvfb::Display::start().await?;
    let window = ends::window(program, &display, folder.path(), &[])?;
    let first_frame = display.first_frame(SOON).await?;
    tokio::time::sleep(SETTLE).await;
    let pid = window.pid();
    let (before, machine) = (Usage::of_tree(pid)?, Machine::now()?);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (after, now) = (Usage::of_tree(pid)?, Machine::now()?);
    let cpu_cores = after.cores_since(&before);
    Ok(Idle {
        cpu_cores,
        pss_mib: after.pss_mib,
        seconds,
        first_frame_ms: first_frame.as_secs_f64() * 1000.0,
        others_cores: (now.busy_cores_since(&machine) - cpu_cores).max(0.0),
    })
}
