//! What nodes say to each other: packets of a link, and the messages they carry. Binary frames
//! around the JSON of the room protocol. Pure.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::link::Packet;
use crate::{
    carrier::{CarrierKind, Guest},
    protocol::{ByeReason, ClientEvent, EventError, RoomName, ServerEvent},
    room::CloseReason,
};

/// Of this version of the frames. Nodes of another one do not understand each other, and rooms
/// of theirs cannot be entered through ours.
const MAGIC: [u8; 4] = *b"VVN1";

/// A frame is the magic, the sender, three numbers, a flag and the payload.
const HEAD: usize = MAGIC.len() + NodeId::LENGTH + 3 * 8 + 1;

/// One run of a server. Random, so that a restarted server is another node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; Self::LENGTH]);

impl NodeId {
    const LENGTH: usize = 16;

    /// Makes one of random bytes.
    pub fn new(random: [u8; Self::LENGTH]) -> Self {
        Self(random)
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 2 * Self::LENGTH || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|bits| Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What nodes say. `connection` is a number that the client's node gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// To the owner: a client of ours wants to enter your room.
    Open {
        /// The new connection.
        connection: u64,
        /// The room.
        room: RoomName,
        /// Under which lease it is the receiver's.
        fence: u64,
        /// Who opens it.
        guest: Guest,
    },
    /// To the owner: the client said something, or what is no event.
    Said {
        /// Which connection.
        connection: u64,
        /// What.
        event: Result<ClientEvent, EventError>,
    },
    /// To the owner: the connection ended.
    Closed {
        /// Which connection.
        connection: u64,
        /// On purpose or not.
        reason: ByeReason,
    },
    /// To the owner: the connection was ended because the client broke the rules.
    Expelled {
        /// Which connection.
        connection: u64,
    },
    /// To the owner: so many deliveries were written to the client, or dropped.
    Written {
        /// Which connection.
        connection: u64,
        /// How many.
        count: u32,
    },
    /// To the client's node: tell the client.
    Told {
        /// Which connection.
        connection: u64,
        /// What.
        event: ServerEvent,
    },
    /// To the client's node: close the connection.
    End {
        /// Which connection.
        connection: u64,
        /// Why.
        reason: CloseReason,
    },
    /// To the client's node: the deliveries of so many events of the client are written.
    Done {
        /// Which connection.
        connection: u64,
        /// How many.
        count: u32,
    },
    /// To the client's node: the room is not mine (any more); look for its owner.
    Gone {
        /// Which connection.
        connection: u64,
    },
}

/// Not a frame, or not a message, of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct WireError(&'static str);

#[derive(Serialize, Deserialize)]
struct Opening {
    room: RoomName,
    fence: u64,
    address: IpAddr,
    carrier: CarrierKind,
}

/// A packet as the bytes that are published.
pub fn to_frame(from: NodeId, packet: &Packet) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + packet.payload.len());
    frame.extend(MAGIC);
    frame.extend(from.0);
    for number in [packet.generation, packet.ack, packet.seq] {
        frame.extend(number.to_be_bytes());
    }
    frame.push(packet.asks.into());
    frame.extend(&packet.payload);
    frame
}

/// Reads a frame: who sent which packet.
///
/// # Errors
/// When it is none.
pub fn parse_frame(mut frame: &[u8]) -> Result<(NodeId, Packet), WireError> {
    let short = WireError("The frame is cut off.");
    if take(&mut frame) != Some(MAGIC) {
        return Err(WireError("The frame is of no node of this version."));
    }
    let from = NodeId(take(&mut frame).ok_or(short)?);
    let mut number = || take(&mut frame).map(u64::from_be_bytes).ok_or(short);
    let (generation, ack, seq) = (number()?, number()?, number()?);
    let asks = match take(&mut frame).ok_or(short)? {
        [0] => false,
        [1] => true,
        _ => return Err(WireError("The frame's flag is unknown.")),
    };
    Ok((from, Packet { generation, ack, seq, asks, payload: frame.to_vec() }))
}

impl Message {
    /// The message as a packet's payload.
    pub fn to_payload(&self) -> Vec<u8> {
        let (kind, connection, body) = match self {
            Self::Open { connection, room, fence, guest } => {
                let Guest { address, carrier } = *guest;
                let opening = Opening { room: room.clone(), fence: *fence, address, carrier };
                // Only plain values: this cannot fail.
                (0, connection, serde_json::to_vec(&opening).unwrap_or_default())
            }
            Self::Said { connection, event: Ok(event) } => {
                (1, connection, event.to_text().into_bytes())
            }
            Self::Said { connection, event: Err(error) } => {
                (2, connection, ServerEvent::from(error.clone()).to_text().into_bytes())
            }
            Self::Closed { connection, reason } => (3, connection, vec![bye_code(*reason)]),
            Self::Expelled { connection } => (4, connection, Vec::new()),
            Self::Written { connection, count } => (5, connection, count.to_be_bytes().to_vec()),
            Self::Told { connection, event } => (6, connection, event.to_text().into_bytes()),
            Self::End { connection, reason } => (7, connection, vec![close_code(*reason)]),
            Self::Done { connection, count } => (8, connection, count.to_be_bytes().to_vec()),
            Self::Gone { connection } => (9, connection, Vec::new()),
        };
        let mut payload = Vec::with_capacity(9 + body.len());
        payload.push(kind);
        payload.extend(connection.to_be_bytes());
        payload.extend(body);
        payload
    }

