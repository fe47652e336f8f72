//! The soak's course.

use std::{
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rand::Rng;
use tokio::{
    task::{JoinSet, LocalSet, spawn_blocking, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    aftermath::{self, Findings},
    cable::{Cable, Fault},
    guests::{self, Party},
    rig::{
        machine,
        server::{self, Server, UNLIMITED},
        wire::{Dialect, Wire},
    },
    tally::{Tally, count},
    trend::Trend,
};

/// How often the server is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When everybody is gone, every seat must be free after this: silence is noticed, the seat
/// held for whoever lost it, and then given up.
const ALL_FREE_WITHIN: Duration = Duration::from_secs(60);

/// For all guests to leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
#[command(about = "Lets guests come and go for an hour, and looks for what leaks")]
struct Args {
    /// Our server, as it is released.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/visavis-signaling"))]
    program: PathBuf,
    /// How long.
    #[arg(long, env = "SOAK_SECONDS", default_value_t = 3600)]
    seconds: u64,
    /// Guests at a time.
    #[arg(long, default_value_t = 200)]
    guests: usize,
    /// Rooms they choose from.
    #[arg(long, default_value_t = 120)]
    rooms: usize,
    /// Restarts of the server, all in the first third: the second half watches one that has settled.
    #[arg(long, default_value_t = 6)]
    restarts: u32,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

pub fn main() -> Result<ExitCode> {
    let args = Args::parse();
    ensure!(args.seconds >= 60, "give at least 60 seconds");
    ensure!(args.guests >= 2 && args.rooms >= 1, "give at least two guests and a room");
    machine::raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, soak(&args))
}

async fn soak(args: &Args) -> Result<ExitCode> {
    // A key kept here lets seats survive a restart.
    let state = tempfile::tempdir()?;
    let state_dir = state.path().to_str().context("a temporary directory's name")?;
    let mut wanted = UNLIMITED.to_vec();
    wanted.push(("--state-dir", state_dir));
    let flags = server::arguments(&args.program, &wanted)?;
    let start = || Server::start(&args.program, &flags, None, 0);

    let server = start()?;
    // The first connection opens what stays open.
    drop(Wire::open(server.address, None, Dialect::Plain).await?);
    sleep(Duration::from_secs(1)).await;
    let files_before = server.open_files()?;
    let cable = Cable::lay().await?;
    cable.plug_into(Some(server.address));
    let party =
        Rc::new(Party { cable, rooms: args.rooms, tally: Tally::default(), over: false.into() });
    let mut everybody = JoinSet::new();
    for number in 0..args.guests {
        let party = Rc::clone(&party);
        if number % 3 == 0 {
            everybody.spawn_local(guests::bare(party));
        } else {
            everybody.spawn_local(guests::app(party));
        }
    }
    let damage = spawn_local(damage(Rc::clone(&party)));
    let (server, samples) = watch(args, &party, &mut everybody, server, start).await?;

    party.over.set(true);
    damage.abort();
    party.cable.plug_into(None);
    while let Ok(Some(guest)) = timeout(LEAVE_LIMIT, everybody.join_next()).await {
        guest??;
    }
    ensure!(everybody.is_empty(), "{} guests did not leave", everybody.len());
    let wait = ALL_FREE_WITHIN.as_secs();
    println!("everybody is gone; {wait} seconds for what is held to be given up");
    sleep(ALL_FREE_WITHIN).await;
    let files_after = server.open_files()?;
    let memory_after = server.memory()?;
    let taken = aftermath::rooms_still_taken(&server, args.rooms).await?;
    println!("{}", party.tally);
    println!("PSS with everybody gone: {} KiB", memory_after / 1024);
    let stopped = spawn_blocking(|| server.stop()).await?;
    let trend = Trend::of(&samples);
    let tally = &party.tally;
    let rooms = args.rooms;
    Ok(Findings { trend, files_before, files_after, rooms, taken, tally, stopped }.judge())
}

/// Looks at the server until the time is over, and restarts it now and then in the first third;
/// the last one, and its memory in the second half.
async fn watch(
    args: &Args,
    party: &Party,
    everybody: &mut JoinSet<Result<()>>,
    mut server: Server,
    start: impl Fn() -> Result<Server>,
) -> Result<(Server, Vec<f64>)> {
    let whole = Duration::from_secs(args.seconds);
    let restart_every = whole / 3 / args.restarts.max(1);
    let started = Instant::now();
    let mut samples = Vec::new();
    let mut next_restart = restart_every;
    let mut next_line = Duration::ZERO;
    println!("time      PSS KiB  files  what happened so far");
    loop {
        let elapsed = started.elapsed();
        if elapsed >= whole {
            return Ok((server, samples));
        }
        if elapsed >= next_restart && party.tally.restarts.get() < u64::from(args.restarts) {
            next_restart += restart_every;
            server = restart(server, party, &start).await?;
        }
        let memory = server.memory()?;
        if elapsed >= whole / 2 {
            samples.push(memory as f64);
        }
        if elapsed >= next_line {
            next_line += Duration::from_secs(60);
            let seconds = elapsed.as_secs();
            println!(
                "{:02}:{:02}:{:02} {:>8} {:>6}  {}{}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60,
                memory / 1024,
                server.open_files()?,
                party.tally,
                aftermath::gauges(&server).await
            );
        }
        if let Some(guest) = everybody.try_join_next() {
            guest?.context("a guest failed")?;
        }
        sleep(LOOK_EVERY.min(whole.saturating_sub(started.elapsed()))).await;
    }
}

/// Cuts and freezes connections, for ever.
async fn damage(party: Rc<Party>) {
    loop {
        let pause = rand::rng().random_range(100..900);
        sleep(Duration::from_millis(pause)).await;
        let (fault, counter) = if rand::rng().random_bool(0.8) {
            (Fault::Cut, &party.tally.cut)
        } else {
            (Fault::Freeze, &party.tally.frozen)
        };
        if party.cable.damage(fault) {
            count(counter);
        }
    }
}

/// Stops the server, every other time without asking, and starts another.
async fn restart(
    server: Server,
    party: &Party,
    start: &impl Fn() -> Result<Server>,
) -> Result<Server> {
    party.cable.plug_into(None);
    if party.tally.restarts.get().is_multiple_of(2) {
        let took = spawn_blocking(|| server.stop()).await??;
        println!("stopped within {:.1} s, starting another", took.as_secs_f64());
    } else {
        drop(server);
        println!("killed, starting another");
    }
    sleep(Duration::from_secs(1)).await;
    let server = start()?;
    party.cable.plug_into(Some(server.address));
    count(&party.tally.restarts);
    Ok(server)
}
