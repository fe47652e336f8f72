//! The life of a call, from the lobby and back: a pure state machine. Each input yields the
//! effects to perform, in order; ids mark connections, and what belongs to an older one is
//! dropped.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use visavis_media::peer::{Candidate, IceServer, PeerEvent};
use visavis_signaling::protocol::{ByeReason, ServerEvent};

use crate::negotiation::{Act, Negotiation};
use crate::peer_message::PeerMessage;
use crate::snapshot::{Peer, Phase};

/// Marks one connection to one peer; rises with each.
pub type ConnectionId = u64;

/// An offer that nobody answers is made anew after this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What failed is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// A server notices a dead connection within this time.
const GHOSTS_STAY: Duration = Duration::from_secs(25);

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
    /// The connection to the server broke; the client tries again by itself.
    ServerLost(String),
    /// The server cannot be used at all.
    ServerRefused(String),
    /// Camera and microphone are there, or known to be absent.
    SourcesSettled,
    /// What is switched on here.
    LocalState {
        /// The microphone.
        audio: bool,
        /// The camera.
        video: bool,
    },
    /// Our name, for whom we meet next.
    Name(String),
    /// From a connection.
    Peer(ConnectionId, PeerEvent),
    /// [`Effect::Offer`] was done.
    OfferMade(ConnectionId, String),
    /// [`Effect::Answer`] was done.
    AnswerMade(ConnectionId, String),
    /// [`Effect::AcceptAnswer`] was done.
    AnswerAccepted(ConnectionId),
    /// What the other end sent cannot be used on a connection, for this reason.
    ConnectionRefused(ConnectionId, String),
    /// Nothing can be set up at our end, for this reason.
    SetupFailed(ConnectionId, String),
    /// It is time: see [`Call::poll_timeout`].
    Timeout,
}

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
    },
    /// Ask for a seat again after a while.
    Knock(Duration),
    /// Leave the room and the server; if it is our own, stop it afterwards.
    HangUpLine,
    /// Tell the other end.
    Send(PeerMessage),
    /// Make a connection.
    Open(ConnectionId, Vec<IceServer>),
    /// Close it.
    Close(ConnectionId),
    /// Offer on it.
    Offer(ConnectionId),
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

/// What the user is told.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Both seats are taken.
    RoomFull(String),
    /// The other one left on purpose.
    PeerLeft(String),
    /// The other one's connection broke.
    PeerLost(String),
    /// The server cannot be reached.
    ServerLost(String),
    /// The server refused us, in its words.
    ServerRefused(String),
    /// Our own server does not start.
    HostFailed(String),
    /// The path to the other end is dead; what was tried says the reason.
    PathFailed,
    /// What the other end sent could not be used.
    PeerRefused(String),
    /// Nothing can be set up at our end.
    SetupFailed(String),
    /// From the server, for people.
    Server(String),
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

/// The machine.
pub struct Call {
    phase: Phase,
    hosting: bool,
    invite: Option<String>,
    negotiation: Negotiation,
    connection: Option<ConnectionId>,
    last_connection: ConnectionId,
    ice_servers: Vec<IceServer>,
    peer: Option<Peer>,
    since: Option<Instant>,
    ready_at: Option<Instant>,
    connected_at: Option<Instant>,
    name: String,
    audio: bool,
    video: bool,
    said_lost: bool,
    /// The room has been full since then, probably with our own ghost.
    full_since: Option<Instant>,
    /// The initiator begins anew then, if nothing has come of what was begun.
    retry_at: Option<Instant>,
    random: StdRng,
}

