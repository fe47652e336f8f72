//! The decoder.

#![allow(unsafe_code)] // openh264 is a C++ library; each block says why it is sound.

use super::{Reference, sps};
use crate::annexb::nal_units;
use crate::codec::{CodecError, Decoded};
use crate::frame::{Frame, FramePool, Matrix};
use openh264_sys2 as sys;
use std::ffi::{c_int, c_long, c_void};
use std::ptr::{self, NonNull};
use std::time::Instant;

/// More than any picture within the size limit needs, in bytes.
const LARGEST_ACCESS_UNIT: usize = 4 << 20;

/// NAL unit types (ITU-T H.264, table 7-1).
const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;

/// Decodes one access unit at a time and gives out whole pictures only.
pub struct H264Decoder {
    library: NonNull<sys::ISVCDecoder>,
    matrix: Matrix,
    /// Whether the stream's profile may deliver pictures later than their access units.
    delays: bool,
}

// SAFETY: the library's object has no tie to the thread that made it; `&mut self` on every
// method that uses it keeps it from being used by two at once.
unsafe impl Send for H264Decoder {}

impl H264Decoder {
    /// Starts a decoder.
    pub fn new() -> Result<Self, CodecError> {
        Ok(Self { library: start()?, matrix: Matrix::default(), delays: false })
    }

    /// Decodes one access unit in Annex B form. The picture comes out at once.
    ///
    /// Errors are for what is refused before decoding: streams larger than 4096x2304, other
    /// codecs' layers, oversized access units. Broken data is [`Decoded::Damaged`].
    pub fn decode(&mut self, access_unit: &[u8], pool: &FramePool) -> Result<Decoded, CodecError> {
        if access_unit.len() > LARGEST_ACCESS_UNIT {
            return Err(refused(format!(
                "{} bytes are more than {LARGEST_ACCESS_UNIT}",
                access_unit.len()
            )));
        }
        let (mut has_slice, mut has_idr, mut has_sps) = (false, false, false);
        let mut units = 0;
        for unit in nal_units(access_unit) {
            units += 1;
            match unit.first().map_or(0, |header| header & 0x1f) {
                SLICE => has_slice = true,
                IDR_SLICE => (has_slice, has_idr) = (true, true),
                SPS => {
                    has_sps = true;
                    let Some(found) = sps::parse(unit) else {
                        return Ok(Decoded::Damaged);
                    };
                    found.check().map_err(refused)?;
                    self.matrix = found.matrix;
                    self.delays = found.profile != sps::BASELINE;
                }
                // SEI, PPS, delimiters, ends, filler.
                6 | 8..=12 => {}
                // Partitions, scalable and multiview layers: never negotiated, rarely tested.
                other => return Err(refused(format!("NAL units of type {other} are not used"))),
            }
        }
        if units == 0 {
            return Ok(if access_unit.is_empty() { Decoded::Nothing } else { Decoded::Damaged });
        }
        let decoded = self.decode_checked(access_unit, has_slice, pool)?;
        if matches!(decoded, Decoded::Damaged) && has_idr && has_sps {
            // Remains of broken data can spoil even a whole key frame; it needs nothing that
            // came before it.
            self.restart()?;
            return self.decode_checked(access_unit, has_slice, pool);
        }
        Ok(decoded)
    }

    /// The long-term reference that the picture just decoded told to keep, if it did: to be
    /// confirmed to the sender.
    pub fn marked_reference(&self) -> Option<Reference> {
        let marked = self.option(sys::DECODER_OPTION_LTR_MARKING_FLAG)? == 1;
        let frame = self.option(sys::DECODER_OPTION_LTR_MARKED_FRAME_NUM).filter(|_| marked)?;
        Some(Reference {
            idr: self.option(sys::DECODER_OPTION_IDR_PIC_ID)? as u16,
            frame: frame as u16,
        })
    }

    /// The picture just decoded.
    pub fn position(&self) -> Option<Reference> {
        let idr = self.option(sys::DECODER_OPTION_IDR_PIC_ID)?;
        let frame = self.option(sys::DECODER_OPTION_FRAME_NUM)?;
        Some(Reference { idr: u16::try_from(idr).ok()?, frame: u16::try_from(frame).ok()? })
    }

    fn option(&self, option: sys::DECODER_OPTION) -> Option<c_int> {
        let mut value: c_int = 0;
        // SAFETY: the object is alive; the options asked for in this file are all of type int.
        let code = unsafe {
            method(self.table().GetOption).ok()?(
                self.library.as_ptr(),
                option,
                (&raw mut value).cast::<c_void>(),
            )
        };
        (code == 0).then_some(value)
    }

