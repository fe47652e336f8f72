//! The decoder.

#![allow(unsafe_code)] // libvpx is a C library; each block says why it is sound.

use std::ffi::{c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Instant;

use vpx_sys as sys;

use super::header;
use crate::codec::{CodecError, Decoded};
use crate::frame::{Frame, FramePool};

/// More than any picture within the size limit needs, in bytes.
const LARGEST_PICTURE: usize = 4 << 20;

/// Decodes one picture at a time and gives out whole pictures only.
pub struct Vp8Decoder {
    library: Box<sys::vpx_codec_ctx_t>,
    /// Nothing but a key frame is of use: the first picture, or one before was damaged.
    wants_key: bool,
}

// SAFETY: the library's object has no tie to the thread that made it; `&mut self` on every
// method that uses it keeps it from being used by two at once.
unsafe impl Send for Vp8Decoder {}

impl Vp8Decoder {
    /// Starts a decoder.
    pub fn new() -> Result<Self, CodecError> {
        // SAFETY: all zero is a valid context: null pointers, no error, no flags.
        let zero = unsafe { MaybeUninit::<sys::vpx_codec_ctx_t>::zeroed().assume_init() };
        let mut library = Box::new(zero);
        let settings = sys::vpx_codec_dec_cfg { threads: 1, w: 0, h: 0 };
        // SAFETY: the context is ours and stays where it is; the settings are copied.
        let code = unsafe {
            sys::vpx_codec_dec_init_ver(
                &raw mut *library,
                sys::vpx_codec_vp8_dx(),
                &raw const settings,
                0,
                sys::VPX_DECODER_ABI_VERSION as c_int,
            )
        };
        if code != sys::vpx_codec_err_t::VPX_CODEC_OK {
            let code = code as i64;
            return Err(CodecError::Start { codec: "VP8", part: "decoder", code });
        }
        Ok(Self { library, wants_key: true })
    }

    /// Decodes one picture. It comes out at once, unless it is only to be referred to.
    ///
    /// Errors are for what is refused before decoding: pictures larger than 4096x2304, oversized
    /// data. Broken data is [`Decoded::Damaged`], and so is everything after it up to the next
    /// key frame.
    pub fn decode(&mut self, picture: &[u8], pool: &FramePool) -> Result<Decoded, CodecError> {
        if picture.is_empty() {
            return Ok(Decoded::Nothing);
        }
        if picture.len() > LARGEST_PICTURE {
            let len = picture.len();
            return Err(refused(format!("{len} bytes are more than {LARGEST_PICTURE}")));
        }
        let Some(header) = header::parse(picture) else {
            return Ok(self.damaged());
        };
        header.check().map_err(refused)?;
        if self.wants_key && header.size.is_none() {
            return Ok(Decoded::Damaged);
        }
        // SAFETY: the context is alive; the library reads `picture` during the call only.
        let code = unsafe {
            sys::vpx_codec_decode(
                &raw mut *self.library,
                picture.as_ptr(),
                picture.len() as c_uint,
                ptr::null_mut(),
                0,
            )
        };
        if code != sys::vpx_codec_err_t::VPX_CODEC_OK || self.is_corrupted() {
            return Ok(self.damaged());
        }
        self.wants_key = false;
        let decoded = self.take(pool);
        Ok(match decoded {
            Some(frame) => Decoded::Picture(frame),
            None if header.shown => self.damaged(),
            None => Decoded::Nothing,
        })
    }

    fn damaged(&mut self) -> Decoded {
        self.wants_key = true;
        Decoded::Damaged
    }

    /// Whether the last picture, or one it refers to, lacked something.
    fn is_corrupted(&mut self) -> bool {
        let mut corrupted: c_int = 0;
        let what = sys::vp8_dec_control_id::VP8D_GET_FRAME_CORRUPTED as c_int;
        // SAFETY: the context is alive; this control writes one int.
        let code =
            unsafe { sys::vpx_codec_control_(&raw mut *self.library, what, &raw mut corrupted) };
        code != sys::vpx_codec_err_t::VPX_CODEC_OK || corrupted != 0
    }

    /// Copies the picture out of the library's memory.
    fn take(&mut self, pool: &FramePool) -> Option<Frame> {
        let mut iterator: *const c_void = ptr::null();
        // SAFETY: the context is alive; the image is the library's and valid until the next call.
        let image = unsafe {
            sys::vpx_codec_get_frame(&raw mut *self.library, &raw mut iterator).as_ref()
        }?;
        let mut frame = pool.take(image.d_w, image.d_h);
        frame.captured_at = Instant::now();
        if (frame.width(), frame.height()) != (image.d_w, image.d_h) {
            return None; // a side of nothing
        }
        let chroma_width = frame.chroma_width() as usize;
        let widths = [frame.width() as usize, chroma_width, chroma_width];
        let chroma_height = frame.chroma_height() as usize;
        let heights = [frame.height() as usize, chroma_height, chroma_height];
        for (index, target) in frame.planes_mut().into_iter().enumerate() {
            let (source, width) = (image.planes[index], widths[index]);
            let stride = usize::try_from(image.stride[index]).ok()?;
            if source.is_null() || stride < width {
                return None;
            }
            let len = stride * (heights[index] - 1) + width;
            // SAFETY: VP8 is always I420: the plane holds stride x height bytes, of which the
            // last row may end at its width.
            let source = unsafe { std::slice::from_raw_parts(source, len) };
            for (to, from) in target.chunks_exact_mut(width).zip(source.chunks(stride)) {
                to.copy_from_slice(&from[..width]);
            }
        }
        Some(frame)
    }
}

impl Drop for Vp8Decoder {
    fn drop(&mut self) {
        // SAFETY: initialised by `vpx_codec_dec_init_ver`, destroyed once.
        unsafe { sys::vpx_codec_destroy(&raw mut *self.library) };
    }
}

fn refused(reason: String) -> CodecError {
    CodecError::Decode { codec: "VP8", what: "picture", reason }
}
