//! H.264 constrained baseline through openh264.
//!
//! A thin wrapper of our own over the raw library: the settings that matter for calls (fixed
//! slices, overshoot control, error concealment) are out of reach of the safe wrapper.

mod decoder;
mod encoder;
mod sps;

pub use decoder::H264Decoder;
pub use encoder::{H264Config, H264Encoder};

#[cfg(test)]
mod tests;
