//! What an end of a call leaves behind, and what follows from two of them. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use visavis_media::pipeline::freeze::FreezeMeter;

/// Microseconds of Unix time.
pub type Us = u64;

/// Every so-manieth picture is looked at: about one in two seconds, and never the same ones of a clip.
pub const SAMPLE_EVERY: u32 = 47;

/// What one end wrote down.
#[derive(Default)]
pub struct Trace {
    /// When it captured which picture.
    pub captured: Vec<(Us, u32)>,
    /// When it showed one, and which, where that could be read.
    pub shown: Vec<(Us, Option<u32>)>,
    /// How large what it showed was, now and then.
    pub sizes: Vec<(Us, u32, u32)>,
    pub samples: Vec<Sample>,
    /// Its counters at the beginning of the measured time, each second where asked for, and at the end.
    pub counters: Vec<Counters>,
    pub connect_ms: Option<f64>,
    pub first_frame_ms: Option<f64>,
    pub cpu_cores: f64,
    pub pss_mib: f64,
    /// As the end itself counts, for comparison.
    pub own_freezes: Option<f64>,
    /// How much later than its picture sound comes, as the end itself has it, ms.
    pub own_lead_ms: Option<f64>,
    pub codec: String,
}

/// Of what is received, since the connection began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub at: Us,
    /// Payload, bytes.
    pub video: f64,
    pub audio: f64,
    /// Sound made up, and all sound, seconds.
    pub concealed: f64,
    pub played: f64,
}

/// A picture as it was shown.
pub struct Sample {
    pub at: Us,
    /// Its number.
    pub shown: u32,
    /// The numbers of the sampled pictures in whose place it stood; none: it was the last.
    pub stands_for: Vec<u32>,
    pub width: usize,
    pub height: usize,
    pub luma: Vec<u8>,
}

/// The measured time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    pub begin: Us,
    pub end: Us,
}

impl Window {
    pub fn seconds(&self) -> f64 {
        (self.end - self.begin) as f64 / 1e6
    }

    pub fn holds(&self, at: Us) -> bool {
        (self.begin..self.end).contains(&at)
    }
}

/// One way of a call, in figures.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub connect_ms: Option<f64>,
    pub first_frame_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub fps: f64,
    pub width: u32,
    pub height: u32,
    pub freezes: f64,
    pub frozen_s: f64,
    pub concealed_percent: Option<f64>,
    /// Sound and pictures, payload only.
    pub kbps: f64,
    /// Of pictures alone.
    pub video_kbps: f64,
    pub link_used: Option<f64>,
    pub ssim: Option<f64>,
    pub cpu_cores: f64,
    pub pss_mib: f64,
    pub seconds: Vec<Second>,
    pub delays: Delays,
    pub window: Window,
    pub own_freezes: Option<f64>,
    /// How much later than its picture sound comes, as the end itself has it, ms.
    pub own_lead_ms: Option<f64>,
    pub codec: String,
}

/// A second of a series.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    pub shown: u32,
    pub worst_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub video_kbps: Option<f64>,
    pub height: Option<u32>,
}

/// A shown picture's moment and its delay since capture, where its number could be read.
pub type Delays = Vec<(Us, Option<f64>)>;

/// How late each picture was shown. A clip has each number again after `period`: the newest capture before it
/// was shown is meant, and one before that was not written down if that is a whole period ago.
pub fn delays(captured: &[(Us, u32)], shown: &[(Us, Option<u32>)], period: Duration) -> Delays {
    let mut at: HashMap<u32, Vec<Us>> = HashMap::new();
    for (us, number) in captured {
        at.entry(*number).or_default().push(*us);
    }
    let delay = |us: Us, number: u32| {
        let moments = at.get(&number)?;
        let before = moments.partition_point(|moment| *moment <= us);
        let late = us - moments.get(before.checked_sub(1)?)?;
        (late < period.as_micros() as Us).then_some(late as f64 / 1000.0)
    };
    shown.iter().map(|&(us, number)| (us, number.and_then(|number| delay(us, number)))).collect()
}

