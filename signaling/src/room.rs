//! Rooms for two: who sits where, who hears what. Pure: no sockets, no clock; the caller says
//! when things happen and carries out the deliveries, in order.

mod limits;
mod moves;
mod resume;
mod seat;
mod seating;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

pub use self::limits::Limits;
use self::{
    limits::{Joins, TokenBucket},
    seat::{Minter, Room},
};
use crate::{
    carrier::Guest,
    ice_servers::{IceServerProvider, NoIceServers},
    moment::Moment,
    protocol::{
        ByeReason, ClientEvent, ErrorCode, EventError, Payload, PeerId, RoomName, ServerEvent,
    },
    token::TokenKey,
};

/// When someone told `full` should ask again, in milliseconds.
pub const RETRY_MS: u64 = 3_000;

/// How long a seat is held for an owner whose connection broke.
pub const HOLD: Duration = Duration::from_secs(30);

/// How long a connection may stay without a seat.
pub const UNSEATED_LIMIT: Duration = Duration::from_secs(600);

/// Names a connection of any carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Which rooms a server serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RoomPolicy {
    /// Any: a room begins when the first one enters.
    #[default]
    Any,
    /// These and no other.
    Only(HashSet<RoomName>),
}

impl RoomPolicy {
    fn serves(&self, room: &RoomName) -> bool {
        match self {
            Self::Any => true,
            Self::Only(rooms) => rooms.contains(room),
        }
    }
}

/// What the registry wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// Tell a connection.
    Event {
        /// Whom.
        to: ConnectionId,
        /// What.
        event: ServerEvent,
    },
    /// End a connection; the registry has forgotten it already.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// It took no seat for too long.
    Idle,
    /// The server stops.
    Restart,
    /// Its seat was taken up by a newer connection.
    Replaced,
    /// It asked for more than a limit allows.
    Limit,
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Open connections, seated or not.
    pub connections: usize,
    /// Rooms with at least one seat taken.
    pub rooms: usize,
    /// Seats taken, the held ones among them.
    pub seats: usize,
    /// Seats held for an owner whose connection broke.
    pub held: usize,
}

/// What a registry is to do.
#[derive(Clone)]
pub struct RoomOptions {
    /// Which rooms to serve.
    pub policy: RoomPolicy,
    /// How much one may ask for.
    pub limits: Limits,
    /// How long a seat is held for an owner whose connection broke; not at all if zero.
    pub hold: Duration,
    /// Seals the tokens with which owners come back; random if `None`.
    pub key: Option<TokenKey>,
    /// Until then rooms are set up again from tokens that an earlier run of the server made.
    pub recover_until: Option<Instant>,
    /// Hands out STUN and TURN servers.
    pub ice: Arc<dyn IceServerProvider>,
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self {
            policy: RoomPolicy::default(),
            limits: Limits::default(),
            hold: HOLD,
            key: None,
            recover_until: None,
            ice: Arc::new(NoIceServers),
        }
    }
}

impl fmt::Debug for RoomOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomOptions")
            .field("policy", &self.policy)
            .field("limits", &self.limits)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

/// All rooms of a server.
pub struct Registry {
    rooms: HashMap<RoomName, Room>,
    /// Every open connection.
    connections: HashMap<ConnectionId, Client>,
    /// Connections without a seat, the longest first.
    unseated: BTreeSet<(Instant, ConnectionId)>,
    /// Seats held, and until when, the soonest first.
    held: BTreeSet<HeldSeat>,
    /// When which pair's ICE servers are due, the soonest first.
    renewals: BTreeSet<(Instant, RoomName)>,
    joins: Joins,
    minter: Minter,
    policy: RoomPolicy,
    limits: Limits,
    hold: Duration,
    recover_until: Option<Instant>,
    /// Rooms that came from another node, and until when they are set up again from tokens.
    recovering: HashMap<RoomName, Instant>,
    ice: Arc<dyn IceServerProvider>,
    rng: StdRng,
}

type HeldSeat = (Instant, RoomName, PeerId);

struct Client {
    guest: Guest,
    place: Place,
    events: TokenBucket,
    /// It was sent this token of its seat, and has said nothing since.
    unconfirmed: Option<u32>,
}

enum Place {
    Seated(RoomName),
    Unseated { since: Instant },
}

impl Registry {
    /// An empty registry with the usual options. `seed` makes the peer ids: fixed in tests, from
    /// the system otherwise.
    pub fn new(policy: RoomPolicy, seed: [u8; 32]) -> Self {
        Self::with(RoomOptions { policy, ..RoomOptions::default() }, seed)
    }

