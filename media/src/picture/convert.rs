//! What cameras deliver, turned into I420 of limited range. No I/O, no clock but the frame's own.
//!
//! RGB goes through the crate `yuv`; JPEGs are decoded to their planes without a detour
//! over RGB, then brought from full to limited range (JFIF 1.02, section "RGB to YCbCr";
//! ITU-R BT.601-7, section 2.5.3).

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, CompInfoExt, Decompress};
use yuv::{BufferStoreMut, YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix};

use crate::frame::{Frame, FramePool};

/// How a camera's buffer is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFormat {
    /// Packed 4:2:2: Y0 U Y1 V, limited range.
    Yuyv,
    /// A luma plane, then interleaved chroma at half size; limited range.
    Nv12,
    /// One JPEG with 4:2:0, 4:2:2, 4:4:0 or 4:4:4 chroma, or grey; whatever follows it is ignored.
    Mjpeg,
    /// One byte a pixel, full range.
    Gray,
    /// Three bytes a pixel.
    Rgb,
    /// Three bytes a pixel, blue first.
    Bgr,
    /// Four bytes a pixel, blue first; the fourth means nothing.
    Bgrx,
    /// Four bytes a pixel, red first; the fourth means nothing.
    Rgbx,
}

/// One buffer as a camera delivered it.
#[derive(Clone, Copy, Debug)]
pub struct RawPicture<'a> {
    /// Its layout.
    pub format: RawFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes from one row to the next; 0 where rows are packed. Unused for JPEG.
    pub stride: usize,
    /// The bytes; more than needed is fine.
    pub data: &'a [u8],
}

/// Why a buffer is no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Zero or beyond [`MAX_SIDE`].
    #[error("a picture of {width}x{height} cannot be used (1 to {MAX_SIDE} a side)")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Rows would overlap.
    #[error("rows of {stride} bytes are too short: {needed} are needed")]
    Stride {
        /// Bytes from row to row.
        stride: usize,
        /// Bytes one row takes.
        needed: usize,
    },
    /// The buffer ends too early.
    #[error("the picture is cut off: {got} of {needed} bytes")]
    Short {
        /// Bytes there are.
        got: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// A JPEG of another size than negotiated would come out sheared.
    #[error("the JPEG is {got_width}x{got_height} but {width}x{height} was negotiated")]
    JpegSize {
        /// The JPEG's width.
        got_width: usize,
        /// The JPEG's height.
        got_height: usize,
        /// The negotiated width.
        width: u32,
        /// The negotiated height.
        height: u32,
    },
    /// Not a JPEG, a damaged one, or one cut off.
    #[error("the JPEG cannot be decoded: {0}")]
    Jpeg(String),
    /// The pixel library refused.
    #[error("the picture cannot be converted: {0}")]
    Pixels(String),
}

/// The longest side accepted, in pixels.
pub const MAX_SIDE: u32 = 8192;

/// Converts buffers; keeps its memory between them.
#[derive(Default)]
pub struct Converter {
    pool: FramePool,
    planes: [Vec<u8>; 3],
}

impl Converter {
    /// A converter whose frames come from `pool`.
    pub fn new(pool: FramePool) -> Self {
        Self { pool, planes: Default::default() }
    }

