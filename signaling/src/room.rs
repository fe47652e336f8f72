//! Rooms for two: who sits where, who hears what. Pure: no sockets, no clock; the caller says
//! when things happen and carries out the deliveries, in order.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{
    carrier::Guest,
    ice_servers::{IceServerProvider, NoIceServers},
    protocol::{ByeReason, ClientEvent, ErrorCode, EventError, PeerId, RoomName, ServerEvent},
};

/// When someone told `full` should ask again, in milliseconds.
pub const RETRY_MS: u64 = 3_000;

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
    },
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Open connections, seated or not.
    pub connections: usize,
    /// Rooms with at least one seat taken.
    pub rooms: usize,
    /// Seats taken.
    pub seats: usize,
}

/// All rooms of a server.
pub struct Registry {
    rooms: HashMap<RoomName, Room>,
    /// Every open connection, and the room where it sits.
    connections: HashMap<ConnectionId, Place>,
    /// Connections without a seat, the longest first.
    unseated: BTreeSet<(Instant, ConnectionId)>,
    policy: RoomPolicy,
    rng: StdRng,
    ice: Arc<dyn IceServerProvider>,
    addresses: HashMap<ConnectionId, std::net::IpAddr>,
}

enum Place {
    Seated(RoomName),
    Unseated { since: Instant },
}

/// A room exists while someone sits in it; whoever sits there alone is the initiator.
struct Room {
    initiator: Seat,
    responder: Option<Seat>,
}

struct Seat {
    connection: ConnectionId,
    id: PeerId,
    /// Messages delivered to this seat.
    delivered: u64,
}

impl Registry {
    /// An empty registry. `seed` makes the peer ids: fixed in tests, from the system otherwise.
    pub fn new(policy: RoomPolicy, seed: [u8; 32]) -> Self {
        Self {
            rooms: HashMap::new(),
            connections: HashMap::new(),
            unseated: BTreeSet::new(),
            policy,
            rng: StdRng::from_seed(seed),
            ice: Arc::new(NoIceServers),
            addresses: HashMap::new(),
        }
    }

    /// Hands out what `ice` says.
    #[must_use]
    pub fn with_ice(mut self, ice: Arc<dyn IceServerProvider>) -> Self {
        self.ice = ice;
        self
    }

    /// A connection opened; `connection` was never used before.
    pub fn handle_open(&mut self, connection: ConnectionId, guest: Guest, now: Instant) {
        self.addresses.insert(connection, guest.address);
        self.stand(connection, now);
    }

    /// A connection said something.
    pub fn handle_event(
        &mut self,
        connection: ConnectionId,
        event: ClientEvent,
        now: Instant,
    ) -> Vec<Delivery> {
        if !self.connections.contains_key(&connection) {
            return Vec::new();
        }
        match event {
            // A token is of no use yet: a seat is freed with its connection, so the one who
            // brings it gets a fresh seat.
            ClientEvent::CreateOrJoin { room, resume: _, last_seq: _ } => {
                self.join(connection, room, now)
            }
            // The tutorial's page says goodbye inside a message.
            ClientEvent::Message { message: Value::String(text), .. } if text == "bye" => {
                self.leave(connection, ByeReason::Left, now)
            }
            ClientEvent::Message { message, seq: _ } => self.relay(connection, message),
            ClientEvent::Bye => self.leave(connection, ByeReason::Left, now),
            ClientEvent::IpAddr => refuse(
                connection,
                ErrorCode::AddressesNotTold,
                "This server does not tell its addresses.",
            ),
            ClientEvent::Ping => vec![tell(connection, ServerEvent::Pong)],
        }
    }

    /// A connection ended: on purpose (`Left`) or not (`Lost`).
    pub fn handle_closed(
        &mut self,
        connection: ConnectionId,
        reason: ByeReason,
        now: Instant,
    ) -> Vec<Delivery> {
        self.addresses.remove(&connection);
        let deliveries = self.leave(connection, reason, now);
        if let Some(Place::Unseated { since }) = self.connections.remove(&connection) {
            self.unseated.remove(&(since, connection));
        }
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
    pub fn disallow(&mut self, room: &RoomName, now: Instant) -> Vec<Delivery> {
        if let RoomPolicy::Only(rooms) = &mut self.policy {
            rooms.remove(room);
        }
        if self.policy.serves(room) {
            return Vec::new();
        }
        let Some(Room { initiator, responder }) = self.rooms.remove(room) else {
            return Vec::new();
        };
        let mut deliveries = Vec::new();
        for seat in [Some(initiator), responder].into_iter().flatten() {
            self.stand(seat.connection, now);
            let text = format!("The room “{room}” was closed by its host.");
            deliveries.extend(refuse(seat.connection, ErrorCode::RoomNotHosted, text));
        }
        deliveries
    }

    /// When [`Self::handle_timeout`] has something to do, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.unseated.first().map(|(since, _)| *since + UNSEATED_LIMIT)
    }

