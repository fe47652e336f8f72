//! What a well-behaved pair notices of an abuser in another room.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::time::sleep;

use crate::{
    abuser::Kind,
    figures::{median, millis},
    relay,
    report::{self, Conditions},
    rig::{
        machine::{Busy, Cores},
        server::Server,
        usage,
    },
    run::Args,
    subject::Subject,
};

/// Messages a second of the pair, both directions together: no limit stands in its way.
const RATE: u32 = 80;

/// The abuser gets going.
const HEAD_START: Duration = Duration::from_secs(2);

/// The pair beside one abuser, once.
struct Round {
    alone: relay::Figures,
    beside: relay::Figures,
    /// What the abuser said at the end.
    answer: String,
    /// Of the server while it was abused.
    cores: f64,
    memory: u64,
}

/// Each abuser in turn against our server with its default limits.
pub async fn measure(args: &Args, cores: Cores) -> Result<()> {
    let subject = Subject::ours(&args.program, &[])?;
    let conditions = Conditions::new(args);
    let busy = Busy::now()?;
    let mut text = conditions.lines(busy.cores()?);
    text.push_str(
        "\n| abuser | p99 alone, ms | p99 beside it, ms | worst beside it, ms | lost | \
         server: cores | MiB | what the abuser got |\n|---|---|---|---|---|---|---|---|\n",
    );
    for &kind in Kind::value_variants() {
        if args.only.as_ref().is_some_and(|only| !kind.words().contains(only.as_str())) {
            continue;
        }
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            rounds.push(once(args, cores, &subject, kind).await?);
        }
        let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of)).unwrap_or(f64::NAN);
        let row = format!(
            "| {} | {:.2} | {:.2} | {:.1} | {} | {:.2} | {:.0} | {} |\n",
            kind.words(),
            middle(&|round| millis(round.alone.p99)),
            middle(&|round| millis(round.beside.p99)),
            middle(&|round| millis(round.beside.worst)),
            rounds.iter().map(|round| round.beside.lost + round.alone.lost).sum::<usize>(),
            middle(&|round| round.cores),
            middle(&|round| round.memory as f64 / f64::from(1 << 20)),
            rounds.last().map_or("", |round| round.answer.as_str()),
        );
        eprint!("{row}");
        text.push_str(&row);
    }
    println!("{text}");
    match &args.write {
        Some(path) => report::write(path, "abuse", &text),
        None => Ok(()),
    }
}

async fn once(args: &Args, cores: Cores, subject: &Subject, kind: Kind) -> Result<Round> {
    let server = subject.start(cores, args.unpinned)?;
    let plan = relay::Plan {
        address: server.address,
        dialect: subject.dialect,
        pairs: 1,
        rate: RATE,
        warm_up: Duration::from_secs(1),
        length: Duration::from_secs_f64(args.seconds),
    };
    // First, as one's own call would be up when the abuse begins.
    let wires = relay::seat(&plan).await?;
    let alone = relay::measure(&plan, &wires, Some(server.pid())).await?;
    let busy = HEAD_START + plan.warm_up + plan.length;
    let abuser = start(kind, &server, busy + Duration::from_secs(1))?;
    sleep(HEAD_START).await;
    let cpu = server.cpu()?;
    let beside = relay::measure(&plan, &wires, Some(server.pid())).await?;
    let spent = server.cpu()?.saturating_sub(cpu);
    let memory = usage::memory(server.pid())?;
    let output = tokio::task::spawn_blocking(move || abuser.wait_with_output()).await??;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let cores = spent.as_secs_f64() / (plan.warm_up + plan.length).as_secs_f64();
    Ok(Round { alone, beside, answer, cores, memory })
}

/// A process of its own, that yields to what measures the pair.
fn start(kind: Kind, server: &Server, length: Duration) -> Result<Child> {
    Command::new("nice")
        .args(["-n", "15"])
        .arg(std::env::current_exe()?)
        .args(["--abuser", kind.name()])
        .args(["--server", &server.address.to_string()])
        .args(["--seconds", &length.as_secs_f64().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the abuser")
}