impl Call {
    /// In the lobby. `seed` feeds the marks put on connections.
    pub fn new(seed: u64) -> Self {
        Self {
            phase: Phase::Lobby,
            hosting: false,
            invite: None,
            negotiation: Negotiation::default(),
            connection: None,
            last_connection: 0,
            ice_servers: vec![],
            peer: None,
            since: None,
            ready_at: None,
            connected_at: None,
            name: String::new(),
            audio: false,
            video: false,
            said_lost: false,
            full_since: None,
            retry_at: None,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Where the call stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The other one, while there is one.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Whether we were first in the room; nothing while nobody is opposite.
    pub fn initiator(&self) -> Option<bool> {
        self.peer.as_ref().map(|_| self.negotiation.initiator())
    }

    /// When both seats were taken.
    pub fn ready_at(&self) -> Option<Instant> {
        self.ready_at
    }

    /// When the present connection first was up.
    pub fn connected_at(&self) -> Option<Instant> {
        self.connected_at
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        match input {
            Input::Host { room } => {
                let mut effects = self.leave();
                self.hosting = true;
                self.phase = Phase::Joining { room: room.clone() };
                effects.push(Effect::StartServer(room));
                effects
            }
            Input::Join { server, room, invite } => {
                let mut effects = self.leave();
                self.invite = invite;
                self.phase = Phase::Joining { room: room.clone() };
                effects.push(Effect::Dial { server, room });
                effects
            }
            Input::HangUp => self.end(End::HungUp, None),
            Input::Hosted { server, invite } => match &self.phase {
                Phase::Joining { room } if self.hosting => {
                    self.invite = invite;
                    vec![Effect::Dial { server, room: room.clone() }]
                }
                _ => vec![],
            },
            Input::HostFailed(reason) => self.end(End::HostFailed, Some(News::HostFailed(reason))),
            Input::Server(event) => self.handle_server(event, now),
            Input::ServerLost(reason) => self.handle_server_lost(reason),
            Input::ServerRefused(reason) => {
                self.end(End::ServerRefused, Some(News::ServerRefused(reason)))
            }
            Input::SourcesSettled => {
                let mark = self.mark();
                let acts = self.negotiation.handle_settled(&mark);
                self.perform(acts)
            }
            Input::LocalState { audio, video } => {
                (self.audio, self.video) = (audio, video);
                match self.peer {
                    Some(_) => vec![Effect::Send(self.state())],
                    None => vec![],
                }
            }
            Input::Name(name) => {
                self.name = name;
                vec![]
            }
            Input::Peer(id, event) if self.connection == Some(id) => {
                self.handle_peer(id, event, now)
            }
            Input::OfferMade(id, sdp) if self.connection == Some(id) => {
                self.retry_at = Some(now + ANSWER_WITHIN);
                let acts = self.negotiation.handle_offer_made(sdp);
                self.perform(acts)
            }
            Input::AnswerMade(id, sdp) if self.connection == Some(id) => {
                let acts = self.negotiation.handle_answer_made(sdp);
                self.perform(acts)
            }
            Input::Timeout => self.handle_timeout(now),
            Input::AnswerAccepted(id) if self.connection == Some(id) => {
                self.retry_at = None;
                let acts = self.negotiation.handle_answer_accepted();
                self.perform(acts)
            }
            Input::ConnectionRefused(id, reason) if self.connection == Some(id) => {
                self.handle_refused(News::PeerRefused(reason), now)
            }
            Input::SetupFailed(id, reason) if self.connection == Some(id) => {
                self.handle_refused(News::SetupFailed(reason), now)
            }
            Input::Peer(..)
            | Input::OfferMade(..)
            | Input::AnswerMade(..)
            | Input::AnswerAccepted(..)
            | Input::ConnectionRefused(..)
            | Input::SetupFailed(..) => vec![], // of a connection that is over
        }
    }

    fn handle_server(&mut self, event: ServerEvent, now: Instant) -> Vec<Effect> {
        let Some(room) = self.room() else {
            return vec![];
        };
        self.said_lost = false;
        match event {
            ServerEvent::Created { .. } => {
                let acts = self.negotiation.handle_parted();
                let effects = self.perform(acts);
                self.part();
                self.phase = Phase::Waiting { room, invite: self.invite.clone() };
                effects
            }
            ServerEvent::Join { .. } => self.meet(true, room, now),
            ServerEvent::Joined { .. } => self.meet(false, room, now),
            ServerEvent::Ready { ice_servers } => {
                self.ice_servers = ice_servers
                    .into_iter()
                    .map(|server| IceServer {
                        urls: server.urls,
                        username: server.username.unwrap_or_default(),
                        credential: server.credential.unwrap_or_default(),
                    })
                    .collect();
                vec![]
            }
            ServerEvent::Full { retry_ms, .. } => self.handle_full(room, retry_ms, now),
            ServerEvent::Message { message, .. } => match PeerMessage::parse(&message) {
                Ok(message) => self.handle_message(message, room),
                Err(error) => {
                    tracing::debug!(%error, "from the other end");
                    vec![]
                }
            },
            ServerEvent::Bye { reason, .. } => {
                let Some(peer) = self.peer.clone() else {
                    return vec![];
                };
                let acts = self.negotiation.handle_parted();
                let mut effects = self.perform(acts);
                self.part();
                self.phase = Phase::Waiting { room, invite: self.invite.clone() };
                effects.push(Effect::Tell(match reason {
                    ByeReason::Left | ByeReason::Replaced => News::PeerLeft(peer.name),
                    ByeReason::Lost => News::PeerLost(peer.name),
                }));
                effects
            }
            ServerEvent::Log { message } => vec![Effect::Tell(News::Server(message))],
            ServerEvent::Error { message, .. } => match self.phase {
                // Refused at the door: there is no room to be in.
                Phase::Joining { .. } => {
                    self.end(End::ServerRefused, Some(News::ServerRefused(message)))
                }
                _ => vec![Effect::Tell(News::Server(message))],
            },
            ServerEvent::Resumed { .. }
            | ServerEvent::IpAddr { .. }
            | ServerEvent::Pong
            | ServerEvent::Unknown => vec![],
        }
    }

    /// After a lost connection our own ghost may hold the seat for a while yet.
    fn handle_full(&mut self, room: String, retry_ms: u64, now: Instant) -> Vec<Effect> {
        let since = *self.full_since.get_or_insert(now);
        let ghost = matches!(self.phase, Phase::Reconnecting { .. });
        if ghost && now.saturating_duration_since(since) < GHOSTS_STAY {
            let after = Duration::from_millis(retry_ms.clamp(500, 5_000));
            return vec![Effect::Knock(after)];
        }
        self.end(End::RoomFull, Some(News::RoomFull(room)))
    }

    fn handle_refused(&mut self, news: News, now: Instant) -> Vec<Effect> {
        let acts = self.negotiation.handle_refused();
        let mut effects = self.perform(acts);
        if self.connection.is_none() {
            self.retry_at = Some(now + RETRY_AFTER);
        }
        effects.push(Effect::Tell(news));
        effects
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Begins a connection anew where nothing has come of the last attempt.
    fn handle_timeout(&mut self, now: Instant) -> Vec<Effect> {
        if self.retry_at.is_none_or(|at| now < at) {
            return vec![];
        }
        self.retry_at = None;
        let mark = self.mark();
        let acts = self.negotiation.handle_failed(&mark);
        self.perform(acts)
    }

    /// Someone took the other seat, or we took the second one.
    fn meet(&mut self, initiator: bool, room: String, now: Instant) -> Vec<Effect> {
        let hello = PeerMessage::Hello { name: self.name.clone() };
        let acts = self.negotiation.handle_met(initiator, [hello, self.state()]);
        let effects = self.perform(acts);
        self.part();
        self.peer = Some(Peer { name: String::new(), audio: true, video: true });
        self.ready_at = Some(now);
        self.phase = Phase::Connecting { room };
        effects
    }

    fn handle_message(&mut self, message: PeerMessage, room: String) -> Vec<Effect> {
        let Some(peer) = &mut self.peer else {
            return vec![];
        };
        let mut effects = Vec::new();
        match &message {
            PeerMessage::Hello { name } => peer.name.clone_from(name),
            PeerMessage::State { audio, video, screen } => {
                (peer.audio, peer.video) = (*audio, *video || *screen);
                if let Some(id) = self.connection {
                    effects.push(Effect::PeerSendsVideo(id, *video || *screen));
                }
            }
            PeerMessage::Bye => {
                // The tutorial's page says it before it goes; the server's `bye` follows.
                let name = peer.name.clone();
                let acts = self.negotiation.handle_parted();
                effects.extend(self.perform(acts));
                self.part();
                self.phase = Phase::Waiting { room, invite: self.invite.clone() };
                effects.push(Effect::Tell(News::PeerLeft(name)));
            }
            _ => {}
        }
        let mark = self.mark();
        let acts = self.negotiation.handle_message(message, &mark);
        effects.extend(self.perform(acts));
        effects
    }

    fn handle_peer(&mut self, id: ConnectionId, event: PeerEvent, now: Instant) -> Vec<Effect> {
        let Some(room) = self.room() else {
            return vec![];
        };
        match event {
            PeerEvent::Candidate(candidate) => {
                let acts = self.negotiation.handle_local_candidate(candidate);
                self.perform(acts)
            }
            PeerEvent::Connected => {
                self.retry_at = None;
                let since = *self.since.get_or_insert(now);
                self.connected_at.get_or_insert(now);
                self.phase = Phase::InCall { room, since };
                let sends = self.peer.as_ref().is_none_or(|peer| peer.video);
                vec![Effect::StartSending(id), Effect::PeerSendsVideo(id, sends)]
            }
            PeerEvent::Disconnected => {
                self.phase = Phase::Reconnecting { room };
                vec![]
            }
            PeerEvent::Failed => {
                self.phase = Phase::Reconnecting { room };
                let mark = self.mark();
                let acts = self.negotiation.handle_failed(&mark);
                let mut effects = vec![Effect::Tell(News::PathFailed)];
                effects.extend(self.perform(acts));
                effects
            }
        }
    }

    fn handle_server_lost(&mut self, reason: String) -> Vec<Effect> {
        let Some(room) = self.room() else {
            return vec![];
        };
        if !matches!(self.phase, Phase::Joining { .. }) {
            self.phase = Phase::Reconnecting { room };
        }
        // Said once, not at every attempt.
        if std::mem::replace(&mut self.said_lost, true) {
            vec![]
        } else {
            vec![Effect::Tell(News::ServerLost(reason))]
        }
    }

    fn state(&self) -> PeerMessage {
        PeerMessage::State { audio: self.audio, video: self.video, screen: false }
    }

    fn room(&self) -> Option<String> {
        match &self.phase {
            Phase::Lobby => None,
            Phase::Joining { room }
            | Phase::Waiting { room, .. }
            | Phase::Connecting { room }
            | Phase::InCall { room, .. }
            | Phase::Reconnecting { room } => Some(room.clone()),
        }
    }

    fn part(&mut self) {
        self.peer = None;
        self.since = None;
        self.ready_at = None;
        self.connected_at = None;
        self.retry_at = None;
        self.full_since = None;
    }

    fn end(&mut self, end: End, news: Option<News>) -> Vec<Effect> {
        if self.phase == Phase::Lobby {
            return vec![];
        }
        let mut effects = self.leave();
        effects.extend(news.map(Effect::Tell));
        effects.push(Effect::Ended(end));
        effects
    }

    /// Undoes whatever call there is.
    fn leave(&mut self) -> Vec<Effect> {
        if self.phase == Phase::Lobby {
            return vec![];
        }
        let acts = self.negotiation.handle_parted();
        let mut effects = self.perform(acts);
        self.part();
        self.phase = Phase::Lobby;
        self.said_lost = false;
        self.invite = None;
        self.hosting = false;
        effects.push(Effect::HangUpLine);
        effects
    }

    fn perform(&mut self, acts: Vec<Act>) -> Vec<Effect> {
        let mut effects = Vec::with_capacity(acts.len());
        for act in acts {
            if act == Act::Open {
                effects.extend(self.connection.take().map(Effect::Close));
                self.last_connection += 1;
                self.connection = Some(self.last_connection);
                self.connected_at = None;
                effects.push(Effect::Open(self.last_connection, self.ice_servers.clone()));
                continue;
            }
            if act == Act::Close {
                effects.extend(self.connection.take().map(Effect::Close));
                continue;
            }
            effects.push(match (act, self.connection) {
                (Act::Send(message), _) => Effect::Send(message),
                (Act::Offer, Some(id)) => Effect::Offer(id),
                (Act::Rollback, Some(id)) => Effect::Rollback(id),
                (Act::Answer(sdp), Some(id)) => Effect::Answer(id, sdp),
                (Act::AcceptAnswer(sdp), Some(id)) => Effect::AcceptAnswer(id, sdp),
                (Act::AddCandidate(candidate), Some(id)) => Effect::AddCandidate(id, candidate),
                _ => continue,
            });
        }
        effects
    }

    /// Marks what belongs to one connection (`call` on the wire).
    fn mark(&mut self) -> String {
        format!("{:016x}", self.random.random::<u64>())
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
