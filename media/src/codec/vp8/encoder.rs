//! The encoder.

#![allow(unsafe_code)] // libvpx is a C library; each block says why it is sound.

use std::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Instant;

use bytes::Bytes;
use vpx_sys as sys;

use crate::codec::video::EncoderConfig;
use crate::codec::{CodecError, EncodedPicture};
use crate::frame::Frame;
use crate::units::Bitrate;

/// Bitrates that make sense; others are clamped to these.
const LOWEST: Bitrate = Bitrate::from_kbps(30);
const HIGHEST: Bitrate = Bitrate::from_kbps(14_000);

/// The smallest and largest side the encoder takes, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 16..=4096;

/// Time stamps count like RTP's.
const CLOCK: u32 = 90_000;

/// A fixed speed in real-time mode (the sign means: do not adapt to the machine's load, which
/// adds noise to what `adapt` measures), the one that browsers use on desktops.
const SPEED: c_int = -6;

/// A key frame may take the rate of so many pictures, in percent: 150 ms of the link.
const KEY_FRAME_PERCENT: c_uint = 450;

/// The coarsest quantiser index there is: nothing is left out instead, so the rate has to be held
/// by it alone.
const COARSEST: c_uint = 63;

/// Sizes from here on are encoded by two threads.
const TWO_THREADS_FROM: u32 = 960 * 540;

/// Encodes pictures for real-time use: each refers to the ones before it, key frames come only
/// when asked for or when the size changes.
pub struct Vp8Encoder {
    library: Box<sys::vpx_codec_ctx_t>,
    settings: Box<sys::vpx_codec_enc_cfg_t>,
    config: EncoderConfig,
    epoch: Option<Instant>,
    last_time: i64,
}

// SAFETY: the library's object has no tie to the thread that made it; `&mut self` on every
// method that uses it keeps it from being used by two at once.
unsafe impl Send for Vp8Encoder {}

impl Vp8Encoder {
    /// Starts an encoder. Fails for sizes outside 16x16 to 4096x4096.
    pub fn new(config: EncoderConfig) -> Result<Self, CodecError> {
        let config = usable(config)?;
        let mut settings = MaybeUninit::<sys::vpx_codec_enc_cfg_t>::uninit();
        // SAFETY: the interface is a static of the library, which fills the structure wholly
        // when it says so.
        let (interface, mut settings) = unsafe {
            let interface = sys::vpx_codec_vp8_cx();
            started(sys::vpx_codec_enc_config_default(interface, settings.as_mut_ptr(), 0))?;
            (interface, settings.assume_init())
        };
        settings.g_w = config.width;
        settings.g_h = config.height;
        settings.g_threads = if config.width * config.height >= TWO_THREADS_FROM { 2 } else { 1 };
        settings.g_timebase = sys::vpx_rational { num: 1, den: CLOCK as c_int };
        // Every picture arrives or is waited for, so none has to be decodable without the last.
        settings.g_error_resilient = 0;
        settings.g_lag_in_frames = 0;
        settings.g_pass = sys::vpx_enc_pass::VPX_RC_ONE_PASS;
        settings.rc_end_usage = sys::vpx_rc_mode::VPX_CBR;
        // Frames are left out by `adapt`, which knows why.
        settings.rc_dropframe_thresh = 0;
        settings.rc_resize_allowed = 0;
        settings.rc_min_quantizer = index(config.quantizer_floor);
        settings.rc_max_quantizer = COARSEST;
        settings.rc_undershoot_pct = 100;
        settings.rc_overshoot_pct = 15;
        // Milliseconds at the target rate.
        settings.rc_buf_initial_sz = 500;
        settings.rc_buf_optimal_sz = 600;
        settings.rc_buf_sz = 1000;
        settings.rc_target_bitrate = kbps(config.bitrate);
        settings.kf_mode = sys::vpx_kf_mode::VPX_KF_DISABLED;
        // SAFETY: all zero is a valid context: null pointers, no error, no flags.
        let mut library =
            Box::new(unsafe { MaybeUninit::<sys::vpx_codec_ctx_t>::zeroed().assume_init() });
        // SAFETY: the context is ours and stays where it is; the settings are copied.
        started(unsafe {
            sys::vpx_codec_enc_init_ver(
                &raw mut *library,
                interface,
                &raw const settings,
                0,
                sys::VPX_ENCODER_ABI_VERSION as c_int,
            )
        })?;
        let settings = Box::new(settings);
        let mut this = Self { library, settings, config, epoch: None, last_time: -1 };
        use sys::vp8e_enc_control_id as control;
        this.control(control::VP8E_SET_CPUUSED, SPEED)?;
        // Blocks that hardly change are not coded again: a still background costs nothing.
        this.control(control::VP8E_SET_STATIC_THRESHOLD, 1)?;
        this.control(control::VP8E_SET_TOKEN_PARTITIONS, 0)?;
        this.control(control::VP8E_SET_NOISE_SENSITIVITY, 0)?;
        this.control(control::VP8E_SET_MAX_INTRA_BITRATE_PCT, KEY_FRAME_PERCENT as c_int)?;
        Ok(this)
    }

