//! Taking a seat, leaving it, holding it.

use std::time::Duration;

use super::{
    ConnectionId, Delivery, Place, RETRY_MS, Registry, refuse,
    seat::{Presence, Room, Seat},
    tell,
};
use crate::{
    carrier::CarrierKind,
    moment::Moment,
    protocol::{ByeReason, ErrorCode, IceServer, PeerId, Role, RoomName, ServerEvent},
};

/// ICE servers are not handed out anew more often.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(1);

impl Registry {
    /// Seats `connection` in the room `name`: in its own seat if it shows the token for it (and
    /// tells the last message it received there), else in a free one.
    pub(super) fn join(
        &mut self,
        connection: ConnectionId,
        name: RoomName,
        token: Option<(String, u64)>,
        now: Moment,
    ) -> Vec<Delivery> {
        let Some(client) = self.connections.get(&connection) else {
            return Vec::new();
        };
        let guest = client.guest;
        if matches!(&client.place, Place::Seated(seated) if *seated == name) {
            return Vec::new();
        }
        let is_served = self.policy.serves(&name);
        let mut deliveries = Vec::new();
        // Not counted: after a restart all of an office come back at once.
        if let Some((token, last_seq)) = token
            && is_served
            && guest.carrier.resumes()
            && self.resume(connection, &name, &token, last_seq, now, &mut deliveries)
        {
            return deliveries;
        }
        if !self.joins.admit(guest.address, now.instant) {
            let text = format!(
                "Too many seats were asked for from your address: the limit is {} a minute. Wait \
                 a minute, then try again.",
                self.limits.joins_per_minute
            );
            deliveries.extend(self.expel(connection, ErrorCode::RateLimited, text, now));
            return deliveries;
        }
        if !is_served {
            let text = format!("There is no room “{name}” here: ask your host for the link again.");
            return refuse(connection, ErrorCode::RoomNotHosted, text);
        }
        deliveries.extend(self.leave(connection, ByeReason::Left, now));
        deliveries.extend(self.enter(connection, name, now));
        deliveries
    }

    /// Seats `connection`, which has no seat, in a free one.
    fn enter(&mut self, connection: ConnectionId, name: RoomName, now: Moment) -> Vec<Delivery> {
        let resumes = self.resumes(connection);
        let rooms = self.rooms.len();
        let Some(room) = self.rooms.get_mut(&name) else {
            if self.limits.max_rooms > 0 && rooms >= self.limits.max_rooms {
                let text = "This server has no room left: try again later.".to_owned();
                return self.expel(connection, ErrorCode::TooManyRooms, text, now);
            }
            let id = PeerId::random(&mut self.rng);
            let mut room = Room::new(Seat::new(id.clone(), connection, resumes));
            let resume = self.minter.mint(&name, &mut room, Role::Initiator, now.unix);
            self.rooms.insert(name.clone(), room);
            self.sit(connection, name.clone());
            return vec![tell(connection, ServerEvent::Created { room: name, id, resume })];
        };
        if let Some(responder) = &room.responder {
            let held = [&room.initiator, responder].iter().any(|seat| seat.connection().is_none());
            // Asking counts as a sign of life, or one who waits long would be sent away.
            self.stand(connection, now);
            let event = ServerEvent::Full { room: name, retry_ms: RETRY_MS, held };
            return vec![tell(connection, event)];
        }
        let id = PeerId::random(&mut self.rng);
        let peer = room.initiator.id.clone();
        room.responder = Some(Seat::new(id.clone(), connection, resumes));
        let resume = self.minter.mint(&name, room, Role::Responder, now.unix);
        self.sit(connection, name.clone());
        let mut deliveries: Vec<_> = self.announce(&name, now).into_iter().collect();
        let joined = ServerEvent::Joined { room: name.clone(), id, peer, resume };
        deliveries.push(tell(connection, joined));
        deliveries.extend(self.ready(&name, now));
        deliveries
    }

    /// Tells the initiator, if it is there, that the responder arrived.
    pub(super) fn announce(&mut self, name: &RoomName, now: Moment) -> Option<Delivery> {
        let room = self.rooms.get_mut(name)?;
        let to = room.initiator.connection()?;
        let id = room.responder.as_ref()?.id.clone();
        // A new one, that names the one opposite.
        let resume = self.minter.mint(name, room, Role::Initiator, now.unix);
        Some(tell(to, ServerEvent::Join { room: name.clone(), id, resume }))
    }

    /// Hands ICE servers to a pair, and sees to it that they get new ones in time.
    pub(super) fn ready(&mut self, name: &RoomName, now: Moment) -> Vec<Delivery> {
        self.schedule_renewal(name, now);
        let mut told = Vec::new();
        let pair = self.rooms.get(name).filter(|room| room.responder.is_some());
        for seat in pair.iter().flat_map(|room| room.seats()) {
            if let Some(to) = seat.connection() {
                let ice_servers = self.ice_servers(to, &seat.id, now);
                told.push(tell(to, ServerEvent::Ready { ice_servers }));
            }
        }
        told
    }

    /// From now on counts how long a pair's ICE servers are good.
    pub(super) fn schedule_renewal(&mut self, name: &RoomName, now: Moment) {
        let Some(room) = self.rooms.get_mut(name).filter(|room| room.responder.is_some()) else {
            return;
        };
        // Never at once again, whatever the provider says.
        let wait = self.ice.lifetime().map(|lifetime| (lifetime * 3 / 4).max(SHORTEST_RENEWAL));
        let due = wait.map(|wait| now.instant + wait);
        if let Some(before) = std::mem::replace(&mut room.renew_at, due) {
            self.renewals.remove(&(before, name.clone()));
        }
        self.renewals.extend(due.map(|due| (due, name.clone())));
    }

