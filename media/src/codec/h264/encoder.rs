//! The encoder.

#![allow(unsafe_code)] // openh264 is a C++ library; each block says why it is sound.

use super::Reference;
use super::key_frame::KeyFrameModel;
use crate::codec::{CodecError, EncodedPicture};
use crate::frame::{Frame, Matrix};
use crate::units::Bitrate;
use bytes::{Bytes, BytesMut};
use openh264_sys2 as sys;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::time::Instant;

/// Bitrates openh264 tracks; others are clamped to these.
const LOWEST: Bitrate = Bitrate::from_kbps(30);
const HIGHEST: Bitrate = Bitrate::from_kbps(14_000);

/// The smallest and largest side the encoder takes, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 16..=4096;

/// What an [`H264Encoder`] starts with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct H264Config {
    /// Width in pixels. The last column of an odd width is not sent.
    pub width: u32,
    /// Height in pixels. The last row of an odd height is not sent.
    pub height: u32,
    /// The frame rate the bitrate is spread over, in frames a second.
    pub max_fps: f32,
    /// Target bitrate, without packet overhead.
    pub bitrate: Bitrate,
    /// The finest quantisation parameter to use, 0 to 51.
    pub quantizer_floor: u8,
}

/// Encodes pictures for real-time use: every picture refers only to the one before it, key
/// frames come only when asked for, and each carries its SPS and PPS.
pub struct H264Encoder {
    library: NonNull<sys::ISVCEncoder>,
    config: H264Config,
    matrix: Matrix,
    epoch: Option<Instant>,
    output: Box<sys::SFrameBSInfo>,
    key_frames: KeyFrameModel,
    /// What a key frame may take, in bytes.
    key_frame_size: Option<usize>,
    /// Nothing was encoded yet at this size: the next picture is a key frame.
    fresh: bool,
}

// SAFETY: the library's object has no tie to the thread that made it; `&mut self` on every
// method that uses it keeps it from being used by two at once.
unsafe impl Send for H264Encoder {}

impl H264Encoder {
    /// Starts an encoder. Fails for sizes outside 16x16 to 4096x4096.
    pub fn new(config: H264Config) -> Result<Self, CodecError> {
        Self::start(usable(config)?, Matrix::default())
    }

    fn start(config: H264Config, matrix: Matrix) -> Result<Self, CodecError> {
        let mut encoder: *mut sys::ISVCEncoder = ptr::null_mut();
        // SAFETY: the library writes one pointer to the place given.
        let code = unsafe { sys::source::APILoader::WelsCreateSVCEncoder(&raw mut encoder) };
        let library = NonNull::new(encoder).filter(|_| code == 0).ok_or(start_error(code))?;
        let mut this = Self {
            library,
            config,
            matrix,
            epoch: None,
            output: Box::default(),
            key_frames: KeyFrameModel::default(),
            key_frame_size: None,
            fresh: true,
        };
        // It would otherwise write to standard error.
        let mut quiet: c_int = sys::WELS_LOG_QUIET;
        this.set_option(sys::ENCODER_OPTION_TRACE_LEVEL, &mut quiet, || "a log level".into())?;
        let parameters = this.parameters()?;
        // SAFETY: the object is alive and its table complete; the parameters are a copy that the
        // library reads during the call only.
        let code = unsafe {
            method(this.table().InitializeExt)?(this.library.as_ptr(), &raw const parameters)
        };
        if code != 0 { Err(start_error(code)) } else { Ok(this) }
    }

    /// What it encodes now.
    pub fn config(&self) -> H264Config {
        self.config
    }

    /// What key frames may take from now on, in bytes: one that fills a slow link holds up
    /// everything behind it. They get as good as that allows.
    pub fn set_key_frame_size(&mut self, bytes: usize) {
        self.key_frame_size = Some(bytes);
    }

    /// Encodes one picture; `Frame::captured_at` must not run backwards. A picture of another
    /// size or colour matrix than the last reconfigures the encoder, and a key frame follows.
    /// Returns nothing where rate control drops the picture.
    pub fn encode(
        &mut self,
        frame: &Frame,
        force_key_frame: bool,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        let (width, height) = (frame.width() & !1, frame.height() & !1);
        if frame.matrix != self.matrix {
            // Colours alone would not make the library write its parameter sets anew.
            let config = usable(H264Config { width, height, ..self.config })?;
            let learnt = (self.key_frames.clone(), self.key_frame_size);
            *self = Self::start(config, frame.matrix)?;
            (self.key_frames, self.key_frame_size) = learnt;
        } else if (width, height) != (self.config.width, self.config.height) {
            self.resize(width, height)?;
        }
        let key_frame = force_key_frame | std::mem::take(&mut self.fresh);
        match self.key_frame_size {
            Some(size) if key_frame => self.encode_key_frame(frame, size),
            _ => self.encode_once(frame, force_key_frame),
        }
    }

