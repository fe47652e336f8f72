//! The life of a call, from the lobby and back: a pure state machine. Each input yields the
//! effects to perform, in order; ids mark connections, and what belongs to an older one is
//! dropped.

mod effect;
mod input;
mod path;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use visavis_media::peer::{IceServer, PeerEvent};
use visavis_signaling::protocol::{ByeReason, PeerId, Role, ServerEvent};

pub use self::effect::{Effect, End};
pub use self::input::Input;
use self::path::{Path, Remedy};

use crate::negotiation::{Act, Negotiation};
use crate::news::News;
use crate::peer_message::PeerMessage;
use crate::snapshot::{Peer, Phase};

/// Marks one connection to one peer; rises with each.
pub type ConnectionId = u64;

/// A server notices a dead connection and gives its seat away within this time.
const GHOSTS_STAY: Duration = Duration::from_secs(50);

/// Someone given up, who still has the other seat, is greeted this often.
const HAIL_EVERY: Duration = Duration::from_secs(20);

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
    peer_id: Option<PeerId>,
    /// We have a seat, and the connection to the server that keeps it.
    seated: bool,
    path: Path,
    since: Option<Instant>,
    ready_at: Option<Instant>,
    connected_at: Option<Instant>,
    name: String,
    audio: bool,
    video: bool,
    screen: bool,
    /// The connection whose link is too narrow for our pictures.
    paused_on: Option<ConnectionId>,
    said_lost: bool,
    /// The room has been full since then, probably with our own ghost.
    full_since: Option<Instant>,
    /// Someone who was given up, and still has the other seat.
    absent: Option<Absent>,
    random: StdRng,
}

/// Whom no path leads to.
struct Absent {
    id: PeerId,
    /// Whether we were the initiator.
    initiator: bool,
    /// When to greet them again: they may have come back, and have given us up too.
    hail_at: Instant,
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
            peer_id: None,
            seated: false,
            path: Path::default(),
            since: None,
            ready_at: None,
            connected_at: None,
            name: String::new(),
            audio: false,
            video: false,
            screen: false,
            paused_on: None,
            said_lost: false,
            full_since: None,
            absent: None,
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

