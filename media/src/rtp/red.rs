//! Redundant sound (RED, RFC 2198): packets that were sent already travel again in later ones.
//!
//! On the wire the copies come first, oldest first, each announced by four bytes: payload type,
//! how much older than the packet (14 bits of RTP time), length (10 bits). One byte announces
//! the packet's own block, which is the last.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Longer blocks cannot be announced (10 bits).
pub const MAX_BLOCK: usize = 1023;

/// Older copies cannot be announced (14 bits of RTP time): 341 ms at 48 kHz.
pub const MAX_OFFSET: u32 = 16_383;

/// Copies in one packet that are looked at. Nobody sends more than a few.
const MAX_COPIES: usize = 8;

/// One packet that travels again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedundantBlock {
    /// RTP payload type.
    pub payload_type: u8,
    /// How much older than the packet it travels in, in RTP time.
    pub offset: u32,
    /// The payload as it was sent first.
    pub payload: Bytes,
}

/// What a RED payload holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Red {
    /// Copies of earlier packets, oldest first.
    pub copies: Vec<RedundantBlock>,
    /// RTP payload type of the packet's own block.
    pub payload_type: u8,
    /// The packet's own block.
    pub payload: Bytes,
}

/// Why a RED payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedError {
    /// A header or a block ends beyond the packet.
    #[error("a RED packet is cut off")]
    CutOff,
    /// More copies than anybody sends.
    #[error("a RED packet with more than {MAX_COPIES} copies")]
    TooMany,
}

/// Takes a RED payload apart without copying.
///
/// # Errors
/// Where it is not what RFC 2198 describes.
pub fn parse(packet: &Bytes) -> Result<Red, RedError> {
    let mut announced: Vec<(u8, u32, usize)> = Vec::new();
    let mut at = 0;
    let payload_type = loop {
        let first = *packet.get(at).ok_or(RedError::CutOff)?;
        if first & 0x80 == 0 {
            at += 1;
            break first;
        }
        let &[_, high, middle, low] =
            packet.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(RedError::CutOff)?;
        if announced.len() == MAX_COPIES {
            return Err(RedError::TooMany);
        }
        let rest = u32::from_be_bytes([0, high, middle, low]);
        announced.push((first & 0x7f, rest >> 10, (rest & 0x3ff) as usize));
        at += 4;
    };
    let mut copies = Vec::with_capacity(announced.len());
    for (payload_type, offset, length) in announced {
        let end = at + length;
        if end > packet.len() {
            return Err(RedError::CutOff);
        }
        copies.push(RedundantBlock { payload_type, offset, payload: packet.slice(at..end) });
        at = end;
    }
    Ok(Red { copies, payload_type, payload: packet.slice(at..) })
}

/// Remembers what was sent and sends it again.
#[derive(Debug, Default)]
pub struct RedSender {
    /// Newest last: RTP timestamp and payload.
    sent: VecDeque<(u32, Bytes)>,
}

/// The farthest copy that is ever asked for, in packets.
pub const FARTHEST: usize = 4;

impl RedSender {
    /// The RED payload of a packet: its own `payload` and copies of those that were sent
    /// `distances` packets before it (1 is the last one). What cannot be announced, or would make
    /// more than `limit` bytes, is left out.
    pub fn pack(
        &mut self,
        payload_type: u8,
        timestamp: u32,
        payload: Bytes,
        distances: &[usize],
        limit: usize,
    ) -> Bytes {
        let mut size = payload.len() + 1;
        let mut copies: Vec<(u32, &Bytes)> = Vec::with_capacity(distances.len());
        for distance in distances {
            let Some((sent_at, copy)) =
                self.sent.len().checked_sub(*distance).and_then(|index| self.sent.get(index))
            else {
                continue;
            };
            let offset = timestamp.wrapping_sub(*sent_at);
            let fits = size + 4 + copy.len() <= limit && copy.len() <= MAX_BLOCK;
            if (1..=MAX_OFFSET).contains(&offset) && fits {
                size += 4 + copy.len();
                copies.push((offset, copy));
            }
        }
        copies.sort_by_key(|(offset, _)| std::cmp::Reverse(*offset));
        let mut packet = BytesMut::with_capacity(size);
        for (offset, copy) in &copies {
            packet.put_u8(0x80 | payload_type);
            let rest = (offset << 10 | copy.len() as u32).to_be_bytes();
            packet.put_slice(&rest[1..]);
        }
        packet.put_u8(payload_type & 0x7f);
        copies.iter().for_each(|(_, copy)| packet.put_slice(copy));
        packet.put_slice(&payload);
        self.remember(timestamp, payload);
        packet.freeze()
    }