/// Freezes and their sum in seconds, as the W3C counts them; one that lasts to the end counts too.
pub fn freezes(shown: &[(Us, Option<u32>)], window: Window) -> (f64, f64) {
    let mut meter = FreezeMeter::default();
    let zero = Instant::now();
    let (mut count, mut sum) = (0.0, 0.0);
    let end = (window.end, None);
    let within = |at: Us| at.clamp(window.begin, window.end);
    let mut before = window.begin;
    let first = shown.first().map_or(window.begin, |(us, _)| *us);
    let moments = shown.iter().filter(|(us, _)| *us < window.end).chain([&end]);
    for (us, _) in moments {
        let since = Duration::from_micros(us.saturating_sub(first));
        let frozen = meter.handle_shown(zero + since);
        // What of it lies within the measured time.
        if frozen.is_some() && *us > window.begin {
            count += 1.0;
            sum += (within(*us) - within(before)) as f64 / 1e6;
        }
        before = *us;
    }
    (count, sum)
}

/// What went from `sender` to `receiver`.
pub fn figures(sender: &Trace, receiver: &Trace, window: Window, period: Duration) -> Figures {
    let delays = delays(&sender.captured, &receiver.shown, period);
    let within: Delays = delays.iter().filter(|(us, _)| window.holds(*us)).copied().collect();
    let mut late: Vec<f64> = within.iter().filter_map(|(_, delay)| *delay).collect();
    late.sort_by(f64::total_cmp);
    let (freezes, frozen_s) = freezes(&receiver.shown, window);
    let mut figures = Figures {
        connect_ms: receiver.connect_ms,
        first_frame_ms: receiver.first_frame_ms,
        p50_ms: quantile(&late, 0.5),
        p95_ms: quantile(&late, 0.95),
        fps: within.len() as f64 / window.seconds(),
        freezes,
        frozen_s,
        cpu_cores: receiver.cpu_cores,
        pss_mib: receiver.pss_mib,
        seconds: seconds(&within, receiver, window),
        delays: within,
        window,
        own_freezes: receiver.own_freezes,
        own_lead_ms: receiver.own_lead_ms,
        codec: receiver.codec.clone(),
        ..Figures::default()
    };
    if let (Some(first), Some(last)) = (receiver.counters.first(), receiver.counters.last())
        && last.at > first.at
    {
        let kbps = |bytes: f64| bytes * 8e3 / (last.at - first.at) as f64;
        figures.video_kbps = kbps(last.video - first.video);
        figures.kbps = figures.video_kbps + kbps(last.audio - first.audio);
        let played = last.played - first.played;
        figures.concealed_percent =
            (played > 0.0).then(|| (last.concealed - first.concealed) / played * 100.0);
    }
    (figures.width, figures.height) = usual_size(&receiver.sizes, window);
    figures
}

/// The size seen most often.
fn usual_size(sizes: &[(Us, u32, u32)], window: Window) -> (u32, u32) {
    let mut seen: HashMap<(u32, u32), usize> = HashMap::new();
    for (_, width, height) in sizes.iter().filter(|(at, ..)| window.holds(*at)) {
        *seen.entry((*width, *height)).or_default() += 1;
    }
    seen.into_iter().max_by_key(|(size, count)| (*count, *size)).map_or((0, 0), |(size, _)| size)
}

fn seconds(delays: &Delays, receiver: &Trace, window: Window) -> Vec<Second> {
    let counters = &receiver.counters;
    let mut seconds = Vec::new();
    let mut begin = window.begin;
    while begin < window.end {
        let this = Window { begin, end: begin + 1_000_000 };
        let shown: Vec<_> = delays.iter().filter(|(us, _)| this.holds(*us)).collect();
        let mut late: Vec<f64> = shown.iter().filter_map(|(_, delay)| *delay).collect();
        late.sort_by(f64::total_cmp);
        let middle = begin + 500_000;
        let pair = counters.windows(2).find(|pair| pair[0].at <= middle && middle < pair[1].at);
        seconds.push(Second {
            shown: shown.len() as u32,
            p50_ms: quantile(&late, 0.5),
            worst_ms: late.last().copied(),
            // Too wide apart they say nothing about this second.
            video_kbps: pair.filter(|pair| pair[1].at - pair[0].at < 2_500_000).map(|pair| {
                (pair[1].video - pair[0].video) * 8e3 / (pair[1].at - pair[0].at) as f64
            }),
            height: Some(usual_size(&receiver.sizes, this).1).filter(|height| *height > 0),
        });
        begin = this.end;
    }
    seconds
}

/// Of sorted values.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied()
}

pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}