    /// An empty registry. `seed` makes the peer ids, and the key if there is none.
    pub fn with(options: RoomOptions, seed: [u8; 32]) -> Self {
        let RoomOptions { policy, limits, hold, key, recover_until, ice } = options;
        let mut rng = StdRng::from_seed(seed);
        let key = key.unwrap_or_else(|| TokenKey::new(&rng.random()));
        Self {
            rooms: HashMap::new(),
            connections: HashMap::new(),
            unseated: BTreeSet::new(),
            held: BTreeSet::new(),
            renewals: BTreeSet::new(),
            joins: Joins::new(limits.joins_per_minute),
            minter: Minter { key, run: rng.random() },
            policy,
            limits,
            hold,
            recover_until,
            recovering: HashMap::new(),
            ice,
            rng,
        }
    }

    /// A connection opened; `connection` was never used before.
    pub fn handle_open(&mut self, connection: ConnectionId, guest: Guest, now: Moment) {
        let since = now.instant;
        let events = TokenBucket::new(self.limits.message_burst, since);
        let place = Place::Unseated { since };
        self.connections.insert(connection, Client { guest, place, events, unconfirmed: None });
        self.unseated.insert((since, connection));
    }

    /// A connection said something.
    pub fn handle_event(
        &mut self,
        connection: ConnectionId,
        event: ClientEvent,
        now: Moment,
    ) -> Vec<Delivery> {
        if let Some(refusal) = self.count_event(connection, now) {
            return refusal;
        }
        self.confirm(connection);
        match event {
            ClientEvent::CreateOrJoin { room, resume, last_seq } => {
                let token = resume.map(|token| (token, last_seq.unwrap_or(0)));
                self.join(connection, room, token, now)
            }
            // The tutorial's page says goodbye inside a message.
            ClientEvent::Message { message, .. } if message.is_bye() => {
                self.leave(connection, ByeReason::Left, now)
            }
            ClientEvent::Message { message, seq } => self.relay(connection, message, seq, now),
            ClientEvent::Bye => self.leave(connection, ByeReason::Left, now),
            ClientEvent::IpAddr => refuse(
                connection,
                ErrorCode::AddressesNotTold,
                "This server does not tell its addresses.",
            ),
            ClientEvent::Ping => vec![tell(connection, ServerEvent::Pong)],
        }
    }

    /// A connection said something that is no event.
    pub fn handle_bad_event(
        &mut self,
        connection: ConnectionId,
        error: EventError,
        now: Moment,
    ) -> Vec<Delivery> {
        match self.count_event(connection, now) {
            Some(refusal) => refusal,
            None => vec![tell(connection, error.into())],
        }
    }

    /// A connection ended: on purpose (`Left`) or not (`Lost`): then its seat is held for its
    /// owner, if its wire can resume.
    pub fn handle_closed(
        &mut self,
        connection: ConnectionId,
        reason: ByeReason,
        now: Moment,
    ) -> Vec<Delivery> {
        let deliveries = if reason == ByeReason::Lost && self.hold_seat(connection, now) {
            Vec::new()
        } else {
            self.leave(connection, reason, now)
        };
        self.forget(connection);
        deliveries
    }

    /// A connection was ended because it broke the rules: its seat is free at once.
    pub fn handle_expelled(&mut self, connection: ConnectionId, now: Moment) -> Vec<Delivery> {
        let deliveries = self.leave(connection, ByeReason::Lost, now);
        self.forget(connection);
        deliveries
    }

    /// Serves `room` from now on. Nothing changes under [`RoomPolicy::Any`].
    pub fn allow(&mut self, room: RoomName) {
        if let RoomPolicy::Only(rooms) = &mut self.policy {
            rooms.insert(room);
        }
    }

    /// No longer serves `room`; whoever sits there is told and loses the seat. Nothing changes
    /// under [`RoomPolicy::Any`].
    pub fn disallow(&mut self, room: &RoomName, now: Moment) -> Vec<Delivery> {
        if let RoomPolicy::Only(rooms) = &mut self.policy {
            rooms.remove(room);
        }
        if self.policy.serves(room) {
            return Vec::new();
        }
        let mut deliveries = Vec::new();
        for connection in self.dissolve(room) {
            self.stand(connection, now);
            let text = format!("The room “{room}” was closed by its host.");
            deliveries.extend(refuse(connection, ErrorCode::RoomNotHosted, text));
        }
        deliveries
    }

