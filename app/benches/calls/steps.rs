//! How soon a call follows a network that changes under it. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use crate::trace::{Delays, Figures, Us, Window, median};

/// A change of the bottleneck; 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Since the beginning of the measured time.
    pub at: Duration,
    pub before_kbps: u32,
    pub after_kbps: u32,
}

impl Change {
    fn is_drop(&self) -> bool {
        self.after_kbps > 0 && (self.before_kbps == 0 || self.after_kbps < self.before_kbps)
    }
}

/// Below these the call has followed, and so soon it is to be: after a drop and after a rise.
const DROP: (f64, f64) = (250.0, 2.0);
const RISE: (f64, f64) = (60.0, 3.0);
/// After a rise to such a rate, kbit/s, in such a time.
const RATE: (f64, f64) = (1500.0, 8.0);
const FROZEN_S: f64 = 0.7;
const CONCEALED_PERCENT: f64 = 0.5;

/// Seconds until delays stay below `limit_ms` for a second with pictures in it; none: they never do.
pub fn settled(delays: &Delays, span: Window, limit_ms: f64) -> Option<f64> {
    const LASTS: Us = 1_000_000;
    let within = delays.iter().filter(|(us, _)| span.holds(*us));
    let mut since = None;
    for (us, delay) in within {
        let Some(delay) = delay else { continue };
        if *delay > limit_ms {
            since = None;
            continue;
        }
        let begin = *since.get_or_insert(*us);
        if us - begin >= LASTS {
            return Some((begin - span.begin) as f64 / 1e6);
        }
    }
    None
}

/// Seconds until the pictures' rate is first so high.
fn reached(figures: &Figures, change: &Change) -> Option<f64> {
    let after = change.at.as_secs_f64();
    let seconds = figures.seconds.iter().enumerate();
    seconds
        .map(|(second, of)| (second as f64 + 1.0 - after, of.video_kbps))
        .find(|(at, kbps)| *at > 0.0 && kbps.is_some_and(|kbps| kbps >= RATE.0))
        .map(|(at, _)| at)
}

/// Lines on each change, and on the whole, of all calls of one kind.
pub fn report(name: &str, calls: &[&Figures], changes: &[Change], judged: bool) -> String {
    let mut text = String::new();
    let mut say = |holds: bool, what: String| {
        let word = match (judged, holds) {
            (false, _) => "measured",
            (true, true) => "holds",
            (true, false) => "MISSED",
        };
        let _ = writeln!(text, "- {word}: {name}, {what}");
    };
    // What never happens is worse than any time.
    let middle = |value: &dyn Fn(&Figures) -> Option<f64>| {
        let values = calls.iter().map(|figures| value(figures).unwrap_or(f64::INFINITY));
        median(values).unwrap_or(f64::INFINITY)
    };
    let frozen = middle(&|figures| Some(figures.frozen_s));
    say(frozen <= FROZEN_S, format!("frozen for {frozen:.2} s, at most {FROZEN_S}"));
    let concealed = middle(&|figures| figures.concealed_percent);
    let wanted = format!("{concealed:.2} % concealed, under {CONCEALED_PERCENT}");
    say(concealed < CONCEALED_PERCENT, wanted);
    for (index, change) in changes.iter().enumerate() {
        let until = changes.get(index + 1).map(|next| next.at);
        let (limit, time) = if change.is_drop() { DROP } else { RISE };
        let span = |figures: &Figures| Window {
            begin: figures.window.begin + change.at.as_micros() as Us,
            end: until.map_or(figures.window.end, |at| figures.window.begin + at.as_micros() as Us),
        };
        let at = change.at.as_secs_f64();
        let settled = middle(&|figures| settled(&figures.delays, span(figures), limit));
        let what = if change.is_drop() { "drop" } else { "rise" };
        say(
            settled <= time,
            format!("below {limit} ms {settled:.1} s after the {what} at {at} s, at most {time}"),
        );
        if !change.is_drop() {
            let reached = middle(&|figures| reached(figures, change));
            let (kbps, time) = RATE;
            say(
                reached <= time,
                format!("{kbps} kbit/s {reached:.0} s after the rise at {at} s, at most {time}"),
            );
        }
    }
    text
}
