//! Which registry knows a client: coming there, leaving, coming back.

use std::time::Instant;

use super::{At, Client, ClientId, Ending, Message, Router, Said};
use crate::{
    carrier::Guest,
    cluster::wire::NodeId,
    hub::{Command, Mailbox, Outbound},
    moment::Moment,
    protocol::{ByeReason, RoomName},
    room::ConnectionId,
};

impl Router {
    /// The registry that knows the client is told that it is gone from there.
    pub(super) fn part(&mut self, id: ClientId, at: At, ending: Ending) {
        match at {
            At::Here(connection) => {
                self.attached.remove(&connection.0);
                self.tell_hub(match ending {
                    Ending::Closed(reason) => Command::Closed { connection, reason },
                    Ending::Expelled => Command::Expelled { connection },
                });
            }
            At::There(node, connection) => {
                self.attached.remove(&connection);
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.clients.remove(&id);
                }
                let message = match ending {
                    Ending::Closed(reason) => Message::Closed { connection, reason },
                    Ending::Expelled => Message::Expelled { connection },
                };
                self.send(node, &message);
            }
            At::Nowhere => {}
        }
    }

    /// The client leaves the registry that knows it, for another.
    pub(super) fn detach(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let at = std::mem::replace(&mut client.at, At::Nowhere);
        client.room = None;
        client.in_flight.clear();
        if at != At::Nowhere {
            client.trace.left();
        }
        self.part(id, at, Ending::Closed(ByeReason::Left));
    }

    /// The client belongs to our own registry from now on.
    pub(super) fn attach_here(&mut self, id: ClientId, room: Option<RoomName>) {
        let is_here = |client: &Client| matches!(client.at, At::Here(_));
        if !self.clients.get(&id).is_some_and(is_here) {
            self.detach(id);
            let connection = ConnectionId(self.next_id());
            let Some(client) = self.clients.get_mut(&id) else {
                return;
            };
            client.at = At::Here(connection);
            self.attached.insert(connection.0, id);
            let outbox = Mailbox::Routed(connection, self.mailbox.clone());
            let guest = client.guest;
            self.tell_hub(Command::Route { connection, guest, outbox });
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.room = room;
        }
    }

    /// The client belongs to the registry of `node` from now on, for `room` only.
    pub(super) fn attach_there(
        &mut self,
        id: ClientId,
        (node, fence): (NodeId, u64),
        room: RoomName,
        now: Moment,
    ) {
        self.detach(id);
        self.peer(node, now).clients.insert(id);
        let connection = self.next_id();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.at = At::There(node, connection);
        client.room = Some(room.clone());
        let guest: Guest = client.guest;
        self.attached.insert(connection, id);
        self.send(node, &Message::Open { connection, room, fence, guest });
    }

    /// The registry that knew the client forgot it: the client's seat is taken up again, or its
    /// wish repeated, at whoever owns the room at the time `at` or later.
    pub(super) fn seat_again(&mut self, id: ClientId, at: Instant, now: Moment) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut client.at, At::Nowhere) {
            At::Here(connection) => {
                self.attached.remove(&connection.0);
            }
            At::There(node, connection) => {
                self.attached.remove(&connection);
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.clients.remove(&id);
                }
            }
            At::Nowhere => {}
        }
        client.room = None;
        client.in_flight.clear();
        if client.resolving.is_some() {
            // On its way to another room: the seat is given up with the registry that knew it.
            return client.trace.left();
        }
        let Some((room, event, farewell)) = client.trace.again() else {
            return self.attach_here(id, None);
        };
        client.waiting.push_front(Said { event: Ok(event), credit: None });
        if let Some(farewell) = farewell {
            self.deliver(id, Outbound::Event(Box::new(farewell), None), now);
        }
        self.resolve(id, room, at, now.instant);
    }
}
