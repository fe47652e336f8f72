//! What the emulated webcam films: blue on the left, red on the right, and above them the strip
//! with the picture's number.

use std::sync::OnceLock;

use mozjpeg::{ColorSpace, Compress};
use visavis_media::frame::{Frame, FramePool};
use visavis_media::strip;

use super::descriptors::{FORMAT_MJPEG, FORMAT_YUY2, sizes};

/// So many different ones, over and over: an odd number, so that a machine that shows every second
/// or fifth gets to see them all.
pub const PICTURES: u32 = 11;

/// Y, U and V of the two halves.
pub const BLUE: [u8; 3] = [41, 240, 110];
pub const RED: [u8; 3] = [81, 90, 240];

/// Coded pictures of one format and size, both as the host numbers them.
struct Album {
    format: u8,
    size: u8,
    pictures: Vec<Vec<u8>>,
}

/// The pictures of a format and size.
pub fn album(format: u8, size: u8) -> &'static [Vec<u8>] {
    static ALBUMS: OnceLock<Vec<Album>> = OnceLock::new();
    let albums = ALBUMS.get_or_init(|| {
        let mut albums = Vec::new();
        for format in [FORMAT_MJPEG, FORMAT_YUY2] {
            for (index, &(width, height)) in sizes(format).iter().enumerate() {
                let pictures = (0..PICTURES).map(|number| film(number, width, height));
                let coded = pictures.map(|frame| match format {
                    FORMAT_MJPEG => jpeg(&frame),
                    _ => yuy2(&frame),
                });
                let size = index as u8 + 1;
                albums.push(Album { format, size, pictures: coded.collect() });
            }
        }
        albums
    });
    let album = albums.iter().find(|album| (album.format, album.size) == (format, size));
    &album.expect("a format the camera agreed to").pictures
}

fn film(number: u32, width: u32, height: u32) -> Frame {
    let mut frame = FramePool::new().take(width, height);
    let widths = [frame.width(), frame.chroma_width(), frame.chroma_width()];
    for (plane, data) in frame.planes_mut().into_iter().enumerate() {
        for row in data.chunks_exact_mut(widths[plane] as usize) {
            let (left, right) = row.split_at_mut(row.len() / 2);
            left.fill(BLUE[plane]);
            right.fill(RED[plane]);
        }
    }
    strip::write(&mut frame, number);
    frame
}

/// Y, U and V at a pixel.
pub fn pixel(frame: &Frame, x: u32, y: u32) -> [u8; 3] {
    let [luma, u, v] = frame.planes();
    let chroma = (y / 2 * frame.chroma_width() + x / 2) as usize;
    [luma[(y * frame.width() + x) as usize], u[chroma], v[chroma]]
}

fn yuy2(frame: &Frame) -> Vec<u8> {
    let mut packed = Vec::with_capacity((frame.width() * frame.height() * 2) as usize);
    for y in 0..frame.height() {
        for x in 0..frame.width() {
            let [luma, u, v] = pixel(frame, x, y);
            packed.extend([luma, if x % 2 == 0 { u } else { v }]);
        }
    }
    packed
}

/// With chroma at half the width, as webcams do. JPEG's colours are of full range.
fn jpeg(frame: &Frame) -> Vec<u8> {
    let full = |value: u8, black: f32, range: f32, zero: f32| {
        ((f32::from(value) - black) * 255.0 / range + zero).round() as u8
    };
    let mut samples = Vec::with_capacity((frame.width() * frame.height() * 3) as usize);
    for y in 0..frame.height() {
        for x in 0..frame.width() {
            let [luma, u, v] = pixel(frame, x, y);
            samples.push(full(luma, 16.0, 219.0, 0.0));
            samples.extend([u, v].map(|chroma| full(chroma, 128.0, 224.0, 128.0)));
        }
    }
    let mut coder = Compress::new(ColorSpace::JCS_YCbCr);
    coder.set_fastest_defaults();
    coder.set_size(frame.width() as usize, frame.height() as usize);
    coder.set_chroma_sampling_pixel_sizes((2, 1), (2, 1));
    coder.set_quality(80.0);
    let mut coder = coder.start_compress(Vec::new()).expect("a JPEG");
    coder.write_scanlines(&samples).expect("a JPEG");
    coder.finish().expect("a JPEG")
}
