//! What to encode for the rate there is: size, frame rate, bitrate, quantiser floor; or nothing.
//!
//! Faces keep their motion: the size goes down before the frame rate does. Screens keep their
//! sharpness: all pixels stay, the quantiser (the encoder's own rate control) gives way first,
//! the frame rate next. Below a rate at which sound alone fits, there is no picture.

mod limits;
mod patience;

pub use limits::Limits;

use std::time::{Duration, Instant};

use crate::frame::ContentHint;
use crate::units::Bitrate;
use patience::Patience;

/// What the source delivers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// Pixels, at least 1.
    pub width: u32,
    /// Pixels, at least 1.
    pub height: u32,
    /// Frames a second.
    pub fps: f64,
    /// What matters in its pictures.
    pub hint: ContentHint,
}

/// What to do with the next picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Encode it so.
    Encode(Encoding),
    /// The link carries sound and nothing else: send no pictures until further notice.
    Pause,
}

/// What the encoder should do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// Pixels, even, at most the source's rounded down to even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frames a second, at most the source's.
    pub fps: f64,
    /// For the encoder: the target without the audio's share.
    pub bitrate: Bitrate,
    /// The finest quantiser worth its bits, as an H.264 quantisation parameter (0 to 51).
    pub quantizer_floor: u8,
    /// Why this is less than what the source has.
    pub limitation: Limitation,
}

/// Why pictures are sent smaller or fewer than they come (W3C webrtc-stats,
/// `qualityLimitationReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limitation {
    /// They are not.
    None,
    /// The link.
    Bandwidth,
    /// The time that encoding takes.
    Cpu,
    /// What the other end said that it takes.
    Other,
}

/// A size, by the shorter side, and the video rate it takes.
struct Rung {
    short_side: u32,
    from: Bitrate,
}

/// Below its rate a size looks worse than the next smaller one; its key frames also hold up
/// everything else (measured: 720p takes 30 kB for one, 360p 7 kB).
const LADDER: [Rung; 5] = [
    Rung { short_side: 1080, from: Bitrate::from_kbps(2_200) },
    Rung { short_side: 720, from: Bitrate::from_kbps(900) },
    Rung { short_side: 540, from: Bitrate::from_kbps(600) },
    Rung { short_side: 360, from: Bitrate::from_kbps(250) },
    Rung { short_side: 180, from: Bitrate::ZERO },
];

/// What a 720p picture of a face makes use of; more costs the CPUs and shows nothing more. Larger
/// pictures have less to a pixel, as this power of their size.
const ENOUGH: Bitrate = Bitrate::from_kbps(1_800);
const ENOUGH_PIXELS: f64 = 1280.0 * 720.0;
const ENOUGH_GROWS: f64 = 0.75;

/// A larger size needs so much more than its rate, for so long; each change costs a key frame.
const UP_MARGIN: f64 = 1.15;
const UP_AFTER: Duration = Duration::from_secs(2);

/// At first little is known of the link, and each probe tells more: then it takes only so long.
const BEGIN: Duration = Duration::from_secs(3);
const UP_AFTER_AT_BEGIN: Duration = Duration::from_millis(250);

/// A smaller size comes at once, but only below this share of the rate.
const DOWN_MARGIN: f64 = 0.95;

/// A very low rate is better spent on fewer frames.
const FEW_FRAMES_BELOW: Bitrate = Bitrate::from_kbps(60);
const FEW_FRAMES: f64 = 15.0;
const MOST_FRAMES: f64 = 30.0;

/// What a picture of a screen needs at the coarsest quantiser that leaves text readable, bits a
/// pixel on average; with less, there are fewer of them. Never fewer than this a second.
const SCREEN_BITS: f64 = 0.02;
const FEWEST_OF_SCREEN: f64 = 3.0;

/// Finer quantisers cost bits that nobody sees; edges of letters show more than faces do.
const FLOOR_OF_FACES: u8 = 16;
const FLOOR_OF_SCREENS: u8 = 10;

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

