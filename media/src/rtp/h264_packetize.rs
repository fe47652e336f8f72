//! H.264 into RTP payloads (RFC 6184, packetization mode 1).

use crate::annexb::nal_units;
use bytes::{BufMut, Bytes, BytesMut};

use super::h264_depacketize::{FU_END, FU_START, nal};

/// Below this a fragment would be mostly header.
const SMALLEST_PAYLOAD: usize = 16;

/// Splits one frame in Annex B into payloads of at most `max_payload` bytes (at least 16), in
/// sending order: parameter sets together as STAP-A, what fits as it is, the rest in FU-A
/// fragments of equal size. The marker belongs on the last one. Empty for input without any
/// NAL unit.
pub fn packetize(annexb: &[u8], max_payload: usize) -> Vec<Bytes> {
    let max = max_payload.max(SMALLEST_PAYLOAD);
    let mut payloads = Vec::with_capacity(annexb.len() / max + 2);
    let mut sets: Vec<&[u8]> = Vec::new();
    for unit in nal_units(annexb) {
        let is_set = unit.first().is_some_and(|&h| matches!(nal::kind(h), nal::SPS | nal::PPS));
        let held: usize = sets.iter().map(|set| set.len() + 2).sum();
        if !is_set || 1 + held + unit.len() + 2 > max {
            flush_sets(&mut sets, &mut payloads);
        }
        if is_set && unit.len() + 3 <= max {
            sets.push(unit);
        } else if unit.len() <= max {
            payloads.push(Bytes::copy_from_slice(unit));
        } else {
            fragment(unit, max, &mut payloads);
        }
    }
    flush_sets(&mut sets, &mut payloads);
    payloads
}

fn flush_sets(sets: &mut Vec<&[u8]>, payloads: &mut Vec<Bytes>) {
    match sets.as_slice() {
        [] => {}
        [only] => payloads.push(Bytes::copy_from_slice(only)),
        several => {
            let mut payload = BytesMut::new();
            // The highest importance of the units inside (RFC 6184 section 5.7).
            let importance = several.iter().filter_map(|set| set.first()).map(|h| h & 0x60).max();
            payload.put_u8(importance.unwrap_or(0) | nal::STAP_A);
            for set in several {
                payload.put_u16(set.len() as u16);
                payload.put_slice(set);
            }
            payloads.push(payload.freeze());
        }
    }
    sets.clear();
}

fn fragment(unit: &[u8], max: usize, payloads: &mut Vec<Bytes>) {
    let Some((&header, body)) = unit.split_first() else {
        return;
    };
    let count = body.len().div_ceil(max - 2).max(1);
    let size = body.len().div_ceil(count).max(1);
    let last = body.len().div_ceil(size) - 1;
    for (i, part) in body.chunks(size).enumerate() {
        let mut payload = BytesMut::with_capacity(part.len() + 2);
        payload.put_u8(header & 0xe0 | nal::FU_A);
        let start = if i == 0 { FU_START } else { 0 };
        let end = if i == last { FU_END } else { 0 };
        payload.put_u8(start | end | nal::kind(header));
        payload.put_slice(part);
        payloads.push(payload.freeze());
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::super::h264_depacketize::depacketize;
    use super::*;

    /// Random units without emulated start codes or trailing zeros.
    fn random_frame(random: &mut StdRng) -> Vec<u8> {
        let mut frame = Vec::new();
        for _ in 0..random.random_range(1..8) {
            frame.extend([0, 0, 0, 1]);
            frame.push([0x67, 0x68, 0x65, 0x41, 0x06][random.random_range(0..5)]);
            let size = match random.random_range(0..3) {
                0 => random.random_range(0..30),
                1 => random.random_range(0..1400),
                _ => random.random_range(0..20_000),
            };
            frame.extend((0..size).map(|_| random.random_range(1..=255u8)));
        }
        frame
    }

    #[test]
    fn frames_of_any_make_up_come_back_as_they_went() {
        let mut random = StdRng::seed_from_u64(7);
        for round in 0..400 {
            let frame = random_frame(&mut random);
            let max = random.random_range(16..1400);
            let payloads = packetize(&frame, max);
            assert!(payloads.iter().all(|p| p.len() <= max), "round {round}");
            let back = depacketize(payloads.iter().map(|p| &p[..]));
            assert!(!back.broken && back.malformed == 0 && back.unsupported == 0);
            assert!(back.data == frame, "round {round}, at most {max} bytes a payload");
        }
    }

    #[test]
    fn parameter_sets_travel_together_and_fragments_are_even() {
        let mut frame = vec![0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65];
        frame.extend([9; 2500]);
        let payloads = packetize(&frame, 1200);
        assert_eq!(payloads[0][..], [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3]);
        let sizes: Vec<usize> = payloads.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [10, 836, 836, 834]);
        assert_eq!(payloads[1][..2], [0x7c, 0x85]);
        assert_eq!(payloads[2][..2], [0x7c, 0x05]);
        assert_eq!(payloads[3][..2], [0x7c, 0x45]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        for nothing in [&[][..], &[1, 2, 3], &[0, 0, 0, 1], &[0, 0, 1, 0, 0, 0, 1]] {
            assert!(packetize(nothing, 1200).is_empty(), "{nothing:?}");
        }
    }
}
