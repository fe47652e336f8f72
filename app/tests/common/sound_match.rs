//! How well a recording matches what was played: each second of it is laid over the source
//! at the lag where the two are most alike. Pure arithmetic.

/// Samples a second, of both.
pub const RATE: usize = 48_000;

/// What is compared at a time.
const WINDOW: usize = RATE;

/// The lag of a window is looked for so far around the lag before: 100 ms.
const REACH: usize = RATE / 10;

/// Thinned out for following a known lag: 3 kHz hold a voice's pitch and first formant.
const FOLLOW: usize = 16;

/// Thinned out further for finding a lag anywhere in the source: 1.5 kHz.
const SEARCH: usize = 32;

/// Below this the lag is taken to be lost, and looked for everywhere.
const LOST: f64 = 0.5;

/// Quieter than -60 dBFS is taken for silence, in which nothing can be compared.
const SILENT: f64 = 0.001;

/// The recording begins and ends with the first and last 20 ms that are not silent.
const BLOCK: usize = RATE / 50;

/// One second of the recording.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Where it begins, seconds into the recording.
    pub at: f64,
    /// How much later it was heard than it is in the source, up to a constant.
    pub lag_ms: f64,
    /// Normalised cross-correlation at that lag; 1 is the same.
    pub correlation: f64,
}

/// How the whole recording compares.
#[derive(Clone, Debug, Default)]
pub struct Likeness {
    /// Compared windows.
    pub windows: Vec<Window>,
    /// Windows left out because the source is silent in them.
    pub silent: usize,
}

impl Likeness {
    /// The median of the correlations.
    pub fn median(&self) -> f64 {
        median(self.windows.iter().map(|window| window.correlation))
    }

    /// The share of windows with a correlation above `threshold`.
    pub fn share_above(&self, threshold: f64) -> f64 {
        let above = self.windows.iter().filter(|window| window.correlation > threshold);
        above.count() as f64 / self.windows.len().max(1) as f64
    }

    /// Between the median lags of the first and the last fifth.
    pub fn drift_ms(&self) -> f64 {
        let fifth = self.windows.len().div_ceil(5);
        let lags = |windows: &[Window]| median(windows.iter().map(|window| window.lag_ms));
        let (first, last) = (fifth, self.windows.len() - fifth);
        lags(&self.windows[last..]) - lags(&self.windows[..first])
    }

    /// Between the smallest and the largest lag.
    pub fn spread_ms(&self) -> f64 {
        let lags = self.windows.iter().map(|window| window.lag_ms);
        let (low, high) =
            lags.fold((f64::MAX, f64::MIN), |(low, high), lag| (low.min(lag), high.max(lag)));
        (high - low).max(0.0)
    }
}

impl std::fmt::Display for Likeness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} windows ({} silent): median {:.3}, {:.1} % above 0.7, drift {:.1} ms, spread {:.1} ms",
            self.windows.len(),
            self.silent,
            self.median(),
            100.0 * self.share_above(0.7),
            self.drift_ms(),
            self.spread_ms()
        )
    }
}

/// Compares what was heard with a source that was played over and over. Silence before the
/// first sound and after the last is no part of the recording.
pub fn compare(source: &[f32], heard: &[f32]) -> Likeness {
    let mut likeness = Likeness::default();
    let Some(heard_span) = audible(heard) else {
        return likeness;
    };
    if source.is_empty() {
        return likeness;
    }
    let matcher = Matcher::new(source, heard);
    let mut lag = None;
    let mut start = heard_span.start.next_multiple_of(SEARCH);
    while start + WINDOW <= heard_span.end {
        let found = matcher.window(start, lag);
        if rms(&matcher.source[found.at..found.at + WINDOW]) < SILENT {
            likeness.silent += 1;
        } else {
            let total = matcher.unwrapped(start, found.at, lag);
            if found.correlation >= LOST || lag.is_none() {
                lag = Some(total);
            }
            likeness.windows.push(Window {
                at: start as f64 / RATE as f64,
                lag_ms: total as f64 * 1000.0 / RATE as f64,
                correlation: found.correlation,
            });
        }
        start += WINDOW;
    }
    likeness
}

struct Matcher<'a> {
    /// The source, repeated far enough that every window is one slice.
    source: Vec<f32>,
    period: usize,
    heard: &'a [f32],
    follow: (Thin, Thin),
    search: (Thin, Thin),
}

/// A place in the source.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    correlation: f64,
}

impl<'a> Matcher<'a> {
    fn new(source: &[f32], heard: &'a [f32]) -> Self {
        let period = source.len();
        let length = period + WINDOW + 4 * REACH;
        let source: Vec<f32> = source.iter().copied().cycle().take(length).collect();
        let thin = |factor| (Thin::new(&source, factor), Thin::new(heard, factor));
        Self { follow: thin(FOLLOW), search: thin(SEARCH), source, period, heard }
    }

    /// Where in the source the window of the recording at `start` is; near `lag`, if known.
    fn window(&self, start: usize, lag: Option<i64>) -> Place {
        let near = lag.map(|lag| {
            let expected = (start as i64 - lag).rem_euclid(self.period as i64) as usize;
            // Not so close to the beginning that there is nothing before it.
            let expected = if expected < 2 * REACH { expected + self.period } else { expected };
            self.refined(&self.follow, start, expected - REACH, expected + REACH)
        });
        match near {
            Some(near) if near.correlation >= LOST => near,
            _ => {
                let anywhere = self.refined(&self.search, start, 0, self.period);
                match near {
                    // A stranger's likeness must be clearly better.
                    Some(near) if anywhere.correlation < near.correlation.max(LOST) => near,
                    _ => anywhere,
                }
            }
        }
    }

