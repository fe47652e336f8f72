//! What an Opus packet says of itself without being decoded (RFC 6716 section 3).

use super::FRAME;

/// How long the packet plays, in samples at 48 kHz. 20 ms for what no decoder would take.
pub(super) fn duration(payload: &[u8]) -> i64 {
    let Some(&toc) = payload.first() else {
        return FRAME;
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => payload.get(1).map_or(1, |&count| i64::from(count & 0x3f)),
    };
    match frame_duration(toc) * count {
        // RFC 6716 section 3.2.5: at most 120 ms.
        samples @ 1..=5760 => samples,
        _ => FRAME,
    }
}

/// How long each of its frames plays.
pub(super) fn frame_duration(toc: u8) -> i64 {
    let config = toc >> 3;
    match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    }
}

/// Whether the sender pauses (DTX, RFC 7587 section 3.1.3): frames without content, of which one
/// takes one byte and three take two.
pub(super) fn is_pause(payload: &[u8]) -> bool {
    (1..=2).contains(&payload.len())
}

/// How many samples before the packet its in-band FEC describes; 0 where there is none. The
/// copies (LBRR frames) are announced by a bit for each channel, behind that channel's voice
/// activity bits (RFC 6716 section 4.2.3), and those of the first frame describe the frame
/// before it.
pub(super) fn fec_samples(payload: &[u8]) -> i64 {
    let Some(&toc) = payload.first() else {
        return 0;
    };
    let samples = frame_duration(toc);
    // CELT has none.
    if toc & 0x80 != 0 {
        return 0;
    }
    let silk_frames = match samples {
        480 | 960 => 1,
        1920 => 2,
        _ => 3,
    };
    let channels = if toc & 4 == 0 { 1 } else { 2 };
    let Some(&bits) = first_frame(payload).and_then(|frame| frame.first()) else {
        return 0;
    };
    let announced =
        (1..=channels).any(|channel| bits & (0x80 >> (channel * (silk_frames + 1) - 1)) != 0);
    if announced { samples } else { 0 }
}

/// The first frame, at least two bytes of it (RFC 6716 section 3.2).
fn first_frame(payload: &[u8]) -> Option<&[u8]> {
    let (&toc, rest) = payload.split_first()?;
    let frame = match toc & 3 {
        0 | 1 => rest,
        2 => length(rest)?.1,
        _ => {
            let (&count, mut rest) = rest.split_first()?;
            if count & 0x40 != 0 {
                // Padding: its length, in bytes of which 255 means "254 and more to come".
                loop {
                    let (&bytes, after) = rest.split_first()?;
                    rest = after;
                    if bytes != 255 {
                        break;
                    }
                }
            }
            if count & 0x80 != 0 && count & 0x3f > 1 {
                for _ in 1..count & 0x3f {
                    rest = length(rest)?.1;
                }
            }
            rest
        }
    };
    (frame.len() > 1).then_some(frame)
}

/// A frame's length (RFC 6716 section 3.2.1) and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 252 {
        return Some((usize::from(first), rest));
    }
    let (&second, rest) = rest.split_first()?;
    Some((usize::from(second) * 4 + usize::from(first), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_from_the_packet() {
        for (packet, samples) in [
            (&[15 << 3][..], 960),
            (&[31 << 3], 960),
            (&[28 << 3], 120),
            (&[3 << 3], 2880),
            (&[31 << 3 | 1], 1920),
            (&[31 << 3 | 3, 3], 2880),
            (&[31 << 3 | 3, 63], 960),
            (&[31 << 3 | 3, 0], 960),
            (&[], 960),
        ] {
            assert_eq!(duration(packet), samples, "{packet:?}");
        }
    }

    #[test]
    fn copies_are_announced_behind_the_voice_activity() {
        let hybrid = 15 << 3;
        let silk_60 = 11 << 3;
        for (packet, samples) in [
            (&[hybrid, 0x40, 1][..], 960),
            (&[hybrid, 0x80, 1], 0),
            (&[hybrid, 0x40], 0),
            (&[silk_60, 0x10, 1], 2880),
            (&[silk_60, 0xe0, 1], 0),
            // Stereo: the second channel's.
            (&[hybrid | 4, 0x10, 1], 960),
            (&[hybrid | 4, 0xa0, 1], 0),
            // Three frames of a length each, with padding.
            (&[hybrid | 3, 0xc3, 2, 2, 2, 0x40, 1, 0, 0, 0, 0, 0, 0], 960),
            (&[hybrid | 3, 0xc3, 255], 0),
            (&[hybrid | 2, 252, 1, 0x40, 1], 960),
            // CELT.
            (&[31 << 3, 0xff, 0xff], 0),
            (&[], 0),
        ] {
            assert_eq!(fec_samples(packet), samples, "{packet:?}");
        }
    }

    #[test]
    fn a_frame_without_content_is_a_pause() {
        assert!(is_pause(&[15 << 3]) && is_pause(&[15 << 3, 0]));
        assert!(is_pause(&[15 << 3 | 3, 3]), "three of them");
        assert!(!is_pause(&[15 << 3, 0, 0]) && !is_pause(&[]));
    }
}
