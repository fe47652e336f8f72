//! The command line, and what is measured in which order.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Parser;
use tokio::task::LocalSet;

use crate::{
    abuse, abuser, deaf, idle, relay,
    report::{self, Conditions},
    rig::machine::{self, Busy, Cores},
    subject::{Subject, subjects},
};

#[derive(Debug, Parser)]
#[command(about = "Measures the signaling server under load, beside Node's socket.io")]
pub struct Args {
    /// Our server, as it is released.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/visavis-signaling"))]
    pub program: PathBuf,
    /// How often everything is measured; figures are medians.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// How long each rate is measured, in seconds.
    #[arg(long, default_value_t = 15.0)]
    pub seconds: f64,
    /// Pairs that exchange messages.
    #[arg(long, default_value_t = 500)]
    pub pairs: usize,
    /// Messages a second, all pairs together.
    #[arg(long, value_delimiter = ',', default_values_t = [4_000, 16_000])]
    pub rates: Vec<u32>,
    /// Idle connections, counted up.
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 8_000])]
    pub idle: Vec<usize>,
    /// One short round, to see that everything works.
    #[arg(long)]
    pub quick: bool,
    /// Measure only what the name contains: ws, ours, node.
    #[arg(long)]
    pub only: Option<String>,
    /// Measure a well-behaved pair among abusers instead.
    #[arg(long)]
    pub abuse: bool,
    /// Let the server run wherever it likes.
    #[arg(long)]
    pub unpinned: bool,
    /// A server that runs already: only loads it, at each rate.
    #[arg(long)]
    pub server: Option<SocketAddr>,
    /// A file with markers, such as docs/measurements.md, to put the tables into.
    #[arg(long)]
    pub write: Option<PathBuf>,
    /// Used by this program itself.
    #[arg(long, hide = true, requires = "server")]
    abuser: Option<abuser::Kind>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

pub fn main() -> Result<()> {
    let mut args = Args::parse();
    ensure!(args.seconds >= 1.0 && args.rounds >= 1, "give at least 1 second and 1 round");
    ensure!(args.pairs >= 1, "give at least one pair");
    if args.quick {
        args.rounds = 1;
        args.seconds = args.seconds.min(3.0);
        args.idle = vec![1_000, 2_000];
    }
    let files = machine::raise_open_files()?;
    let most = args.idle.iter().copied().max().unwrap_or(0).max(2 * args.pairs);
    ensure!(
        files > most as u64 + 100,
        "only {files} open files are permitted here: raise the limit (ulimit -Hn), or give --idle"
    );
    let cores = Cores::pick()?;
    machine::stay_on(cores.load)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        match (args.abuser, args.server) {
            (Some(kind), Some(server)) => {
                abuser::misbehave(kind, server, Duration::from_secs_f64(args.seconds)).await
            }
            (_, Some(server)) => load(&args, server).await,
            _ if args.abuse => abuse::measure(&args, cores).await,
            _ => compare(&args, cores).await,
        }
    })
}

async fn compare(args: &Args, cores: Cores) -> Result<()> {
    let subjects = subjects(args).await?;
    ensure!(!subjects.is_empty(), "nothing is called so: ws, ours, node");
    let conditions = Conditions::new(args);
    let busy = Busy::now()?;
    let mut measured: Vec<report::Measured> =
        subjects.iter().map(|subject| report::Measured::new(subject.name)).collect();
    for round in 1..=args.rounds {
        for (subject, measured) in subjects.iter().zip(&mut measured) {
            eprintln!("round {round} of {}: {}", args.rounds, subject.name);
            one_round(args, subject, cores, measured).await?;
        }
    }
    let deaf = match subjects.iter().find(|subject| subject.name.contains("/ws")) {
        Some(subject) => Some(deaf::measure(subject, cores).await?),
        None => None,
    };
    let text = report::markdown(&conditions, busy.cores()?, &measured, deaf.as_ref());
    println!("{text}");
    match &args.write {
        Some(path) => report::write(path, "load", &text),
        None => Ok(()),
    }
}

async fn one_round(
    args: &Args,
    subject: &Subject,
    cores: Cores,
    measured: &mut report::Measured,
) -> Result<()> {
    for seated in [false, true] {
        let server = subject.start(cores, args.unpinned)?;
        let figures = idle::measure(&server, subject.dialect, &args.idle, seated).await?;
        eprintln!("  {figures}");
        measured.idle.push(figures);
    }
    for &rate in &args.rates {
        let server = subject.start(cores, args.unpinned)?;
        let plan = relay::Plan {
            address: server.address,
            dialect: subject.dialect,
            pairs: args.pairs,
            rate,
            warm_up: Duration::from_secs_f64((args.seconds / 3.0).min(3.0)),
            length: Duration::from_secs_f64(args.seconds),
        };
        let figures = relay::measure(&plan, &relay::seat(&plan).await?, Some(server.pid())).await?;
        eprintln!("  {figures}");
        measured.relay.push(figures);
    }
    Ok(())
}

/// For a profiler: the server was started by hand.
async fn load(args: &Args, address: SocketAddr) -> Result<()> {
    for &rate in &args.rates {
        let plan = relay::Plan {
            address,
            dialect: crate::rig::wire::Dialect::Plain,
            pairs: args.pairs,
            rate,
            warm_up: Duration::ZERO,
            length: Duration::from_secs_f64(args.seconds),
        };
        println!("{}", relay::measure(&plan, &relay::seat(&plan).await?, None).await?);
    }
    Ok(())
}
