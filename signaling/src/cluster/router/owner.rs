//! Finding a room's owner, keeping one's own rooms, losing them.

use std::{collections::HashSet, time::Instant};

use super::{Action, At, ClientId, Message, Owner, Router, client::Ending};
use crate::{
    cluster::wire::NodeId,
    hub::{Command, Outbound},
    moment::Moment,
    protocol::{ByeReason, RoomName, ServerEvent},
    room::CloseReason,
};

/// A room whose owner is looked for.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// For whom.
    clients: Vec<ClientId>,
    /// Redis is asked just now.
    is_asked: bool,
    /// When to ask again.
    retry_at: Option<Instant>,
}

impl Router {
    /// Looks for the owner of `room` for a client, at the time `at` at the earliest.
    pub(super) fn resolve(&mut self, id: ClientId, room: RoomName, at: Instant, now: Instant) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.resolving = Some((room.clone(), now));
        }
        let question = self.questions.entry(room.clone()).or_default();
        question.clients.push(id);
        if question.is_asked {
            return;
        }
        if at <= now {
            self.ask(room);
        } else {
            question.retry_at = Some(question.retry_at.map_or(at, |before| before.min(at)));
        }
    }

    fn ask(&mut self, room: RoomName) {
        let known = self.leases.fence(&room).unwrap_or(0);
        if let Some(question) = self.questions.get_mut(&room) {
            question.is_asked = true;
            question.retry_at = None;
            self.actions.push_back(Action::Resolve { room, known });
        }
    }

    /// Redis said who owns `room`, or nothing (`None`), to a question put at `asked`.
    pub(crate) fn handle_resolved(
        &mut self,
        room: RoomName,
        asked: Instant,
        owner: Option<Owner>,
        now: Moment,
    ) {
        if let Some(question) = self.questions.get_mut(&room) {
            question.is_asked = false;
        }
        match owner {
            Some(Owner { node, fence, .. }) if self.stopping && node == self.node => {
                self.actions.push_back(Action::Abandon(vec![(room, fence)]));
            }
            Some(Owner { node, fence, moved }) if node == self.node => {
                self.leases.acquired(room.clone(), fence, asked);
                if moved {
                    tracing::info!(%room, "taken over from another node");
                    self.tell_hub(Command::Recover { room: room.clone() });
                }
                self.settle(&room, None, now);
            }
            Some(Owner { node, fence, .. }) => {
                if let Some(fence) = self.leases.fence(&room) {
                    self.deposed(&room, fence, now);
                }
                if self.is_suspect(node, now) {
                    self.ask_again(room, now);
                } else {
                    self.settle(&room, Some((node, fence)), now);
                }
            }
            None => self.ask_again(room, now),
        }
    }

    /// Not found, or not to be reached: again in a while, as far as patience goes.
    fn ask_again(&mut self, room: RoomName, now: Moment) {
        let Some(mut question) = self.questions.remove(&room) else {
            return;
        };
        question.clients.retain(|id| {
            let client = self.clients.get(id);
            let Some((client, (_, since))) = client.and_then(|c| Some((c, c.resolving.as_ref()?)))
            else {
                return false;
            };
            let is_patient = client.at == At::Nowhere && client.trace.is_seated();
            if is_patient || now.instant < *since + self.times.patience {
                return true;
            }
            self.give_up(*id);
            false
        });
        if !question.clients.is_empty() {
            question.retry_at = Some(now.instant + self.times.retry_after);
            self.questions.insert(room, question);
        }
    }

    /// Nobody answers for the room: the client is sent to try again, here or elsewhere.
    fn give_up(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.resolving = None;
        client.waiting.clear();
        if let Some(outbox) = &client.outbox {
            let message = "The room cannot be reached just now: connect again.".into();
            // A full queue means a stuck connection, which is about to end anyway.
            let log = Box::new(ServerEvent::Log { message });
            let _ = outbox.try_send(Outbound::Event(log, None));
            let _ = outbox.try_send(Outbound::Close(CloseReason::Restart));
        }
        // Nothing more reaches it; whoever sits with it is told at once.
        self.end(id, Ending::Closed(ByeReason::Lost));
    }

    /// The owner is found: here, or there under that fence. Who waited goes on.
    fn settle(&mut self, room: &RoomName, there: Option<(NodeId, u64)>, now: Moment) {
        let Some(question) = self.questions.remove(room) else {
            return;
        };
        for id in question.clients {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            if client.resolving.as_ref().is_none_or(|(wanted, _)| wanted != room) {
                continue;
            }
            client.resolving = None;
            if let Some(there) = there {
                self.attach_there(id, there, room.clone(), now);
            }
            self.go_on(id, now);
        }
    }

    /// Says what waited.
    fn go_on(&mut self, id: ClientId, now: Moment) {
        while let Some(client) = self.clients.get_mut(&id)
            && client.resolving.is_none()
        {
            if let Some(said) = client.waiting.pop_front() {
                self.route(id, said, now);
                continue;
            }
            if let Some(ending) = client.ending.take() {
                self.end(id, ending);
            }
            return;
        }
    }

    /// Redis renewed, at a request made at `asked`, the leases that say `true`; the others
    /// belong to somebody else.
    pub(crate) fn handle_renewed(
        &mut self,
        asked: Instant,
        leases: Vec<(RoomName, u64, bool)>,
        now: Moment,
    ) {
        for (room, fence, is_ours) in leases {
            if is_ours {
                self.leases.renewed(&room, fence, asked);
            } else {
                self.deposed(&room, fence, now);
            }
        }
    }

    /// The hub's rooms, as of a survey asked for at `moment`: leases of rooms that are over are
    /// given back.
    pub(crate) fn handle_survey(&mut self, moment: u64, rooms: &HashSet<RoomName>) {
        for (room, fence) in self.leases.unused_since(moment, |room| rooms.contains(room)) {
            self.leases.lost(&room, fence);
            self.actions.push_back(Action::Release { room, fence });
        }
    }

    /// Another node owns `room` now: it is dropped here, and everybody in it takes the seat up
    /// there.
    fn deposed(&mut self, room: &RoomName, fence: u64, now: Moment) {
        if !self.leases.lost(room, fence) {
            return;
        }
        tracing::warn!(%room, "another node took the room over; its seats are taken up there");
        self.tell_hub(Command::HandOver { room: room.clone() });
        self.send_guests_away(Some(room));
        let is_there = |client: &super::Client| {
            matches!(client.at, At::Here(_)) && client.room.as_ref() == Some(room)
        };
        let clients = self.clients.iter().filter(|(_, client)| is_there(client));
        let mut clients: Vec<(ClientId, At)> = clients.map(|(id, c)| (*id, c.at)).collect();
        clients.sort_unstable_by_key(|(id, _)| *id);
        for (id, at) in clients {
            if let At::Here(connection) = at {
                let reason = ByeReason::Left;
                self.tell_hub(Command::Closed { connection, reason });
            }
            self.seat_again(id, now.instant, now);
        }
    }

    /// Other nodes' clients in `room`, or in any: their nodes look for the new owner.
    pub(super) fn send_guests_away(&mut self, room: Option<&RoomName>) {
        let guests =
            self.guests.iter().filter(|(_, guest)| room.is_none_or(|room| guest.room == *room));
        let mut guests: Vec<_> = guests.map(|(connection, _)| *connection).collect();
        guests.sort_unstable();
        for connection in guests {
            let Some(guest) = self.forget_guest(connection) else {
                continue;
            };
            self.tell_hub(Command::Closed { connection, reason: ByeReason::Left });
            self.send(guest.node, &Message::Gone { connection: guest.number });
        }
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        let leases = self.leases.to_renew(now.instant);
        if !leases.is_empty() {
            self.actions.push_back(Action::Renew(leases));
            let moment = self.leases.moment();
            self.actions.push_back(Action::Survey { moment });
        }
        self.time_out_links(now);
        let is_due = |question: &Question| question.retry_at.is_some_and(|at| at <= now.instant);
        let due = self.questions.iter().filter(|(_, question)| is_due(question));
        for room in due.map(|(room, _)| room.clone()).collect::<Vec<_>>() {
            self.ask(room);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let questions = self.questions.values().filter_map(|question| question.retry_at);
        let links = self.peers.values().filter_map(super::Peer::poll_timeout);
        questions.chain(links).chain(self.leases.renew_at()).min()
    }

    /// The medium works from now on, or no more.
    pub(crate) fn set_up(&mut self, up: bool, now: Moment) {
        self.up = up;
        for peer in self.peers.values_mut() {
            peer.link.set_up(up, now.instant);
        }
        if up {
            self.leases.renew_soon(now.instant);
            for question in self.questions.values_mut().filter(|question| !question.is_asked) {
                question.retry_at = Some(now.instant);
            }
        }
    }
}
