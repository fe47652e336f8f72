//! Sound and picture of one moment together: sender reports give both streams the sender's
//! clock, and pictures that are far ahead of their sound are held back a little.
//!
//! Sound is never held: who waits for a picture loses the conversation. Late pictures are shown
//! at once.

use std::time::{Duration, Instant};

use crate::rtp::feedback::SenderReport;

/// Pictures may lead by so much: nobody notices,
const TOLERATED_LEAD: f64 = 0.036;

/// and are never held for longer than this: sound that is later still is not as bad as pictures that
/// are (ITU-R BT.1359 finds it acceptable up to 185 ms).
const MAX_HOLD: f64 = 0.030;

/// The hold changes by 20 ms a second.
const SLEW: f64 = 0.020;

/// Sound that stopped keeps nothing back.
const STALE: Duration = Duration::from_secs(2);

/// One of the two streams of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl Stream {
    fn clock_rate(self) -> f64 {
        match self {
            Self::Audio => 48_000.0,
            Self::Video => 90_000.0,
        }
    }
}

/// When what is sent was captured, for our sender reports (RFC 3550 section 6.4.1: the RTP timestamp
/// belongs to the moment of the report). By when packets leave, a block of sound and the time a
/// picture is encoded would count as if they were nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureClocks {
    audio: Option<(Instant, u32)>,
    video: Option<(Instant, u32)>,
}

impl CaptureClocks {
    /// What has this timestamp was captured, or begins, at `at`.
    pub fn handle_captured(&mut self, stream: Stream, at: Instant, rtp_timestamp: u32) {
        let clock = match stream {
            Stream::Audio => &mut self.audio,
            Stream::Video => &mut self.video,
        };
        *clock = Some((at, rtp_timestamp));
    }

    /// The timestamp of what is captured at `now`. `None` before anything was.
    pub fn rtp_timestamp(&self, stream: Stream, now: Instant) -> Option<u32> {
        let (at, timestamp) = match stream {
            Stream::Audio => self.audio,
            Stream::Video => self.video,
        }?;
        let passed = now.saturating_duration_since(at).as_secs_f64();
        Some(timestamp.wrapping_add((passed * stream.clock_rate()) as u64 as u32))
    }
}

/// Tells when, by the sender's clock, something with an RTP timestamp was captured.
#[derive(Clone, Copy, Debug)]
pub struct StreamClock {
    clock_rate: f64,
    reference: Option<SenderReport>,
}

impl StreamClock {
    /// For an RTP clock of `clock_rate` ticks a second.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate: f64::from(clock_rate.max(1)), reference: None }
    }

    /// The newest sender report of this stream.
    pub fn handle_sender_report(&mut self, report: SenderReport) {
        self.reference = Some(report);
    }

    /// Seconds of the sender's NTP clock. `None` before the first report.
    pub fn capture_time(&self, rtp_timestamp: u32) -> Option<f64> {
        let reference = self.reference?;
        let ticks = rtp_timestamp.wrapping_sub(reference.rtp_timestamp) as i32;
        let ntp = reference.ntp as f64 / 2f64.powi(32);
        Some(ntp + f64::from(ticks) / self.clock_rate)
    }
}

/// Keeps the pictures of one peer in step with its sound.
#[derive(Clone, Debug)]
pub struct Sync {
    audio: StreamClock,
    video: StreamClock,
    /// Any fixed moment of our clock.
    epoch: Option<Instant>,
    /// Our time minus the sender's capture time of the sound played last, and when that was.
    sound_delay: Option<(f64, Instant)>,
    lead: Option<f64>,
    hold: f64,
    updated_at: Option<Instant>,
}

impl Sync {
    /// For audio at 48 kHz and video at 90 kHz.
    pub fn new() -> Self {
        Self {
            audio: StreamClock::new(48_000),
            video: StreamClock::new(90_000),
            epoch: None,
            sound_delay: None,
            lead: None,
            hold: 0.0,
            updated_at: None,
        }
    }

    /// A sender report about the audio stream.
    pub fn handle_audio_report(&mut self, report: SenderReport) {
        self.audio.handle_sender_report(report);
    }

    /// A sender report about the video stream.
    pub fn handle_video_report(&mut self, report: SenderReport) {
        self.video.handle_sender_report(report);
    }

    /// Sound that begins with this timestamp leaves the speaker at `now` (or will: any delay behind
    /// the jitter buffer belongs added to `now`).
    pub fn handle_audio_played(&mut self, now: Instant, rtp_timestamp: u32) {
        if let Some(captured) = self.audio.capture_time(rtp_timestamp) {
            self.sound_delay = Some((self.seconds(now) - captured, now));
        }
    }