    /// Reads a packet's payload.
    ///
    /// # Errors
    /// When it is no message.
    pub fn parse(mut payload: &[u8]) -> Result<Self, WireError> {
        let short = WireError("The message is cut off.");
        let [kind] = take(&mut payload).ok_or(short)?;
        let connection = u64::from_be_bytes(take(&mut payload).ok_or(short)?);
        let bad = WireError("The message's body cannot be read.");
        let text = || std::str::from_utf8(payload).map_err(|_| bad);
        let number = || payload.try_into().map(u32::from_be_bytes).map_err(|_| bad);
        let code = || <[u8; 1]>::try_from(payload).map(|[code]| code).map_err(|_| bad);
        let told = || ServerEvent::parse(text()?).map_err(|_| bad);
        let empty = |message| if payload.is_empty() { Ok(message) } else { Err(bad) };
        Ok(match kind {
            0 => {
                let opening: Opening = serde_json::from_slice(payload).map_err(|_| bad)?;
                let Opening { room, fence, address, carrier } = opening;
                Self::Open { connection, room, fence, guest: Guest { address, carrier } }
            }
            1 => {
                let event = ClientEvent::parse_within(text()?, usize::MAX).map_err(|_| bad)?;
                Self::Said { connection, event: Ok(event) }
            }
            2 => match told()? {
                ServerEvent::Error { code, message } => {
                    Self::Said { connection, event: Err(EventError::new(code, message)) }
                }
                _ => return Err(bad),
            },
            3 => Self::Closed { connection, reason: bye_of(code()?).ok_or(bad)? },
            4 => empty(Self::Expelled { connection })?,
            5 => Self::Written { connection, count: number()? },
            6 => Self::Told { connection, event: told()? },
            7 => Self::End { connection, reason: close_of(code()?).ok_or(bad)? },
            8 => Self::Done { connection, count: number()? },
            9 => empty(Self::Gone { connection })?,
            _ => return Err(WireError("The message is of an unknown kind.")),
        })
    }
}

const BYES: [ByeReason; 3] = [ByeReason::Left, ByeReason::Lost, ByeReason::Replaced];

const CLOSES: [CloseReason; 4] =
    [CloseReason::Idle, CloseReason::Restart, CloseReason::Replaced, CloseReason::Limit];

fn bye_code(reason: ByeReason) -> u8 {
    match reason {
        ByeReason::Left => 0,
        ByeReason::Lost => 1,
        ByeReason::Replaced => 2,
    }
}

fn bye_of(code: u8) -> Option<ByeReason> {
    BYES.into_iter().find(|reason| bye_code(*reason) == code)
}

fn close_code(reason: CloseReason) -> u8 {
    match reason {
        CloseReason::Idle => 0,
        CloseReason::Restart => 1,
        CloseReason::Replaced => 2,
        CloseReason::Limit => 3,
    }
}

fn close_of(code: u8) -> Option<CloseReason> {
    CLOSES.into_iter().find(|reason| close_code(*reason) == code)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ErrorCode, PeerId};

    fn messages() -> Vec<Message> {
        let room = RoomName::parse("茶室").unwrap();
        let guest =
            Guest { address: "2001:db8::1".parse().unwrap(), carrier: CarrierKind::WebSocket };
        let join = ClientEvent::CreateOrJoin {
            room: room.clone(),
            resume: Some("token".into()),
            last_seq: Some(3),
        };
        let said =
            ClientEvent::Message { message: serde_json::json!({"a": [1, "é"]}).into(), seq: None };
        let told = ServerEvent::Message { from: PeerId::from("p"), seq: 9, message: "x".into() };
        let error = EventError::new(ErrorCode::BadField, "Bad.");
        let mut all = vec![
            Message::Open { connection: 1, room, fence: u64::MAX, guest },
            Message::Said { connection: 2, event: Ok(join) },
            Message::Said { connection: 2, event: Ok(said) },
            Message::Said { connection: 3, event: Err(error) },
            Message::Expelled { connection: 5 },
            Message::Written { connection: 6, count: 7 },
            Message::Told { connection: 8, event: told },
            Message::Done { connection: 10, count: u32::MAX },
            Message::Gone { connection: u64::MAX },
        ];
        all.extend(BYES.map(|reason| Message::Closed { connection: 4, reason }));
        all.extend(CLOSES.map(|reason| Message::End { connection: 9, reason }));
        all
    }

    #[test]
    fn every_message_survives_the_wire() {
        for message in messages() {
            assert_eq!(Message::parse(&message.to_payload()), Ok(message));
        }
    }

    #[test]
    fn a_packet_survives_the_wire() {
        let node = NodeId::new([0xab; 16]);
        assert_eq!(NodeId::parse(&node.to_string()), Some(node));
        let packet = Packet { generation: 1, ack: 2, seq: 3, asks: true, payload: vec![4, 5] };
        assert_eq!(parse_frame(&to_frame(node, &packet)), Ok((node, packet)));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let node = NodeId::new([1; 16]);
        let packet = Packet { generation: 1, ack: 2, seq: 3, asks: false, payload: Vec::new() };
        let frame = to_frame(node, &packet);
        for length in 0..frame.len() {
            assert!(parse_frame(&frame[..length]).is_err(), "{length} bytes");
        }
        for message in messages() {
            let payload = message.to_payload();
            for length in 0..payload.len() {
                assert!(Message::parse(&payload[..length]).is_err(), "{message:?} {length}");
            }
        }
        assert!(Message::parse(&[99; 20]).is_err());
        for text in ["", "abc", &"g".repeat(32), &"+".repeat(32), &"é".repeat(16)] {
            assert_eq!(NodeId::parse(text), None);
        }
    }
}
