//! Whether a picture shows another scene than the one before it: a presenter's next slide, a camera
//! switched over. Pure.
//!
//! Built on the picture before, such a one costs 120 kB at 720p and 2.3 Mbit/s; as a key frame, 41 kB.
//! The encoder's own detector also takes a fast pan for a cut, again and again.

use crate::frame::Frame;

/// The brightness of so many places, each a mean of many pixels: noise and movement hardly change it.
const COLUMNS: usize = 16;
const ROWS: usize = 9;

/// So many rows and columns of pixels are looked at in each place: with fewer, a fine pattern that
/// moves would change the means.
const SAMPLES: usize = 8;

/// A mean difference above this, of 255, is a cut (measured in a film at 30 fps: 25 at the cut, at
/// most 4.7 elsewhere).
const CUT: u32 = 12;

type Places = [[u8; COLUMNS]; ROWS];

/// Remembers the last picture, roughly.
#[derive(Debug, Default)]
pub(crate) struct CutDetector {
    last: Option<Places>,
}

impl CutDetector {
    /// Whether `frame` begins another scene. The first of all does not.
    pub fn is_cut(&mut self, frame: &Frame) -> bool {
        let new = places(frame);
        let Some(old) = self.last.replace(new) else {
            return false;
        };
        let pairs = old.as_flattened().iter().zip(new.as_flattened());
        let sum: u32 = pairs.map(|(old, new)| u32::from(old.abs_diff(*new))).sum();
        sum > CUT * (COLUMNS * ROWS) as u32
    }
}

fn places(frame: &Frame) -> Places {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let [luma, ..] = frame.planes();
    let step = ((width / COLUMNS).min(height / ROWS) / SAMPLES).max(1);
    let mut sums = [[(0u32, 0u32); COLUMNS]; ROWS];
    for (y, line) in luma.chunks_exact(width.max(1)).enumerate().step_by(step) {
        let Some(row) = sums.get_mut(y * ROWS / height.max(1)) else { break };
        for (x, value) in line.iter().enumerate().step_by(step) {
            if let Some((sum, count)) = row.get_mut(x * COLUMNS / width.max(1)) {
                *sum += u32::from(*value);
                *count += 1;
            }
        }
    }
    sums.map(|row| row.map(|(sum, count)| sum.checked_div(count).unwrap_or(0) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::scene::Scene;
    use crate::frame::FramePool;

    fn flat(width: u32, height: u32, luma: u8) -> Frame {
        let mut frame = FramePool::new().take(width, height);
        frame.planes_mut().into_iter().for_each(|plane| plane.fill(luma));
        frame
    }

    #[test]
    fn a_pan_over_noise_is_one_scene() {
        let (mut scene, mut cuts) = (Scene::new(), CutDetector::default());
        assert!((0..60).all(|_| !cuts.is_cut(&scene.next(640, 360))));
    }

    #[test]
    fn another_scene_is_a_cut_once() {
        let (mut scene, mut cuts) = (Scene::new(), CutDetector::default());
        cuts.is_cut(&scene.next(640, 360));
        assert!(cuts.is_cut(&flat(640, 360, 40)));
        assert!(!cuts.is_cut(&flat(640, 360, 40)));
        assert!(!cuts.is_cut(&flat(640, 360, 48)), "the sun behind a cloud");
        assert!(cuts.is_cut(&flat(320, 180, 200)), "another camera, of another size");
    }

    #[test]
    fn any_size_is_looked_at() {
        let mut cuts = CutDetector::default();
        for (width, height) in [(2, 2), (16, 9), (7, 4096), (4096, 16)] {
            assert!(!cuts.is_cut(&flat(width, height, 100)), "{width}x{height}");
            cuts.last = None;
        }
    }
}
