//! What our own readers of coded pictures make of any bytes, before a decoder sees them.

use crate::annexb::nal_units;
use crate::codec::{h264::sps, vp8::header};

const LARGEST: u64 = 4096 * 2304;

/// Panics if `data` breaks a reader, or passes for a picture that is too large.
pub fn check(data: &[u8]) {
    let mut bytes = 0;
    for unit in nal_units(data) {
        assert!(!unit.is_empty() && unit.last() != Some(&0));
        bytes += unit.len() + 3;
        set(unit);
    }
    assert!(bytes <= data.len());
    set(data);
    if let Some(found) = header::parse(data)
        && let Some((width, height)) = found.size
    {
        assert!(width > 0 && height > 0);
        let area = u64::from(width) * u64::from(height);
        assert!(found.check().is_err() || area <= LARGEST);
    }
}

fn set(unit: &[u8]) {
    if let Some(found) = sps::parse(unit) {
        assert!(found.width > 0 && found.height > 0);
        assert!(found.check().is_err() || found.width * found.height <= LARGEST);
    }
}