/// Below this target, for this long, pictures stop: sound goes first. Above that one, for that
/// long, they come back; sound alone has to be enough for congestion control to get there.
const PAUSE_BELOW: Bitrate = Bitrate::from_kbps(80);
const PAUSE_AFTER: Duration = Duration::from_millis(1500);
const RESUME_FROM: Bitrate = Bitrate::from_kbps(90);
const RESUME_AFTER: Duration = Duration::from_secs(2);

/// Chooses with hysteresis.
#[derive(Clone, Debug)]
pub struct Adapter {
    audio: Bitrate,
    limits: Limits,
    rung: Option<usize>,
    hint: ContentHint,
    wants_up: Patience,
    /// When the first picture was decided on.
    began: Option<Instant>,
    few_frames: bool,
    encode_seconds: Option<f64>,
    /// No larger size than this rung until then: the machine is too slow.
    ceiling: Option<(usize, Instant)>,
    changed_at: Option<Instant>,
    /// There is sound.
    sounds: bool,
    paused: bool,
    wants_other: Patience,
}

impl Adapter {
    /// `audio` is what sound takes of the target, headers included.
    pub fn new(audio: Bitrate) -> Self {
        Self {
            audio,
            limits: Limits::NONE,
            rung: None,
            hint: ContentHint::Motion,
            wants_up: Patience::default(),
            began: None,
            few_frames: false,
            encode_seconds: None,
            ceiling: None,
            changed_at: None,
            sounds: true,
            paused: false,
            wants_other: Patience::default(),
        }
    }

    /// Sound takes another share now.
    pub fn set_audio(&mut self, audio: Bitrate) {
        self.audio = audio;
    }

    /// Whether there is any sound.
    pub fn set_sounds(&mut self, sounds: bool) {
        self.sounds = sounds;
    }

    /// What the other end takes.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// One frame took this long to encode.
    pub fn handle_encode_time(&mut self, took: Duration) {
        let new = took.min(OUTLIER).as_secs_f64();
        self.encode_seconds =
            Some(self.encode_seconds.map_or(new, |old| old + ENCODE_WEIGHT * (new - old)));
    }

    /// What to do now, for a target that includes audio.
    pub fn decide(&mut self, now: Instant, target: Bitrate, source: Source) -> Decision {
        if self.pauses(now, target) {
            return Decision::Pause;
        }
        self.began.get_or_insert(now);
        let bitrate = target.saturating_sub(self.audio).max(LEAST_VIDEO);
        if source.hint != self.hint {
            self.hint = source.hint;
            self.rung = None;
            self.encode_seconds = None;
        }
        Decision::Encode(match source.hint {
            ContentHint::Motion => self.keep_motion(now, bitrate, source),
            ContentHint::Detail => self.keep_detail(bitrate, source),
        })
    }

    fn pauses(&mut self, now: Instant, target: Bitrate) -> bool {
        let sounds = self.sounds && self.audio > Bitrate::ZERO;
        let (wanted, after) = if self.paused {
            (target >= RESUME_FROM || !sounds, RESUME_AFTER)
        } else {
            // Without sound there is nothing to make room for, and nothing whose arrival would
            // tell that the link is better again.
            (target < PAUSE_BELOW && sounds, PAUSE_AFTER)
        };
        if self.wants_other.lasted(now, wanted, after) {
            self.paused = !self.paused;
            self.wants_other = Patience::default();
            // The smallest picture first; a better one has to be earned.
            self.rung = Some(LADDER.len() - 1);
        }
        self.paused
    }

    /// Smaller before fewer.
    fn keep_motion(&mut self, now: Instant, bitrate: Bitrate, source: Source) -> Encoding {
        let fps = self.frame_rate(bitrate, source.fps);
        self.watch_encoder(now, fps);
        let (rung, limitation) = self.choose(now, bitrate, source);
        if self.rung != Some(rung) {
            self.rung = Some(rung);
            self.wants_up = Patience::default();
            self.changed_at = Some(now);
            self.encode_seconds = None;
        }
        let short_side = LADDER.get(rung).map_or(180, |rung| rung.short_side);
        let (width, height) = fit(source.width, source.height, short_side);
        let limitation = if self.few_frames { Limitation::Bandwidth } else { limitation };
        let quantizer_floor = FLOOR_OF_FACES;
        let fps = fps.min(self.limits.fps(width, height));
        let bitrate = bitrate.min(enough(width, height));
        Encoding { width, height, fps, bitrate, quantizer_floor, limitation }
    }

