//! VP8 into and out of RTP payloads (RFC 7741).

use bytes::{BufMut, Bytes, BytesMut};

use super::h264_depacketize::{Contents, Depacketized};

/// Payload descriptor bits (RFC 7741 section 4.2).
const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
const PARTITION: u8 = 0x07;
/// In the extension's first byte.
const PICTURE_ID: u8 = 0x80;
const TL0PICIDX: u8 = 0x40;
const TID_OR_KEYIDX: u8 = 0x30;
/// In the picture id's first byte: it has 15 bits.
const LONG: u8 = 0x80;

/// In a frame's first byte (RFC 6386 section 9.1): it refers to others.
const INTER: u8 = 0x01;

/// Our descriptor: one byte, one of extension, two of picture id.
const DESCRIPTOR: usize = 4;

/// Splits frames into payloads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packetizer {
    /// Of the next frame, 15 bits.
    picture_id: u16,
}

impl Packetizer {
    /// Numbers pictures from `picture_id` on, modulo 2^15 (at random is recommended).
    pub fn new(picture_id: u16) -> Self {
        Self { picture_id: picture_id & 0x7fff }
    }

    /// Splits one frame into payloads of about equal size, each at most `max_payload` bytes (at
    /// least 16). The marker belongs on the last one. Empty for an empty frame.
    pub fn packetize(&mut self, frame: &[u8], max_payload: usize) -> Vec<Bytes> {
        if frame.is_empty() {
            return Vec::new();
        }
        let room = max_payload.max(16) - DESCRIPTOR;
        let count = frame.len().div_ceil(room);
        let id = self.picture_id;
        self.picture_id = (id + 1) & 0x7fff;
        let parts = frame.chunks(frame.len().div_ceil(count)).enumerate();
        parts
            .map(|(index, part)| {
                let mut payload = BytesMut::with_capacity(DESCRIPTOR + part.len());
                // Partitions are not told apart, as in libwebrtc: no receiver decodes one alone.
                payload.put_u8(EXTENDED | if index == 0 { START } else { 0 });
                payload.put_u8(PICTURE_ID);
                payload.put_u16(u16::from(LONG) << 8 | id);
                payload.put_slice(part);
                payload.freeze()
            })
            .collect()
    }
}

/// One payload without its descriptor.
struct Part<'a> {
    /// Begins a frame: start of the first partition.
    starts_frame: bool,
    data: &'a [u8],
}

/// Takes the descriptor off. `None` where it ends early or nothing follows it.
fn parse(payload: &[u8]) -> Option<Part<'_>> {
    let (&first, mut rest) = payload.split_first()?;
    if first & EXTENDED != 0 {
        let (&extension, behind) = rest.split_first()?;
        rest = behind;
        let mut skip = 0;
        if extension & PICTURE_ID != 0 {
            skip += if rest.first()? & LONG != 0 { 2 } else { 1 };
        }
        skip += usize::from(extension & TL0PICIDX != 0);
        skip += usize::from(extension & TID_OR_KEYIDX != 0);
        rest = rest.get(skip..)?;
    }
    let starts_frame = first & START != 0 && first & PARTITION == 0;
    (!rest.is_empty()).then_some(Part { starts_frame, data: rest })
}

/// Looks into a payload without copying. Only a frame's first payload tells a key frame.
pub fn inspect(payload: &[u8]) -> Contents {
    let Some(part) = parse(payload).filter(|part| part.starts_frame) else {
        return Contents::default();
    };
    Contents { key: part.data.first().is_some_and(|first| first & INTER == 0), starts_frame: true }
}

