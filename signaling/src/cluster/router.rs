//! Between the carriers and the hub: whose room is it? What a client says goes to the registry of
//! the node that owns its room, and what that one answers comes back. Does no I/O and never
//! waits: it is told what happened, and says what to do ([`Action`]).
//!
//! Order is kept from a connection's first event on: while an owner is looked for, what its
//! client says waits. Each such event holds one of the connection's few credits, so a client that
//! says more is not read any further. Nothing is dropped, with one exception: when a seat is
//! taken up again at a new owner, numbered messages are kept out until the client sends them
//! again, as `resumed` asks it to.

mod attach;
mod client;
mod guest;
mod owner;
mod peer;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use tokio::sync::mpsc::{self, error::TrySendError};

use self::{
    client::{At, Client, Ending, Said},
    guest::RemoteGuest,
    owner::Question,
    peer::Peer,
};
use super::{
    lease::{LeaseTimes, Leases},
    link::LinkTimes,
    wire::{Message, NodeId},
};
use crate::{
    hub::{Command, Credit, Outbound},
    moment::Moment,
    protocol::{ByeReason, ClientEvent, RoomName, ServerEvent},
    room::{CloseReason, ConnectionId},
};

/// When a cluster does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterTimes {
    /// Of the rooms' leases.
    pub lease: LeaseTimes,
    /// Of the links between nodes.
    pub link: LinkTimes,
    /// Before an owner that could not be found or reached is looked for again.
    pub retry_after: Duration,
    /// How long someone without a seat waits for the owner to be found; then the connection is
    /// closed, and the client may try its luck at another node.
    pub patience: Duration,
}

impl Default for ClusterTimes {
    fn default() -> Self {
        Self {
            lease: LeaseTimes::default(),
            link: LinkTimes::default(),
            retry_after: Duration::from_millis(500),
            patience: Duration::from_secs(20),
        }
    }
}

/// Who owns a room, as Redis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// The number of its lease; higher than that of every lease before.
    pub fence: u64,
    /// The room had another owner, which let its lease run out.
    pub moved: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Tell the hub.
    Hub(Command),
    /// Hand a frame to the medium.
    Publish { to: NodeId, frame: Vec<u8> },
    /// Ask who owns a room, and take it if nobody does; `known` is the fence under which it is
    /// ours as far as we know, or 0.
    Resolve { room: RoomName, known: u64 },
    /// Renew leases.
    Renew(Vec<(RoomName, u64)>),
    /// Give a lease back: the room is empty.
    Release { room: RoomName, fence: u64 },
    /// Let leases run out: whoever needs the rooms next takes them over.
    Abandon(Vec<(RoomName, u64)>),
    /// Ask the hub which rooms there are; see [`Router::handle_survey`].
    Survey { moment: u64 },
}

/// A credit came back: something forwarded is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Returned {
    to: NodeId,
    connection: u64,
    kind: ReturnKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum ReturnKind {
    /// All deliveries of an event were written.
    Done,
    /// A delivery was written.
    Written,
}

/// Sends what it holds when it is dropped.
struct Guard(Returned, mpsc::UnboundedSender<Returned>);

impl Drop for Guard {
    fn drop(&mut self) {
        // Without a router nobody counts any more.
        let _ = self.1.send(self.0);
    }
}

/// Names a client of this node, whatever room it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ClientId(u64);

/// See the module.
pub(crate) struct Router {
    node: NodeId,
    times: ClusterTimes,
    leases: Leases,
    clients: HashMap<ClientId, Client>,
    /// Which of our clients a connection, here or there, stands for.
    attached: HashMap<u64, ClientId>,
    /// Clients of other nodes, in our registry.
    guests: HashMap<ConnectionId, RemoteGuest>,
    peers: BTreeMap<NodeId, Peer>,
    questions: HashMap<RoomName, Question>,
    /// Numbers clients and connections.
    last_id: u64,
    /// Whether the medium works.
    up: bool,
    stopping: bool,
    mailbox: mpsc::UnboundedSender<(ConnectionId, Outbound)>,
    returns: mpsc::UnboundedSender<Returned>,
    actions: VecDeque<Action>,
}

impl Router {
    /// A router for `node`. What the hub delivers comes out of `mailbox`, and credits that came
    /// back out of `returns`; both are to be handed in again.
    pub(crate) fn new(
        node: NodeId,
        times: ClusterTimes,
        mailbox: mpsc::UnboundedSender<(ConnectionId, Outbound)>,
        returns: mpsc::UnboundedSender<Returned>,
    ) -> Self {
        Self {
            node,
            times,
            leases: Leases::new(times.lease),
            clients: HashMap::new(),
            attached: HashMap::new(),
            guests: HashMap::new(),
            peers: BTreeMap::new(),
            questions: HashMap::new(),
            last_id: 0,
            up: false,
            stopping: false,
            mailbox,
            returns,
            actions: VecDeque::new(),
        }
    }

    /// What is to be done, in order; ask until there is nothing.
    pub(crate) fn poll_action(&mut self, now: Moment) -> Option<Action> {
        if self.actions.is_empty() {
            self.flush(now);
        }
        self.actions.pop_front()
    }