    /// Fewer before smaller; smaller only where the other end takes no more.
    fn keep_detail(&self, bitrate: Bitrate, source: Source) -> Encoding {
        let most = source.width.min(source.height);
        let (width, height) = self.limits.within(source.width, source.height, |short_side| {
            fit(source.width, source.height, short_side.min(most))
        });
        let source_fps = usable(source.fps, MOST_FRAMES);
        let pixels = f64::from(width) * f64::from(height);
        let link = (bitrate.bps() as f64 / (pixels * SCREEN_BITS)).max(FEWEST_OF_SCREEN);
        let machine = self.encode_seconds.map_or(f64::INFINITY, |took| BUSY / took.max(0.001));
        let receiver = self.limits.fps(width, height);
        let fps = source_fps.min(link).min(machine.max(FEWEST_OF_SCREEN)).min(receiver);
        let full = (width, height) == (source.width & !1, source.height & !1);
        let limitation = if fps >= source_fps && full {
            Limitation::None
        } else if fps == link {
            Limitation::Bandwidth
        } else if fps == machine {
            Limitation::Cpu
        } else {
            Limitation::Other
        };
        Encoding { width, height, fps, bitrate, quantizer_floor: FLOOR_OF_SCREENS, limitation }
    }

    /// The rung, and what keeps it from being the source's own size.
    fn choose(&mut self, now: Instant, bitrate: Bitrate, source: Source) -> (usize, Limitation) {
        // The first rung that is no smaller than the source, or the smallest that the other end
        // takes.
        let shorter = source.width.min(source.height);
        let own = LADDER.iter().rposition(|rung| rung.short_side >= shorter).unwrap_or(0);
        let taken = |rung: &Rung| {
            let (width, height) = fit(source.width, source.height, rung.short_side);
            self.limits.take(width, height)
        };
        let largest = LADDER.iter().position(taken).unwrap_or(LADDER.len() - 1).max(own);
        let machine = self.ceiling.filter(|(_, until)| now < *until).map_or(0, |(rung, _)| rung);
        let ceiling = largest.max(machine);
        let fitting = |margin: f64| {
            let at = LADDER.iter().position(|rung| bitrate >= rung.from.scaled(margin));
            at.unwrap_or(LADDER.len() - 1).max(ceiling)
        };
        let rung = match self.rung {
            None => fitting(1.0),
            Some(current) => {
                let (lower, upper) = (fitting(DOWN_MARGIN), fitting(UP_MARGIN));
                let begin = self.began.is_some_and(|began| now < began + BEGIN);
                let after = if begin { UP_AFTER_AT_BEGIN } else { UP_AFTER };
                let up = self.wants_up.lasted(now, upper < current, after);
                if lower > current {
                    lower
                } else if up {
                    upper
                } else {
                    current
                }
            }
        };
        let limitation = match rung {
            rung if rung <= own => Limitation::None,
            rung if rung > ceiling => Limitation::Bandwidth,
            rung if rung > largest => Limitation::Cpu,
            _ => Limitation::Other,
        };
        (rung, limitation)
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
        usable(source, if self.few_frames { FEW_FRAMES } else { MOST_FRAMES })
    }
}

fn enough(width: u32, height: u32) -> Bitrate {
    let pixels = f64::from(width) * f64::from(height);
    ENOUGH.scaled((pixels / ENOUGH_PIXELS).powf(ENOUGH_GROWS))
}

fn usable(fps: f64, most: f64) -> f64 {
    if fps.is_finite() { fps.clamp(1.0, most) } else { most }
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
mod tests;