    pub(super) fn ice_servers(
        &self,
        connection: ConnectionId,
        id: &PeerId,
        now: Moment,
    ) -> Vec<IceServer> {
        let Some(client) = self.connections.get(&connection) else {
            return Vec::new();
        };
        self.ice.servers(id, client.guest.address, now.unix)
    }

    /// Frees the seat of `connection`, if it has one.
    pub(super) fn leave(
        &mut self,
        connection: ConnectionId,
        reason: ByeReason,
        now: Moment,
    ) -> Vec<Delivery> {
        let Some((name, role)) = self.seat_of(connection) else {
            return Vec::new();
        };
        self.stand(connection, now);
        self.free(&name, role, reason, now)
    }

    /// Frees a seat, whose owner has been seen to; the one who stays is the initiator then.
    pub(super) fn free(
        &mut self,
        name: &RoomName,
        role: Role,
        reason: ByeReason,
        now: Moment,
    ) -> Vec<Delivery> {
        let Some(room) = self.rooms.remove(name) else {
            return Vec::new();
        };
        self.cancel_renewal(name, &room);
        let (gone, stays) = room.without(role);
        if let Some(gone) = &gone {
            self.release(name, gone);
        }
        let (Some(gone), Some(mut stays)) = (gone, stays) else {
            return Vec::new();
        };
        // What was said belongs to the pair that is over.
        if let Some(outbox) = &mut stays.outbox {
            outbox.clear();
        }
        let (to, id) = (stays.connection(), stays.id.clone());
        let mut room = Room::new(stays);
        let deliveries = to.map(|to| {
            let resume = self.minter.mint(name, &mut room, Role::Initiator, now.unix);
            let created = ServerEvent::Created { room: name.clone(), id, resume };
            [tell(to, ServerEvent::Bye { id: gone.id, reason }), tell(to, created)]
        });
        self.rooms.insert(name.clone(), room);
        deliveries.into_iter().flatten().collect()
    }

    /// Ends a room; who was there.
    pub(super) fn dissolve(&mut self, name: &RoomName) -> Vec<ConnectionId> {
        let Some(room) = self.rooms.remove(name) else {
            return Vec::new();
        };
        self.cancel_renewal(name, &room);
        for seat in room.seats() {
            self.release(name, seat);
        }
        room.seats().filter_map(Seat::connection).collect()
    }

    /// Holds the seat of `connection`, which broke, for its owner. Whether there is one to hold.
    pub(super) fn hold_seat(&mut self, connection: ConnectionId, now: Moment) -> bool {
        if self.hold.is_zero() || !self.resumes(connection) {
            return false;
        }
        let Some((name, role)) = self.seat_of(connection) else {
            return false;
        };
        self.stand(connection, now);
        let until = now.instant + self.hold;
        let Some((seat, _)) = self.rooms.get_mut(&name).and_then(|room| room.pair(role)) else {
            return false;
        };
        seat.presence = Presence::Held { until };
        if let Some(outbox) = &mut seat.outbox {
            outbox.hold();
        }
        let id = seat.id.clone();
        self.held.insert((until, name, id));
        true
    }

    /// The seat is no longer held.
    pub(super) fn release(&mut self, name: &RoomName, seat: &Seat) {
        if let Presence::Held { until } = seat.presence {
            self.held.remove(&(until, name.clone(), seat.id.clone()));
        }
    }

    fn cancel_renewal(&mut self, name: &RoomName, room: &Room) {
        if let Some(due) = room.renew_at {
            self.renewals.remove(&(due, name.clone()));
        }
    }

    /// Where `connection` sits.
    pub(super) fn seat_of(&self, connection: ConnectionId) -> Option<(RoomName, Role)> {
        match &self.connections.get(&connection)?.place {
            Place::Seated(name) => Some((name.clone(), self.rooms.get(name)?.role_of(connection)?)),
            Place::Unseated { .. } => None,
        }
    }

    /// Whether a seat of `connection` can be taken back after a loss.
    fn resumes(&self, connection: ConnectionId) -> bool {
        let carrier = self.connections.get(&connection).map(|client| client.guest.carrier);
        !self.hold.is_zero() && carrier.is_some_and(CarrierKind::resumes)
    }

    pub(super) fn sit(&mut self, connection: ConnectionId, name: RoomName) {
        self.place(connection, Place::Seated(name));
    }

    pub(super) fn stand(&mut self, connection: ConnectionId, now: Moment) {
        self.place(connection, Place::Unseated { since: now.instant });
        if self.connections.contains_key(&connection) {
            self.unseated.insert((now.instant, connection));
        }
    }

    fn place(&mut self, connection: ConnectionId, place: Place) {
        let Some(client) = self.connections.get_mut(&connection) else {
            return;
        };
        client.unconfirmed = None;
        if let Place::Unseated { since } = std::mem::replace(&mut client.place, place) {
            self.unseated.remove(&(since, connection));
        }
    }

    /// Forgets a connection, which has no seat any more.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if let Some(client) = self.connections.remove(&connection)
            && let Place::Unseated { since } = client.place
        {
            self.unseated.remove(&(since, connection));
        }
    }
}
