//! Calls over emulated networks: our ends with each other and with Chromium, beside Chromium with itself,
//! in turn and several times over, from the same clip and the same speech.
//! `make bench BENCH_ARGS='--profiles lan,lossy5 --rounds 1'`
//!
//! Needs Linux, root (or `unshare --user --map-root-user`) and Debian's Chromium.

#[path = "../../tests/common/mod.rs"]
mod common;

mod ends;
mod goals;
mod picture;
mod report;
mod scene;
mod soak;
mod sound;
mod steps;
mod trace;
#[path = "../../../signaling/benches/soak/trend.rs"]
mod trend;
#[path = "../versus/usage.rs"]
mod usage;
#[allow(dead_code)] // what waits for a first picture
#[path = "../versus/xvfb.rs"]
mod xvfb;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use common::SOON;
use common::netlab::profile::{Profile, Step};
use common::netlab::{Both, LEFT, NetLab, RIGHT};
use common::netns::may_without;
use ends::{Kind, Stage};
use goals::Way;
use picture::Clip;
use trace::{Figures, Trace, Window};
use usage::Machine;

/// From the moment both are in the room, on a slow network and a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);

#[derive(Parser)]
#[command(about = "Measures calls over emulated networks beside Chromium's")]
struct Args {
    /// Our program, as it is released.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/visavis"))]
    program: PathBuf,
    /// Networks: lan, wifi, dsl, lte, 3g, edge, lossy5, lossy10, lossy20, jittery, narrow500, narrow200, satellite.
    #[arg(long, value_delimiter = ',', default_value = "lan,wifi,lte,lossy5,narrow500,narrow200")]
    profiles: Vec<Profile>,
    /// Who calls whom: chromium (itself), ours (without windows), mixed (one end each), window (ours with and without).
    #[arg(long, value_delimiter = ',', default_value = "chromium,ours,mixed")]
    kinds: Vec<Kinds>,
    /// How long each call is measured.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// How long each call runs before it is measured: bitrates climb first.
    #[arg(long, default_value_t = 10.0)]
    warmup: f64,
    /// How often each kind of call is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Another network from so many seconds of the measured time on, e.g. 20:narrow500. May be repeated.
    #[arg(long, value_name = "SECONDS:PROFILE")]
    step: Vec<Step>,
    /// Show figures of each second.
    #[arg(long)]
    series: bool,
    /// Do not compare pictures with the clip.
    #[arg(long)]
    no_ssim: bool,
    /// The emulated networks' chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A Y4M clip of 30 pictures a second instead of a generated one; it is copied if its pictures carry no numbers.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// A WAV file instead of generated speech.
    #[arg(long)]
    speech: Option<PathBuf>,
    /// Put the tables into this document, between its marks.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Measure sound instead: from mouth to ear, and how far from its picture. Needs PulseAudio.
    #[arg(long)]
    sound: bool,
    /// One call of our ends over the first network instead, whose sound clocks disagree: whether anything grows.
    #[arg(long)]
    soak: bool,
    /// No calls: make the first network and its hosts, and keep them until interrupted.
    #[arg(long)]
    hold: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kinds {
    Chromium,
    Ours,
    Mixed,
    Window,
}

impl Kinds {
    /// Who stands left and right. Of unlike ends the first one changes sides, and so roles, by round.
    fn ends(self, round: u32) -> [Kind; 2] {
        match self {
            Self::Chromium => [Kind::Chromium, Kind::Chromium],
            Self::Ours => [Kind::Headless, Kind::Headless],
            Self::Mixed if round % 2 == 1 => [Kind::Headless, Kind::Chromium],
            Self::Mixed => [Kind::Chromium, Kind::Headless],
            Self::Window => [Kind::Headless, Kind::Window],
        }
    }
}

/// One measured call.
struct Measured {
    network: Profile,
    /// What went each way.
    ways: Vec<(Way, Figures)>,
    /// What the rest of the machine used meanwhile: the noise.
    others_cores: f64,
}

fn main() -> Result<()> {
    // `cargo test --all-targets` starts every benchmark as if it were a test.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("measures only under `cargo bench`");
        return Ok(());
    }
    let args = Args::parse();
    if !may_without() {
        return as_root();
    }
    ensure!(args.seconds >= 3.0 && args.rounds >= 1, "give at least 3 seconds and 1 round");
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(
        async {
            tokio::select! {
                done = run(&args) => done,
                // Whatever runs is dropped, and so ended.
                _ = interrupted()? => anyhow::bail!("interrupted"),
            }
        },
    )
}

