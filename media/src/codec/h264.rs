//! H.264 constrained baseline through openh264.
//!
//! A thin wrapper of our own over the raw library: the settings that matter for calls (fixed
//! slices, overshoot control, error concealment) are out of reach of the safe wrapper.

mod decoder;
mod encoder;
mod sps;

pub use decoder::H264Decoder;
pub use encoder::{H264Config, H264Encoder};

/// The NAL units of an Annex B byte stream (ITU-T H.264, annex B), without start codes.
pub fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream).unwrap_or_default();
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = find_start_code(rest).unwrap_or(rest.len());
            let unit = rest.get(..end).unwrap_or_default();
            rest = after_start_code(rest).unwrap_or_default();
            // A zero before a start code belongs to the start code.
            let len = unit
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |last| last + 1);
            if len > 0 {
                return unit.get(..len);
            }
        }
        None
    })
}

fn find_start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    find_start_code(bytes).and_then(|at| bytes.get(at + 3..))
}

#[cfg(test)]
mod tests;
