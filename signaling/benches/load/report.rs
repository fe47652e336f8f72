//! The tables.

use std::{fmt::Write, fs, path::Path, time::Duration};

use anyhow::{Context, Result};

use crate::{
    deaf,
    figures::{median, millis},
    idle, relay,
    rig::machine,
    run::Args,
};

/// What a connection may cost at most, in KiB.
const CONNECTION_KIB: f64 = 9.0;
const CONNECTIONS: usize = 8_000;
/// A client that never reads is gone within this.
const DEAF_LIMIT: Duration = Duration::from_secs(15);
/// At this rate, the 99th percentile is below this,
const RATE: u32 = 16_000;
const P99_LIMIT_MS: f64 = 20.0;
/// so much of what was scheduled is delivered,
const KEEPS_UP: f64 = 0.99;
/// and a message costs at most this share of what it costs in Node.
const CPU_SHARE: f64 = 0.5;

/// Everything measured of one server.
pub struct Measured {
    pub name: &'static str,
    pub idle: Vec<idle::Figures>,
    pub relay: Vec<relay::Figures>,
}

impl Measured {
    pub fn new(name: &'static str) -> Self {
        Self { name, idle: Vec::new(), relay: Vec::new() }
    }

    fn memory_kib(&self, count: usize, seated: bool) -> Option<f64> {
        let of_round = |figures: &idle::Figures| {
            figures.memory.iter().find(|(connections, _)| *connections == count).map(|(_, b)| *b)
        };
        let rounds = self.idle.iter().filter(|figures| figures.seated == seated);
        median(rounds.filter_map(of_round)).map(|bytes| bytes / 1024.0)
    }

    fn connect_us(&self, seated: bool) -> Option<f64> {
        let rounds = self.idle.iter().filter(|figures| figures.seated == seated);
        median(rounds.map(|figures| figures.connect_us))
    }

    fn at(&self, rate: u32, of: impl Fn(&relay::Figures) -> f64) -> Option<f64> {
        median(self.relay.iter().filter(|figures| figures.rate == rate).map(of))
    }
}

/// Under which conditions the figures came about.
pub struct Conditions {
    command: String,
    machine: String,
    load: String,
    rounds: usize,
    pairs: usize,
    seconds: f64,
}

impl Conditions {
    pub fn new(args: &Args) -> Self {
        let own = std::env::args().skip(1).filter(|arg| arg != "--bench");
        let words: Vec<String> = own.collect();
        let command = match words.as_slice() {
            [] => "make bench-signaling".to_owned(),
            words => format!("make bench-signaling BENCH_ARGS='{}'", words.join(" ")),
        };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let Args { rounds, pairs, seconds, .. } = *args;
        Self { command, machine: machine::description(), load, rounds, pairs, seconds }
    }

    pub fn lines(&self, busy: f64) -> String {
        let Self { command, machine, load, rounds, seconds, .. } = self;
        let busy =
            if busy > 0.0 { format!(", {busy:.1} cores busy during it") } else { String::new() };
        format!(
            "`{command}`\n\n{machine}; load before {load}{busy}. Server on one core, load on \
             another; {seconds} s for each figure, medians over {rounds} round(s).\n"
        )
    }
}

pub fn markdown(
    conditions: &Conditions,
    busy: f64,
    measured: &[Measured],
    deaf: Option<&deaf::Figures>,
) -> String {
    let mut text = conditions.lines(busy);
    text.push('\n');
    idle_table(&mut text, measured);
    relay_table(&mut text, conditions, measured);
    for (holds, what) in verdicts(measured, deaf) {
        let _ = writeln!(text, "- {}: {what}", if holds { "holds" } else { "MISSED" });
    }
    text
}

fn idle_table(text: &mut String, measured: &[Measured]) {
    let mut counts: Vec<usize> = Vec::new();
    for (count, _) in measured.iter().flat_map(|of| &of.idle).flat_map(|round| &round.memory) {
        if !counts.contains(count) {
            counts.push(*count);
        }
    }
    text.push_str("| memory (PSS) a connection, KiB |");
    let mut rule = "|---|".to_owned();
    for count in &counts {
        let _ = write!(text, " {count} idle | {count} seated |");
        rule.push_str("---|---|");
    }
    let _ = writeln!(text, " CPU to connect, us | and to take a seat, us |\n{rule}---|---|");
    for of in measured {
        let _ = write!(text, "| {} |", of.name);
        for &count in &counts {
            for seated in [false, true] {
                let _ = write!(text, " {} |", shown(of.memory_kib(count, seated), 2));
            }
        }
        for seated in [false, true] {
            let _ = write!(text, " {} |", shown(of.connect_us(seated), 0));
        }
        text.push('\n');
    }
    text.push('\n');
}

