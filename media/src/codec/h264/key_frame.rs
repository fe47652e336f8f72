//! Which quantiser makes a key frame of a given size. Pure.
//!
//! Rate control has no say over the size of an openh264 key frame: it takes 26 to 49 kB at 720p,
//! nearly a second of a slow link. So key frames are encoded with a fixed quantiser, chosen here.

/// Quantisers that are used: finer ones show nothing more, coarser ones nothing at all.
const FINEST: u8 = 26;
const COARSEST: u8 = 50;

/// So many steps halve the size (measured: 29, 18, 11, 6.4 kB at 36, 40, 44, 48).
const HALVING: f64 = 5.75;

/// Bytes a pixel at quantiser 40, in a 720p picture of a face; smaller pictures have more to a
/// pixel (measured: 6.5 kB at 360p, 2.2 kB at 180p).
const REFERENCE: f64 = 40.0;
const DENSITY: f64 = 18_000.0 / 921_600.0;
const PIXELS: f64 = 921_600.0;

/// A key frame larger than this multiple of what was wanted is encoded once more.
const TOLERANCE: f64 = 1.25;

/// Learns how much the pictures of a call have in them.
#[derive(Clone, Debug)]
pub(super) struct KeyFrameModel {
    /// What the last key frame took, as a multiple of what was expected.
    complexity: f64,
}

impl Default for KeyFrameModel {
    fn default() -> Self {
        Self { complexity: 1.0 }
    }
}

impl KeyFrameModel {
    /// The finest quantiser with which a picture of `pixels` is expected to take at most `bytes`.
    pub fn quantiser(&self, pixels: u32, bytes: usize) -> u8 {
        let at_reference = self.expected(pixels, REFERENCE);
        let steps = HALVING * (at_reference / bytes.max(1) as f64).log2();
        (REFERENCE + steps).ceil().clamp(f64::from(FINEST), f64::from(COARSEST)) as u8
    }

    /// A key frame was encoded and has `bytes`.
    pub fn handle_encoded(&mut self, pixels: u32, quantiser: u8, bytes: usize) {
        let ratio = bytes as f64 / self.expected(pixels, f64::from(quantiser));
        self.complexity = (self.complexity * ratio).clamp(0.02, 50.0);
    }

    /// Whether the key frame is so much too large that it is worth encoding it again.
    pub fn is_too_large(wanted: usize, quantiser: u8, bytes: usize) -> bool {
        quantiser < COARSEST && bytes as f64 > wanted as f64 * TOLERANCE
    }

    fn expected(&self, pixels: u32, quantiser: f64) -> f64 {
        let pixels = f64::from(pixels.max(1));
        let density = DENSITY * (PIXELS / pixels).powf(0.25);
        pixels * density * self.complexity * 2f64.powf((REFERENCE - quantiser) / HALVING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_the_measured_sizes() {
        let model = KeyFrameModel::default();
        for (pixels, bytes, quantiser) in [
            (1280 * 720, 29_000, 37),
            (1280 * 720, 18_000, 40),
            (1280 * 720, 11_000, 45),
            (640 * 360, 6_500, 41),
            (320 * 180, 2_200, 41),
        ] {
            assert!(model.quantiser(pixels, bytes).abs_diff(quantiser) <= 1, "{bytes}");
        }
        assert_eq!((model.quantiser(1, 90_000), model.quantiser(u32::MAX, 0)), (FINEST, COARSEST));
    }

    #[test]
    fn it_learns_from_each_key_frame() {
        let mut model = KeyFrameModel::default();
        let first = model.quantiser(921_600, 18_000);
        model.handle_encoded(921_600, first, 36_000);
        assert_eq!(model.quantiser(921_600, 18_000), first + 6, "twice the size: one halving more");
        assert!(KeyFrameModel::is_too_large(18_000, first, 36_000));
        assert!(!KeyFrameModel::is_too_large(18_000, COARSEST, 36_000));
        for _ in 0..100 {
            model.handle_encoded(0, 0, 0);
        }
        assert!((FINEST..=COARSEST).contains(&model.quantiser(921_600, 1000)));
    }
}