    /// What it encodes now.
    pub fn config(&self) -> EncoderConfig {
        self.config
    }

    /// As [`VideoEncoder::encode`](crate::codec::video::VideoEncoder::encode). The colour matrix
    /// is not carried: VP8 knows only BT.601.
    pub fn encode(
        &mut self,
        frame: &Frame,
        force_key_frame: bool,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        let (width, height) = (frame.width(), frame.height());
        if (width, height) != (self.config.width, self.config.height) {
            *self = Self::new(EncoderConfig { width, height, ..self.config })?;
        }
        let epoch = *self.epoch.get_or_insert(frame.captured_at);
        let since = frame.captured_at.saturating_duration_since(epoch);
        let ticks = i64::try_from(since.as_micros() * u128::from(CLOCK) / 1_000_000);
        // The library refuses a time that does not grow.
        self.last_time = ticks.unwrap_or(i64::MAX).max(self.last_time + 1);
        let [y, u, v] = frame.planes();
        // SAFETY: all zero is a valid image description; wrapping fills it and owns nothing.
        let mut image = unsafe {
            let mut image = MaybeUninit::<sys::vpx_image_t>::zeroed().assume_init();
            let format = sys::vpx_img_fmt::VPX_IMG_FMT_I420;
            let pixels = y.as_ptr().cast_mut();
            if sys::vpx_img_wrap(&raw mut image, format, width, height, 1, pixels).is_null() {
                return Err(refused(width, height, "no image description"));
            }
            image
        };
        for (index, plane) in [y, u, v].into_iter().enumerate() {
            image.planes[index] = plane.as_ptr().cast_mut();
            let stride = if index == 0 { width } else { frame.chroma_width() };
            image.stride[index] = stride as c_int;
        }
        let duration = f64::from(CLOCK) / f64::from(self.config.max_fps);
        let flags = if force_key_frame { sys::VPX_EFLAG_FORCE_KF } else { 0 };
        #[allow(clippy::cast_lossless)] // of 32 bits under Windows
        let (flags, deadline) = (flags as c_long, sys::VPX_DL_REALTIME as c_ulong);
        // SAFETY: the context is alive; each plane holds stride x height bytes (see `Frame`),
        // outlives the call and is only read.
        let code = unsafe {
            sys::vpx_codec_encode(
                &raw mut *self.library,
                &raw const image,
                self.last_time,
                duration as c_ulong,
                flags,
                deadline,
            )
        };
        if code != sys::vpx_codec_err_t::VPX_CODEC_OK {
            return Err(refused(width, height, &format!("libvpx returned {code:?}")));
        }
        Ok(self.collect())
    }

    /// Copies out what the last call left in the library's memory.
    fn collect(&mut self) -> Option<EncodedPicture> {
        let mut found = None;
        let mut iterator: *const c_void = ptr::null();
        loop {
            // SAFETY: the context is alive; the iterator starts null and is the library's.
            let packet = unsafe {
                sys::vpx_codec_get_cx_data(&raw mut *self.library, &raw mut iterator).as_ref()
            };
            let Some(packet) = packet else {
                return found;
            };
            if packet.kind != sys::vpx_codec_cx_pkt_kind::VPX_CODEC_CX_FRAME_PKT {
                continue;
            }
            // SAFETY: the kind says which member of the union it is; its buffer of that size is
            // valid until the next call, and we copy.
            let (data, flags) = unsafe {
                let frame = packet.data.frame;
                let bytes = std::slice::from_raw_parts(frame.buf.cast::<u8>(), frame.sz);
                (Bytes::copy_from_slice(bytes), frame.flags)
            };
            found = (!data.is_empty()).then_some(EncodedPicture {
                data,
                key_frame: flags & sys::VPX_FRAME_IS_KEY != 0,
                temporal_layer: 0,
                width: self.config.width,
                height: self.config.height,
            });
        }
    }