    /// Encodes a key frame of at most about `size` bytes.
    fn encode_key_frame(
        &mut self,
        frame: &Frame,
        size: usize,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        let bitrate = self.config.bitrate;
        let mut encoded = None;
        let mut named = None;
        for _ in 0..2 {
            let name = self.key_frames.bitrate(bitrate).max(LOWEST);
            if named.replace(name) == Some(name) {
                break; // it would be the same again
            }
            self.set_bitrate(name)?;
            let outcome = self.encode_once(frame, true);
            self.set_bitrate(bitrate)?;
            encoded = outcome?;
            let Some(picture) = &encoded else { break };
            if !self.key_frames.handle_encoded(size, picture.data.len()) {
                break;
            }
        }
        Ok(encoded)
    }

    fn encode_once(
        &mut self,
        frame: &Frame,
        force_key_frame: bool,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        let (width, height) = (self.config.width, self.config.height);
        if force_key_frame {
            // SAFETY: the object is alive, the call has no memory in common with us.
            unsafe { method(self.table().ForceIntraFrame)?(self.library.as_ptr(), true) };
        }
        let epoch = *self.epoch.get_or_insert(frame.captured_at);
        let [y, u, v] = frame.planes();
        let luma_stride = frame.width() as c_int;
        let chroma_stride = frame.chroma_width() as c_int;
        let picture = sys::SSourcePicture {
            iColorFormat: sys::videoFormatI420,
            iStride: [luma_stride, chroma_stride, chroma_stride, 0],
            pData: [
                y.as_ptr().cast_mut(),
                u.as_ptr().cast_mut(),
                v.as_ptr().cast_mut(),
                ptr::null_mut(),
            ],
            iPicWidth: width as c_int,
            iPicHeight: height as c_int,
            uiTimeStamp: frame.captured_at.saturating_duration_since(epoch).as_millis() as i64,
            ..Default::default()
        };
        // SAFETY: the planes hold at least stride x height bytes each (see `Frame`) and outlive
        // the call; the library copies them and writes only to `output`.
        let code = unsafe {
            method(self.table().EncodeFrame)?(
                self.library.as_ptr(),
                &raw const picture,
                &raw mut *self.output,
            )
        };
        if code != 0 {
            return Err(CodecError::Encode {
                codec: "H.264",
                what: format!("a picture of {width}x{height}"),
                reason: format!("openh264 returned {code}"),
            });
        }
        let kind = self.output.eFrameType;
        if kind == sys::videoFrameTypeSkip || kind == sys::videoFrameTypeInvalid {
            return Ok(None);
        }
        let (data, temporal_layer) = self.collect();
        let key_frame = kind == sys::videoFrameTypeIDR;
        Ok((!data.is_empty()).then_some(EncodedPicture {
            data,
            key_frame,
            temporal_layer,
            width,
            height,
        }))
    }