/// The same once more, as root of a user namespace.
fn as_root() -> Result<()> {
    use std::os::unix::process::CommandExt;
    let mut again = std::process::Command::new("unshare");
    again.args(["--user", "--map-root-user"]).arg(std::env::current_exe()?);
    Err(again.args(std::env::args_os().skip(1)).exec()).context("unshare of util-linux")
}

fn interrupted() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn run(args: &Args) -> Result<()> {
    if args.hold {
        return hold(args).await;
    }
    let program =
        path(&args.program).context("build it first: cargo build --release -p visavis")?;
    let scene = scene::Scene::new()?;
    let mut clip = match &args.clip {
        Some(clip) => path(clip)?,
        None => scene.clip()?,
    };
    let mut pictures = Clip::open(&clip)?;
    if !pictures.is_numbered()? {
        clip = scene.numbered(&mut pictures)?;
        pictures = Clip::open(&clip)?;
    }
    let stage = Stage {
        program,
        clip,
        pictures: pictures.pictures,
        speech: path(args.speech.as_ref().unwrap_or(&scene.speech()))?,
        samples: !args.no_ssim,
        series: args.series || !args.step.is_empty(),
    };
    if args.soak {
        let network = *args.profiles.first().context("no network")?;
        let lab = NetLab::new(network, args.seed)?;
        let length = Duration::from_secs_f64(args.seconds);
        let warmup = Duration::from_secs_f64(args.warmup);
        let good = soak::run(&lab, &stage, warmup, length, pictures.period()).await?;
        ensure!(good, "something grew, or was lost");
        return Ok(());
    }
    if args.sound {
        return sounds(args, &stage).await;
    }
    let mut measured = Vec::new();
    for round in 1..=args.rounds {
        for network in &args.profiles {
            for kinds in &args.kinds {
                let what = || format!("round {round}, {}, {kinds:?}", network.name);
                let call =
                    match measure(args, *network, kinds.ends(round), round, &stage, &mut pictures)
                        .await
                    {
                        Ok(call) => call,
                        // One call that failed is no reason to lose hours of others.
                        Err(error) => {
                            eprintln!("{}: FAILED: {error:#}", what());
                            continue;
                        }
                    };
                for line in report::lines(&call) {
                    eprintln!("{}: {line}", what());
                }
                if args.series {
                    eprint!("{}", report::series(&call));
                }
                measured.push(call);
            }
        }
    }
    let text = report::markdown(&report::Conditions::of_this_machine(args)?, args, &measured);
    println!("{text}");
    if let Some(document) = &args.write {
        report::write(document, &text)?;
    }
    Ok(())
}

/// Mouth to ear between Chromium's and between our own ends, and our lip sync, in turn.
async fn sounds(args: &Args, stage: &Stage) -> Result<()> {
    let (seconds, warmup) = (args.seconds as u64, Duration::from_secs_f64(args.warmup));
    for network in &args.profiles {
        let mut figures = sound::Report::default();
        for round in 1..=args.rounds {
            let lab = || NetLab::new(*network, args.seed + u64::from(round));
            let mouth = |kind, lab| async move {
                sound::mouth_to_ear(kind, &lab, stage, seconds, warmup).await
            };
            for (kind, delays) in
                [(Kind::Chromium, &mut figures.chromium), (Kind::Headless, &mut figures.ours)]
            {
                match mouth(kind, lab()?).await {
                    Ok(measured) => delays.extend(measured),
                    Err(error) => eprintln!("round {round}, {kind:?}: FAILED: {error:#}"),
                }
            }
            let of_cards = sound::testcard(&lab()?, stage, seconds, warmup).await?;
            figures.to_file.extend(of_cards.to_file);
            figures.apart.extend(of_cards.apart);
            figures.told.extend(of_cards.told);
        }
        print!("{}", figures.markdown(network.name));
    }
    Ok(())
}

