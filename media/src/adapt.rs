//! What to encode for the rate there is: size, frame rate, bitrate.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// What the source delivers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// Pixels, at least 1.
    pub width: u32,
    /// Pixels, at least 1.
    pub height: u32,
    /// Frames a second.
    pub fps: f64,
}

/// What the encoder should do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Pixels, even, at most the source's rounded down to even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frames a second, at most the source's.
    pub fps: f64,
    /// For the encoder: the target without the audio's share.
    pub bitrate: Bitrate,
}

/// A size, by the shorter side, and the video rate it takes.
struct Rung {
    short_side: u32,
    from: Bitrate,
}

/// Below its rate a size looks worse than the next smaller one; its key frames also hold up
/// everything else (measured: 720p takes 30 kB for one, 360p 7 kB).
const LADDER: [Rung; 4] = [
    Rung { short_side: 720, from: Bitrate::from_kbps(900) },
    Rung { short_side: 540, from: Bitrate::from_kbps(600) },
    Rung { short_side: 360, from: Bitrate::from_kbps(250) },
    Rung { short_side: 180, from: Bitrate::ZERO },
];

/// A larger size needs so much more than its rate, for so long; each change costs a key frame.
const UP_MARGIN: f64 = 1.15;
const UP_AFTER: Duration = Duration::from_secs(2);

/// A smaller size comes at once, but only below this share of the rate.
const DOWN_MARGIN: f64 = 0.95;

/// A very low rate is better spent on fewer frames.
const FEW_FRAMES_BELOW: Bitrate = Bitrate::from_kbps(100);
const FEW_FRAMES: f64 = 15.0;
const MOST_FRAMES: f64 = 30.0;

/// Share of the time between frames that encoding may take before the size goes down,
const BUSY: f64 = 0.7;

/// and how long it then stays down. Weight of a new measurement of the encoder.
const BUSY_FOR: Duration = Duration::from_secs(20);
const ENCODE_WEIGHT: f64 = 0.05;

/// Longer is no encoding but a thread that was not let run: a single half second, taken as it
/// is, would cost 20 s of smaller pictures.
const OUTLIER: Duration = Duration::from_millis(66);

/// The encoder's smoothed time has to settle after a change of size before it counts again.
const SETTLE: Duration = Duration::from_secs(2);

/// Never tell the encoder less than this: audio goes first, but a picture remains.
const LEAST_VIDEO: Bitrate = Bitrate::from_kbps(30);

/// Chooses sizes with hysteresis.
#[derive(Clone, Debug)]
pub struct Adapter {
    audio: Bitrate,
    rung: Option<usize>,
    wants_up_since: Option<Instant>,
    few_frames: bool,
    encode_seconds: Option<f64>,
    /// No larger size than this rung until then: the machine is too slow.
    ceiling: Option<(usize, Instant)>,
    changed_at: Option<Instant>,
}

impl Adapter {
    /// `audio` is what sound takes of the target, headers included.
    pub fn new(audio: Bitrate) -> Self {
        Self {
            audio,
            rung: None,
            wants_up_since: None,
            few_frames: false,
            encode_seconds: None,
            ceiling: None,
            changed_at: None,
        }
    }

    /// One frame took this long to encode.
    pub fn handle_encode_time(&mut self, took: Duration) {
        let new = took.min(OUTLIER).as_secs_f64();
        self.encode_seconds =
            Some(self.encode_seconds.map_or(new, |old| old + ENCODE_WEIGHT * (new - old)));
    }

    /// What to encode now, for a target that includes audio.
    pub fn decide(&mut self, now: Instant, target: Bitrate, source: Source) -> Decision {
        let bitrate = target.saturating_sub(self.audio).max(LEAST_VIDEO);
        let fps = self.frame_rate(bitrate, source.fps);
        self.watch_encoder(now, fps);
        let rung = self.choose(now, bitrate);
        if self.rung != Some(rung) {
            self.rung = Some(rung);
            self.wants_up_since = None;
            self.changed_at = Some(now);
            self.encode_seconds = None;
        }
        let short_side = LADDER.get(rung).map_or(180, |rung| rung.short_side);
        let (width, height) = fit(source.width, source.height, short_side);
        Decision { width, height, fps, bitrate }
    }

