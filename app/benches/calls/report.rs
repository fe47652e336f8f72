//! The tables: medians over the calls, ratios to Chromium's, verdicts, and the conditions they hold under.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::common::netlab::profile::Step;
use crate::goals::{Metric, Way, verdicts};
use crate::steps::{self, Change};
use crate::trace::{Figures, median};
use crate::{Args, Measured};

const BEGIN: &str = "<!-- calls: written by the benchmark -->";
const END: &str = "<!-- calls: end -->";

/// Where and how it was measured.
pub struct Conditions {
    command: String,
    machine: String,
    chromium: String,
    date: String,
}

impl Conditions {
    pub fn of_this_machine(args: &Args) -> Result<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
            .unwrap_or_else(|| "unnamed CPU".to_owned());
        let cores = std::thread::available_parallelism()?;
        let said = |program: &str, args: &[&str]| -> Result<String> {
            let output =
                Command::new(program).args(args).output().with_context(|| program.to_owned())?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        // The first is the program's own path; where a file lies concerns nobody else.
        let words: Vec<String> = std::env::args()
            .skip(1)
            .filter(|arg| arg != "--bench")
            .map(|arg| match Path::new(&arg).file_name() {
                Some(name) if arg.starts_with('/') => name.to_string_lossy().into_owned(),
                _ => arg,
            })
            .collect();
        let clip = args.clip.as_deref().and_then(Path::file_name);
        let clip = clip.map_or("a generated clip".into(), |name| name.to_string_lossy());
        Ok(Self {
            command: format!("make bench BENCH_ARGS='{}'", words.join(" ")),
            machine: format!("{cores} cores, {model}, Linux {}; {clip}", said("uname", &["-r"])?),
            chromium: said("chromium", &["--version"])?,
            date: said("date", &["-u", "+%F %H:%M UTC"])?,
        })
    }
}

/// A line a way, for who watches the run.
pub fn lines(call: &Measured) -> impl Iterator<Item = String> {
    call.ways.iter().map(|(way, figures)| {
        let mut line = format!("{}:", way.name());
        for metric in Metric::ALL {
            let (name, digits) = metric.name();
            let _ = write!(line, " {name} {};", shown(metric.of(figures), digits));
        }
        let _ = write!(
            line,
            " {}x{}, {:.0} kbit/s, own count of freezes {}, sound later by {} ms, {}; others {:.2} cores",
            figures.width,
            figures.height,
            figures.kbps,
            shown(figures.own_freezes, 0),
            shown(figures.own_lead_ms, 0),
            figures.codec,
            call.others_cores
        );
        line
    })
}

/// Second by second.
pub fn series(call: &Measured) -> String {
    let mut text = String::new();
    for (way, figures) in &call.ways {
        let _ = writeln!(text, "  {}\n   s shown   p50 worst ms  kbit/s height", way.name());
        for (second, of) in figures.seconds.iter().enumerate() {
            let _ = writeln!(
                text,
                "{second:>4} {:>5} {:>5} {:>8} {:>7} {:>6}",
                of.shown,
                shown(of.p50_ms, 0),
                shown(of.worst_ms, 0),
                shown(of.video_kbps, 0),
                of.height.map_or_else(String::new, |height| height.to_string()),
            );
        }
    }
    text
}