/// Joins the payloads of one frame. Any bytes are fine: what cannot be read breaks the frame.
pub fn depacketize<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Depacketized {
    let mut out = Depacketized::default();
    for payload in payloads {
        // Padding fills sequence numbers.
        if payload.is_empty() {
            continue;
        }
        let Some(part) = parse(payload) else {
            out.malformed += 1;
            out.broken = true;
            continue;
        };
        // Exactly one beginning, and that first.
        out.broken |= part.starts_frame != out.data.is_empty();
        if out.data.is_empty() {
            out.key = part.data.first().is_some_and(|first| first & INTER == 0);
        }
        out.data.extend_from_slice(part.data);
    }
    out
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, RngCore, SeedableRng};

    use super::*;

    #[test]
    fn frames_of_any_size_come_back_as_they_went() {
        let mut random = StdRng::seed_from_u64(8);
        let mut packetizer = Packetizer::new(0xfffe);
        for round in 0..400 {
            let mut frame = vec![0; random.random_range(1..20_000)];
            random.fill_bytes(&mut frame);
            let max = random.random_range(16..1400);
            let payloads = packetizer.packetize(&frame, max);
            assert!(payloads.iter().all(|p| p.len() <= max && p.len() > DESCRIPTOR));
            let back = depacketize(payloads.iter().map(|p| &p[..]));
            assert!(!back.broken && back.malformed == 0);
            assert_eq!(back.key, frame[0] & 1 == 0);
            assert!(back.data == frame, "round {round}, at most {max} bytes a payload");
            let starts: Vec<bool> = payloads.iter().map(|p| inspect(p).starts_frame).collect();
            assert!(starts[0] && !starts[1..].contains(&true));
            assert_eq!(inspect(&payloads[0]).key, back.key);
        }
    }

    #[test]
    fn the_picture_id_counts_in_15_bits_and_is_the_same_in_all_parts() {
        let mut packetizer = Packetizer::new(0x7ffe);
        let ids: Vec<[u8; 2]> = (0..3)
            .flat_map(|_| packetizer.packetize(&[0; 100], 64))
            .map(|payload| [payload[2], payload[3]])
            .collect();
        let wanted = [[0xff, 0xfe], [0xff, 0xff], [0x80, 0]];
        assert_eq!(ids, wanted.map(|id| [id; 2]).concat());
    }

    #[test]
    fn descriptors_of_every_shape_are_taken_off() {
        let shapes: [&[u8]; 7] = [
            &[0x10],
            &[0x90, 0x00],
            &[0x90, 0x80, 0x11],
            &[0x90, 0x80, 0x91, 0x22],
            &[0x90, 0xc0, 0x91, 0x22, 0x07],
            &[0x90, 0xe0, 0x11, 0x07, 0x20],
            &[0xb0, 0xf0, 0x91, 0x22, 0x07, 0x25],
        ];
        for shape in shapes {
            let payload = [shape, &[0x9c, 1, 2]].concat();
            let back = depacketize([&payload[..]]);
            assert_eq!((back.data, back.key, back.broken), (vec![0x9c, 1, 2], true, false));
            for short in 1..=shape.len() {
                assert!(depacketize([&payload[..short]]).broken, "{shape:x?} cut at {short}");
            }
        }
    }

    #[test]
    fn a_frame_without_its_beginning_or_with_two_is_broken() {
        let (start, more): (&[u8], &[u8]) = (&[0x10, 0x9d, 1], &[0x00, 2]);
        // The start of a later partition begins no frame.
        let partition: &[u8] = &[0x11, 3];
        assert_eq!(depacketize([start, more, &[], partition]).data, [0x9d, 1, 2, 3]);
        assert!(!depacketize([start, more, partition]).broken);
        for torn in [vec![more], vec![start, start], vec![partition, start], vec![start, &[0x80]]] {
            assert!(depacketize(torn.iter().copied()).broken, "{torn:x?}");
        }
        assert_eq!(depacketize([&[][..]]), Depacketized::default());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_and_bounded() {
        let mut random = StdRng::seed_from_u64(9);
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.random_range(0..40)];
            random.fill_bytes(&mut bytes);
            inspect(&bytes);
            let joined = depacketize(bytes.chunks(random.random_range(1..9)));
            assert!(joined.data.len() <= bytes.len());
        }
    }
}
