//! Who takes how much of the rate: what is left for pictures.

use std::time::{Duration, Instant};

use crate::rtp::pacer::Class;
use crate::units::Bitrate;

/// Rates are taken over this, and smoothed.
const WINDOW: Duration = Duration::from_millis(250);
const WEIGHT: f64 = 0.3;

/// Before it is measured: sound at 40 kbit/s with its headers; headers' part of pictures.
const AUDIO: f64 = 63_000.0;
const OVERHEAD: f64 = 0.08;

/// Pictures keep at least this part of what sound leaves.
const LEAST_VIDEO: f64 = 0.4;

pub(super) struct Shares {
    since: Instant,
    audio_bytes: usize,
    repair_bytes: usize,
    video_bytes: usize,
    video_overhead: usize,
    /// Bits per second.
    audio: f64,
    repairs: f64,
    /// Part of pictures' packets.
    overhead: f64,
}

impl Shares {
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            audio_bytes: 0,
            repair_bytes: 0,
            video_bytes: 0,
            video_overhead: 0,
            audio: AUDIO,
            repairs: 0.0,
            overhead: OVERHEAD,
        }
    }

    /// A packet leaves.
    pub fn add(&mut self, now: Instant, class: Class, bytes: usize, overhead: usize) {
        match class {
            Class::Audio => self.audio_bytes += bytes,
            Class::Repair => self.repair_bytes += bytes,
            Class::Video => {
                self.video_bytes += bytes;
                self.video_overhead += overhead;
            }
        }
        let passed = now.saturating_duration_since(self.since);
        if passed < WINDOW {
            return;
        }
        let bits = 8.0 / passed.as_secs_f64();
        self.audio += WEIGHT * (self.audio_bytes as f64 * bits - self.audio);
        self.repairs += WEIGHT * (self.repair_bytes as f64 * bits - self.repairs);
        if self.video_bytes > 0 {
            let part = self.video_overhead as f64 / self.video_bytes as f64;
            self.overhead += WEIGHT * (part.clamp(0.0, 0.9) - self.overhead);
        }
        (self.audio_bytes, self.repair_bytes) = (0, 0);
        (self.video_bytes, self.video_overhead) = (0, 0);
        self.since = now;
    }

    /// What is left for pictures' payload.
    pub fn video(&self, target: Bitrate) -> Bitrate {
        let rest = (target.bps() as f64 - self.audio).max(0.0);
        let video = (rest - self.repairs).max(LEAST_VIDEO * rest);
        Bitrate::from_bps((video * (1.0 - self.overhead)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sound_repairs_and_headers_take_is_left_out() {
        let begin = Instant::now();
        let mut shares = Shares::new(begin);
        let target = Bitrate::from_kbps(500);
        assert_eq!(shares.video(target).bps(), (437_000.0 * 0.92) as u64);
        for ms in (0..10_000).step_by(20) {
            let now = begin + Duration::from_millis(ms);
            shares.add(now, Class::Audio, 100, 58); // 40 kbit/s
            shares.add(now, Class::Repair, 150, 0); // 60 kbit/s
            shares.add(now, Class::Video, 1000, 50);
        }
        let left = shares.video(target).kbps();
        assert!((left - 400.0 * 0.95).abs() < 8.0, "{left}");
        // However much is repaired.
        for ms in (10_000..20_000).step_by(20) {
            shares.add(begin + Duration::from_millis(ms), Class::Repair, 5000, 0);
        }
        let left = shares.video(target).kbps();
        assert!((left - 0.4 * 500.0 * 0.95).abs() < 8.0, "{left}");
    }
}