fn relay_table(text: &mut String, conditions: &Conditions, measured: &[Measured]) {
    let mut rates: Vec<u32> =
        measured.iter().flat_map(|of| &of.relay).map(|figures| figures.rate).collect();
    rates.sort_unstable();
    rates.dedup();
    let _ = writeln!(
        text,
        "| {} pairs, messages/s scheduled | | delivered/s | CPU a message, us | beside Node | \
         p50, ms | p99, ms | worst, ms | not arrived | swapped |\n|---|---|---|---|---|---|---|---|---|---|",
        conditions.pairs
    );
    let node = measured.iter().find(|of| of.name.starts_with("node"));
    for rate in rates {
        for of in measured {
            let cpu = of.at(rate, |figures| figures.cpu_us);
            let there = node.and_then(|node| node.at(rate, |figures| figures.cpu_us));
            let ratio = cpu.zip(there).map(|(here, there)| here / there);
            let _ = writeln!(
                text,
                "| {rate} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                of.name,
                shown(of.at(rate, |figures| figures.delivered), 0),
                shown(cpu, 1),
                shown(ratio, 2),
                latency(of.at(rate, |figures| millis(figures.p50))),
                latency(of.at(rate, |figures| millis(figures.p99))),
                latency(of.at(rate, |figures| millis(figures.worst))),
                of.relay.iter().filter(|f| f.rate == rate).map(|f| f.lost).sum::<usize>(),
                of.relay.iter().filter(|f| f.rate == rate).map(|f| f.swapped).sum::<usize>(),
            );
        }
    }
    text.push('\n');
}

/// What was promised, and whether it is so.
fn verdicts(measured: &[Measured], deaf: Option<&deaf::Figures>) -> Vec<(bool, String)> {
    let mut verdicts = Vec::new();
    let Some(ours) = measured.iter().find(|of| of.name.contains("/ws")) else {
        return verdicts;
    };
    for seated in [false, true] {
        if let Some(kib) = ours.memory_kib(CONNECTIONS, seated) {
            let what = if seated { "seated" } else { "idle" };
            let text = format!(
                "{CONNECTIONS} {what} connections cost {kib:.2} KiB each; at most {CONNECTION_KIB}"
            );
            verdicts.push((kib <= CONNECTION_KIB, text));
        }
    }
    if let Some(deaf) = deaf {
        for (what, took) in [("left alone", deaf.idle), ("talked to", deaf.talked_to)] {
            let seconds = took.map_or("not within a minute".to_owned(), |took| {
                format!("after {:.1} s", took.as_secs_f64())
            });
            let text = format!("a client that never reads, {what}, is gone {seconds}; limit 15 s");
            verdicts.push((took.is_some_and(|took| took <= DEAF_LIMIT), text));
        }
    }
    if let Some(delivered) = ours.at(RATE, |figures| figures.delivered) {
        let text = format!("{delivered:.0} messages/s delivered of {RATE} scheduled");
        verdicts.push((delivered >= f64::from(RATE) * KEEPS_UP, text));
    }
    if let Some(p99) = ours.at(RATE, |figures| millis(figures.p99)) {
        let shown = latency(Some(p99));
        let text = format!("p99 {shown} ms at {RATE} messages/s; below {P99_LIMIT_MS}");
        verdicts.push((p99 < P99_LIMIT_MS, text));
    }
    let node = measured.iter().find(|of| of.name.starts_with("node"));
    // A server that cannot keep up handles messages in bulk, which is cheaper: only those that
    // do keep up compare.
    let keeps_up = |of: &Measured, rate: u32| {
        of.at(rate, |figures| figures.delivered).is_some_and(|d| d >= f64::from(rate) * KEEPS_UP)
    };
    let mut rates: Vec<u32> = ours.relay.iter().map(|figures| figures.rate).collect();
    rates.sort_unstable();
    rates.dedup();
    for rate in rates {
        let cpu = |of: &Measured| of.at(rate, |figures| figures.cpu_us);
        let Some((node, here, there)) = node.and_then(|node| Some((node, cpu(ours)?, cpu(node)?)))
        else {
            continue;
        };
        let ratio = here / there;
        let both = keeps_up(ours, rate) && keeps_up(node, rate);
        let unless = if both { "" } else { " (one does not keep up: says nothing)" };
        let text = format!(
            "at {rate} messages/s CPU a message is {ratio:.2} of Node's; at most {CPU_SHARE}{unless}"
        );
        verdicts.push((ratio <= CPU_SHARE && both, text));
    }
    verdicts
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// What never arrived has no latency.
fn latency(millis: Option<f64>) -> String {
    match millis {
        Some(millis) if millis >= f64::from(u32::MAX) / 1e3 => "never".to_owned(),
        millis => shown(millis, 2),
    }
}

/// Puts `text` between the markers called `name` in the file.
pub fn write(path: &Path, name: &str, text: &str) -> Result<()> {
    let begin = format!("<!-- {name}: written by the benchmark -->\n");
    let end = format!("<!-- {name}: end -->");
    let file = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (before, rest) = file
        .split_once(&begin)
        .with_context(|| format!("{} has no line {begin}", path.display()))?;
    let (_, after) =
        rest.split_once(&end).with_context(|| format!("{} has no line {end}", path.display()))?;
    fs::write(path, format!("{before}{begin}{}\n{end}{after}", text.trim_end()))?;
    Ok(())
}
