//! What two of our own ends tell each other inside RTCP: application-defined packets
//! (RFC 3550 section 6.7) named "VVIS". Others ignore them, as the RFC asks.
//!
//! Who receives one knows that the other end is one of ours and reads what the message is about:
//! no repair packet and no long-term reference is used before.

/// Packet type of application-defined packets.
const APP: u8 = 204;

const NAME: [u8; 4] = *b"VVIS";

/// Bytes before the message's own fields: header, sender's SSRC, name.
const HEADER: usize = 12;

const LOSSES: u8 = 1;
const REFERENCE_MARKED: u8 = 2;
const REFERENCE_WANTED: u8 = 3;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppMessage {
    /// What became of the media packets of one stream since the message before. Says, too, that
    /// repair packets of [`fec`](super::fec) are read here.
    Losses {
        /// The media stream.
        ssrc: u32,
        /// Packets that should have come.
        expected: u16,
        /// Of these, packets that did not.
        lost: u16,
        /// In so many runs of neighbours.
        runs: u16,
    },
    /// A picture was decoded that both ends keep as a long-term reference.
    ReferenceMarked {
        /// The media stream.
        ssrc: u32,
        /// `idr_pic_id` of the key frame it follows.
        idr: u16,
        /// Its `frame_num` (ITU-T H.264 section 7.4.3).
        frame: u16,
    },
    /// Pictures are damaged: refer to one that is known to be there.
    ReferenceWanted {
        /// The media stream.
        ssrc: u32,
        /// `idr_pic_id` of the last key frame that was decoded.
        idr: u16,
        /// `frame_num` of the last undamaged picture.
        good: u16,
        /// `frame_num` of the first damaged one.
        damaged: u16,
    },
}

/// What who receives pictures tells who sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFeedback {
    /// A key frame is needed (PLI, RFC 4585 section 6.3.1).
    KeyFrame,
    /// As [`AppMessage::ReferenceMarked`].
    ReferenceMarked {
        /// `idr_pic_id`.
        idr: u16,
        /// `frame_num`.
        frame: u16,
    },
    /// As [`AppMessage::ReferenceWanted`].
    ReferenceWanted {
        /// `idr_pic_id`.
        idr: u16,
        /// The last undamaged picture's `frame_num`.
        good: u16,
        /// The first damaged one's.
        damaged: u16,
    },
}

impl PictureFeedback {
    /// As a message about the stream `ssrc`; a key frame is asked for otherwise.
    pub fn to_message(self, ssrc: u32) -> Option<AppMessage> {
        match self {
            Self::KeyFrame => None,
            Self::ReferenceMarked { idr, frame } => {
                Some(AppMessage::ReferenceMarked { ssrc, idr, frame })
            }
            Self::ReferenceWanted { idr, good, damaged } => {
                Some(AppMessage::ReferenceWanted { ssrc, idr, good, damaged })
            }
        }
    }

    /// What a message says about pictures of the stream `ssrc`, if it does.
    pub fn from_message(message: AppMessage, ssrc: u32) -> Option<Self> {
        match message {
            AppMessage::ReferenceMarked { ssrc: of, idr, frame } if of == ssrc => {
                Some(Self::ReferenceMarked { idr, frame })
            }
            AppMessage::ReferenceWanted { ssrc: of, idr, good, damaged } if of == ssrc => {
                Some(Self::ReferenceWanted { idr, good, damaged })
            }
            _ => None,
        }
    }
}

impl AppMessage {
    /// The whole RTCP packet, from `sender`.
    pub fn to_bytes(self, sender: u32) -> Vec<u8> {
        let (subtype, ssrc, fields) = match self {
            Self::Losses { ssrc, expected, lost, runs } => {
                (LOSSES, ssrc, [expected, lost, runs, 0])
            }
            Self::ReferenceMarked { ssrc, idr, frame } => {
                (REFERENCE_MARKED, ssrc, [idr, frame, 0, 0])
            }
            Self::ReferenceWanted { ssrc, idr, good, damaged } => {
                (REFERENCE_WANTED, ssrc, [idr, good, damaged, 0])
            }
        };
        let mut bytes = Vec::with_capacity(HEADER + 12);
        // Version 2, no padding; the length counts 32-bit words less one.
        bytes.extend_from_slice(&[0x80 | subtype, APP, 0, 5]);
        bytes.extend_from_slice(&sender.to_be_bytes());
        bytes.extend_from_slice(&NAME);
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        fields.iter().for_each(|field| bytes.extend_from_slice(&field.to_be_bytes()));
        bytes
    }

    /// Reads one RTCP packet. `None`: somebody else's, or a later version's.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (&[first, kind, _, _, _, _, _, _, n0, n1, n2, n3], rest) =
            packet.split_first_chunk::<HEADER>()?;
        if first & 0xc0 != 0x80 || kind != APP || [n0, n1, n2, n3] != NAME {
            return None;
        }
        let &[s0, s1, s2, s3, a0, a1, b0, b1, c0, c1, _, _] = rest.first_chunk::<12>()?;
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        let [a, b, c] = [[a0, a1], [b0, b1], [c0, c1]].map(u16::from_be_bytes);
        match first & 0x1f {
            LOSSES => Some(Self::Losses { ssrc, expected: a, lost: b, runs: c }),
            REFERENCE_MARKED => Some(Self::ReferenceMarked { ssrc, idr: a, frame: b }),
            REFERENCE_WANTED => Some(Self::ReferenceWanted { ssrc, idr: a, good: b, damaged: c }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for message in [
            AppMessage::Losses { ssrc: 0xfedc_ba98, expected: 300, lost: 20, runs: 7 },
            AppMessage::ReferenceMarked { ssrc: 1, idr: 65_535, frame: 9 },
            AppMessage::ReferenceWanted { ssrc: 2, idr: 3, good: 500, damaged: 501 },
        ] {
            let bytes = message.to_bytes(77);
            // RFC 3550: a multiple of four bytes, and the length says how many.
            assert_eq!(
                bytes.len(),
                (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) + 1) * 4
            );
            assert_eq!(AppMessage::parse(&bytes), Some(message));
            for length in 0..bytes.len() {
                assert_eq!(AppMessage::parse(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn others_messages_are_none_of_ours() {
        let bytes = AppMessage::ReferenceMarked { ssrc: 1, idr: 2, frame: 3 }.to_bytes(4);
        for (at, value) in [(0, 0x42), (0, 0x9f), (1, 200), (8, b'X')] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(AppMessage::parse(&other), None);
        }
    }
}
