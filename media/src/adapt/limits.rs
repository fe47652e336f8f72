//! What the other end's decoder takes. Pure.

use crate::video_codec::VideoCodec;

/// In macroblocks of 16x16 pixels (ITU-T H.264 table A-1; RFC 7741 section 6.1 for VP8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A picture.
    pub max_fs: u32,
    /// A second.
    pub max_mbps: u32,
}

impl Limits {
    /// None but what our own encoders set.
    pub const NONE: Self = Self { max_fs: u32::MAX, max_mbps: u32::MAX };

    /// What `a=fmtp` parameters of the other end say: for H.264 the level of `profile-level-id`,
    /// raised by `max-fs` and `max-mbps` (RFC 6184 section 8.1); for VP8 `max-fs`, and `max-fr`
    /// of such pictures (RFC 7741 section 6.1). What cannot be read limits nothing beyond the
    /// default level, 1.
    pub fn of_parameters(codec: VideoCodec, fmtp: &str) -> Self {
        let value = |name: &str| {
            fmtp.split(';').find_map(|parameter| {
                let (key, value) = parameter.trim().split_once('=')?;
                key.eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let number = |name: &str| value(name).and_then(|value| value.parse::<u32>().ok());
        match codec {
            VideoCodec::H264 => {
                let level = value("profile-level-id")
                    .and_then(|id| u32::from_str_radix(id, 16).ok())
                    .map_or(10, |id| id & 0xff);
                let level = Self::of_h264_level(level);
                Self {
                    max_fs: level.max_fs.max(number("max-fs").unwrap_or(0)),
                    max_mbps: level.max_mbps.max(number("max-mbps").unwrap_or(0)),
                }
            }
            VideoCodec::Vp8 => {
                let max_fs = number("max-fs").filter(|&fs| fs > 0).unwrap_or(u32::MAX);
                let max_fr = number("max-fr").filter(|&fr| fr > 0).unwrap_or(u32::MAX);
                Self { max_fs, max_mbps: max_fs.saturating_mul(max_fr) }
            }
        }
    }

    /// `level_idc`: ten times the level's number. Unknown ones are taken for the next lower.
    const fn of_h264_level(level_idc: u32) -> Self {
        let (max_fs, max_mbps) = match level_idc {
            0..=10 => (99, 1_485),
            11 => (396, 3_000),
            12 => (396, 6_000),
            13..=20 => (396, 11_880),
            21 => (792, 19_800),
            22..=29 => (1_620, 20_250),
            30 => (1_620, 40_500),
            31 => (3_600, 108_000),
            32..=39 => (5_120, 216_000),
            40 | 41 => (8_192, 245_760),
            42..=49 => (8_704, 522_240),
            50 => (22_080, 589_824),
            _ => (36_864, 983_040),
        };
        Self { max_fs, max_mbps }
    }

    /// Whether it takes pictures of this size.
    pub fn take(self, width: u32, height: u32) -> bool {
        blocks(width, height) <= u64::from(self.max_fs)
    }

    /// The most pictures of this size that it takes a second; at least 1.
    pub fn fps(self, width: u32, height: u32) -> f64 {
        if self.max_mbps == u32::MAX {
            return f64::INFINITY;
        }
        (f64::from(self.max_mbps) / blocks(width, height).max(1) as f64).max(1.0)
    }

    /// The largest size that it takes, of those that `fit` makes of a shorter side.
    pub(super) fn within(
        self,
        width: u32,
        height: u32,
        fit: impl Fn(u32) -> (u32, u32),
    ) -> (u32, u32) {
        let full = fit(u32::MAX);
        if self.take(full.0, full.1) {
            return full;
        }
        let area = f64::from(width.max(1)) * f64::from(height.max(1));
        let share = (f64::from(self.max_fs) * 256.0 / area).sqrt().min(1.0);
        // Rounded up to whole blocks it may be a little too large still.
        let mut short_side = (f64::from(width.min(height)) * share) as u32 + 2;
        loop {
            let size = fit(short_side);
            if short_side <= 16 || self.take(size.0, size.1) {
                return size;
            }
            short_side -= 2;
        }
    }
}

fn blocks(width: u32, height: u32) -> u64 {
    u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_and_what_raises_it_are_read() {
        let h264 = |fmtp| Limits::of_parameters(VideoCodec::H264, fmtp);
        let level = h264("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
        assert_eq!(level, Limits { max_fs: 3_600, max_mbps: 108_000 });
        assert!(level.take(1280, 720) && !level.take(1280, 736) && !level.take(1920, 1080));
        assert_eq!(level.fps(1280, 720), 30.0);
        assert!(h264("profile-level-id=42e028").take(1920, 1080));
        let raised = h264("profile-level-id=42E01F; max-fs=8160 ;max-mbps=245000");
        assert_eq!(raised, Limits { max_fs: 8_160, max_mbps: 245_000 });
        assert_eq!(h264("max-fs=abc"), Limits { max_fs: 99, max_mbps: 1_485 });
        assert_eq!(h264("profile-level-id=42e01f;max-fs=9").max_fs, 3_600, "never lowered");
    }

    #[test]
    fn vp8_is_unlimited_unless_it_says_so() {
        let vp8 = |fmtp| Limits::of_parameters(VideoCodec::Vp8, fmtp);
        assert_eq!(vp8(""), Limits::NONE);
        assert_eq!(vp8("max-fs=0;max-fr=0"), Limits::NONE);
        let firefox = vp8("max-fs=12288;max-fr=60");
        assert!(firefox.take(1920, 1080) && firefox.fps(1920, 1080) > 60.0);
    }

    #[test]
    fn the_largest_size_within_a_limit_keeps_the_shape() {
        let limits = Limits { max_fs: 3_600, max_mbps: 108_000 };
        let fit = |short_side: u32| super::super::fit(1920, 1080, short_side);
        assert_eq!(limits.within(1920, 1080, fit), (1280, 720));
        assert_eq!(Limits::NONE.within(1920, 1080, fit), (1920, 1080));
        let tall = |short_side: u32| super::super::fit(500, 60_000, short_side);
        let (width, height) = limits.within(500, 60_000, tall);
        assert!(limits.take(width, height) || width <= 16, "{width}x{height}");
    }
}