    /// A picture with this timestamp is ready: how long to hold it before it is shown.
    pub fn hold(&mut self, now: Instant, rtp_timestamp: u32) -> Duration {
        let passed = self
            .updated_at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64().min(0.5));
        self.updated_at = Some(now);
        let sound = self.sound_delay.filter(|(_, at)| now < *at + STALE).map(|(delay, _)| delay);
        let picture = self.video.capture_time(rtp_timestamp).map(|at| self.seconds(now) - at);
        self.lead = sound.zip(picture).map(|(sound, picture)| sound - picture);
        let wanted = self.lead.map_or(0.0, |lead| (lead - TOLERATED_LEAD).clamp(0.0, MAX_HOLD));
        let step = SLEW * passed;
        self.hold += (wanted - self.hold).clamp(-step, step);
        Duration::from_secs_f64(self.hold.max(0.0))
    }

    /// How far pictures are ahead of their sound when they are ready, milliseconds; negative if
    /// they are late. `None` while it is not known.
    pub fn lead_ms(&self) -> Option<f64> {
        self.lead.map(|lead| lead * 1000.0)
    }

    fn seconds(&mut self, now: Instant) -> f64 {
        let epoch = *self.epoch.get_or_insert(now);
        now.saturating_duration_since(epoch).as_secs_f64()
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_is_captured_when_it_is_made() {
        let (mut clocks, at) = (CaptureClocks::default(), Instant::now());
        assert_eq!(clocks.rtp_timestamp(Stream::Audio, at), None);
        clocks.handle_captured(Stream::Audio, at, u32::MAX - 479);
        clocks.handle_captured(Stream::Video, at, 1000);
        let later = |ms| at + Duration::from_millis(ms);
        assert_eq!(clocks.rtp_timestamp(Stream::Audio, later(20)), Some(480));
        assert_eq!(clocks.rtp_timestamp(Stream::Video, later(500)), Some(46_000));
        let days = clocks.rtp_timestamp(Stream::Video, later(5 * 86_400_000));
        assert_eq!(days, Some((1000 + 5 * 86_400 * 90_000_u64) as u32));
    }

    const NTP: u64 = 0xe8_00_00_00 << 32;

    /// Both streams start at NTP, with unlike timestamps, the video's about to wrap.
    fn sync() -> Sync {
        let mut sync = Sync::new();
        sync.handle_audio_report(SenderReport { ssrc: 1, ntp: NTP, rtp_timestamp: 77 });
        sync.handle_video_report(SenderReport { ssrc: 2, ntp: NTP, rtp_timestamp: u32::MAX - 9 });
        sync
    }

    /// Plays ten seconds with the given delays in milliseconds; returns the last hold.
    fn play(sync: &mut Sync, begin: Instant, sound_ms: u64, picture_ms: u64) -> Vec<f64> {
        let mut holds = Vec::new();
        for ms in (0..10_000u64).step_by(20) {
            let sound = begin + Duration::from_millis(ms + sound_ms);
            sync.handle_audio_played(sound, 77 + ms as u32 * 48);
            let picture = begin + Duration::from_millis(ms + picture_ms);
            let timestamp = (u32::MAX - 9).wrapping_add(ms as u32 * 90);
            holds.push(sync.hold(picture, timestamp).as_secs_f64() * 1000.0);
        }
        holds
    }

    #[test]
    fn a_picture_far_ahead_is_held_gently() {
        let begin = Instant::now();
        let mut sync = sync();
        sync.seconds(begin);
        let holds = play(&mut sync, begin, 90, 30);
        assert!((sync.lead_ms().unwrap() - 60.0).abs() < 0.01);
        assert!((holds.last().unwrap() - 24.0).abs() < 0.01);
        let steps = holds.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.fold(0.0, f64::max) < 0.41, "20 ms a second");
    }

    #[test]
    fn a_late_picture_and_a_small_lead_are_shown_at_once() {
        for (sound, picture) in [(30, 200), (60, 30)] {
            let begin = Instant::now();
            let mut sync = sync();
            sync.seconds(begin);
            let holds = play(&mut sync, begin, sound, picture);
            assert!(holds.iter().all(|hold| *hold == 0.0));
        }
    }

    #[test]
    fn the_hold_is_bounded_and_ends_with_the_sound() {
        let begin = Instant::now();
        let mut sync = sync();
        sync.seconds(begin);
        let holds = play(&mut sync, begin, 900, 30);
        assert!((holds.last().unwrap() - 30.0).abs() < 0.01);
        let mut last = Duration::MAX;
        for ms in (14_000..24_000u64).step_by(33) {
            last = sync.hold(begin + Duration::from_millis(ms), 0);
        }
        assert_eq!((last, sync.lead_ms()), (Duration::ZERO, None));
    }

    #[test]
    fn without_reports_nothing_is_held() {
        let now = Instant::now();
        let mut sync = Sync::new();
        sync.handle_audio_played(now, 5);
        assert_eq!(sync.hold(now, 5), Duration::ZERO);
        assert_eq!(sync.lead_ms(), None);
    }
}
