//! What a call of ours must do on each network, beside Chromium's in the same run: one table, and the
//! verdicts that follow from it.

use crate::trace::Figures;

/// A figure of a call, better when `better` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    Connect,
    FirstFrame,
    P50,
    P95,
    Rate,
    Size,
    Freezes,
    Frozen,
    Concealed,
    LinkUsed,
    Ssim,
    Cpu,
    Memory,
}

impl Metric {
    pub const ALL: [Self; 13] = [
        Self::Connect,
        Self::FirstFrame,
        Self::P50,
        Self::P95,
        Self::Rate,
        Self::Size,
        Self::Freezes,
        Self::Frozen,
        Self::Concealed,
        Self::LinkUsed,
        Self::Ssim,
        Self::Cpu,
        Self::Memory,
    ];

    pub fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Connect => figures.connect_ms,
            Self::FirstFrame => figures.first_frame_ms,
            Self::P50 => figures.p50_ms,
            Self::P95 => figures.p95_ms,
            Self::Rate => Some(figures.fps),
            Self::Size => Some(f64::from(figures.height)),
            Self::Freezes => Some(figures.freezes),
            Self::Frozen => Some(figures.frozen_s),
            Self::Concealed => figures.concealed_percent,
            Self::LinkUsed => figures.link_used,
            Self::Ssim => figures.ssim,
            Self::Cpu => Some(figures.cpu_cores),
            Self::Memory => Some(figures.pss_mib),
        }
    }

    /// What a person calls it, and its decimals.
    pub fn name(self) -> (&'static str, usize) {
        match self {
            Self::Connect => ("connect, ms", 0),
            Self::FirstFrame => ("first picture, ms", 0),
            Self::P50 => ("captured to shown p50, ms", 0),
            Self::P95 => ("p95, ms", 0),
            Self::Rate => ("pictures a second", 1),
            Self::Size => ("height", 0),
            Self::Freezes => ("freezes", 1),
            Self::Frozen => ("frozen, s", 2),
            Self::Concealed => ("concealed, %", 2),
            Self::LinkUsed => ("link used, %", 0),
            Self::Ssim => ("SSIM", 3),
            Self::Cpu => ("CPU, cores", 3),
            Self::Memory => ("PSS, MiB", 0),
        }
    }
}

/// How far a figure may go.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// Of Chromium's figure.
    AtMostTimes(f64),
    /// Of Chromium's figure, less the second.
    AtLeastTimes(f64, f64),
    /// Chromium's figure and this much more.
    NoMoreThan(f64),
}

impl Limit {
    /// The figure itself, given Chromium's.
    fn value(self, there: Option<f64>) -> Option<(bool, f64)> {
        Some(match self {
            Self::AtMost(value) => (true, value),
            Self::AtLeast(value) => (false, value),
            Self::AtMostTimes(factor) => (true, there? * factor),
            Self::AtLeastTimes(factor, less) => (false, there? * factor - less),
            Self::NoMoreThan(more) => (true, there? + more),
        })
    }
}

use Limit::{AtLeast, AtLeastTimes, AtMost, AtMostTimes, NoMoreThan};

/// Between our own ends, by network.
const OURS: &[(&str, Metric, Limit)] = &[
    ("lan", Metric::Connect, AtMostTimes(0.5)),
    ("lan", Metric::FirstFrame, AtMostTimes(0.5)),
    ("lan", Metric::P50, AtMostTimes(0.5)),
    ("lan", Metric::P95, AtMostTimes(0.6)),
    ("lan", Metric::Cpu, AtMostTimes(0.35)),
    ("lan", Metric::Memory, AtMostTimes(0.25)),
    ("wifi", Metric::P50, AtMostTimes(0.5)),
    ("lte", Metric::P50, AtMostTimes(0.5)),
    ("lte", Metric::Freezes, AtMost(0.0)),
    ("jittery", Metric::P50, AtMostTimes(0.5)),
    ("jittery", Metric::Freezes, NoMoreThan(0.0)),
    ("jittery", Metric::Concealed, AtMost(1.0)),
    ("lossy5", Metric::P50, AtMostTimes(0.7)),
    ("lossy5", Metric::Freezes, AtMostTimes(0.25)),
    ("lossy5", Metric::Frozen, AtMostTimes(0.25)),
    ("lossy5", Metric::Concealed, AtMost(1.0)),
    ("lossy10", Metric::Freezes, AtMostTimes(1.0 / 3.0)),
    ("lossy10", Metric::Frozen, AtMostTimes(1.0 / 3.0)),
    ("lossy10", Metric::Concealed, AtMost(2.0)),
    ("narrow500", Metric::LinkUsed, AtLeast(80.0)),
    ("narrow500", Metric::P95, AtMostTimes(1.0)),
    ("narrow500", Metric::Freezes, AtMost(0.0)),
    ("narrow500", Metric::Concealed, AtMost(0.5)),
    ("narrow200", Metric::LinkUsed, AtLeast(70.0)),
    ("narrow200", Metric::P95, AtMostTimes(1.0)),
    ("narrow200", Metric::Freezes, AtMost(0.0)),
    ("3g", Metric::P50, AtMostTimes(0.6)),
    ("3g", Metric::Freezes, AtMost(0.0)),
    ("3g", Metric::LinkUsed, AtLeastTimes(1.0, 0.0)),
    ("satellite", Metric::Frozen, AtMostTimes(0.1)),
];

