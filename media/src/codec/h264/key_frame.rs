//! For which bitrate to encode a key frame, so that it has a given size. Pure.
//!
//! Rate control gives a key frame the bits of four pictures, and often twice that: a quarter of a
//! second of a slow link, in which nothing else arrives. Told of a lower bitrate for that one
//! picture, it takes a coarser quantiser, and so do the pictures that follow, which rate control
//! off would make pay for it.

use crate::units::Bitrate;

/// The smallest share of the bitrate: what a key frame takes beyond it is a debt of the pictures after
/// it, which grows as the bitrate does when it is restored, and below this rate control gets hardly
/// coarser.
const LEAST: f64 = 0.25;

/// A key frame larger than this multiple of what was wanted is encoded once more.
const TOLERANCE: f64 = 1.3;

/// The share follows what came out, so far at most each time.
const MOST_CHANGE: f64 = 2.5;

/// Learns how large the key frames of a call are.
#[derive(Clone, Debug)]
pub(super) struct KeyFrameModel {
    share: f64,
}

impl Default for KeyFrameModel {
    fn default() -> Self {
        Self { share: 1.0 }
    }
}

impl KeyFrameModel {
    /// Which bitrate to name to rate control that otherwise has `bitrate`.
    pub fn bitrate(&self, bitrate: Bitrate) -> Bitrate {
        Bitrate::from_bps((bitrate.bps() as f64 * self.share) as u64)
    }

    /// A key frame of `bytes` came of it, where `wanted` were. Whether it is so much too large
    /// that encoding it again is worth its time.
    pub fn handle_encoded(&mut self, wanted: usize, bytes: usize) -> bool {
        let ratio = bytes.max(1) as f64 / wanted.max(1) as f64;
        let before = self.share;
        let change = ratio.clamp(1.0 / MOST_CHANGE, MOST_CHANGE);
        self.share = (self.share / change).clamp(LEAST, 1.0);
        ratio > TOLERANCE && self.share < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_follows_what_key_frames_take() {
        let mut model = KeyFrameModel::default();
        let bitrate = Bitrate::from_kbps(400);
        assert_eq!(model.bitrate(bitrate), bitrate);
        assert!(model.handle_encoded(6_000, 12_000), "twice the size: once more");
        assert_eq!(model.bitrate(bitrate), Bitrate::from_kbps(200));
        assert!(!model.handle_encoded(6_000, 7_000), "near enough");
        assert!(!model.handle_encoded(6_000, 3_000));
        assert!(model.bitrate(bitrate) > Bitrate::from_kbps(300), "small ones get more again");
    }

    #[test]
    fn nothing_leads_out_of_its_bounds() {
        let mut model = KeyFrameModel::default();
        assert!(!(0..9).map(|_| model.handle_encoded(0, usize::MAX)).fold(true, |_, again| again));
        assert_eq!(model.bitrate(Bitrate::from_kbps(100)), Bitrate::from_kbps(25));
        (0..9).for_each(|_| assert!(!model.handle_encoded(usize::MAX, 0)));
        assert_eq!(model.bitrate(Bitrate::from_kbps(100)), Bitrate::from_kbps(100));
    }
}