    fn choose(&mut self, now: Instant, bitrate: Bitrate) -> usize {
        let ceiling = self.ceiling.filter(|(_, until)| now < *until).map_or(0, |(rung, _)| rung);
        let fitting = |margin: f64| {
            let at = LADDER.iter().position(|rung| bitrate >= rung.from.scaled(margin));
            at.unwrap_or(LADDER.len() - 1).max(ceiling)
        };
        let Some(current) = self.rung else {
            return fitting(1.0);
        };
        let lower = fitting(DOWN_MARGIN);
        if lower > current {
            return lower;
        }
        let upper = fitting(UP_MARGIN);
        if upper >= current {
            self.wants_up_since = None;
            return current;
        }
        let since = *self.wants_up_since.get_or_insert(now);
        if now < since + UP_AFTER { current } else { upper }
    }

    fn watch_encoder(&mut self, now: Instant, fps: f64) {
        let settled = self.changed_at.is_some_and(|at| now >= at + SETTLE);
        let (Some(rung), Some(took), true) = (self.rung, self.encode_seconds, settled) else {
            return;
        };
        if took * fps > BUSY && rung + 1 < LADDER.len() {
            self.ceiling = Some((rung + 1, now + BUSY_FOR));
        }
    }

    fn frame_rate(&mut self, bitrate: Bitrate, source: f64) -> f64 {
        let limit = FEW_FRAMES_BELOW.scaled(if self.few_frames { 1.3 } else { 1.0 });
        self.few_frames = bitrate < limit;
        let most = if self.few_frames { FEW_FRAMES } else { MOST_FRAMES };
        if source.is_finite() { source.clamp(1.0, most) } else { most }
    }
}

