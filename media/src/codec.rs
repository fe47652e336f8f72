//! Codecs behind small seams of our own, so that each foreign crate stops at one file.

pub mod h264;
pub mod opus;