    /// A packet was sent without copies: later ones may still carry it.
    pub fn remember(&mut self, timestamp: u32, payload: Bytes) {
        if self.sent.len() == FARTHEST {
            self.sent.pop_front();
        }
        self.sent.push_back((timestamp, payload));
    }

    /// After a pause what was said before it is of no use.
    pub fn forget(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, RngCore, SeedableRng};

    const LIMIT: usize = 1150;

    fn block(of: u8, len: usize) -> Bytes {
        vec![of; len].into()
    }

    /// The example of RFC 2198 section 4, with our payload types.
    #[test]
    fn the_wire_is_the_one_of_the_rfc() {
        let mut sender = RedSender::default();
        sender.remember(1000, Bytes::from_static(&[1, 2, 3]));
        let own = Bytes::from_static(&[9, 8]);
        let packet = sender.pack(111, 1960, own, &[1], LIMIT);
        // F and type; 960 << 10 | 3 in 24 bits; type; blocks.
        let expected = [0x80 | 111, 0x0f, 0x00, 0x03, 111, 1, 2, 3, 9, 8];
        assert_eq!(packet[..], expected);
    }

    #[test]
    fn what_is_packed_is_found_again_oldest_first() {
        let mut sender = RedSender::default();
        for n in 0..10u8 {
            let timestamp = (u32::MAX - 2000).wrapping_add(u32::from(n) * 960);
            let red =
                parse(&sender.pack(111, timestamp, block(n, 50), &[2, 4], LIMIT)).expect("valid");
            assert_eq!((red.payload_type, &red.payload), (111, &block(n, 50)));
            let copies: Vec<_> =
                red.copies.iter().map(|copy| (copy.offset, copy.payload[0])).collect();
            let expected: Vec<_> = [4, 2]
                .into_iter()
                .filter(|back| *back <= n)
                .map(|back| (u32::from(back) * 960, n - back))
                .collect();
            assert_eq!(copies, expected);
        }
    }

    #[test]
    fn what_cannot_be_announced_or_does_not_fit_is_left_out() {
        let mut sender = RedSender::default();
        sender.remember(0, block(1, 10));
        sender.remember(15_000, block(2, 1024));
        let packet = sender.pack(111, 16_384, block(3, 10), &[1, 2], LIMIT);
        assert_eq!(parse(&packet).expect("valid").copies, []);
        sender.forget();
        sender.remember(16_384, block(4, 700));
        let packet = sender.pack(111, 17_344, block(5, 500), &[1], LIMIT);
        assert_eq!((parse(&packet).expect("valid").copies, packet.len()), (vec![], 501));
        sender.forget();
        let packet = sender.pack(111, 18_304, block(5, 500), &[1], LIMIT);
        assert_eq!(parse(&packet).expect("valid").copies, [], "forgotten");
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut sender = RedSender::default();
        sender.remember(0, block(1, 10));
        let packet = sender.pack(111, 960, block(2, 10), &[1], LIMIT);
        for end in 0..15 {
            assert_eq!(parse(&packet.slice(..end)), Err(RedError::CutOff), "{end} bytes");
        }
        assert!(parse(&packet.slice(..15)).is_ok(), "an empty block of its own is allowed");
        let mut many = [0x80 | 111, 0, 0, 0].repeat(MAX_COPIES);
        many.push(111);
        assert_eq!(parse(&many.clone().into()).expect("valid").copies.len(), MAX_COPIES);
        many.splice(..0, [0x80 | 111, 0, 0, 0]);
        assert_eq!(parse(&many.into()), Err(RedError::TooMany));
    }

    #[test]
    fn no_bytes_from_a_peer_can_end_it() {
        let mut random = StdRng::seed_from_u64(11);
        for _ in 0..100_000 {
            let mut bytes = vec![0; random.random_range(0..64)];
            random.fill_bytes(&mut bytes);
            // Headers that go on are rare in noise.
            bytes
                .iter_mut()
                .step_by(4)
                .for_each(|byte| *byte |= u8::from(random.random::<bool>()) << 7);
            let length = bytes.len();
            if let Ok(red) = parse(&bytes.into()) {
                let sum: usize = red.copies.iter().map(|copy| copy.payload.len() + 4).sum();
                assert_eq!(sum + 1 + red.payload.len(), length);
                assert!(red.copies.len() <= MAX_COPIES);
                assert!(red.copies.iter().all(|copy| copy.offset <= MAX_OFFSET));
            }
        }
    }
}
