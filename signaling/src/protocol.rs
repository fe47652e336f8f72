//! The room protocol's wire over WebSocket, version 1: one JSON object a text frame, `type` is
//! the event's name. `docs/protocol.md` is the reference.

mod names;
mod parse;
mod payload;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use names::{PeerId, RoomName, RoomNameError};
pub use payload::Payload;

/// The protocol's version, told by the server's identification (see [`crate::probe`]).
pub const VERSION: u32 = 1;

/// The longest text frame a client may send, in bytes, if the server is not told otherwise.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum ClientEvent {
    /// Take a seat in a room, or take one's own back.
    #[serde(rename = "create or join")]
    CreateOrJoin {
        /// The room.
        room: RoomName,
        /// The token of a seat held before.
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
        /// The last `seq` received in that seat.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_seq: Option<u64>,
    },
    /// To be relayed to the other seat.
    #[serde(rename = "message")]
    Message {
        /// What the two ends say to each other; the server does not look in, except for the
        /// tutorial's `"bye"`.
        message: Payload,
        /// The sender's count of its messages.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// Leave the room, keep the connection.
    #[serde(rename = "bye")]
    Bye,
    /// Ask for the server's addresses.
    #[serde(rename = "ipaddr")]
    IpAddr,
    /// Ask for a `pong`.
    #[serde(rename = "ping")]
    Ping,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerEvent {
    /// You are alone in the room and will make the offer.
    Created {
        /// The room.
        room: RoomName,
        /// Who you are there.
        id: PeerId,
        /// Takes this seat back after a broken connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
    },
    /// The other one arrived.
    Join {
        /// The room.
        room: RoomName,
        /// Who arrived.
        id: PeerId,
        /// Takes your seat back from now on, instead of the token before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
    },
    /// You took the second seat.
    Joined {
        /// The room.
        room: RoomName,
        /// Who you are there.
        id: PeerId,
        /// Who was there before you.
        peer: PeerId,
        /// Takes this seat back after a broken connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
    },
    /// Both seats are taken.
    Ready {
        /// STUN and TURN servers to use; may be empty.
        #[serde(default)]
        ice_servers: Vec<IceServer>,
    },
    /// You have your seat back and the call goes on.
    Resumed {
        /// The room.
        room: RoomName,
        /// Who you are there.
        id: PeerId,
        /// Whether you make the first offer.
        role: Role,
        /// Who sits opposite.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<PeerId>,
        /// The last of your messages that is known to have arrived; 0 if none is.
        last_seq: u64,
        /// Takes this seat back the next time.
        resume: String,
        /// STUN and TURN servers to use.
        #[serde(default)]
        ice_servers: Vec<IceServer>,
    },
    /// Both seats are taken by others.
    Full {
        /// The room.
        room: RoomName,
        /// When to ask again, in milliseconds.
        retry_ms: u64,
        /// A seat is held for someone whose connection broke: it may soon be free.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        held: bool,
    },
    /// The other seat says something.
    Message {
        /// Who says it.
        from: PeerId,
        /// The sender's own count, if it counts; else the server counts from 1.
        seq: u64,
        /// What it says.
        message: Payload,
    },
    /// The other one is gone (or, `replaced`, you are).
    Bye {
        /// Who is gone.
        id: PeerId,
        /// Why.
        reason: ByeReason,
    },
    /// Something for a human.
    Log {
        /// One sentence.
        message: String,
    },
    /// One of the server's addresses.
    IpAddr {
        /// The address.
        address: String,
    },
    /// Answers `ping`.
    Pong,
    /// Your last event was refused; the connection lives.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: names what was wrong and what to do.
        message: String,
    },
    /// An event of a newer server.
    #[serde(other)]
    Unknown,
}

/// Who makes the first offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The one who was in the room first.
    Initiator,
    /// The one who came second.
    Responder,
}

impl Role {
    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// Why a seat was freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ByeReason {
    /// On purpose: `bye`, another room, a closed tab.
    Left,
    /// The connection broke.
    Lost,
    /// The same seat was taken up by a newer connection.
    Replaced,
}

/// A STUN or TURN server, in the shape of `RTCIceServer` (WebRTC 1.0, section 4.2.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:` and `turn:` addresses.
    pub urls: Vec<String>,
    /// Of a TURN server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Of a TURN server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// What was wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Not JSON.
    MalformedJson,
    /// JSON, but not an object with a string `type`.
    MalformedEvent,
    /// No such event.
    UnknownEvent,
    /// A field is missing or of the wrong type.
    BadField,
    /// Not a name for a room.
    BadRoomName,
    /// Longer than [`MAX_EVENT_BYTES`].
    TooLarge,
    /// A binary frame.
    BinaryFrame,
    /// The frame breaks the rules of WebSocket (RFC 6455); the connection ends.
    BadFrame,
    /// A message from someone who is in no room.
    NotInRoom,
    /// This server serves only rooms it hosts itself.
    RoomNotHosted,
    /// This server does not tell its addresses.
    AddressesNotTold,
    /// Too much in too short a time; the connection ends.
    RateLimited,
    /// The server has no room left; the connection ends.
    TooManyRooms,
    /// A code of a newer server.
    #[serde(other)]
    Other,
}

/// An event refused: becomes [`ServerEvent::Error`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct EventError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl EventError {
    /// An error of `code` that says `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A frame of `bytes` bytes, too long to be looked at, where `limit` bytes are allowed.
    pub fn too_large(bytes: usize, limit: usize) -> Self {
        Self::new(
            ErrorCode::TooLarge,
            format!("A message of {bytes} bytes is too long: the limit is {limit} bytes."),
        )
    }
}

impl From<EventError> for ServerEvent {
    fn from(error: EventError) -> Self {
        Self::Error { code: error.code, message: error.message }
    }
}