/// The section for the document.
pub fn markdown(conditions: &Conditions, args: &Args, measured: &[Measured]) -> String {
    let others = measured.iter().map(|call| call.others_cores);
    let words: Vec<String> = args
        .step
        .iter()
        .map(|step| format!("at {} s {}", step.at.as_secs_f64(), step.profile.name))
        .collect();
    let mut text = format!(
        "{BEGIN}\n`{}`\n\n{}; {}; {}. Every end sends 1280x720 at 30 fps and speech. Medians over both ends of {} \
         call(s) of each kind, made in turn, {} s each after {} s. The rest of the machine used {} cores meanwhile, at most \
         {:.2}.{}{}\n\n",
        conditions.command,
        conditions.machine,
        conditions.chromium,
        conditions.date,
        args.rounds,
        args.seconds,
        args.warmup,
        shown(median(others.clone()), 2),
        others.fold(0.0, f64::max),
        if words.is_empty() { "" } else { " The network changes: " },
        words.join(", "),
    );
    text.push_str("| network | |");
    let mut rule = "|---|---|".to_owned();
    for metric in Metric::ALL {
        let _ = write!(text, " {} |", metric.name().0);
        rule.push_str("---|");
    }
    let _ = writeln!(text, " kbit/s |\n{rule}---|");
    let mut said = String::new();
    for network in &args.profiles {
        let all = |way: Way| -> Vec<&Figures> {
            let calls = measured.iter().filter(|call| call.network == *network);
            let ways = calls.flat_map(|call| &call.ways).filter(|(at, _)| *at == way);
            ways.map(|(_, figures)| figures).collect()
        };
        let of = |way: Way| middle(&all(way));
        let chromium = of(Way::Chromium);
        for way in Way::ALL {
            let Some(figures) = of(way) else { continue };
            row(&mut text, network.name, way.name(), |metric| {
                shown(metric.of(&figures), metric.name().1)
            });
            let _ = writeln!(text, " {:.0} |", figures.kbps);
            if way != Way::Chromium
                && let Some(there) = &chromium
            {
                row(&mut text, "", "beside Chromium", |metric| {
                    let ratio = metric.of(&figures).zip(metric.of(there));
                    let ratio = ratio.filter(|(_, there)| *there != 0.0);
                    ratio.map_or_else(String::new, |(here, there)| format!("{:.2}x", here / there))
                });
                let _ = writeln!(text, " {:.2}x |", figures.kbps / there.kbps);
            }
            if words.is_empty() {
                for verdict in verdicts(network.name, way, &figures, chromium.as_ref()) {
                    let word = if verdict.holds { "holds" } else { "MISSED" };
                    let _ = writeln!(said, "- {word}: {}", verdict.text);
                }
            } else {
                let changes = changes(network.rate, &args.step);
                said += &steps::report(way.name(), &all(way), &changes, way == Way::Ours);
            }
        }
    }
    let _ = writeln!(text, "\n{said}{END}");
    text
}

fn changes(mut rate: u32, steps: &[Step]) -> Vec<Change> {
    let mut steps = steps.to_vec();
    steps.sort_by_key(|step| step.at);
    let change = |step: &Step| {
        let before_kbps = std::mem::replace(&mut rate, step.profile.rate);
        Change { at: step.at, before_kbps, after_kbps: step.profile.rate }
    };
    steps.iter().map(change).collect()
}

fn row(text: &mut String, first: &str, second: &str, cell: impl Fn(Metric) -> String) {
    let _ = write!(text, "| {first} | {second} |");
    for metric in Metric::ALL {
        let _ = write!(text, " {} |", cell(metric));
    }
}

/// The median of each figure.
fn middle(figures: &[&Figures]) -> Option<Figures> {
    let newest = figures.last()?;
    let of = |pick: fn(&Figures) -> Option<f64>| median(figures.iter().filter_map(|f| pick(f)));
    let number = |pick: fn(&Figures) -> Option<f64>| of(pick).unwrap_or_default();
    Some(Figures {
        connect_ms: of(|f| f.connect_ms),
        first_frame_ms: of(|f| f.first_frame_ms),
        p50_ms: of(|f| f.p50_ms),
        p95_ms: of(|f| f.p95_ms),
        fps: number(|f| Some(f.fps)),
        width: number(|f| Some(f64::from(f.width))) as u32,
        height: number(|f| Some(f64::from(f.height))) as u32,
        freezes: number(|f| Some(f.freezes)),
        frozen_s: number(|f| Some(f.frozen_s)),
        concealed_percent: of(|f| f.concealed_percent),
        kbps: number(|f| Some(f.kbps)),
        video_kbps: number(|f| Some(f.video_kbps)),
        link_used: of(|f| f.link_used),
        ssim: of(|f| f.ssim),
        cpu_cores: number(|f| Some(f.cpu_cores)),
        pss_mib: number(|f| Some(f.pss_mib)),
        seconds: Vec::new(),
        delays: Vec::new(),
        window: newest.window,
        own_freezes: of(|f| f.own_freezes),
        own_lead_ms: of(|f| f.own_lead_ms),
        codec: newest.codec.clone(),
    })
}

/// Puts the section where it stood, or at the end.
pub fn write(path: &Path, section: &str) -> Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let new = match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{}{}", &old[..begin], section.trim_end(), &old[end + END.len()..])
        }
        _ => format!("{old}\n## Calls over emulated networks\n\n{section}"),
    };
    std::fs::write(path, new).with_context(|| path.display().to_string())
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}
