//! The uncompressed start of a VP8 frame (RFC 6386 section 9.1). Pure.

/// The same bounds as for H.264: more would cost too much memory.
const LARGEST_SIDE: u32 = 4096;
const LARGEST_AREA: u32 = 4096 * 2304;

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Width and height in pixels, of key frames only.
    pub size: Option<(u32, u32)>,
    /// Whether the frame is to be shown, or only referred to.
    pub shown: bool,
}

impl Header {
    /// Refuses pictures that would cost too much memory.
    pub fn check(&self) -> Result<(), String> {
        match self.size {
            Some((width, height))
                if width > LARGEST_SIDE
                    || height > LARGEST_SIDE
                    || width * height > LARGEST_AREA =>
            {
                Err(format!("pictures of {width}x{height} are larger than 4096x2304"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads it; nothing where it is broken.
pub(crate) fn parse(frame: &[u8]) -> Option<Header> {
    let &[tag, _, _, ..] = frame else {
        return None;
    };
    let shown = tag & 0x10 != 0;
    if tag & 0x01 != 0 {
        return Some(Header { size: None, shown });
    }
    let &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = frame else {
        return None;
    };
    // The upper two bits ask the player to scale, which nobody does.
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let (width, height) = (side(w0, w1), side(h0, h1));
    (width > 0 && height > 0).then_some(Header { size: Some((width, height)), shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_tells_its_size_and_others_do_not() {
        let key = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x45, 0xd0, 0x02, 7];
        assert_eq!(parse(&key), Some(Header { size: Some((1280, 720)), shown: true }));
        assert_eq!(parse(&[0x01, 0, 0]), Some(Header { size: None, shown: false }));
        assert_eq!(parse(&[0x11, 0, 0, 9]), Some(Header { size: None, shown: true }));
    }

    #[test]
    fn what_is_cut_or_has_no_size_is_broken() {
        let key = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02];
        for short in 0..key.len() {
            assert_eq!(parse(&key[..short]), None, "cut at {short}");
        }
        assert_eq!(parse(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 0, 0xd0, 0x02]), None);
        assert_eq!(parse(&[0x10, 0, 0, 0x9d, 0x01, 0x2b, 0, 5, 0xd0, 0x02]), None);
    }

    #[test]
    fn huge_pictures_are_refused() {
        let size = |width, height| Header { size: Some((width, height)), shown: true }.check();
        assert!(size(4096, 2304).is_ok() && size(2304, 4096).is_ok());
        assert!(size(4097, 16).is_err() && size(4096, 2305).is_err());
        assert!(size(16_383, 16_383).is_err());
    }
}
