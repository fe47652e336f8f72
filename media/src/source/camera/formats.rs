//! Which formats to ask a camera for, in which order.

use nokhwa::utils::{CameraFormat, FrameFormat};

use super::CameraFormatWish;

/// From here on a picture is small enough for USB 2 to carry it uncompressed at 30 a second.
const SMALL: u32 = 640 * 480;

/// Exact formats, the best first: the wished size in full motion, then smaller ones in full
/// motion, then larger ones, then whatever moves at all. About 150; a refused one costs
/// milliseconds.
pub fn ladder(wish: CameraFormatWish) -> Vec<CameraFormat> {
    let wished = (wish.width, wish.height);
    let smooth = [wish.fps, 30, 25, 24];
    let slow = [20, 15, 60, 50, 10, 5];
    let smaller =
        [(960, 540), (848, 480), (800, 600), (640, 480), (640, 360), (352, 288), (320, 240)];
    let larger = [(1280, 720), (1280, 960), (1920, 1080), (1280, 800), (1280, 1024), (1600, 1200)];
    let mut rungs = Vec::new();
    let mut add = |sizes: &[(u32, u32)], rates: &[u32]| {
        for &(width, height) in sizes {
            for &fps in rates {
                for format in layouts(width * height) {
                    let rung = CameraFormat::new_from(width, height, format, fps);
                    if !rungs.contains(&rung) {
                        rungs.push(rung);
                    }
                }
            }
        }
    };
    add(&[wished], &smooth);
    add(&[wished], &[60, 50]);
    add(&smaller[..5], &smooth);
    add(&larger, &smooth);
    add(&[wished], &slow);
    add(&smaller, &slow);
    add(&smaller[5..], &smooth);
    add(&larger[..3], &slow);
    rungs
}

/// Large pictures come compressed, else the bus limits the rate; small ones are cheaper raw.
fn layouts(pixels: u32) -> [FrameFormat; 3] {
    use FrameFormat::{MJPEG, NV12, YUYV};
    if pixels > SMALL { [MJPEG, NV12, YUYV] } else { [YUYV, NV12, MJPEG] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_webcam_gets_hd_compressed_at_the_first_try() {
        let first = ladder(CameraFormatWish::default())[0];
        assert_eq!(first, CameraFormat::new_from(1280, 720, FrameFormat::MJPEG, 30));
    }

    #[test]
    fn full_motion_in_small_goes_before_a_slide_show_in_large() {
        let rungs = ladder(CameraFormatWish::default());
        let at = |width, height, format, fps| {
            let wanted = CameraFormat::new_from(width, height, format, fps);
            rungs.iter().position(|rung| *rung == wanted).expect("on the ladder")
        };
        let small = at(640, 480, FrameFormat::YUYV, 30);
        assert!(small < at(1280, 720, FrameFormat::YUYV, 10));
        assert!(small < at(640, 480, FrameFormat::MJPEG, 30));
        assert!(at(1280, 720, FrameFormat::YUYV, 25) < small);
    }

    #[test]
    fn no_rung_is_tried_twice() {
        let rungs = ladder(CameraFormatWish { width: 640, height: 480, fps: 30 });
        for (index, rung) in rungs.iter().enumerate() {
            assert!(!rungs[..index].contains(rung), "{rung}");
        }
        assert!(rungs.len() < 400, "{} rungs", rungs.len());
    }
}
