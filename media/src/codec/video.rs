//! One seam over the video codecs. What only one of them can do is asked of the variant.

use super::h264::{H264Config, H264Decoder, H264Encoder, Reference};
use super::vp8::{Vp8Decoder, Vp8Encoder};
use super::{CodecError, Decoded, EncodedPicture};
use crate::frame::{Frame, FramePool};
use crate::units::Bitrate;
use crate::video_codec::VideoCodec;

/// What an encoder starts with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The frame rate the bitrate is spread over, in frames a second.
    pub max_fps: f32,
    /// Target bitrate, without packet overhead.
    pub bitrate: Bitrate,
    /// The finest quantiser to use, as an H.264 quantisation parameter (0 to 51).
    pub quantizer_floor: u8,
}

/// Encodes for real-time use: each picture refers only to earlier ones, key frames come only when
/// asked for or when the size changes.
pub enum VideoEncoder {
    /// openh264.
    H264(H264Encoder),
    /// libvpx.
    Vp8(Box<Vp8Encoder>),
}

impl VideoEncoder {
    /// Starts one. Fails for sizes that the codec does not take.
    pub fn new(codec: VideoCodec, config: EncoderConfig) -> Result<Self, CodecError> {
        let EncoderConfig { width, height, max_fps, bitrate, quantizer_floor } = config;
        Ok(match codec {
            VideoCodec::H264 => {
                let config = H264Config { width, height, max_fps, bitrate, quantizer_floor };
                Self::H264(H264Encoder::new(config)?)
            }
            VideoCodec::Vp8 => Self::Vp8(Box::new(Vp8Encoder::new(config)?)),
        })
    }

    /// The bitrate it was told last.
    pub fn bitrate(&self) -> Bitrate {
        match self {
            Self::H264(encoder) => encoder.config().bitrate,
            Self::Vp8(encoder) => encoder.config().bitrate,
        }
    }

    /// The frame rate it was told last.
    pub fn max_fps(&self) -> f32 {
        match self {
            Self::H264(encoder) => encoder.config().max_fps,
            Self::Vp8(encoder) => encoder.config().max_fps,
        }
    }

    /// Encodes one picture; `Frame::captured_at` must not run backwards. A picture of another
    /// size than the last reconfigures the encoder, and a key frame follows. Returns nothing
    /// where rate control drops the picture.
    pub fn encode(
        &mut self,
        frame: &Frame,
        force_key_frame: bool,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        match self {
            Self::H264(encoder) => encoder.encode(frame, force_key_frame),
            Self::Vp8(encoder) => encoder.encode(frame, force_key_frame),
        }
    }

    /// Changes the target bitrate, up or down, without a key frame.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), CodecError> {
        match self {
            Self::H264(encoder) => encoder.set_bitrate(bitrate),
            Self::Vp8(encoder) => encoder.set_bitrate(bitrate),
        }
    }

    /// What key frames may take from now on, in bytes. VP8's have a limit of their own, as a share
    /// of the bitrate.
    pub fn set_key_frame_size(&mut self, bytes: usize) {
        if let Self::H264(encoder) = self {
            encoder.set_key_frame_size(bytes);
        }
    }

    /// Tells at what rate pictures will come from now on, without a key frame.
    pub fn set_frame_rate(&mut self, max_fps: f32) -> Result<(), CodecError> {
        match self {
            Self::H264(encoder) => encoder.set_frame_rate(max_fps),
            // Goes by the pictures' own times.
            Self::Vp8(encoder) => {
                encoder.set_frame_rate(max_fps);
                Ok(())
            }
        }
    }

    /// Changes the finest quantiser (an H.264 quantisation parameter). With H.264 a key frame
    /// follows a change.
    pub fn set_quantizer_floor(&mut self, floor: u8) -> Result<(), CodecError> {
        match self {
            Self::H264(encoder) => encoder.set_quantizer_floor(floor),
            Self::Vp8(encoder) => encoder.set_quantizer_floor(floor),
        }
    }

    /// As [`H264Encoder::confirm_reference`]; VP8 keeps none.
    pub fn confirm_reference(&mut self, reference: Reference) -> Result<(), CodecError> {
        match self {
            Self::H264(encoder) => encoder.confirm_reference(reference),
            Self::Vp8(_) => Ok(()),
        }
    }

    /// As [`H264Encoder::recover`]; VP8 keeps no references.
    pub fn recover(&mut self, good: Reference, damaged: u16) -> Result<(), CodecError> {
        match self {
            Self::H264(encoder) => encoder.recover(good, damaged),
            Self::Vp8(_) => Ok(()),
        }
    }
}

/// Decodes one encoded picture at a time and gives out whole ones only.
pub enum VideoDecoder {
    /// openh264.
    H264(H264Decoder),
    /// libvpx.
    Vp8(Vp8Decoder),
}

impl VideoDecoder {
    /// Starts one.
    pub fn new(codec: VideoCodec) -> Result<Self, CodecError> {
        Ok(match codec {
            VideoCodec::H264 => Self::H264(H264Decoder::new()?),
            VideoCodec::Vp8 => Self::Vp8(Vp8Decoder::new()?),
        })
    }

    /// Decodes one picture. Errors are for what is refused before decoding (too large); broken
    /// data is [`Decoded::Damaged`].
    pub fn decode(&mut self, picture: &[u8], pool: &FramePool) -> Result<Decoded, CodecError> {
        match self {
            Self::H264(decoder) => decoder.decode(picture, pool),
            Self::Vp8(decoder) => decoder.decode(picture, pool),
        }
    }

    /// As [`H264Decoder::position`]; VP8 tells none.
    pub fn position(&self) -> Option<Reference> {
        match self {
            Self::H264(decoder) => decoder.position(),
            Self::Vp8(_) => None,
        }
    }

    /// As [`H264Decoder::marked_reference`]; VP8 keeps none.
    pub fn marked_reference(&self) -> Option<Reference> {
        match self {
            Self::H264(decoder) => decoder.marked_reference(),
            Self::Vp8(_) => None,
        }
    }
}
