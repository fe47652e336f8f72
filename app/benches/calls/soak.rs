//! One long call between ends whose sound clocks disagree: whether memory stays flat, pictures and sound
//! as late as they were, and whole.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::common::SOON;
use crate::common::netlab::NetLab;
use crate::ends::ours::Ours;
use crate::ends::{Server, Stage, now};
use crate::trace::{Delays, Trace, Us, Window, delays};
use crate::trend::Trend;
use crate::usage::Usage;

/// Two sound cards, one fast and one slow, in millionths.
const SKEWS: [&str; 2] = ["300", "-300"];

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A look comes no later than this unless the machine stands still.
const SOON_AGAIN: Duration = Duration::from_secs(2);

/// A call that broke is back by then, or is over.
const BACK_AFTER: Duration = Duration::from_secs(60);

/// Between the second tenth of the call and the last one, delays may change by so much, ms;
const LATER_MS: f64 = 15.0;

/// what is made up of the sound may be so much, %.
const CONCEALED_PERCENT: f64 = 0.1;

/// Runs the call for `length`; prints what came of it. False where something grew.
pub async fn run(
    lab: &NetLab,
    stage: &Stage,
    warmup: Duration,
    length: Duration,
    period: Duration,
) -> Result<bool> {
    let server = Server::start(&lab.left, stage).await?;
    let file = |path: &std::path::Path| format!("file:{}", path.display());
    let (clip, speech) = (file(&stage.clip), file(&stage.speech));
    let mut ends = Vec::new();
    for (host, skew) in [&lab.left, &lab.right].into_iter().zip(SKEWS) {
        let words = ["--video-source", &clip, "--audio-source", &speech, "--sound-clock", skew];
        let mut end = Ours::start_with(host, &server.url, stage, &words, None)?;
        if ends.is_empty() {
            end.state("waiting", SOON).await?;
        }
        ends.push(end);
    }
    for end in &mut ends {
        end.state("in_call", SOON).await?;
    }
    tokio::time::sleep(warmup).await;
    let begin = now();
    let mut memory = [Vec::new(), Vec::new()];
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let (mut breaks, mut stopped) = (Vec::new(), Duration::ZERO);
    let mut looked = Instant::now();
    for _ in 0..length.as_secs() / LOOK_EVERY.as_secs() {
        tick.tick().await;
        // A machine that stood still stood still for both ends, whose call then begins anew.
        stopped += looked.elapsed().saturating_sub(LOOK_EVERY + SOON_AGAIN);
        for (end, memory) in ends.iter_mut().zip(&mut memory) {
            if !end.is_in_call()? {
                let broke = now();
                end.state("in_call", BACK_AFTER).await?;
                breaks.push((broke - begin) / 1_000_000);
            }
            memory.push(Usage::of_tree(end.pid())?.pss_mib * f64::from(1 << 20));
        }
        looked = Instant::now();
    }
    let window = Window { begin, end: now() };
    let mut told = Vec::new();
    let mut traces = Vec::new();
    for end in ends {
        told.push(end.statistics()?);
        traces.push(end.end(window).await?);
    }
    let mut good = true;
    let mut say = |holds: bool, what: String| {
        println!("- {}: {what}", if holds { "holds" } else { "MISSED" });
        good &= holds;
    };
    say(
        breaks.is_empty(),
        format!(
            "broken {} times (at second {breaks:?}), the machine stood still for {:.0} s",
            breaks.len(),
            stopped.as_secs_f64()
        ),
    );
    println!("{:.0} s, sound clocks {} ppm apart", window.seconds(), 600);
    for (from, to, way) in [(0, 1, "left to right"), (1, 0, "right to left")] {
        let half = memory[to].len() / 2;
        let trend = Trend::of(&memory[to][half..]).context("too short a call")?;
        say(trend.is_flat(), format!("{way}: memory, {trend}"));
        let shown = delays(&traces[from].captured, &traces[to].shown, period);
        say_steady(&mut say, way, "captured to shown", &shown, window);
        for (name, pointer) in [
            ("sound after its picture", "/av_offset_ms"),
            ("sound in the buffer", "/audio_in/buffer_ms"),
        ] {
            say_steady(&mut say, way, name, &series(&told[to], pointer), window);
        }
        let concealed = concealed(&traces[to]);
        let holds = concealed <= CONCEALED_PERCENT;
        say(holds, format!("{way}: {concealed:.3} % of the sound made up"));
        let fps = traces[to].shown.iter().filter(|(at, _)| window.holds(*at)).count() as f64
            / window.seconds();
        say(fps > 29.0, format!("{way}: {fps:.2} pictures a second"));
    }
    Ok(good)
}

/// Compares the second tenth (the first belongs to the start) with the nearest of the last three:
/// a busy machine raises one of them, as it should, a drift all. Says every tenth.
fn say_steady(
    say: &mut impl FnMut(bool, String),
    way: &str,
    name: &str,
    values: &Delays,
    window: Window,
) {
    let tenth = (window.end - window.begin) / 10;
    let mean = |number: Us| {
        let from = window.begin + number * tenth;
        let within = values.iter().filter(|(at, _)| (from..from + tenth).contains(at));
        // Not the median: what waits of sound is a number of whole packets.
        let within: Vec<f64> = within.filter_map(|(_, value)| *value).collect();
        (!within.is_empty()).then(|| within.iter().sum::<f64>() / within.len() as f64)
    };
    let Some(means) = (0..10).map(mean).collect::<Option<Vec<f64>>>() else {
        return say(false, format!("{way}: {name} is not known"));
    };
    let grown = means[7..].iter().map(|after| after - means[1]);
    let grown = grown.min_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default();
    let tenths: Vec<String> = means.iter().map(|mean| format!("{mean:.1}")).collect();
    let tenths = tenths.join(", ");
    say(grown.abs() <= LATER_MS, format!("{way}: {name}, each tenth, ms: {tenths}"));
}

fn series(lines: &[Value], pointer: &str) -> Delays {
    let number = |line: &Value, pointer: &str| line.pointer(pointer).and_then(Value::as_f64);
    lines
        .iter()
        .filter_map(|line| {
            Some(((number(line, "/unix_ms")? * 1000.0) as Us, number(line, pointer)))
        })
        .collect()
}

fn concealed(trace: &Trace) -> f64 {
    match (trace.counters.first(), trace.counters.last()) {
        (Some(first), Some(last)) => {
            (last.concealed - first.concealed) / (last.played - first.played).max(1.0) * 100.0
        }
        _ => f64::INFINITY,
    }
}