    /// Turns one buffer into a frame. Its `captured_at` is now; the caller knows better.
    ///
    /// # Errors
    /// When the buffer is too short, of another size than told, or damaged. Never panics on it.
    pub fn convert(&mut self, raw: &RawPicture<'_>) -> Result<Frame, ConvertError> {
        let RawPicture { width, height, .. } = *raw;
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(ConvertError::Size { width, height });
        }
        match raw.format {
            RawFormat::Yuyv => self.yuyv(raw),
            RawFormat::Nv12 => self.nv12(raw),
            RawFormat::Gray => self.gray(raw),
            RawFormat::Rgb | RawFormat::Bgr | RawFormat::Bgrx | RawFormat::Rgbx => self.rgb(raw),
            RawFormat::Mjpeg => self.jpeg(raw),
        }
    }

    fn yuyv(&self, raw: &RawPicture<'_>) -> Result<Frame, ConvertError> {
        let row = raw.width.div_ceil(2) as usize * 4;
        let (stride, data) = rows(raw, row, raw.height as usize)?;
        let mut frame = self.pool.take(raw.width, raw.height);
        let (width, height) = (raw.width as usize, raw.height as usize);
        let [y, u, v] = frame.planes_mut();
        for (to, from) in y.chunks_exact_mut(width).zip(data.chunks(stride)) {
            for (to, from) in to.iter_mut().zip(from.chunks_exact(2)) {
                *to = from[0];
            }
        }
        // The crate `yuv` takes every other chroma row; the mean of two costs no more.
        let half = row / 4;
        let targets = u.chunks_exact_mut(half).zip(v.chunks_exact_mut(half));
        for (index, (u, v)) in targets.enumerate() {
            let first = &data[2 * index * stride..][..row];
            let second = &data[(2 * index + 1).min(height - 1) * stride..][..row];
            let sources = first.chunks_exact(4).zip(second.chunks_exact(4));
            for ((u, v), (a, b)) in u.iter_mut().zip(v).zip(sources) {
                *u = mean(a[1], b[1]);
                *v = mean(a[3], b[3]);
            }
        }
        Ok(frame)
    }

    fn nv12(&self, raw: &RawPicture<'_>) -> Result<Frame, ConvertError> {
        let (width, height) = (raw.width as usize, raw.height as usize);
        let chroma_row = width.div_ceil(2) * 2;
        let chroma_height = height.div_ceil(2);
        let (stride, data) = rows(raw, chroma_row, height + chroma_height)?;
        let (luma, chroma) = data.split_at(stride * height);
        let mut frame = self.pool.take(raw.width, raw.height);
        let [y, u, v] = frame.planes_mut();
        for (to, from) in y.chunks_exact_mut(width).zip(luma.chunks(stride)) {
            to.copy_from_slice(&from[..width]);
        }
        let half = chroma_row / 2;
        let targets = u.chunks_exact_mut(half).zip(v.chunks_exact_mut(half));
        for ((u, v), from) in targets.zip(chroma.chunks(stride)) {
            for ((u, v), pair) in u.iter_mut().zip(v).zip(from.chunks_exact(2)) {
                *u = pair[0];
                *v = pair[1];
            }
        }
        Ok(frame)
    }

    fn gray(&self, raw: &RawPicture<'_>) -> Result<Frame, ConvertError> {
        let width = raw.width as usize;
        let (stride, data) = rows(raw, width, raw.height as usize)?;
        let mut frame = self.pool.take(raw.width, raw.height);
        let [y, u, v] = frame.planes_mut();
        for (to, from) in y.chunks_exact_mut(width).zip(data.chunks(stride)) {
            limit_luma(to, from);
        }
        u.fill(128);
        v.fill(128);
        Ok(frame)
    }

    fn rgb(&self, raw: &RawPicture<'_>) -> Result<Frame, ConvertError> {
        let bytes = if matches!(raw.format, RawFormat::Bgrx | RawFormat::Rgbx) { 4 } else { 3 };
        let (stride, data) = rows(raw, raw.width as usize * bytes, raw.height as usize)?;
        // The crate insists on the padding after the last row.
        let needed = stride * raw.height as usize;
        if data.len() < needed {
            return Err(ConvertError::Short { got: data.len(), needed });
        }
        let convert = match raw.format {
            RawFormat::Rgb => yuv::rgb_to_yuv420,
            RawFormat::Bgr => yuv::bgr_to_yuv420,
            RawFormat::Rgbx => yuv::rgba_to_yuv420,
            _ => yuv::bgra_to_yuv420,
        };
        let mut frame = self.pool.take(raw.width, raw.height);
        convert(
            &mut planar(&mut frame),
            data,
            as_u32(stride),
            YuvRange::Limited,
            YuvStandardMatrix::Bt601,
            YuvConversionMode::Balanced,
        )
        .map_err(|error| ConvertError::Pixels(error.to_string()))?;
        Ok(frame)
    }

    fn jpeg(&mut self, raw: &RawPicture<'_>) -> Result<Frame, ConvertError> {
        // The decoder reports fatal errors by unwinding out of C.
        let planes = &mut self.planes;
        let layout = catch_unwind(AssertUnwindSafe(|| decode_jpeg(raw, planes)))
            .unwrap_or_else(|panic| Err(ConvertError::Jpeg(panic_text(panic.as_ref()))))?;

        let (width, height) = (raw.width as usize, raw.height as usize);
        let mut frame = self.pool.take(raw.width, raw.height);
        let [y, u, v] = frame.planes_mut();
        for (to, from) in
            y.chunks_exact_mut(width).zip(self.planes[0].chunks_exact(layout.luma_stride))
        {
            limit_luma(to, from);
        }
        let Some(chroma) = layout.chroma else {
            u.fill(128);
            v.fill(128);
            return Ok(frame);
        };
        let source = chroma.size(width, height);
        for (to, from) in [(u, &self.planes[1]), (v, &self.planes[2])] {
            halve_chroma(to, width.div_ceil(2), from, &chroma, source);
        }
        Ok(frame)
    }
}