    /// Changes the target bitrate, up or down, without a key frame. Clamped to 30 kbit/s..14
    /// Mbit/s.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), CodecError> {
        let bitrate = bitrate.clamp(LOWEST, HIGHEST);
        self.settings.rc_target_bitrate = kbps(bitrate);
        self.config.bitrate = bitrate;
        self.apply(|| format!("{bitrate}"))
    }

    /// At what rate pictures come from now on. The library goes by their times.
    pub fn set_frame_rate(&mut self, max_fps: f32) {
        self.config.max_fps = usable_fps(max_fps);
    }

    /// Changes the finest quantiser (an H.264 quantisation parameter), without a key frame.
    pub fn set_quantizer_floor(&mut self, floor: u8) -> Result<(), CodecError> {
        if floor == self.config.quantizer_floor {
            return Ok(());
        }
        self.config.quantizer_floor = floor;
        self.settings.rc_min_quantizer = index(floor);
        self.apply(|| format!("a finest quantiser of {floor}"))
    }

    fn control(&mut self, what: sys::vp8e_enc_control_id, value: c_int) -> Result<(), CodecError> {
        // SAFETY: the context is alive; every control used here takes one int.
        let code = unsafe { sys::vpx_codec_control_(&raw mut *self.library, what as c_int, value) };
        self.set(code, || format!("{what:?} {value}"))
    }

    fn apply(&mut self, setting: impl Fn() -> String) -> Result<(), CodecError> {
        // SAFETY: the context is alive; the settings are copied.
        let code = unsafe {
            sys::vpx_codec_enc_config_set(&raw mut *self.library, &raw const *self.settings)
        };
        self.set(code, setting)
    }

    fn set(
        &self,
        code: sys::vpx_codec_err_t,
        setting: impl Fn() -> String,
    ) -> Result<(), CodecError> {
        if code == sys::vpx_codec_err_t::VPX_CODEC_OK {
            return Ok(());
        }
        Err(CodecError::Setting { codec: "VP8", setting: setting(), code: code as i64 })
    }
}

impl Drop for Vp8Encoder {
    fn drop(&mut self) {
        // SAFETY: initialised by `vpx_codec_enc_init_ver`, destroyed once.
        unsafe { sys::vpx_codec_destroy(&raw mut *self.library) };
    }
}

fn kbps(bitrate: Bitrate) -> c_uint {
    (bitrate.bps() / 1000) as c_uint
}

fn usable(mut config: EncoderConfig) -> Result<EncoderConfig, CodecError> {
    let EncoderConfig { width, height, .. } = config;
    if !SIDES.contains(&width) || !SIDES.contains(&height) {
        return Err(refused(width, height, "each side must be 16 to 4096 pixels"));
    }
    config.bitrate = config.bitrate.clamp(LOWEST, HIGHEST);
    config.max_fps = usable_fps(config.max_fps);
    Ok(config)
}

fn usable_fps(fps: f32) -> f32 {
    if fps.is_finite() { fps.clamp(1.0, 60.0) } else { 30.0 }
}

/// The quantiser index (0 to 63) of about the fineness of an H.264 quantisation parameter.
fn index(parameter: u8) -> c_uint {
    (c_uint::from(parameter.min(51)) * 63 / 51).min(COARSEST)
}

fn refused(width: u32, height: u32, reason: &str) -> CodecError {
    CodecError::Encode {
        codec: "VP8",
        what: format!("a picture of {width}x{height}"),
        reason: reason.to_owned(),
    }
}

fn started(code: sys::vpx_codec_err_t) -> Result<(), CodecError> {
    if code == sys::vpx_codec_err_t::VPX_CODEC_OK {
        return Ok(());
    }
    Err(CodecError::Start { codec: "VP8", part: "encoder", code: code as i64 })
}
