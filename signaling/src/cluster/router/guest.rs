//! The owner's side: clients of other nodes in our registry.

use std::collections::VecDeque;

use super::{At, Guard, Message, ReturnKind, Returned, Router};
use crate::{
    cluster::wire::NodeId,
    hub::{Command, Credit, Mailbox, OUTBOX, Outbound},
    moment::Moment,
    protocol::{ByeReason, ClientEvent, RoomName},
    room::ConnectionId,
};

/// A client of another node.
pub(super) struct RemoteGuest {
    pub(super) node: NodeId,
    /// What its node calls the connection.
    pub(super) number: u64,
    /// The only room it may enter over this connection.
    pub(super) room: RoomName,
    /// Of the deliveries that are under way, the oldest first.
    unwritten: VecDeque<Option<Credit>>,
}

impl Router {
    /// Another node says something.
    pub(super) fn handle_message(&mut self, node: NodeId, message: Message, now: Moment) {
        match message {
            Message::Open { connection: number, room, fence, guest } => {
                let is_ours = self.leases.fence(&room) == Some(fence);
                if !is_ours || !self.leases.is_sure(&room, now.instant) || self.stopping {
                    return self.send(node, &Message::Gone { connection: number });
                }
                self.leases.used(&room);
                let connection = ConnectionId(self.next_id());
                let unwritten = VecDeque::new();
                self.guests.insert(connection, RemoteGuest { node, number, room, unwritten });
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.guests.insert(number, connection);
                }
                let outbox = Mailbox::Routed(connection, self.mailbox.clone());
                self.tell_hub(Command::Route { connection, guest, outbox });
            }
            Message::Said { connection: number, event } => {
                let Some(connection) = self.guest_of(node, number) else {
                    return self.send(node, &Message::Gone { connection: number });
                };
                if let Ok(ClientEvent::CreateOrJoin { room, .. }) = &event
                    && !self.may_enter(connection, room, now)
                {
                    return self.dismiss(connection);
                }
                let credit = self.credit(node, number, ReturnKind::Done);
                self.tell_hub(Command::Event { connection, event, credit });
            }
            Message::Closed { connection, reason } => {
                if let Some(connection) = self.guest_of(node, connection) {
                    self.forget_guest(connection);
                    self.tell_hub(Command::Closed { connection, reason });
                }
            }
            Message::Expelled { connection } => {
                if let Some(connection) = self.guest_of(node, connection) {
                    self.forget_guest(connection);
                    self.tell_hub(Command::Expelled { connection });
                }
            }
            Message::Written { connection, count } => {
                let connection = self.guest_of(node, connection);
                if let Some(guest) = connection.and_then(|c| self.guests.get_mut(&c)) {
                    let count = guest.unwritten.len().min(count as usize);
                    guest.unwritten.drain(..count);
                }
            }
            Message::Told { connection, event } => {
                if let Some(id) = self.client_at(node, connection) {
                    let credit = self.credit(node, connection, ReturnKind::Written);
                    self.deliver(id, Outbound::Event(Box::new(event), Some(credit)), now);
                }
            }
            Message::End { connection, reason } => {
                if let Some(id) = self.client_at(node, connection) {
                    self.deliver(id, Outbound::Close(reason), now);
                }
            }
            Message::Done { connection, count } => {
                let id = self.client_at(node, connection);
                if let Some(client) = id.and_then(|id| self.clients.get_mut(&id)) {
                    let count = client.in_flight.len().min(count as usize);
                    client.in_flight.drain(..count);
                }
            }
            Message::Gone { connection } => {
                if let Some(id) = self.client_at(node, connection) {
                    // Not at once: the owner may be about to learn that it is one.
                    let at = now.instant + self.times.retry_after / 4;
                    self.seat_again(id, at, now);
                }
            }
        }
    }

    /// Our client that sits at `node` under this number of ours.
    fn client_at(&self, node: NodeId, connection: u64) -> Option<super::ClientId> {
        let id = *self.attached.get(&connection)?;
        let is_there = self.clients.get(&id)?.at == At::There(node, connection);
        is_there.then_some(id)
    }

    fn guest_of(&self, node: NodeId, number: u64) -> Option<ConnectionId> {
        self.peers.get(&node)?.guests.get(&number).copied()
    }

    fn may_enter(&mut self, connection: ConnectionId, room: &RoomName, now: Moment) -> bool {
        let may = self.guests.get(&connection).is_some_and(|guest| guest.room == *room)
            && self.leases.is_sure(room, now.instant);
        if may {
            self.leases.used(room);
        }
        may
    }

    /// The guest is to look for the room's owner elsewhere; its seat, if it has one, is held.
    fn dismiss(&mut self, connection: ConnectionId) {
        if let Some(guest) = self.forget_guest(connection) {
            self.tell_hub(Command::Closed { connection, reason: ByeReason::Lost });
            self.send(guest.node, &Message::Gone { connection: guest.number });
        }
    }

    pub(super) fn forget_guest(&mut self, connection: ConnectionId) -> Option<RemoteGuest> {
        let guest = self.guests.remove(&connection)?;
        if let Some(peer) = self.peers.get_mut(&guest.node) {
            peer.guests.remove(&guest.number);
        }
        Some(guest)
    }

    /// A credit that, given back, is reported to `to`.
    fn credit(&self, to: NodeId, connection: u64, kind: ReturnKind) -> Credit {
        Credit::new(Guard(Returned { to, connection, kind }, self.returns.clone()))
    }

    /// A credit came back.
    pub(crate) fn handle_returned(&mut self, returned: Returned) {
        let Returned { to, connection, kind } = returned;
        if let Some(peer) = self.peers.get_mut(&to) {
            *peer.returned.entry((connection, kind)).or_default() += 1;
        }
    }

    pub(super) fn deliver_to_guest(&mut self, connection: ConnectionId, outbound: Outbound) {
        let Some(guest) = self.guests.get_mut(&connection) else {
            return;
        };
        let (node, number) = (guest.node, guest.number);
        match outbound {
            Outbound::Event(event, credit) => {
                guest.unwritten.push_back(credit);
                if guest.unwritten.len() > OUTBOX {
                    tracing::info!("a client of another node does not take what it is told");
                    return self.dismiss(connection);
                }
                self.send(node, &Message::Told { connection: number, event: *event });
            }
            Outbound::Close(reason) => {
                self.send(node, &Message::End { connection: number, reason });
            }
        }
    }
}
