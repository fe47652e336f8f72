//! STUN messages and ChannelData on a stream (RFC 8656 section 12.5). Pure.

/// A frame longer than this is nothing a call sends.
const MAX_FRAME: usize = 16 * 1024;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The stream carries something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent something else than STUN and TURN")]
pub(in crate::peer) struct NotTurn;

/// Whether a packet is a STUN message: how every use of a TURN server begins.
pub(in crate::peer) fn is_message(packet: &[u8]) -> bool {
    packet.len() >= 20 && packet[0] & 0xC0 == 0 && packet[4..8] == COOKIE
}

/// Takes the next whole frame off the front of `buffer`, without padding; `None` while it is not
/// all there.
pub(in crate::peer) fn next(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, NotTurn> {
    let Some(&[first, _, high, low]) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let frame = match first >> 6 {
        0 => 20 + length,
        1 => 4 + length,
        _ => return Err(NotTurn),
    };
    let on_stream = frame.next_multiple_of(4);
    let is_stun = first >> 6 == 0;
    let cookie = buffer.get(4..8).is_none_or(|cookie| cookie == COOKIE);
    if on_stream > MAX_FRAME || (is_stun && (!cookie || !length.is_multiple_of(4))) {
        return Err(NotTurn);
    }
    // The last frame's padding may still be under way: its bytes are not needed for this one,
    // but would be taken for the next one's beginning.
    if buffer.len() < on_stream {
        return Ok(None);
    }
    let bytes = buffer[..frame].to_vec();
    buffer.drain(..on_stream);
    Ok(Some(bytes))
}

/// Pads a frame for the stream.
pub(super) fn pad(frame: &mut Vec<u8>) {
    frame.resize(frame.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let mut stream = b"\x40\x00\x00\x05hello\0\0\0".to_vec();
        stream.extend(b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl");
        for piece in 1..stream.len() {
            let (mut buffer, mut found) = (Vec::new(), Vec::new());
            for piece in stream.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = next(&mut buffer).expect("frames") {
                    found.push(frame);
                }
            }
            assert_eq!(found, [&stream[..9], &stream[12..]]);
        }
    }

    #[test]
    fn any_bytes_are_frames_or_refused() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..20_000 {
            let mut buffer = vec![0; rng.random_range(0..80)];
            rng.fill(buffer.as_mut_slice());
            if rng.random() && buffer.len() > 8 {
                buffer[4..8].copy_from_slice(&COOKIE);
                buffer[0] &= 0x7F;
                buffer[2] = 0;
            }
            while let Ok(Some(frame)) = next(&mut buffer) {
                assert!(!frame.is_empty());
            }
        }
    }
}
