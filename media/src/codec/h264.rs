//! H.264 constrained baseline through openh264.
//!
//! A thin wrapper of our own over the raw library: the settings that matter for calls (fixed
//! slices, overshoot control, error concealment) are out of reach of the safe wrapper.

mod decoder;
mod encoder;
mod key_frame;
pub(crate) mod sps;

pub use decoder::H264Decoder;
pub use encoder::{H264Config, H264Encoder};

/// Names a picture: the key frame it follows and its number since (ITU-T H.264 section 7.4.3:
/// `idr_pic_id` and `frame_num`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `idr_pic_id`.
    pub idr: u16,
    /// `frame_num`.
    pub frame: u16,
}

#[cfg(test)]
mod tests;