/// How a decoded JPEG's planes lie.
struct JpegLayout {
    luma_stride: usize,
    /// None for a grey picture.
    chroma: Option<JpegChroma>,
}

struct JpegChroma {
    stride: usize,
    /// Luma samples a chroma sample, 1 or 2.
    across: usize,
    /// Luma rows a chroma row, 1 or 2.
    down: usize,
}

impl JpegChroma {
    /// Columns and rows that carry picture rather than padding.
    fn size(&self, width: usize, height: usize) -> (usize, usize) {
        (width.div_ceil(self.across), height.div_ceil(self.down))
    }
}

fn decode_jpeg(
    raw: &RawPicture<'_>,
    planes: &mut [Vec<u8>; 3],
) -> Result<JpegLayout, ConvertError> {
    let failed = |error: std::io::Error| ConvertError::Jpeg(error.to_string());
    // The decoder fakes an end where data stops; it must at least begin like a JPEG.
    if !raw.data.starts_with(&[0xFF, 0xD8]) {
        return Err(ConvertError::Jpeg("it does not start like one".into()));
    }
    let decoder = Decompress::new_mem(raw.data).map_err(failed)?;
    let (got_width, got_height) = decoder.size();
    if (got_width, got_height) != (raw.width as usize, raw.height as usize) {
        return Err(ConvertError::JpegSize {
            got_width,
            got_height,
            width: raw.width,
            height: raw.height,
        });
    }
    let layout = jpeg_layout(&decoder)?;
    for plane in &mut *planes {
        plane.clear();
    }
    let mut started = decoder.raw().map_err(failed)?;
    let [y, u, v] = planes;
    started.read_raw_data(&mut [y, u, v]);
    let rest = started.finish_into_inner().map_err(failed)?;
    let used = &raw.data[..raw.data.len() - rest.len()];
    if !used.ends_with(&[0xFF, 0xD9]) {
        return Err(ConvertError::Jpeg(format!("it is cut off after {} bytes", used.len())));
    }
    Ok(layout)
}