    /// Whether the link is too narrow for our pictures.
    pub fn pictures_paused(&self) -> bool {
        self.paused_on.is_some() && self.paused_on == self.connection
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
                self.phase = Phase::Joining { room: room.clone(), held: false };
                effects.push(Effect::StartServer(room));
                effects
            }
            Input::Join { server, room, invite } => {
                let mut effects = self.leave();
                self.invite = invite;
                self.phase = Phase::Joining { room: room.clone(), held: false };
                let greeting = vec![PeerMessage::Hello { name: self.name.clone() }];
                effects.push(Effect::Dial { server, room, greeting });
                effects
            }
            Input::HangUp => self.end(End::HungUp, None),
            Input::Hosted { server, invite } => match &self.phase {
                Phase::Joining { room, .. } if self.hosting => {
                    self.invite = invite;
                    vec![Effect::Dial { server, room: room.clone(), greeting: vec![] }]
                }
                _ => vec![],
            },
            Input::HostFailed(reason) => self.end(End::HostFailed, Some(News::HostFailed(reason))),
            Input::Server(event) => self.handle_server(event, now),
            Input::ServerLost(reason) => self.handle_server_lost(reason),
            Input::ServerRefused(reason) => {
                self.end(End::ServerRefused, Some(News::ServerRefused(reason)))
            }
            Input::ServerUntrusted(why) => {
                self.end(End::ServerRefused, Some(News::ServerUntrusted(why)))
            }
            Input::SourcesSettled => {
                let mark = self.mark();
                let acts = self.negotiation.handle_settled(&mark);
                self.perform(acts)
            }
            Input::LocalState { audio, video, screen } => {
                (self.audio, self.video, self.screen) = (audio, video, screen);
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
                self.path.handle_offered(now);
                let acts = self.negotiation.handle_offer_made(sdp);
                self.perform(acts)
            }
            Input::AnswerMade(id, sdp) if self.connection == Some(id) => {
                self.path.handle_answering(now);
                let acts = self.negotiation.handle_answer_made(sdp);
                self.perform(acts)
            }
            Input::Timeout => self.handle_timeout(now),
            Input::NetworkChanged => {
                self.path.handle_network_changed(now);
                self.mend(now)
            }
            Input::AnswerAccepted(id) if self.connection == Some(id) => {
                self.path.handle_answered(now);
                let acts = self.negotiation.handle_answer_accepted();
                self.perform(acts)
            }
            Input::ConnectionRefused(id, reason) if self.connection == Some(id) => {
                self.handle_refused(News::PeerRefused(reason), now)
            }
            Input::SetupFailed(id, reason) if self.connection == Some(id) => {
                self.handle_setup_failed(reason, now)
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
                self.seated = true;
                self.lose_peer(room)
            }
            ServerEvent::Join { id, .. } => self.meet(true, id, room, now),
            ServerEvent::Joined { peer, .. } => {
                self.seated = true;
                self.meet(false, peer, room, now)
            }
            ServerEvent::Resumed { role, peer, ice_servers, .. } => {
                self.ice_servers = usable(ice_servers);
                self.handle_resumed(role, peer, room, now)
            }
            ServerEvent::Ready { ice_servers } => {
                self.ice_servers = usable(ice_servers);
                self.use_ice_servers()
            }
            ServerEvent::Full { retry_ms, held, .. } => self.handle_full(room, retry_ms, held, now),
            ServerEvent::Message { message, .. } => match PeerMessage::read(&message) {
                Ok(message) => self.handle_message(message, room, now),
                Err(error) => {
                    tracing::debug!(%error, "from the other end");
                    vec![]
                }
            },
            ServerEvent::Bye { reason, .. } => {
                self.absent = None;
                let Some(peer) = self.peer.clone() else {
                    return vec![];
                };
                let mut effects = self.lose_peer(room);
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
            ServerEvent::IpAddr { .. } | ServerEvent::Pong | ServerEvent::Unknown => vec![],
        }
    }

    /// Our seat is ours again, after the connection to the server was lost.
    fn handle_resumed(
        &mut self,
        role: Role,
        peer: Option<PeerId>,
        room: String,
        now: Instant,
    ) -> Vec<Effect> {
        self.seated = true;
        self.full_since = None;
        match peer {
            Some(peer) if self.peer_id.as_ref() == Some(&peer) => {
                self.show(room);
                let mut effects = self.use_ice_servers();
                effects.extend(self.mend(now));
                effects
            }
            // Came while we were away.
            Some(peer) => self.meet(role == Role::Initiator, peer, room, now),
            None => {
                let lost = self.peer.take().map(|peer| News::PeerLost(peer.name));
                let mut effects = self.lose_peer(room);
                effects.extend(lost.map(Effect::Tell));
                effects
            }
        }
    }

    /// Renewed in a long call; the first ones come before there is a connection.
    fn use_ice_servers(&self) -> Vec<Effect> {
        let renewed = |id| Effect::UseIceServers(id, self.ice_servers.clone());
        self.connection.map(renewed).into_iter().collect()
    }

    /// Nobody sits opposite any more.
    fn lose_peer(&mut self, room: String) -> Vec<Effect> {
        let acts = self.negotiation.handle_parted();
        let effects = self.perform(acts);
        self.part();
        self.show(room);
        effects
    }

    /// Settles the phase, inside `room`.
    fn show(&mut self, room: String) {
        self.phase = match (&self.peer, self.since) {
            (None, _) if self.seated => Phase::Waiting { room, invite: self.invite.clone() },
            (Some(_), Some(since)) if self.path.is_up() => {
                Phase::InCall { room, since, server_lost: !self.seated }
            }
            (Some(_), _) if self.path.is_unknown() && self.seated => Phase::Connecting { room },
            _ => Phase::Reconnecting { room },
        }
    }

    /// A seat may be held a while yet for our own ghost: of the connection just lost, or of a
    /// program that was killed.
    fn handle_full(
        &mut self,
        room: String,
        retry_ms: u64,
        held: bool,
        now: Instant,
    ) -> Vec<Effect> {
        let since = *self.full_since.get_or_insert(now);
        let joining = matches!(self.phase, Phase::Joining { .. });
        if (held || !joining) && now.saturating_duration_since(since) < GHOSTS_STAY {
            if joining {
                self.phase = Phase::Joining { room, held: true };
            }
            let after = Duration::from_millis(retry_ms.clamp(500, 5_000));
            return vec![Effect::Knock(after)];
        }
        self.end(End::RoomFull, Some(News::RoomFull(room)))
    }

    fn handle_refused(&mut self, news: News, now: Instant) -> Vec<Effect> {
        let acts = self.negotiation.handle_refused();
        let mut effects = self.perform(acts);
        if self.connection.is_none() {
            self.path.handle_refused(now);
        }
        effects.push(Effect::Tell(news));
        effects
    }

    fn handle_setup_failed(&mut self, reason: String, now: Instant) -> Vec<Effect> {
        let mut effects = self.handle_refused(News::SetupFailed(reason), now);
        if self.connection.is_some() {
            // It was a restart: what is wrong with the connection, a fresh one may not have.
            effects.clear();
            self.path.handle_no_restart(now);
            effects.extend(self.mend(now));
        }
        effects
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hail_at = self.absent.as_ref().filter(|_| self.seated).map(|absent| absent.hail_at);
        [self.path.poll_timeout(self.seated), hail_at].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = self.mend(now);
        if let Some(absent) = &mut self.absent
            && self.seated
            && absent.hail_at <= now
        {
            absent.hail_at = now + HAIL_EVERY;
            effects.push(Effect::Send(PeerMessage::Hello { name: self.name.clone() }));
        }
        effects
    }

    /// Does what the path needs by now.
    fn mend(&mut self, now: Instant) -> Vec<Effect> {
        let was_up = self.path.is_up();
        let Some(remedy) = self.path.handle_timeout(now, self.seated) else {
            return vec![];
        };
        let mut effects = match remedy {
            Remedy::Restart => {
                let acts = self.negotiation.handle_restart();
                self.perform(acts)
            }
            Remedy::Anew => self.begin_anew(),
            Remedy::Failed => {
                let mut effects = vec![Effect::Tell(News::PathFailed)];
                effects.extend(self.begin_anew());
                effects
            }
            Remedy::GiveUp => self.give_up(now),
        };
        if was_up && !self.path.is_up() {
            effects.extend(self.path_lost());
        }
        effects
    }

    /// A fresh connection in the same call, if it is ours to begin one.
    fn begin_anew(&mut self) -> Vec<Effect> {
        let mark = self.mark();
        let acts = self.negotiation.handle_failed(&mark);
        self.perform(acts)
    }

    /// No path has led to the other end for too long.
    fn give_up(&mut self, now: Instant) -> Vec<Effect> {
        let Some(room) = self.room() else {
            return vec![];
        };
        let name = self.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
        let (id, initiator) = (self.peer_id.take(), self.negotiation.initiator());
        let mut effects = self.lose_peer(room);
        self.absent = id.map(|id| Absent { id, initiator, hail_at: now + HAIL_EVERY });
        effects.push(Effect::Tell(News::PeerGivenUp(name)));
        effects
    }

    /// The path is down: says so.
    fn path_lost(&mut self) -> Vec<Effect> {
        let Some(room) = self.room() else {
            return vec![];
        };
        self.show(room);
        vec![Effect::Tell(News::PathFailed)]
    }

    /// Someone took the other seat, or we took the second one.
    fn meet(&mut self, initiator: bool, peer: PeerId, room: String, now: Instant) -> Vec<Effect> {
        let hello = PeerMessage::Hello { name: self.name.clone() };
        let acts = self.negotiation.handle_met(initiator, [hello, self.state()]);
        let effects = self.perform(acts);
        self.part();
        self.path = Path::new(initiator);
        self.peer = Some(Peer { audio: true, video: true, ..Peer::default() });
        self.peer_id = Some(peer);
        self.ready_at = Some(now);
        self.show(room);
        effects
    }

    fn handle_message(&mut self, message: PeerMessage, room: String, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let PeerMessage::Hello { .. } = message
            && let Some(Absent { id, initiator, .. }) = self.absent.take()
        {
            effects.extend(self.meet(initiator, id, room.clone(), now));
        }
        let Some(peer) = &mut self.peer else {
            return effects;
        };
        match &message {
            PeerMessage::Hello { name } => peer.name.clone_from(name),
            PeerMessage::State { audio, video, screen } => {
                (peer.audio, peer.video) = (*audio, *video || *screen);
                peer.screen = *screen;
                effects.extend(self.connection.map(|id| peer_sends(id, peer)));
            }
            PeerMessage::Pictures { paused } => {
                peer.paused = *paused;
                effects.extend(self.connection.map(|id| peer_sends(id, peer)));
            }
            PeerMessage::Bye => {
                // The tutorial's page says it before it goes; the server's `bye` follows.
                let name = peer.name.clone();
                effects.extend(self.lose_peer(room));
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
                self.path.handle_connected();
                self.since.get_or_insert(now);
                self.connected_at.get_or_insert(now);
                self.show(room);
                let sends = self.peer.as_ref().is_none_or(|peer| peer.video);
                vec![Effect::StartSending(id), Effect::PeerSendsVideo(id, sends)]
            }
            PeerEvent::PicturesPaused(paused) => {
                self.paused_on = paused.then_some(id);
                let news = if paused { News::PicturesPaused } else { News::PicturesBack };
                vec![Effect::Send(PeerMessage::Pictures { paused }), Effect::Tell(news)]
            }
            PeerEvent::Disconnected | PeerEvent::Failed => {
                let was_up = self.path.is_up();
                if event == PeerEvent::Failed {
                    self.path.handle_failed(now);
                } else {
                    self.path.handle_silent(now);
                }
                // Once, not at every attempt in vain.
                let mut effects = if was_up { self.path_lost() } else { vec![] };
                effects.extend(self.mend(now));
                effects
            }
        }
    }

    fn handle_server_lost(&mut self, reason: String) -> Vec<Effect> {
        let Some(room) = self.room() else {
            return vec![];
        };
        self.seated = false;
        if !matches!(self.phase, Phase::Joining { .. }) {
            self.show(room);
        }
        // Said once, not at every attempt.
        if std::mem::replace(&mut self.said_lost, true) {
            vec![]
        } else {
            vec![Effect::Tell(News::ServerLost(reason))]
        }
    }

    fn state(&self) -> PeerMessage {
        PeerMessage::State { audio: self.audio, video: self.video, screen: self.screen }
    }

    fn room(&self) -> Option<String> {
        match &self.phase {
            Phase::Lobby => None,
            Phase::Joining { room, .. }
            | Phase::Waiting { room, .. }
            | Phase::Connecting { room }
            | Phase::InCall { room, .. }
            | Phase::Reconnecting { room } => Some(room.clone()),
        }
    }

    fn part(&mut self) {
        self.peer = None;
        self.peer_id = None;
        self.path = Path::default();
        self.since = None;
        self.ready_at = None;
        self.connected_at = None;
        self.absent = None;
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
        self.seated = false;
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
                // What the one before could not carry this one may.
                if let Some(peer) = &mut self.peer {
                    peer.paused = false;
                }
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
                (Act::Restart, Some(id)) => Effect::Restart(id),
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

/// As the transport wants them.
fn usable(servers: Vec<visavis_signaling::protocol::IceServer>) -> Vec<IceServer> {
    servers
        .into_iter()
        .map(|server| IceServer {
            urls: server.urls,
            username: server.username.unwrap_or_default(),
            credential: server.credential.unwrap_or_default(),
        })
        .collect()
}

/// Whether pictures of theirs are to be expected: a gap is no freeze where none are.
fn peer_sends(id: ConnectionId, peer: &Peer) -> Effect {
    Effect::PeerSendsVideo(id, peer.video && !peer.paused)
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