    /// Changes the target bitrate, up or down, without a key frame; reached within about half a
    /// second. Clamped to 30 kbit/s..14 Mbit/s.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), CodecError> {
        let bitrate = bitrate.clamp(LOWEST, HIGHEST);
        let mut info =
            sys::SBitrateInfo { iLayer: sys::SPATIAL_LAYER_ALL, iBitrate: bitrate.bps() as c_int };
        self.set_option(sys::ENCODER_OPTION_BITRATE, &mut info, || format!("{bitrate}"))?;
        self.config.bitrate = bitrate;
        Ok(())
    }

    /// The other end has decoded, and keeps, this long-term reference.
    pub fn confirm_reference(&mut self, reference: Reference) -> Result<(), CodecError> {
        let mut feedback = sys::SLTRMarkingFeedback {
            uiFeedbackType: sys::LTR_MARKING_SUCCESS as u32,
            uiIDRPicId: u32::from(reference.idr),
            iLTRFrameNum: c_int::from(reference.frame),
            iLayerId: 0,
        };
        let setting = || "a confirmed reference".into();
        self.set_option(sys::ENCODER_LTR_MARKING_FEEDBACK, &mut feedback, setting)
    }

    /// At the other end `good` was the last undamaged picture and the one numbered `damaged` is
    /// the newest: the next one refers to a confirmed reference, or is a key frame if there is
    /// none. A request about another key frame's pictures is ignored.
    pub fn recover(&mut self, good: Reference, damaged: u16) -> Result<(), CodecError> {
        let mut request = sys::SLTRRecoverRequest {
            uiFeedbackType: sys::LTR_RECOVERY_REQUEST as u32,
            uiIDRPicId: u32::from(good.idr),
            iLastCorrectFrameNum: c_int::from(good.frame),
            iCurrentFrameNum: c_int::from(damaged),
            iLayerId: 0,
        };
        let setting = || "a recovery".into();
        self.set_option(sys::ENCODER_LTR_RECOVERY_REQUEST, &mut request, setting)
    }

    /// Tells at what rate pictures will come from now on, without a key frame.
    pub fn set_frame_rate(&mut self, max_fps: f32) -> Result<(), CodecError> {
        let fps = usable_fps(max_fps);
        let mut value = fps;
        self.set_option(sys::ENCODER_OPTION_FRAME_RATE, &mut value, || format!("{fps} frames/s"))?;
        self.config.max_fps = fps;
        // Rate control takes the new frame rate up only with the bitrate.
        self.set_bitrate(self.config.bitrate)
    }

    /// Changes the finest quantisation parameter. A key frame follows a change.
    pub fn set_quantizer_floor(&mut self, floor: u8) -> Result<(), CodecError> {
        if floor == self.config.quantizer_floor {
            return Ok(());
        }
        self.config.quantizer_floor = floor;
        self.resize(self.config.width, self.config.height)
    }

    fn resize(&mut self, width: u32, height: u32) -> Result<(), CodecError> {
        self.config = usable(H264Config { width, height, ..self.config })?;
        self.fresh = true;
        let mut parameters = self.parameters()?;
        self.set_option(sys::ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, &mut parameters, || {
            format!("a picture of {width}x{height}")
        })
    }

    fn parameters(&self) -> Result<sys::SEncParamExt, CodecError> {
        let H264Config { width, height, max_fps, bitrate, quantizer_floor } = self.config;
        let mut all = sys::SEncParamExt::default();
        // SAFETY: the object is alive; the library fills the structure it is given.
        let code =
            unsafe { method(self.table().GetDefaultParams)?(self.library.as_ptr(), &raw mut all) };
        if code != 0 {
            return Err(start_error(code));
        }
        all.iUsageType = sys::CAMERA_VIDEO_REAL_TIME;
        all.iPicWidth = width as c_int;
        all.iPicHeight = height as c_int;
        all.fMaxFrameRate = max_fps;
        all.iTargetBitrate = bitrate.bps() as c_int;
        all.iRCMode = sys::RC_BITRATE_MODE;
        // Skipping would drop the very pictures after a key frame; the overshoot control
        // alone held 1001 kbit/s of 1000 asked for.
        all.bEnableFrameSkip = false;
        all.bFixRCOverShoot = true;
        all.iMinQp = c_int::from(quantizer_floor.min(51));
        // Medium costs 1.5 ms more a 720p picture and gains 0.2 dB.
        all.iComplexityMode = sys::LOW_COMPLEXITY;
        all.iMultipleThreadIdc = 1;
        all.uiIntraPeriod = 0;
        // Whoever feeds it knows better (see `picture/cut.rs`).
        all.bEnableSceneChangeDetect = false;
        // It holds a still background back; without, 720p gains 0.6 dB in the same time.
        all.bEnableBackgroundDetection = false;
        all.bEnableDenoise = false;
        // CABAC would come out of the decoder one picture late.
        all.iEntropyCodingModeFlag = 0;
        all.eSpsPpsIdStrategy = sys::CONSTANT_ID;
        // Kept by both ends, so that a lost picture need not cost a key frame.
        all.bEnableLongTermReference = true;
        all.iLTRRefNum = 2;
        all.iLtrMarkPeriod = 10;
        all.iSpatialLayerNum = 1;
        all.iTemporalLayerNum = 1;
        let [layer, ..] = &mut all.sSpatialLayers;
        layer.iVideoWidth = width as c_int;
        layer.iVideoHeight = height as c_int;
        layer.fFrameRate = max_fps;
        layer.iSpatialBitrate = bitrate.bps() as c_int;
        // Left open, so that the level's limit holds and the target may be raised later.
        layer.iMaxSpatialBitrate = 0;
        layer.uiProfileIdc = sys::PRO_BASELINE;
        layer.uiLevelIdc = level(width, height, max_fps);
        layer.sSliceArgument.uiSliceMode = sys::SM_SINGLE_SLICE;
        if self.matrix == Matrix::Bt709 {
            layer.bVideoSignalTypePresent = true;
            layer.uiVideoFormat = sys::VF_UNDEF as u8;
            layer.bFullRange = false;
            layer.bColorDescriptionPresent = true;
            layer.uiColorPrimaries = sys::CP_BT709 as u8;
            layer.uiTransferCharacteristics = sys::TRC_BT709 as u8;
            layer.uiColorMatrix = sys::CM_BT709 as u8;
        }
        Ok(all)
    }

    /// Copies out what the last call left in the library's memory.
    fn collect(&self) -> (Bytes, u8) {
        let mut data = BytesMut::with_capacity(self.output.iFrameSizeInBytes.max(0) as usize);
        let mut temporal_layer = 0;
        let count = (self.output.iLayerNum.max(0) as usize).min(self.output.sLayerInfo.len());
        for layer in self.output.sLayerInfo.iter().take(count) {
            if layer.pBsBuf.is_null() || layer.pNalLengthInByte.is_null() {
                continue;
            }
            // SAFETY: the library filled `iNalCount` lengths, and the NAL units lie one after
            // the other from `pBsBuf` on; both stay valid until the next call, and we copy.
            unsafe {
                let lengths =
                    std::slice::from_raw_parts(layer.pNalLengthInByte, layer.iNalCount as usize);
                let len: usize = lengths.iter().map(|&length| length.max(0) as usize).sum();
                data.extend_from_slice(std::slice::from_raw_parts(layer.pBsBuf, len));
            }
            temporal_layer = temporal_layer.max(layer.uiTemporalId);
        }
        (data.freeze(), temporal_layer)
    }

    fn set_option<T>(
        &mut self,
        option: sys::ENCODER_OPTION,
        value: &mut T,
        setting: impl Fn() -> String,
    ) -> Result<(), CodecError> {
        // SAFETY: every caller in this file passes the type that the option's documentation
        // names; the library reads it during the call only.
        let code = unsafe {
            method(self.table().SetOption)?(
                self.library.as_ptr(),
                option,
                ptr::from_mut(value).cast::<c_void>(),
            )
        };
        if code != 0 {
            let code = i64::from(code);
            return Err(CodecError::Setting { codec: "H.264", setting: setting(), code });
        }
        Ok(())
    }

    fn table(&self) -> &sys::ISVCEncoderVtbl {
        // SAFETY: a live object points to its table of methods, which is never freed.
        unsafe { &**self.library.as_ptr() }
    }
}