async fn hold(args: &Args) -> Result<()> {
    let network = *args.profiles.first().context("no network")?;
    let lab = NetLab::new(network, args.seed)?;
    let now = Instant::now();
    lab.steps(args.step.iter().map(|step| (now + step.at, step.profile)).collect())?;
    for (name, host, address) in [("left", &lab.left, LEFT), ("right", &lab.right, RIGHT)] {
        println!("{name}, {address}: {} PROGRAM", host.enter().join(" "));
    }
    let mut second = tokio::time::interval(Duration::from_secs(10));
    loop {
        second.tick().await;
        eprintln!("{:?}", lab.counters());
    }
}

fn path(given: &Path) -> Result<PathBuf> {
    given.canonicalize().with_context(|| format!("no such file: {}", given.display()))
}

/// One call: both ends up, warm, then watched for `--seconds`.
async fn measure(
    args: &Args,
    network: Profile,
    kinds: [Kind; 2],
    round: u32,
    stage: &Stage,
    clip: &mut Clip,
) -> Result<Measured> {
    let lab = NetLab::new(network, args.seed + u64::from(round))?;
    let (_server, mut ends) = ends::call(kinds, &lab, stage, UP.max(SOON)).await?;
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let machine = Machine::now()?;
    for end in &mut ends {
        end.begin().await?;
    }
    let (begun, begin, crossed) = (Instant::now(), ends::now(), lab.counters());
    lab.steps(args.step.iter().map(|step| (begun + step.at, step.profile)).collect())?;
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let window = Window { begin, end: ends::now() };
    let busy = Machine::now()?.busy_cores_since(&machine);
    report_link(crossed, lab.counters(), window);
    let [mut left, mut right] = ends;
    // At once: the sooner both are asked, the less of what is after the measured time is in their counters.
    tokio::try_join!(left.over(), right.over())?;
    let (left, right) = tokio::join!(left.end(window), right.end(window));
    let traces = [left?, right?];
    let ours: f64 = traces.iter().map(|trace| trace.cpu_cores).sum();
    let mut ways = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        let way = match (kinds[from], kinds[to]) {
            (Kind::Chromium, Kind::Chromium) => Way::Chromium,
            (Kind::Chromium, _) => Way::FromChromium,
            (_, Kind::Chromium) => Way::ToChromium,
            (_, Kind::Window) => Way::ToWindow,
            // A window sends as any end of ours; what it costs is its own.
            (Kind::Window, _) => continue,
            (Kind::Headless, Kind::Headless) => Way::Ours,
        };
        ways.push((way, figures(network, &traces[from], &traces[to], window, clip)?));
    }
    Ok(Measured { network, ways, others_cores: (busy - ours).max(0.0) })
}

fn figures(
    network: Profile,
    sender: &Trace,
    receiver: &Trace,
    window: Window,
    clip: &mut Clip,
) -> Result<Figures> {
    let mut figures = trace::figures(sender, receiver, window, clip.period());
    let rate = f64::from(network.rate);
    figures.link_used = (rate > 0.0).then_some(figures.kbps / rate * 100.0);
    figures.ssim = picture::similarity(clip, &receiver.samples, &sender.captured, window)?;
    Ok(figures)
}

/// What the link itself saw, headers, repairs and all.
fn report_link(before: Both, after: Both, window: Window) {
    for (name, before, after) in [
        ("left to right", before.left_to_right, after.left_to_right),
        ("right to left", before.right_to_left, after.right_to_left),
    ] {
        eprintln!(
            "    link {name}: {:.0} kbit/s, {} packets, {} lost, {} overflowed",
            (after.bytes - before.bytes) as f64 * 8e3 / (window.end - window.begin) as f64,
            after.passed - before.passed,
            after.lost - before.lost,
            after.overflowed - before.overflowed,
        );
    }
}
