//! What a call wants done.

use std::time::Duration;

use visavis_media::peer::{Candidate, IceServer};

use super::ConnectionId;
use crate::news::News;
use crate::peer_message::PeerMessage;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start our server for this room.
    StartServer(String),
    /// Connect to a server and take a seat.
    Dial {
        /// The server's address.
        server: String,
        /// The room's name.
        room: String,
        /// For whoever sits there already.
        greeting: Vec<PeerMessage>,
    },
    /// Ask for a seat again after a while.
    Knock(Duration),
    /// Leave the room and the server; if it is our own, stop it afterwards.
    HangUpLine,
    /// Tell the other end.
    Send(PeerMessage),
    /// Make a connection.
    Open(ConnectionId, Vec<IceServer>),
    /// Use these STUN and TURN servers on it from now on.
    UseIceServers(ConnectionId, Vec<IceServer>),
    /// Close it.
    Close(ConnectionId),
    /// Offer on it.
    Offer(ConnectionId),
    /// Offer a new path on it.
    Restart(ConnectionId),
    /// Take the offer back.
    Rollback(ConnectionId),
    /// Answer this offer on it.
    Answer(ConnectionId, String),
    /// Apply this answer to it.
    AcceptAnswer(ConnectionId, String),
    /// Add the other end's candidate to it.
    AddCandidate(ConnectionId, Candidate),
    /// It is connected: let media flow.
    StartSending(ConnectionId),
    /// Whether the other end's camera is on.
    PeerSendsVideo(ConnectionId, bool),
    /// Tell the user.
    Tell(News),
    /// Back in the lobby.
    Ended(End),
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// On our wish.
    HungUp,
    /// Both seats were taken.
    RoomFull,
    /// The server refused us or cannot be used.
    ServerRefused,
    /// Our own server does not start.
    HostFailed,
}