    /// First among the thinned places from `low` to `high`, then sample by sample.
    fn refined(&self, thin: &(Thin, Thin), start: usize, low: usize, high: usize) -> Place {
        let factor = thin.0.factor;
        let heard = thin.1.window(start);
        let coarse =
            best(low / factor..=high / factor, |at| alike(thin.0.window(at * factor), heard));
        let heard = &self.heard[start..start + WINDOW];
        let exact = |at: usize| {
            let source = self.source.get(at..at + WINDOW);
            source.map_or(-1.0, |source| alike(source, heard))
        };
        let middle = coarse.at * factor;
        let mut place = Place { at: middle, correlation: exact(middle) };
        for step in [factor / 2, factor / 4, factor / 8, 2, 1] {
            let step = step.max(1);
            for _ in 0..2 {
                for at in [place.at.saturating_sub(step), place.at + step] {
                    let correlation = exact(at);
                    if correlation > place.correlation {
                        place = Place { at, correlation };
                    }
                }
            }
        }
        place
    }

    /// The lag in samples, with the repetition of the source that is nearest to `near`.
    fn unwrapped(&self, start: usize, at: usize, near: Option<i64>) -> i64 {
        let lag = start as i64 - at as i64;
        let period = self.period as i64;
        let near = near.unwrap_or(lag);
        lag + ((near - lag) as f64 / period as f64).round() as i64 * period
    }
}

/// A signal at a lower rate.
struct Thin {
    factor: usize,
    samples: Vec<f32>,
}

impl Thin {
    /// Keeps each `factor`th sample of the signal without what is too high for that rate.
    fn new(signal: &[f32], factor: usize) -> Self {
        let reach = 4 * factor;
        let taps: Vec<f32> = (0..=2 * reach)
            .map(|tap| {
                let x = (tap as f64 - reach as f64) / factor as f64 * 0.8;
                let sinc = match x {
                    0.0 => 1.0,
                    _ => (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x),
                };
                let hann =
                    0.5 + 0.5 * (std::f64::consts::PI * (tap as f64 / reach as f64 - 1.0)).cos();
                (sinc * hann) as f32
            })
            .collect();
        let samples = (0..signal.len() / factor)
            .map(|at| {
                let middle = at * factor;
                let from = middle.saturating_sub(reach);
                let part = &signal[from..signal.len().min(middle + reach + 1)];
                dot(part, &taps[from + reach - middle..])
            })
            .collect();
        Self { factor, samples }
    }

    /// The second that begins at sample `start` of the full signal, or what there is of it.
    fn window(&self, start: usize) -> &[f32] {
        let from = (start / self.factor).min(self.samples.len());
        let until = (from + WINDOW / self.factor).min(self.samples.len());
        &self.samples[from..until]
    }
}

fn best(places: impl Iterator<Item = usize>, likeness: impl Fn(usize) -> f64) -> Place {
    let nowhere = Place { at: 0, correlation: -1.0 };
    places.fold(nowhere, |best, at| {
        let correlation = likeness(at);
        if correlation > best.correlation { Place { at, correlation } } else { best }
    })
}

/// Normalised correlation; 0 where one of them is silence or shorter.
fn alike(one: &[f32], other: &[f32]) -> f64 {
    if one.len() != other.len() {
        return 0.0;
    }
    let energy = f64::from(dot(one, one)) * f64::from(dot(other, other));
    if energy <= 0.0 {
        return 0.0;
    }
    f64::from(dot(one, other)) / energy.sqrt()
}

// A plain loop: tests are built without optimisation, and iterators cost ten times as much there.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sum = [0.0_f32; 4];
    let (one, rest) = one[..one.len().min(other.len())].as_chunks::<4>();
    let (other, other_rest) = other[..4 * one.len() + rest.len()].as_chunks::<4>();
    let mut at = 0;
    while at < one.len() {
        let (a, b) = (&one[at], &other[at]);
        sum[0] += a[0] * b[0];
        sum[1] += a[1] * b[1];
        sum[2] += a[2] * b[2];
        sum[3] += a[3] * b[3];
        at += 1;
    }
    for (a, b) in rest.iter().zip(other_rest) {
        sum[0] += a * b;
    }
    sum[0] + sum[1] + sum[2] + sum[3]
}

fn rms(samples: &[f32]) -> f64 {
    (f64::from(dot(samples, samples)) / samples.len().max(1) as f64).sqrt()
}

/// From the first to the last block that is not silent.
fn audible(samples: &[f32]) -> Option<std::ops::Range<usize>> {
    let mut blocks = samples.chunks(BLOCK).enumerate();
    let (first, _) = blocks.find(|(_, block)| rms(block) >= SILENT)?;
    let last = blocks.rfind(|(_, block)| rms(block) >= SILENT).map_or(first, |(at, _)| at);
    Some(first * BLOCK..((last + 1) * BLOCK).min(samples.len()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