/// The largest even size of the source's shape whose shorter side is at most `short_side`.
fn fit(width: u32, height: u32, short_side: u32) -> (u32, u32) {
    let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let shorter = width.min(height);
    let scaled = |side: u64| {
        let side = if shorter > u64::from(short_side) {
            // Rounded to the nearest even number.
            (side * u64::from(short_side) + shorter) / (2 * shorter) * 2
        } else {
            side & !1
        };
        u32::try_from(side.max(2)).unwrap_or(u32::MAX - 1)
    };
    (scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: Source = Source { width: 1280, height: 720, fps: 30.0 };

    fn adapter() -> (Adapter, Instant) {
        (Adapter::new(Bitrate::from_kbps(50)), Instant::now())
    }

    fn height_at(kbps: u64) -> u32 {
        let (mut adapter, now) = adapter();
        adapter.decide(now, Bitrate::from_kbps(kbps + 50), CAMERA).height
    }

    #[test]
    fn each_rate_has_its_size() {
        let heights = [900, 899, 600, 599, 250, 249, 0].map(height_at);
        assert_eq!(heights, [720, 540, 540, 360, 360, 180, 180]);
    }

    #[test]
    fn audio_comes_out_of_the_target_first() {
        let (mut adapter, now) = adapter();
        let decision = adapter.decide(now, Bitrate::from_kbps(1050), CAMERA);
        assert_eq!(decision.bitrate, Bitrate::from_kbps(1000));
        let decision = adapter.decide(now, Bitrate::from_kbps(40), CAMERA);
        assert_eq!((decision.bitrate, decision.fps), (LEAST_VIDEO, 15.0));
    }

    #[test]
    fn a_single_stall_of_the_machine_is_no_slow_encoder() {
        let (mut adapter, mut now) = adapter();
        let mut height = |encode_ms: &[u64]| {
            let mut last = 0;
            for ms in encode_ms {
                adapter.handle_encode_time(Duration::from_millis(*ms));
                now += Duration::from_millis(33);
                last = adapter.decide(now, Bitrate::from_kbps(3000), CAMERA).height;
            }
            last
        };
        assert_eq!(height(&[6; 90]), 720);
        assert_eq!(height(&[700, 6, 6, 400, 6, 6]), 720);
        assert_eq!(height(&[30; 60]), 540, "slow all the time");
    }

    #[test]
    fn down_at_once_and_up_only_for_a_lasting_rise() {
        let (mut adapter, mut now) = adapter();
        let mut height = |kbps: u64, after_ms: u64| {
            now += Duration::from_millis(after_ms);
            adapter.decide(now, Bitrate::from_kbps(kbps + 50), CAMERA).height
        };
        assert_eq!(height(1000, 0), 720);
        assert_eq!(height(870, 33), 720, "just below is within the margin");
        assert_eq!(height(400, 33), 360);
        assert_eq!(height(2000, 33), 360);
        assert_eq!(height(400, 1900), 360, "a short rise is forgotten");
        assert_eq!(height(2000, 33), 360);
        assert_eq!(height(2000, 1999), 360);
        assert_eq!(height(2000, 1), 720, "and goes all the way");
    }

    #[test]
    fn a_rate_that_sways_around_a_threshold_changes_nothing() {
        let (mut adapter, mut now) = adapter();
        let mut changes = 0;
        let mut last = 720;
        for i in 0..3000u64 {
            now += Duration::from_millis(33);
            let kbps = 950 + if i / 100 % 2 == 0 { 70 } else { 0 } - 80 * (i / 37 % 2);
            let height = adapter.decide(now, Bitrate::from_kbps(kbps + 50), CAMERA).height;
            changes += u32::from(height != last);
            last = height;
        }
        assert_eq!(changes, 0);
    }

    #[test]
    fn a_slow_machine_gets_smaller_pictures_for_a_while() {
        let (mut adapter, mut now) = adapter();
        let mut heights = Vec::new();
        for _ in 0..30 * 60 {
            let decision = adapter.decide(now, Bitrate::from_kbps(2500), CAMERA);
            let pixels = decision.width * decision.height;
            adapter.handle_encode_time(Duration::from_nanos(u64::from(pixels) * 40));
            heights.push(decision.height);
            now += Duration::from_millis(33);
        }
        let large = heights.iter().filter(|height| **height == 720).count();
        assert!(heights[..30].iter().all(|height| *height == 720));
        assert!(large < heights.len() / 4, "{large} of {}", heights.len());
        assert!(heights.iter().all(|height| *height >= 540));
    }

    #[test]
    fn the_shape_stays_and_nothing_grows() {
        assert_eq!(fit(1280, 720, 540), (960, 540));
        assert_eq!(fit(1920, 1080, 720), (1280, 720));
        assert_eq!(fit(720, 1280, 360), (360, 640));
        assert_eq!(fit(640, 480, 720), (640, 480));
        assert_eq!(fit(641, 361, 360), (640, 360));
        assert_eq!(fit(1366, 768, 180), (320, 180));
        assert_eq!(fit(1, 1, 180), (2, 2));
        assert_eq!(fit(0, 5000, 180), (2, 5000));
        for (width, height) in [(u32::MAX, 1), (u32::MAX, u32::MAX), (1023, 767), (3, 9999)] {
            for rung in &LADDER {
                let (w, h) = fit(width, height, rung.short_side);
                assert!(w % 2 == 0 && h % 2 == 0 && w >= 2 && h >= 2);
            }
        }
    }

    #[test]
    fn few_frames_for_a_very_low_rate_and_never_more_than_the_source_has() {
        let (mut adapter, now) = adapter();
        let mut fps = |kbps: u64, fps: f64| {
            adapter.decide(now, Bitrate::from_kbps(kbps + 50), Source { fps, ..CAMERA }).fps
        };
        assert_eq!(fps(500, 60.0), 30.0);
        assert_eq!(fps(500, 24.0), 24.0);
        assert_eq!(fps(90, 30.0), 15.0);
        assert_eq!(fps(120, 30.0), 15.0);
        assert_eq!(fps(140, 30.0), 30.0);
        assert_eq!(fps(140, f64::NAN), 30.0);
    }
}
