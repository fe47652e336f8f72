//! H.264 out of RTP payloads (RFC 6184, packetization mode 1), to Annex B.
//!
//! Stateless from frame to frame: it is handed the payloads of one whole frame in order, so a
//! lost packet can never glue two NAL units together.

/// NAL unit types (ITU-T H.264 table 7-1, RFC 6184 table 1).
pub(crate) mod nal {
    /// A slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
    /// The last type that is a NAL unit by itself.
    pub const LAST_SINGLE: u8 = 23;
    /// Single-time aggregation packet.
    pub const STAP_A: u8 = 24;
    /// Fragmentation unit.
    pub const FU_A: u8 = 28;

    /// The type in a NAL unit's first byte.
    pub const fn kind(header: u8) -> u8 {
        header & 0x1f
    }
}

/// Set on the first and the last fragment of a NAL unit.
pub(crate) const FU_START: u8 = 0x80;
pub(crate) const FU_END: u8 = 0x40;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What one payload holds, as far as it can be told without its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Holds an IDR slice or a part of one.
    pub key: bool,
    /// Begins with a parameter set or a delimiter: nothing of its frame comes before it.
    pub starts_frame: bool,
}

/// Looks into a payload without copying.
pub fn inspect(payload: &[u8]) -> Contents {
    let Some(&header) = payload.first() else {
        return Contents::default();
    };
    match nal::kind(header) {
        nal::FU_A => Contents {
            key: payload.get(1).is_some_and(|&fu| nal::kind(fu) == nal::IDR),
            starts_frame: payload
                .get(1)
                .is_some_and(|&fu| fu & FU_START != 0 && opens_frame(nal::kind(fu))),
        },
        nal::STAP_A => {
            let mut kinds = Aggregated(payload.get(1..).unwrap_or_default())
                .filter_map(|unit| unit.first().map(|&header| nal::kind(header)));
            let first = kinds.next();
            Contents {
                key: first == Some(nal::IDR) || kinds.any(|kind| kind == nal::IDR),
                starts_frame: first.is_some_and(opens_frame),
            }
        }
        kind => Contents { key: kind == nal::IDR, starts_frame: opens_frame(kind) },
    }
}

fn opens_frame(kind: u8) -> bool {
    matches!(kind, nal::SPS | nal::AUD)
}

/// One frame as a decoder wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depacketized {
    /// Annex B: every NAL unit after a four byte start code. May be empty.
    pub data: Vec<u8>,
    /// Holds an IDR slice.
    pub key: bool,
    /// Payloads of types that mode 1 does not know, left out.
    pub unsupported: u32,
    /// Payloads that ended early or held nothing, left out in part.
    pub malformed: u32,
    /// A fragmented NAL unit lacks its beginning or its end: do not decode.
    pub broken: bool,
}

/// Joins the payloads of one frame. Any bytes are fine: what cannot be read is counted.
pub fn depacketize<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Depacketized {
    let mut out = Depacketized::default();
    let mut open_fragment: Option<u8> = None;
    for payload in payloads {
        let Some((&header, rest)) = payload.split_first() else {
            continue;
        };
        let kind = nal::kind(header);
        if kind != nal::FU_A && open_fragment.take().is_some() {
            out.broken = true;
        }
        match kind {
            1..=nal::LAST_SINGLE => out.push(payload),
            nal::STAP_A => {
                let mut units = Aggregated(rest);
                let mut any = false;
                for unit in units.by_ref() {
                    out.push(unit);
                    any = true;
                }
                if !any || !units.0.is_empty() {
                    out.malformed += 1;
                }
            }
            nal::FU_A => out.push_fragment(header, rest, &mut open_fragment),
            _ => out.unsupported += 1,
        }
    }
    out.broken |= open_fragment.is_some();
    out
}

