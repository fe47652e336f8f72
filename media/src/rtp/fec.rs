//! Forward error correction between two of our own ends: repair packets from which lost ones are
//! computed, without a round trip.
//!
//! Each repair packet is a linear combination over GF(256) of the media packets of the last few
//! frames (of sound: of the last two packets), as in RFC 8681 (sliding window codes), with the coefficients of a Cauchy matrix: of
//! one window, any m repairs restore any m packets. A burst that takes a frame and its own
//! repairs is mended by the next frame's. Sent under an SSRC of their own, they never touch the
//! media's sequence numbers.
//!
//! The payload of a repair packet:
//!
//! ```text
//!  0       1       2               6               8       9
//! +-------+-------+---------------+---------------+-------+-- - - -
//! |version|  row  |  media SSRC   |   first seq   | count | combination
//! +-------+-------+---------------+---------------+-------+-- - - -
//! ```
//!
//! It covers the `count` media packets from `first seq` on. Of a packet is combined: the length
//! of its payload (16 bits), marker and payload type, timestamp, payload, then zeros up to the
//! longest one.

mod decoder;
mod encoder;
mod field;
mod strength;

pub use decoder::{FecDecoder, FecStats, Recovered};
pub use encoder::FecEncoder;
pub use strength::{PathLoss, Strength, sound_strength, strength};

/// Payload type of repair packets. Not negotiated: they are sent to nobody who has not said
/// that he reads them, and they name the stream that they protect.
pub const PAYLOAD_TYPE: u8 = 126;

/// Bytes before the combination.
const HEADER: usize = 9;

/// Bytes that precede the payload in what is combined of a packet.
const PREFIX: usize = 7;

/// The layout above.
const VERSION: u8 = 1;

/// Most packets that one repair covers. Coefficients are distinct up to 128.
const MAX_WINDOW: usize = 64;

/// Repairs have the upper half of the field for their rows, packets the lower half.
const ROW: u8 = 0x80;

/// A media packet as far as it can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// RTP sequence number.
    pub sequence_number: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// RTP payload type, 7 bits.
    pub payload_type: u8,
    /// What follows the RTP header.
    pub payload: &'a [u8],
}

impl Media<'_> {
    /// What is combined of it. `None` for payloads no RTP packet can have.
    fn protected(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.payload.len()).ok()?;
        let mut bytes = Vec::with_capacity(PREFIX + self.payload.len());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(u8::from(self.marker) << 7 | self.payload_type & 0x7f);
        bytes.extend_from_slice(&self.timestamp.to_be_bytes());
        bytes.extend_from_slice(self.payload);
        Some(bytes)
    }
}

/// The media stream that the repair packet with this payload belongs to, if it is one.
pub fn protected_ssrc(payload: &[u8]) -> Option<u32> {
    let (&[version, _, s0, s1, s2, s3], _) = payload.split_first_chunk::<6>()?;
    (version == VERSION).then_some(u32::from_be_bytes([s0, s1, s2, s3]))
}

/// The coefficient of a packet in a repair: 1 / (x + y), a Cauchy matrix.
fn coefficient(row: u8, sequence_number: u16) -> u8 {
    field::inverse((row | ROW) ^ (sequence_number & 0x7f) as u8)
}

#[cfg(test)]
mod tests;