fn jpeg_layout(decoder: &Decompress<&[u8]>) -> Result<JpegLayout, ConvertError> {
    let unsupported = |what: String| Err(ConvertError::Jpeg(what));
    let components = decoder.components();
    match (decoder.color_space(), components) {
        (ColorSpace::JCS_GRAYSCALE, [y]) => {
            Ok(JpegLayout { luma_stride: y.row_stride(), chroma: None })
        }
        (ColorSpace::JCS_YCbCr, [y, u, v]) => {
            let ((yh, yv), (uh, uv)) = (y.sampling(), u.sampling());
            let fits = |luma: u8, chroma: u8| {
                chroma > 0 && luma.is_multiple_of(chroma) && (1..=2).contains(&(luma / chroma))
            };
            if u.sampling() != v.sampling() || !fits(yh, uh) || !fits(yv, uv) {
                return unsupported(format!("chroma of {uh}x{uv} to luma of {yh}x{yv}"));
            }
            Ok(JpegLayout {
                luma_stride: y.row_stride(),
                chroma: Some(JpegChroma {
                    stride: u.row_stride(),
                    across: usize::from(yh / uh),
                    down: usize::from(yv / uv),
                }),
            })
        }
        (space, components) => {
            unsupported(format!("{space:?} with {} components", components.len()))
        }
    }
}

/// Brings one JPEG chroma plane to half width and half height and to limited range.
fn halve_chroma(
    to: &mut [u8],
    to_width: usize,
    from: &[u8],
    layout: &JpegChroma,
    (from_width, from_height): (usize, usize),
) {
    let row = |index: usize| {
        let start = index.min(from_height - 1) * layout.stride;
        &from[start..start + from_width]
    };
    for (index, to) in to.chunks_exact_mut(to_width).enumerate() {
        let (first, second) = match layout.down {
            2 => (row(index), row(index)),
            _ => (row(2 * index), row(2 * index + 1)),
        };
        if layout.across == 2 {
            for ((to, a), b) in to.iter_mut().zip(first).zip(second) {
                *to = limited_chroma(u32::from(mean(*a, *b)));
            }
        } else {
            for ((to, a), b) in to.iter_mut().zip(first.chunks(2)).zip(second.chunks(2)) {
                let pair = |c: &[u8]| u32::from(c[0]) + u32::from(c[c.len() - 1]);
                *to = limited_chroma((pair(a) + pair(b) + 2) / 4);
            }
        }
    }
}

fn mean(a: u8, b: u8) -> u8 {
    (u16::from(a) + u16::from(b)).div_ceil(2) as u8
}

fn limit_luma(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = limited_luma(u32::from(*from));
    }
}

/// 0..255 to 16..235 in 16.16 fixed point, rounded.
fn limited_luma(full: u32) -> u8 {
    ((full * 56284 + (16 << 16) + 32768) >> 16) as u8
}

/// 0..255 around 128 to 16..240 around 128 in 16.16 fixed point, rounded.
fn limited_chroma(full: u32) -> u8 {
    ((full * 57569 + 1_019_776 + 32768) >> 16) as u8
}

/// Checks that `count` rows of `row` bytes lie in the buffer; the stride and exactly those.
fn rows<'a>(
    raw: &RawPicture<'a>,
    row: usize,
    count: usize,
) -> Result<(usize, &'a [u8]), ConvertError> {
    let stride = if raw.stride == 0 { row } else { raw.stride };
    // u32 is what the pixel library counts in.
    if stride < row || stride > MAX_SIDE as usize * 8 {
        return Err(ConvertError::Stride { stride, needed: row });
    }
    // Drivers may leave out the padding after the last row.
    let needed = stride * (count - 1) + row;
    let got = raw.data.len();
    if got < needed {
        return Err(ConvertError::Short { got, needed });
    }
    Ok((stride, &raw.data[..got.min(stride * count)]))
}

fn planar(frame: &mut Frame) -> YuvPlanarImageMut<'_, u8> {
    let (width, height, chroma) = (frame.width(), frame.height(), frame.chroma_width());
    let [y, u, v] = frame.planes_mut();
    YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: width,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: chroma,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: chroma,
        width,
        height,
    }
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("the decoder gave up")
        .trim_start_matches("libjpeg fatal error: ")
        .to_owned()
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