impl Depacketized {
    fn push(&mut self, unit: &[u8]) {
        let Some(&header) = unit.first() else {
            return;
        };
        self.key |= nal::kind(header) == nal::IDR;
        self.data.extend_from_slice(&START_CODE);
        self.data.extend_from_slice(unit);
    }

    /// RFC 6184 section 5.8. `open` is the type of the NAL unit under way.
    fn push_fragment(&mut self, indicator: u8, rest: &[u8], open: &mut Option<u8>) {
        let Some((&fu, fragment)) = rest.split_first() else {
            self.malformed += 1;
            self.broken = true;
            return;
        };
        let kind = nal::kind(fu);
        if fu & FU_START != 0 {
            // A second start before an end: the first unit is cut short.
            self.broken |= open.is_some();
            *open = Some(kind);
            self.push(&[indicator & 0xe0 | kind]);
        } else if *open != Some(kind) {
            self.malformed += 1;
            self.broken = true;
            *open = None;
            return;
        }
        self.data.extend_from_slice(fragment);
        if fu & FU_END != 0 {
            *open = None;
        }
    }
}

/// The NAL units of a STAP-A. Stops before anything that is empty or runs over the end, which
/// then is what remains in `.0`.
struct Aggregated<'a>(&'a [u8]);

impl<'a> Iterator for Aggregated<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (size, rest) = self.0.split_first_chunk::<2>()?;
        let size = usize::from(u16::from_be_bytes(*size));
        if size == 0 {
            return None;
        }
        let (unit, rest) = rest.split_at_checked(size)?;
        self.0 = rest;
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_with_a_stray_byte_at_its_end_keeps_its_units() {
        let out = depacketize([&[0x78, 0x00, 0x01, 0xaa, 0x00][..]]);
        assert_eq!(out.data, [0, 0, 0, 1, 0xaa]);
        assert_eq!((out.malformed, out.broken), (1, false));
    }

    #[test]
    fn an_aggregate_that_promises_too_much_is_counted() {
        let out = depacketize([&[0x78, 0x00, 0x09, 0x67][..], &[0x78][..], &[0x78, 0, 0][..]]);
        assert_eq!((out.data.len(), out.malformed), (0, 3));
    }

    #[test]
    fn types_of_other_modes_are_left_out_and_counted() {
        let out = depacketize([&[25, 1, 2][..], &[29, 1, 2][..], &[0][..], &[31][..], &[0x41, 1]]);
        assert_eq!(out.data, [0, 0, 0, 1, 0x41, 1]);
        assert_eq!((out.unsupported, out.broken), (4, false));
    }

    #[test]
    fn a_fragment_without_its_beginning_or_end_breaks_the_frame() {
        let start: &[u8] = &[0x7c, 0x85, 1];
        let middle: &[u8] = &[0x7c, 0x05, 2];
        let end: &[u8] = &[0x7c, 0x45, 3];
        let whole = depacketize([start, middle, end]);
        assert_eq!(whole.data, [0, 0, 0, 1, 0x65, 1, 2, 3]);
        assert!(whole.key && !whole.broken);
        for torn in [vec![middle, end], vec![start, middle], vec![start, start, end]] {
            assert!(depacketize(torn.iter().copied()).broken, "{torn:?}");
        }
        assert!(depacketize([start, &[0x41, 9], end]).broken);
        assert!(depacketize([&[0x7c][..]]).broken);
    }

    #[test]
    fn looking_in_tells_key_frames_and_frame_starts() {
        let seen = |payload: &[u8]| (inspect(payload).key, inspect(payload).starts_frame);
        assert_eq!(seen(&[]), (false, false));
        assert_eq!(seen(&[0x65, 1]), (true, false));
        assert_eq!(seen(&[0x67, 1]), (false, true));
        assert_eq!(seen(&[0x7c, 0x05]), (true, false));
        assert_eq!(seen(&[0x78, 0, 1, 0x67, 0, 1, 0x65]), (true, true));
    }
}