    /// Ends connections that have been without a seat for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while let Some((since, connection)) = self.unseated.first().copied() {
            if since + UNSEATED_LIMIT > now {
                break;
            }
            self.unseated.pop_first();
            self.connections.remove(&connection);
            deliveries.push(Delivery::Close { connection });
        }
        deliveries
    }

    /// How many there are of what.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.len(),
            rooms: self.rooms.len(),
            seats: self.connections.len() - self.unseated.len(),
        }
    }

    fn join(&mut self, connection: ConnectionId, name: RoomName, now: Instant) -> Vec<Delivery> {
        match self.connections.get(&connection) {
            Some(Place::Seated(seated)) if *seated == name => return Vec::new(),
            _ => {}
        }
        if !self.policy.serves(&name) {
            let text = format!("There is no room “{name}” here: ask your host for the link again.");
            return refuse(connection, ErrorCode::RoomNotHosted, text);
        }
        let mut deliveries = self.leave(connection, ByeReason::Left, now);
        let id = PeerId::random(&mut self.rng);
        let seat = Seat { connection, id: id.clone(), delivered: 0 };
        match self.rooms.get_mut(&name) {
            None => {
                let event = ServerEvent::Created { room: name.clone(), id, resume: None };
                deliveries.push(tell(connection, event));
                self.rooms.insert(name.clone(), Room { initiator: seat, responder: None });
            }
            Some(room) if room.responder.is_none() => {
                let first = room.initiator.connection;
                let peer = room.initiator.id.clone();
                room.responder = Some(seat);
                let arrival = ServerEvent::Join { room: name.clone(), id: id.clone() };
                deliveries.push(tell(first, arrival));
                let joined = ServerEvent::Joined { room: name.clone(), id, peer, resume: None };
                deliveries.push(tell(connection, joined));
                let second = room.responder.as_ref().map(|seat| seat.id.clone());
                let seats = [(first, Some(room.initiator.id.clone())), (connection, second)];
                for (to, id) in seats {
                    let address = self.addresses.get(&to).copied().zip(id);
                    let ice_servers = address.map_or_else(Vec::new, |(address, id)| {
                        self.ice.servers(&id, address, SystemTime::now())
                    });
                    deliveries.push(tell(to, ServerEvent::Ready { ice_servers }));
                }
            }
            Some(_) => {
                // Asking counts as a sign of life, or one who waits long would be sent away.
                self.stand(connection, now);
                let event = ServerEvent::Full { room: name, retry_ms: RETRY_MS };
                deliveries.push(tell(connection, event));
                return deliveries;
            }
        }
        self.sit(connection, name);
        deliveries
    }

    /// Frees the seat of `connection`, if it has one; the one who stays is the initiator then.
    fn leave(
        &mut self,
        connection: ConnectionId,
        reason: ByeReason,
        now: Instant,
    ) -> Vec<Delivery> {
        let Some(Place::Seated(name)) = self.connections.get(&connection) else {
            return Vec::new();
        };
        let name = name.clone();
        self.stand(connection, now);
        let Some(Room { initiator, responder }) = self.rooms.remove(&name) else {
            return Vec::new();
        };
        let (gone, stays) = if initiator.connection == connection {
            (initiator.id, responder)
        } else {
            (responder.map_or_else(|| initiator.id.clone(), |seat| seat.id), Some(initiator))
        };
        let Some(stays) = stays else {
            return Vec::new();
        };
        let created =
            ServerEvent::Created { room: name.clone(), id: stays.id.clone(), resume: None };
        let deliveries = vec![
            tell(stays.connection, ServerEvent::Bye { id: gone, reason }),
            tell(stays.connection, created),
        ];
        self.rooms.insert(name, Room { initiator: stays, responder: None });
        deliveries
    }

    fn relay(&mut self, connection: ConnectionId, message: Value) -> Vec<Delivery> {
        let room = match self.connections.get(&connection) {
            Some(Place::Seated(name)) => self.rooms.get_mut(name),
            _ => None,
        };
        let Some(room) = room else {
            let text = "The message was dropped: enter a room with “create or join” first.";
            return refuse(connection, ErrorCode::NotInRoom, text);
        };
        // Alone in the room: nobody to hear it, as in the tutorial.
        let Some(responder) = &mut room.responder else {
            return Vec::new();
        };
        let (from, to) = if room.initiator.connection == connection {
            (&room.initiator.id, responder)
        } else {
            (&responder.id, &mut room.initiator)
        };
        to.delivered += 1;
        let event = ServerEvent::Message { from: from.clone(), seq: to.delivered, message };
        vec![tell(to.connection, event)]
    }

    fn sit(&mut self, connection: ConnectionId, name: RoomName) {
        let before = self.connections.insert(connection, Place::Seated(name));
        if let Some(Place::Unseated { since }) = before {
            self.unseated.remove(&(since, connection));
        }
    }

    fn stand(&mut self, connection: ConnectionId, now: Instant) {
        let before = self.connections.insert(connection, Place::Unseated { since: now });
        if let Some(Place::Unseated { since }) = before {
            self.unseated.remove(&(since, connection));
        }
        self.unseated.insert((now, connection));
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
