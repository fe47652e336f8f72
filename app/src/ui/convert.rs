//! Frames to pixels, by the processor.

use std::sync::Arc;

use eframe::egui::{Color32, ColorImage, Vec2};
use visavis_media::frame::{Frame, FramePool, Matrix};
use visavis_media::picture::scale;
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix};

/// How often `frame` can be halved and still has the `pixels` it is to fill.
pub fn halvings(frame: &Frame, pixels: Vec2) -> u32 {
    let fits = |side: u32, wanted: f32, halved: u32| (side >> halved) as f32 >= wanted.max(2.0);
    (1..=8)
        .take_while(|halved| {
            fits(frame.width(), pixels.x, *halved) && fits(frame.height(), pixels.y, *halved)
        })
        .count() as u32
}

/// Converts `frame`, `halvings` times halved, into `image` (of that size), whose memory is reused
/// once the painter has let go of it.
pub fn convert(frame: &Frame, halvings: u32, pool: &FramePool, image: &mut Arc<ColorImage>) {
    if halvings > 0 {
        let half = scale::resize(frame, frame.width() / 2, frame.height() / 2, pool);
        return convert(&half, halvings - 1, pool, image);
    }
    if Arc::get_mut(image).is_none() {
        *image = Arc::new(ColorImage::filled(image.size, Color32::BLACK));
    }
    let Some(pixels) = Arc::get_mut(image) else {
        return;
    };
    let stride = frame.width() * 4;
    let (planes, matrix) = planes(frame);
    let range = YuvRange::Limited;
    said(yuv::yuv420_to_rgba(&planes, pixels.as_raw_mut(), stride, range, matrix));
}

/// Converts `frame` into `pixels`, which takes its size: blue, green, red, 255.
pub fn convert_bgra(frame: &Frame, pixels: &mut Vec<u8>) {
    let stride = frame.width() * 4;
    pixels.resize(stride as usize * frame.height() as usize, 0);
    let (planes, matrix) = planes(frame);
    said(yuv::yuv420_to_bgra(&planes, pixels, stride, YuvRange::Limited, matrix));
}

/// Planes and image have the same size by construction: only a fault of ours gets here.
fn said(result: Result<(), yuv::YuvError>) {
    if let Err(error) = result {
        tracing::error!("a picture cannot be shown: {error}");
    }
}

fn planes(frame: &Frame) -> (YuvPlanarImage<'_, u8>, YuvStandardMatrix) {
    let [y_plane, u_plane, v_plane] = frame.planes();
    let planes = YuvPlanarImage {
        y_plane,
        y_stride: frame.width(),
        u_plane,
        u_stride: frame.chroma_width(),
        v_plane,
        v_stride: frame.chroma_width(),
        width: frame.width(),
        height: frame.height(),
    };
    let matrix = match frame.matrix {
        Matrix::Bt601 => YuvStandardMatrix::Bt601,
        Matrix::Bt709 => YuvStandardMatrix::Bt709,
    };
    (planes, matrix)
}

#[cfg(test)]
mod tests {
    use eframe::egui::vec2;

    use super::*;

    #[test]
    fn the_matrix_of_a_frame_decides_its_colours() {
        let pool = FramePool::new();
        let mut colours = Vec::new();
        for matrix in [Matrix::Bt601, Matrix::Bt709] {
            let mut frame = pool.take(4, 4);
            frame.matrix = matrix;
            let [y, u, v] = frame.planes_mut();
            y.fill(81);
            u.fill(90);
            v.fill(240);
            let mut image = Arc::new(ColorImage::filled([4, 4], Color32::BLACK));
            convert(&frame, 0, &pool, &mut image);
            colours.push(image.pixels[5]);
        }
        // BT.601's pure red (BT.601-7, limited range).
        assert!(colours[0].r() > 250 && colours[0].g() < 5 && colours[0].b() < 5);
        assert_ne!(colours[0], colours[1]);
    }

    #[test]
    fn a_large_picture_for_a_small_place_is_halved() {
        let pool = FramePool::new();
        let frame = pool.black(1280, 720);
        let halved = |width, height| halvings(&frame, vec2(width, height));
        assert_eq!(halved(1280.0, 720.0), 0);
        assert_eq!(halved(700.0, 300.0), 0);
        assert_eq!(halved(640.0, 360.0), 1);
        assert_eq!(halved(242.0, 136.0), 2);
        assert_eq!(halved(0.0, 0.0), 8);
        let mut image = Arc::new(ColorImage::filled([320, 180], Color32::WHITE));
        convert(&frame, 2, &pool, &mut image);
        assert_eq!(image.pixels[320 * 179 + 319], Color32::BLACK);
    }
}
