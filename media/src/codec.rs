//! Codecs behind small seams of our own, so that each foreign crate stops at one file.

pub mod h264;
pub mod opus;
#[cfg(test)]
pub(crate) mod scene;
pub mod video;
pub mod vp8;

use crate::frame::Frame;
use bytes::Bytes;

/// One encoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPicture {
    /// The access unit: for H.264 an Annex B byte stream with four-byte or three-byte start codes,
    /// for VP8 one frame.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub key_frame: bool,
    /// 0 for pictures others may refer to; higher ones may be dropped before they are sent.
    pub temporal_layer: u8,
    /// Encoded width in pixels.
    pub width: u32,
    /// Encoded height in pixels.
    pub height: u32,
}

/// What one access unit came to.
#[derive(Debug)]
pub enum Decoded {
    /// A whole, undamaged picture.
    Picture(Frame),
    /// No picture was due: parameter sets only.
    Nothing,
    /// Something it needs is missing or broken. Keep showing the last picture and ask for a key
    /// frame; everything is `Damaged` until one arrives.
    Damaged,
}

/// Why a codec refuses. None of these is a reason to end a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The codec's library did not start.
    #[error("the {codec} {part} does not start (code {code})")]
    Start {
        /// "H.264", "VP8" or "Opus".
        codec: &'static str,
        /// "encoder" or "decoder".
        part: &'static str,
        /// What the library returned.
        code: i64,
    },
    /// The library refused a setting.
    #[error("the {codec} encoder refuses {setting} (code {code})")]
    Setting {
        /// "H.264", "VP8" or "Opus".
        codec: &'static str,
        /// The setting and its value.
        setting: String,
        /// What the library returned.
        code: i64,
    },
    /// A picture or packet that cannot be encoded.
    #[error("{codec} cannot encode {what}: {reason}")]
    Encode {
        /// "H.264", "VP8" or "Opus".
        codec: &'static str,
        /// What was to be encoded.
        what: String,
        /// Why not.
        reason: String,
    },
    /// Received data that is not decoded.
    #[error("a received {codec} {what} is refused: {reason}")]
    Decode {
        /// "H.264", "VP8" or "Opus".
        codec: &'static str,
        /// What was to be decoded.
        what: &'static str,
        /// Why not.
        reason: String,
    },
}