/// Between our own ends, everywhere. What is measured in a few calls is never quite the same twice: the
/// last figures are that much.
const EVERYWHERE: &[(Metric, Limit)] = &[
    (Metric::Rate, AtLeastTimes(1.0, 1.0)),
    (Metric::Size, AtLeastTimes(1.0, 0.0)),
    (Metric::Concealed, NoMoreThan(0.05)),
    (Metric::Ssim, AtLeastTimes(1.0, 0.002)),
];

/// With one end ours, each way, on these networks: no worse than Chromium with itself, within a tenth.
const MIXED: &[(Metric, Limit)] = &[
    (Metric::P50, AtMostTimes(1.1)),
    (Metric::P95, AtMostTimes(1.1)),
    (Metric::Rate, AtLeastTimes(1.0, 1.0)),
    (Metric::Size, AtLeastTimes(1.0, 0.0)),
    (Metric::Freezes, NoMoreThan(1.0)),
    (Metric::Concealed, NoMoreThan(0.5)),
    (Metric::Ssim, AtLeastTimes(1.0, 0.005)),
];
const MIXED_NETWORKS: &[&str] = &["lan", "lossy5", "narrow500"];

/// What a window, with its preview and drawn by software, may cost.
const WINDOW: &[(Metric, Limit)] =
    &[(Metric::Cpu, AtMostTimes(1.0)), (Metric::Memory, AtMostTimes(0.4))];

/// Whose figures are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Way {
    Chromium,
    Ours,
    ToChromium,
    FromChromium,
    ToWindow,
}

impl Way {
    pub const ALL: [Self; 5] =
        [Self::Chromium, Self::Ours, Self::ToChromium, Self::FromChromium, Self::ToWindow];

    pub fn name(self) -> &'static str {
        match self {
            Self::Chromium => "Chromium to Chromium",
            Self::Ours => "Visavis to Visavis",
            Self::ToChromium => "Visavis to Chromium",
            Self::FromChromium => "Chromium to Visavis",
            Self::ToWindow => "Visavis to its window",
        }
    }
}

/// One goal: whether it holds, and the sentence.
pub struct Verdict {
    pub holds: bool,
    pub text: String,
}

/// What `figures` owe to the table, given Chromium's own on the same network.
pub fn verdicts(
    network: &str,
    way: Way,
    figures: &Figures,
    chromium: Option<&Figures>,
) -> Vec<Verdict> {
    let everywhere = |goals: &[(Metric, Limit)]| goals.to_vec();
    let goals: Vec<(Metric, Limit)> = match way {
        Way::Chromium => Vec::new(),
        Way::Ours => {
            let own = OURS.iter().filter(|(on, ..)| *on == network);
            own.map(|(_, metric, limit)| (*metric, *limit)).chain(everywhere(EVERYWHERE)).collect()
        }
        Way::ToChromium if network == "lan" => {
            let mut goals = everywhere(MIXED);
            // Told to show at once, a tab does.
            goals.push((Metric::P50, AtMostTimes(0.5)));
            goals
        }
        Way::ToChromium | Way::FromChromium if MIXED_NETWORKS.contains(&network) => {
            everywhere(MIXED)
        }
        Way::ToChromium | Way::FromChromium => Vec::new(),
        Way::ToWindow => everywhere(WINDOW),
    };
    goals
        .into_iter()
        .filter_map(|(metric, limit)| {
            let there = chromium.and_then(|figures| metric.of(figures));
            let (at_most, value) = limit.value(there)?;
            let (name, digits) = metric.name();
            let bound = if at_most { "at most" } else { "at least" };
            let wanted = format!("{bound} {value:.*}", digits.max(1));
            let Some(here) = metric.of(figures) else {
                let text = format!("{network}, {}: {name} unknown, {wanted}", way.name());
                return Some(Verdict { holds: false, text });
            };
            let holds = if at_most { here <= value } else { here >= value };
            let text =
                format!("{network}, {}: {name} {here:.*}, {wanted}", way.name(), digits.max(1));
            Some(Verdict { holds, text })
        })
        .collect()
}
