//! The Annex B byte stream: how H.264 lies between an encoder and a packetizer. Pure.

/// The NAL units of an Annex B stream without start codes and trailing zeros
/// (ITU-T H.264 annex B.1). Bytes before the first start code are skipped.
pub fn nal_units(annexb: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(annexb);
    std::iter::from_fn(move || {
        loop {
            let from = rest?;
            let next = after_start_code(from);
            // The next start code ends three bytes before its unit; its leading zeros and any
            // padding are trimmed as trailing zeros of this one.
            let end = next.map_or(from.len(), |next| from.len() - next.len() - 3);
            rest = next;
            let unit = from.get(..end)?;
            let kept = unit.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            if kept > 0 {
                return unit.get(..kept);
            }
        }
    })
}

/// What follows the first `00 00 01`.
fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    while let Some(&[a, b, c]) = data.get(at..at + 3) {
        match (a, b, c) {
            (0, 0, 1) => return data.get(at + 3..),
            // No start code begins at or before a byte above one.
            (_, _, 2..) => at += 3,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_and_padding_belong_to_no_unit() {
        let stream = [9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 0, 1, 0x65];
        let units: Vec<&[u8]> = nal_units(&stream).collect();
        assert_eq!(units, [&[0x67, 1][..], &[0x68, 2], &[0x65]]);
    }

    #[test]
    fn a_stream_without_start_codes_has_no_units() {
        for stream in [&[][..], &[0, 0], &[1, 2, 3], &[0, 0, 1], &[0, 0, 1, 0, 0, 1]] {
            assert_eq!(nal_units(stream).count(), 0, "{stream:?}");
        }
    }
}