    fn decode_checked(
        &mut self,
        access_unit: &[u8],
        has_slice: bool,
        pool: &FramePool,
    ) -> Result<Decoded, CodecError> {
        let mut planes: [*mut u8; 3] = [ptr::null_mut(); 3];
        let mut info = sys::SBufferInfo::default();
        // SAFETY: the object is alive; the library reads `access_unit` during the call only, and
        // writes three pointers and one structure.
        let state = unsafe {
            method(self.table().DecodeFrameNoDelay)?(
                self.library.as_ptr(),
                access_unit.as_ptr(),
                access_unit.len() as c_int,
                planes.as_mut_ptr(),
                &raw mut info,
            )
        };
        const FATAL: sys::DECODING_STATE =
            sys::dsInvalidArgument | sys::dsInitialOptExpected | sys::dsOutOfMemory;
        if state & FATAL != 0 {
            self.restart()?;
            return Ok(Decoded::Damaged);
        }
        if state != sys::dsErrorFree {
            return Ok(Decoded::Damaged);
        }
        if info.iBufferStatus != 1 {
            let due = has_slice && !self.delays;
            return Ok(if due { Decoded::Damaged } else { Decoded::Nothing });
        }
        // SAFETY: with status 1 and no error the pointers are to the decoder's own picture,
        // valid until the next call; the union has this one member.
        Ok(unsafe { self.copy_out(planes, &info.UsrData.sSystemBuffer, pool) }
            .map_or(Decoded::Damaged, Decoded::Picture))
    }

    /// # Safety
    /// Each plane must be null or hold its stride times its height in bytes.
    unsafe fn copy_out(
        &self,
        planes: [*mut u8; 3],
        layout: &sys::SSysMEMBuffer,
        pool: &FramePool,
    ) -> Option<Frame> {
        let width = u32::try_from(layout.iWidth).ok().filter(|&width| width > 0)?;
        let height = u32::try_from(layout.iHeight).ok().filter(|&height| height > 0)?;
        let [luma_stride, chroma_stride] = layout.iStride.map(|stride| stride.max(0) as usize);
        let mut frame = pool.take(width, height);
        frame.matrix = self.matrix;
        frame.captured_at = Instant::now();
        let chroma_width = frame.chroma_width() as usize;
        let widths = [width as usize, chroma_width, chroma_width];
        let strides = [luma_stride, chroma_stride, chroma_stride];
        let plane_heights = [height, frame.chroma_height(), frame.chroma_height()];
        for (index, target) in frame.planes_mut().into_iter().enumerate() {
            let (source, width, stride) = (planes[index], widths[index], strides[index]);
            if source.is_null() || stride < width {
                return None;
            }
            let rows = plane_heights[index] as usize;
            // SAFETY: promised by the caller; the last row may end at its width.
            let source = unsafe { std::slice::from_raw_parts(source, stride * (rows - 1) + width) };
            for (to, from) in target.chunks_exact_mut(width).zip(source.chunks(stride)) {
                to.copy_from_slice(&from[..width]);
            }
        }
        Some(frame)
    }

    fn restart(&mut self) -> Result<(), CodecError> {
        let fresh = start()?;
        destroy(std::mem::replace(&mut self.library, fresh));
        Ok(())
    }

    fn table(&self) -> &sys::ISVCDecoderVtbl {
        // SAFETY: a live object points to its table of methods, which is never freed.
        unsafe { &**self.library.as_ptr() }
    }
}

impl Drop for H264Decoder {
    fn drop(&mut self) {
        destroy(self.library);
    }
}

fn start() -> Result<NonNull<sys::ISVCDecoder>, CodecError> {
    let mut decoder: *mut sys::ISVCDecoder = ptr::null_mut();
    // SAFETY: the library writes one pointer to the place given.
    let code = unsafe { sys::source::APILoader::WelsCreateDecoder(&raw mut decoder) };
    let library = NonNull::new(decoder).filter(|_| code == 0).ok_or(start_error(code))?;
    // It would otherwise write to standard error.
    let mut quiet: c_int = sys::WELS_LOG_QUIET;
    let mut parameters = sys::SDecodingParam {
        // Without concealment one lost picture makes it refuse everything up to an IDR, even
        // recovery from a long-term reference.
        eEcActiveIdc: sys::ERROR_CON_SLICE_COPY,
        ..Default::default()
    };
    parameters.sVideoProperty.size = size_of::<sys::SVideoProperty>() as u32;
    parameters.sVideoProperty.eVideoBsType = sys::VIDEO_BITSTREAM_AVC;
    // SAFETY: the object is alive and its table complete; both values are of the types the
    // library documents and are read during the calls only.
    let code = unsafe {
        let table = &**library.as_ptr();
        method(table.SetOption)?(
            library.as_ptr(),
            sys::DECODER_OPTION_TRACE_LEVEL,
            (&raw mut quiet).cast::<c_void>(),
        );
        method(table.Initialize)?(library.as_ptr(), &raw const parameters)
    };
    if code != 0 {
        destroy(library);
        return Err(start_error(code));
    }
    Ok(library)
}

fn destroy(library: NonNull<sys::ISVCDecoder>) {
    // SAFETY: made by `WelsCreateDecoder` and given up by the caller; destroying releases all.
    unsafe { sys::source::APILoader::WelsDestroyDecoder(library.as_ptr()) }
}

#[allow(clippy::useless_conversion)] // of 32 bits under Windows
fn start_error(code: c_long) -> CodecError {
    CodecError::Start { codec: "H.264", part: "decoder", code: code.into() }
}

fn method<F>(entry: Option<F>) -> Result<F, CodecError> {
    entry.ok_or(start_error(-1))
}

fn refused(reason: String) -> CodecError {
    CodecError::Decode { codec: "H.264", what: "access unit", reason }
}