    /// A carrier says something meant for the hub.
    pub(crate) fn handle_command(&mut self, command: Command, now: Moment) {
        match command {
            Command::Open { guest, outbox, reply } => {
                if self.stopping {
                    return;
                }
                let id = ClientId(self.next_id());
                if reply.send(ConnectionId(id.0)).is_ok() {
                    self.clients.insert(id, Client::new(guest, outbox));
                    self.attach_here(id, None);
                }
            }
            // As in the hub: who says it keeps it for the next server.
            Command::Event { .. } if self.stopping => {}
            Command::Event { connection, event, credit } => {
                let said = Said { event, credit: Some(credit) };
                let id = ClientId(connection.0);
                match self.clients.get_mut(&id) {
                    Some(client) if client.resolving.is_some() => client.waiting.push_back(said),
                    Some(_) => self.route(id, said, now),
                    None => {}
                }
            }
            Command::Closed { connection, reason } => {
                self.end(ClientId(connection.0), Ending::Closed(reason));
            }
            Command::Expelled { connection } => {
                self.end(ClientId(connection.0), Ending::Expelled);
            }
            Command::Stop => self.stop(),
            other => self.tell_hub(other),
        }
    }

    /// The hub delivers to a connection that this router opened.
    pub(crate) fn handle_delivery(
        &mut self,
        connection: ConnectionId,
        outbound: Outbound,
        now: Moment,
    ) {
        match self.attached.get(&connection.0) {
            Some(id) => self.deliver(*id, outbound, now),
            None => self.deliver_to_guest(connection, outbound),
        }
    }

    /// Whether a router that was stopped has nothing left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.stopping
            && self.clients.is_empty()
            && (!self.up || self.peers.values().all(Peer::has_all_it_needs))
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn tell_hub(&mut self, command: Command) {
        self.actions.push_back(Action::Hub(command));
    }

    /// Sends what a client said where it belongs; looks for the owner first, if need be.
    fn route(&mut self, id: ClientId, said: Said, now: Moment) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if let Ok(ClientEvent::CreateOrJoin { room, .. }) = &said.event {
            let room = room.clone();
            if self.leases.is_sure(&room, now.instant) {
                self.leases.used(&room);
                self.attach_here(id, Some(room));
            } else if !matches!(client.at, At::There(..)) || client.room.as_ref() != Some(&room) {
                client.waiting.push_front(said);
                self.resolve(id, room, now.instant, now.instant);
                return;
            }
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let passes = match &said.event {
            Ok(event) => client.trace.passes(event, now.instant),
            Err(_) => true,
        };
        if !passes {
            return;
        }
        let Said { event, credit } = said;
        match client.at {
            At::Here(connection) => {
                let credit = credit.unwrap_or_else(|| Credit::new(()));
                self.tell_hub(Command::Event { connection, event, credit });
            }
            At::There(node, connection) => {
                client.in_flight.push_back(credit);
                self.send(node, &Message::Said { connection, event });
            }
            At::Nowhere => {}
        }
    }

    fn deliver(&mut self, id: ClientId, outbound: Outbound, now: Moment) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if let Outbound::Event(event, _) = &outbound {
            client.trace.told(event, now.instant);
        }
        let Some(outbox) = &client.outbox else {
            return;
        };
        // Where the queue is closed, the carrier has ended, and is about to tell how.
        if let Err(TrySendError::Full(_)) = outbox.try_send(outbound) {
            tracing::info!(connection = id.0, "dropped: does not take what it is told");
            self.end(id, Ending::Closed(ByeReason::Lost));
        }
    }

    /// The client's connection is over.
    fn end(&mut self, id: ClientId, ending: Ending) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let seat_is_lost_for_now = client.at == At::Nowhere && client.trace.is_seated();
        if seat_is_lost_for_now && ending != Ending::Closed(ByeReason::Lost) {
            // The new owner must hear it, or it would hold the seat.
            client.ending = Some(ending);
            client.outbox = None;
            return;
        }
        let at = client.at;
        self.clients.remove(&id);
        self.part(id, at, ending);
    }

    /// Says goodbye: our clients find another node, and so do our rooms.
    fn stop(&mut self) {
        self.stopping = true;
        // No question is answered any more.
        self.questions.clear();
        // The hub first, so that whoever is told anything is told that.
        self.tell_hub(Command::Stop);
        for client in self.clients.values_mut().filter(|client| !matches!(client.at, At::Here(_))) {
            if let Some(outbox) = &client.outbox {
                let log = Box::new(ServerEvent::Log { message: "server restarting".into() });
                // A full queue means a stuck connection; the server's time limit ends it.
                let _ = outbox.try_send(Outbound::Event(log, None));
                let _ = outbox.try_send(Outbound::Close(CloseReason::Restart));
            }
        }
        self.clients.retain(|_, client| client.outbox.is_some());
        let leases = self.leases.all();
        let rooms: Vec<RoomName> = leases.iter().map(|(room, _)| room.clone()).collect();
        self.actions.push_back(Action::Abandon(leases.clone()));
        for (room, fence) in leases {
            self.leases.lost(&room, fence);
        }
        // Our own clients' seats are taken up by themselves, elsewhere; those of others' clients
        // by their nodes.
        for room in rooms {
            self.tell_hub(Command::HandOver { room });
        }
        self.send_guests_away(None);
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
