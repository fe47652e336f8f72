//! Taking one's own seat back with its token.

use super::{
    CloseReason, ConnectionId, Delivery, RETRY_MS, Registry,
    seat::{Presence, Room, Seat},
    tell,
};
use crate::{
    moment::Moment,
    protocol::{ByeReason, Role, RoomName, ServerEvent},
    token::Claim,
};

impl Registry {
    /// Gives `connection` the seat that `token` stands for, and what its owner missed after the
    /// message `last_seq`. If it cannot (`false`), the token was worth nothing, or the seat is
    /// lost; then `connection` is where it was.
    pub(super) fn resume(
        &mut self,
        connection: ConnectionId,
        name: &RoomName,
        token: &str,
        last_seq: u64,
        now: Moment,
        deliveries: &mut Vec<Delivery>,
    ) -> bool {
        let claim = match self.minter.key.open(token, now.unix) {
            Ok(claim) if claim.room == *name => claim,
            Ok(_) => return false,
            Err(error) => {
                tracing::debug!(connection = connection.0, %error, "a seat not given back");
                return false;
            }
        };
        let is_known = |room: &Room| room.role_of_id(&claim.id).is_some();
        if self.hold.is_zero()
            || !self.rooms.get(name).is_some_and(is_known) && !self.rebuild(&claim, now, deliveries)
        {
            return false;
        }
        let Some(room) = self.rooms.get_mut(name) else {
            return false;
        };
        let Some(role) = room.role_of_id(&claim.id) else {
            return false;
        };
        let Some((own, opposite)) = room.pair(role) else {
            return false;
        };
        if !own.honours(claim.epoch) {
            return false;
        }
        let peer = opposite.as_ref().map(|seat| seat.id.clone());
        // The owner may have missed that the one opposite changed; then it has nothing of the
        // new one's.
        let last_seq = if peer == claim.peer { last_seq } else { 0 };
        let Some(outbox) = own.outbox.as_mut() else {
            return false;
        };
        let reaches = outbox.reaches(last_seq);
        let presence = own.presence;
        self.evict(name, &claim, presence, deliveries);
        if !reaches {
            deliveries.extend(self.free(name, role, ByeReason::Lost, now));
            return false;
        }
        deliveries.extend(self.leave(connection, ByeReason::Left, now));
        self.take_back(connection, &claim, role, last_seq, now, deliveries);
        true
    }

    /// Nobody is in the seat any more.
    fn evict(
        &mut self,
        name: &RoomName,
        claim: &Claim,
        presence: Presence,
        deliveries: &mut Vec<Delivery>,
    ) {
        match presence {
            Presence::Here(ghost) => {
                let reason = ByeReason::Replaced;
                deliveries.push(tell(ghost, ServerEvent::Bye { id: claim.id.clone(), reason }));
                let reason = CloseReason::Replaced;
                deliveries.push(Delivery::Close { connection: ghost, reason });
                self.forget(ghost);
            }
            Presence::Held { until } => {
                self.held.remove(&(until, name.clone(), claim.id.clone()));
            }
        }
    }

    fn take_back(
        &mut self,
        connection: ConnectionId,
        claim: &Claim,
        role: Role,
        last_seq: u64,
        now: Moment,
        deliveries: &mut Vec<Delivery>,
    ) {
        let name = &claim.room;
        self.sit(connection, name.clone());
        // TURN credentials are for pairs only.
        let paired = self.rooms.get(name).is_some_and(|room| room.responder.is_some());
        if self.rooms.get(name).is_some_and(|room| room.renew_at.is_none()) {
            self.schedule_renewal(name, now);
        }
        let ice_servers =
            if paired { self.ice_servers(connection, &claim.id, now) } else { Vec::new() };
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let Some((own, opposite)) = room.pair(role) else {
            return;
        };
        own.presence = Presence::Here(connection);
        own.used(claim.epoch);
        let received = own.received;
        let peer = opposite.map(|seat| {
            // After a restart this is how the server learns what had arrived.
            seat.received = seat.received.max(last_seq);
            seat.id.clone()
        });
        let Some(resume) = self.minter.mint(name, room, role, now.unix) else {
            return;
        };
        let Some((own, _)) = room.pair(role) else {
            return;
        };
        if let Some(client) = self.connections.get_mut(&connection) {
            client.unconfirmed = Some(own.epoch());
        }
        let id = claim.id.clone();
        deliveries.push(tell(
            connection,
            ServerEvent::Resumed {
                room: name.clone(),
                id,
                role,
                peer: peer.clone(),
                last_seq: received,
                resume,
                ice_servers,
            },
        ));
        let Some(outbox) = own.outbox.as_mut() else {
            return;
        };
        let missed = outbox.resume(last_seq).filter_map(|(seq, message)| {
            let from = peer.clone()?;
            Some(tell(connection, ServerEvent::Message { from, seq, message: message.clone() }))
        });
        deliveries.extend(missed);
    }

    /// A client that has spoken has its newest token.
    pub(super) fn confirm(&mut self, connection: ConnectionId) {
        let Some(epoch) =
            self.connections.get_mut(&connection).and_then(|client| client.unconfirmed.take())
        else {
            return;
        };
        if let Some((name, role)) = self.seat_of(connection)
            && let Some((seat, _)) = self.rooms.get_mut(&name).and_then(|room| room.pair(role))
        {
            seat.confirmed(epoch);
        }
    }

    /// Sets up, soon after a restart, the seat that `claim` stands for and the one opposite,
    /// both held. Whether the seat is there now.
    fn rebuild(&mut self, claim: &Claim, now: Moment, deliveries: &mut Vec<Delivery>) -> bool {
        let recovering = self.recover_until.is_some_and(|until| now.instant < until);
        // A token of this run whose seat is gone: its owner left, or came back too late.
        if !self.is_recovering(&claim.room, now) && (!recovering || claim.run == self.minter.run) {
            return false;
        }
        let no_room_left = self.limits.max_rooms > 0 && self.rooms.len() >= self.limits.max_rooms;
        let until = now.instant + self.hold;
        let own = Seat::awaited(claim.id.clone(), until);
        match self.rooms.get_mut(&claim.room) {
            None if no_room_left => return false,
            None => {}
            Some(room) if room.responder.is_some() => return false,
            // Its token was made before the other one came.
            Some(room) if claim.peer.as_ref() == Some(&room.initiator.id) => {
                room.responder = Some(own);
                self.held.insert((until, claim.room.clone(), claim.id.clone()));
                deliveries.extend(self.announce(&claim.room, now));
                deliveries.extend(self.ready(&claim.room, now));
                return true;
            }
            Some(room) if room.initiator.rebuilt => return false,
            // A stranger was faster, and waits alone: the call was there first.
            Some(_) => {
                for stranger in self.dissolve(&claim.room) {
                    self.stand(stranger, now);
                    let room = claim.room.clone();
                    deliveries.push(tell(
                        stranger,
                        ServerEvent::Full { room, retry_ms: RETRY_MS, held: true },
                    ));
                }
            }
        }
        let awaited = claim.peer.clone().map(|id| Seat::awaited(id, until));
        for id in [Some(&claim.id), claim.peer.as_ref()].into_iter().flatten() {
            self.held.insert((until, claim.room.clone(), id.clone()));
        }
        let (initiator, responder) = match (claim.role, awaited) {
            (Role::Responder, Some(awaited)) => (awaited, Some(own)),
            (_, awaited) => (own, awaited),
        };
        let room = Room { responder, ..Room::new(initiator) };
        self.rooms.insert(claim.room.clone(), room);
        true
    }
}
