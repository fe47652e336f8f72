//! STUN messages and ChannelData on a stream, one after the other (RFC 8656 section 12.5). Pure.

use bytes::{Buf, BytesMut};

use super::stun::{HEADER, MAGIC_COOKIE};

/// Longest frame taken from a stream: more than any packet of a call, jumbo frames included.
pub const MAX_FRAME: usize = 16 * 1024;

/// Why a stream cannot be read on: where the next frame begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Neither a STUN message nor ChannelData.
    #[error("the stream carries something else than STUN and TURN")]
    Unknown,
    /// Longer than [`MAX_FRAME`].
    #[error("a frame is longer than {MAX_FRAME} bytes")]
    TooLong,
}

/// Takes the next whole frame off the front of `buffer`, without ChannelData's padding; `None`
/// while it is not all there.
///
/// # Errors
/// The stream is of no use any more.
pub fn next_frame(buffer: &mut BytesMut) -> Result<Option<Vec<u8>>, FrameError> {
    let Some(&[first, second, high, low]) = buffer.first_chunk::<4>() else {
        // Refuse at the first byte what can become nothing.
        return match buffer.first() {
            Some(first) if first & 0xC0 > 0x40 => Err(FrameError::Unknown),
            _ => Ok(None),
        };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (frame, on_stream) = match first >> 6 {
        0 => {
            let cookie = MAGIC_COOKIE.to_be_bytes();
            let seen = &buffer[4..buffer.len().min(8)];
            if !length.is_multiple_of(4) || seen != &cookie[..seen.len()] {
                return Err(FrameError::Unknown);
            }
            (HEADER + length, HEADER + length)
        }
        // RFC 8656 section 12: channels up to 0x4FFF.
        1 if u16::from_be_bytes([first, second]) <= 0x4FFF => {
            (4 + length, (4 + length).next_multiple_of(4))
        }
        _ => return Err(FrameError::Unknown),
    };
    if on_stream > MAX_FRAME {
        return Err(FrameError::TooLong);
    }
    if buffer.len() < on_stream {
        return Ok(None);
    }
    let bytes = buffer[..frame].to_vec();
    buffer.advance(on_stream);
    Ok(Some(bytes))
}

/// Pads a frame for a stream: ChannelData to a multiple of four; STUN messages are one.
pub fn pad(frame: &mut Vec<u8>) {
    frame.resize(frame.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::super::stun::{Builder, Class, Method};
    use super::*;

    fn stream() -> (Vec<Vec<u8>>, Vec<u8>) {
        let frames = vec![
            Builder::new(Method::Binding, Class::Request, [1; 12]).finish(),
            b"\x40\x00\x00\x05hello".to_vec(),
            b"\x4f\xff\x00\x00".to_vec(),
            Builder::new(Method::Send, Class::Indication, [2; 12]).attribute(0x13, b"x").finish(),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            let mut frame = frame.clone();
            pad(&mut frame);
            bytes.extend(frame);
        }
        (frames, bytes)
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let (frames, bytes) = stream();
        for piece in 1..bytes.len() {
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for piece in bytes.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = next_frame(&mut buffer).unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn something_else_is_refused_as_early_as_it_shows() {
        let parse = |bytes: &[u8]| next_frame(&mut BytesMut::from(bytes));
        // Its first letters could be a channel and a length.
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(FrameError::TooLong));
        assert_eq!(parse(b"POST / HTTP/1.1\r\n"), Err(FrameError::Unknown));
        assert_eq!(parse(b"\xff"), Err(FrameError::Unknown));
        assert_eq!(parse(b"\x00\x01\x00\x03"), Err(FrameError::Unknown));
        assert_eq!(parse(b"\x00\x01\x00\x04\x21\x13"), Err(FrameError::Unknown));
        assert_eq!(parse(b"\x50\x00\x00\x04"), Err(FrameError::Unknown));
        assert_eq!(parse(b"\x40\x00\xff\xff"), Err(FrameError::TooLong));
        assert_eq!(parse(b"\x00\x01\xff\xfc\x21\x12\xa4\x42"), Err(FrameError::TooLong));
        assert_eq!(parse(b"\x00\x01\x00"), Ok(None));
    }
}
