//! What host and camera negotiate: video probe and commit controls (UVC 1.1, section 4.3.1.1).

use super::descriptors::{FORMAT_MJPEG, FORMAT_YUY2, INTERVALS, sizes};

/// Bytes of a payload, with its header: what Linux has room for in one request.
pub const PAYLOAD: usize = 16_384;

/// Room for an uncompressed picture.
pub fn largest_picture(width: u32, height: u32) -> u32 {
    width * height * 2
}

/// What host and camera agreed on: the fields that matter of the probe and commit controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    pub format: u8,
    pub size: u8,
    /// In units of 100 ns.
    pub interval: u32,
}

impl Agreement {
    /// Of the control in UVC 1.1 (table 4-47).
    pub const LENGTH: usize = 34;

    /// The nearest there is.
    pub fn read(data: &[u8]) -> Option<Self> {
        let &[_, _, format, size, a, b, c, d, ..] = data else {
            return None;
        };
        let asked = u32::from_le_bytes([a, b, c, d]);
        let format = if format == FORMAT_YUY2 { format } else { FORMAT_MJPEG };
        let size = size.clamp(1, sizes(format).len() as u8);
        let interval = INTERVALS.into_iter().min_by_key(|interval| interval.abs_diff(asked))?;
        Some(Self { format, size, interval })
    }

    pub fn write(self) -> Vec<u8> {
        let (width, height) = sizes(self.format)[usize::from(self.size) - 1];
        let mut data = vec![0; Self::LENGTH];
        data[2] = self.format;
        data[3] = self.size;
        data[4..8].copy_from_slice(&self.interval.to_le_bytes());
        data[18..22].copy_from_slice(&largest_picture(width, height).to_le_bytes());
        data[22..26].copy_from_slice(&(PAYLOAD as u32).to_le_bytes());
        data
    }
}