    /// What one may ask for.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// When [`Self::handle_timeout`] has something to do, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let unseated = self.unseated.first().map(|(since, _)| *since + UNSEATED_LIMIT);
        let held = self.held.first().map(|(until, ..)| *until);
        let renewal = self.renewals.first().map(|(due, _)| *due);
        [unseated, held, renewal].into_iter().flatten().min()
    }

    /// Ends connections that have been without a seat for too long, frees seats whose owners
    /// did not come back, and hands out ICE servers anew.
    pub fn handle_timeout(&mut self, now: Moment) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while let Some((since, connection)) = self.unseated.first().copied() {
            if since + UNSEATED_LIMIT > now.instant {
                break;
            }
            self.forget(connection);
            deliveries.push(Delivery::Close { connection, reason: CloseReason::Idle });
        }
        while self.held.first().is_some_and(|(until, ..)| *until <= now.instant) {
            let Some((_, name, id)) = self.held.pop_first() else {
                break;
            };
            if let Some(role) = self.rooms.get(&name).and_then(|room| room.role_of_id(&id)) {
                deliveries.extend(self.free(&name, role, ByeReason::Lost, now));
            }
        }
        while self.renewals.first().is_some_and(|(due, _)| *due <= now.instant) {
            if let Some((_, name)) = self.renewals.pop_first() {
                deliveries.extend(self.ready(&name, now));
            }
        }
        deliveries
    }

    /// How many there are of what.
    pub fn counts(&self) -> Counts {
        let here = self.connections.len() - self.unseated.len();
        Counts {
            connections: self.connections.len(),
            rooms: self.rooms.len(),
            seats: here + self.held.len(),
            held: self.held.len(),
        }
    }

    /// What to do instead when `connection` says too much, or is none.
    fn count_event(&mut self, connection: ConnectionId, now: Moment) -> Option<Vec<Delivery>> {
        let Limits { message_rate, message_burst, .. } = self.limits;
        let Some(client) = self.connections.get_mut(&connection) else {
            return Some(Vec::new());
        };
        if client.events.take(f64::from(message_rate), message_burst, now.instant) {
            return None;
        }
        let text = format!(
            "Too much at once: the limit is {message_rate} messages a second, {message_burst} in \
             a burst. Wait, then connect again."
        );
        Some(self.expel(connection, ErrorCode::RateLimited, text, now))
    }

    /// Says why, and ends the connection.
    fn expel(
        &mut self,
        connection: ConnectionId,
        code: ErrorCode,
        text: String,
        now: Moment,
    ) -> Vec<Delivery> {
        let mut deliveries = refuse(connection, code, text);
        deliveries.push(Delivery::Close { connection, reason: CloseReason::Limit });
        deliveries.extend(self.handle_expelled(connection, now));
        deliveries
    }

    fn relay(
        &mut self,
        connection: ConnectionId,
        message: Payload,
        seq: Option<u64>,
        now: Moment,
    ) -> Vec<Delivery> {
        let Some((name, role)) = self.seat_of(connection) else {
            let text = "The message was dropped: enter a room with “create or join” first.";
            return refuse(connection, ErrorCode::NotInRoom, text);
        };
        let seats = self.rooms.get_mut(&name).and_then(|room| room.pair(role));
        let Some((own, opposite)) = seats else {
            return Vec::new();
        };
        if seq.is_some_and(|seq| seq <= own.received) {
            // Sent again after a broken connection, but it had arrived.
            return Vec::new();
        }
        // Alone in the room: nobody to hear it, as in the tutorial.
        let Some(opposite) = opposite else {
            own.received = seq.unwrap_or(own.received);
            return Vec::new();
        };
        let seq = seq.unwrap_or_else(|| own.received.saturating_add(1));
        own.received = seq;
        let (from, to) = (own.id.clone(), opposite.connection());
        let overflow = match &mut opposite.outbox {
            Some(outbox) => outbox.push(seq, &message).is_err(),
            None => false,
        };
        if overflow {
            return self.free(&name, role.opposite(), ByeReason::Lost, now);
        }
        let event = |to| tell(to, ServerEvent::Message { from, seq, message });
        to.map(event).into_iter().collect()
    }
}

fn tell(to: ConnectionId, event: ServerEvent) -> Delivery {
    Delivery::Event { to, event }
}

fn refuse(to: ConnectionId, code: ErrorCode, text: impl Into<String>) -> Vec<Delivery> {
    vec![tell(to, EventError::new(code, text).into())]
}

#[cfg(test)]
mod tests;