impl Drop for H264Encoder {
    fn drop(&mut self) {
        // SAFETY: made by `WelsCreateSVCEncoder`, destroyed once; destroying releases all.
        unsafe { sys::source::APILoader::WelsDestroySVCEncoder(self.library.as_ptr()) }
    }
}

fn usable(mut config: H264Config) -> Result<H264Config, CodecError> {
    config.width &= !1;
    config.height &= !1;
    config.max_fps = usable_fps(config.max_fps);
    config.bitrate = config.bitrate.clamp(LOWEST, HIGHEST);
    if SIDES.contains(&config.width) && SIDES.contains(&config.height) {
        return Ok(config);
    }
    Err(CodecError::Encode {
        codec: "H.264",
        what: format!("a picture of {}x{}", config.width, config.height),
        reason: "each side must be 16 to 4096 pixels".into(),
    })
}

fn usable_fps(fps: f32) -> f32 {
    if fps.is_finite() { fps.clamp(1.0, 60.0) } else { 30.0 }
}

/// Level 3.1, which the session negotiates, wherever the picture fits (ITU-T H.264, table A-1);
/// else whatever the library finds fitting.
fn level(width: u32, height: u32, fps: f32) -> sys::ELevelIdc {
    let blocks = width.div_ceil(16) * height.div_ceil(16);
    if blocks <= 3600 && blocks as f32 * fps <= 108_000.0 {
        sys::LEVEL_3_1
    } else {
        sys::LEVEL_UNKNOWN
    }
}

fn start_error(code: c_int) -> CodecError {
    CodecError::Start { codec: "H.264", part: "encoder", code: i64::from(code) }
}

fn method<F>(entry: Option<F>) -> Result<F, CodecError> {
    entry.ok_or(start_error(-1))
}
