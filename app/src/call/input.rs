//! What can happen to a call.

use visavis_media::peer::PeerEvent;
use visavis_signaling::client::Trouble;
use visavis_signaling::protocol::ServerEvent;

use super::ConnectionId;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Start a call on our own server.
    Host {
        /// The room's name.
        room: String,
    },
    /// Join a call elsewhere.
    Join {
        /// The server's address.
        server: String,
        /// The room's name.
        room: String,
        /// The link to pass on.
        invite: Option<String>,
    },
    /// Leave, from wherever we are.
    HangUp,
    /// Our server runs: reach it here, invite with this link.
    Hosted {
        /// For ourselves.
        server: String,
        /// For others.
        invite: Option<String>,
    },
    /// Our server does not run.
    HostFailed(String),
    /// From the server.
    Server(ServerEvent),
    /// The connection to the server broke; the client tries again by itself, and takes the seat
    /// back. What the server then says tells whether it was kept.
    ServerLost(String),
    /// The server cannot be used at all.
    ServerRefused(String),
    /// The server is not the one it should be, or cannot prove it.
    ServerUntrusted(Trouble),
    /// Camera and microphone are there, or known to be absent.
    SourcesSettled,
    /// What is switched on here.
    LocalState {
        /// The microphone.
        audio: bool,
        /// The camera.
        video: bool,
        /// The screen.
        screen: bool,
    },
    /// Our name, for whom we meet next.
    Name(String),
    /// From a connection.
    Peer(ConnectionId, PeerEvent),
    /// The network that the connection begins at is gone, or the machine has slept.
    NetworkChanged,
    /// [`Effect::Offer`](super::Effect::Offer) or [`Effect::Restart`](super::Effect::Restart)
    /// was done.
    OfferMade(ConnectionId, String),
    /// [`Effect::Answer`](super::Effect::Answer) was done.
    AnswerMade(ConnectionId, String),
    /// [`Effect::AcceptAnswer`](super::Effect::AcceptAnswer) was done.
    AnswerAccepted(ConnectionId),
    /// What the other end sent cannot be used on a connection, for this reason.
    ConnectionRefused(ConnectionId, String),
    /// Nothing can be set up at our end, for this reason.
    SetupFailed(ConnectionId, String),
    /// It is time: see [`Call::poll_timeout`](super::Call::poll_timeout).
    Timeout,
}
