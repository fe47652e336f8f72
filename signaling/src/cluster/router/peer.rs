//! The other nodes, as far as this one has to do with them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant, SystemTime},
};

use super::{Action, ClientId, Message, ReturnKind, Router};
use crate::{
    cluster::{
        link::{Link, Packet},
        wire::{self, NodeId},
    },
    hub::Command,
    moment::Moment,
    protocol::ByeReason,
    room::ConnectionId,
};

/// A node with which there is nothing to do is forgotten after so long. It must not be shorter
/// than a packet can be under way.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// A node that fell silent is asked for a sign of life for so long.
const SUSPECT_FOR: Duration = Duration::from_secs(120);

pub(super) struct Peer {
    pub(super) link: Link,
    /// Its clients here, by its own numbers.
    pub(super) guests: HashMap<u64, ConnectionId>,
    /// Our clients there.
    pub(super) clients: HashSet<ClientId>,
    /// Credits to report: connection, kind, how many.
    pub(super) returned: BTreeMap<(u64, ReturnKind), u32>,
    /// It fell silent then, and was not heard since.
    suspect: Option<Instant>,
    /// More was to be sent than can wait.
    overflown: bool,
}

impl Peer {
    fn new(link: Link) -> Self {
        Self {
            link,
            guests: HashMap::new(),
            clients: HashSet::new(),
            returned: BTreeMap::new(),
            suspect: None,
            overflown: false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let end = match self.suspect {
            Some(since) => since + SUSPECT_FOR,
            None => self.link.heard() + FORGET_AFTER,
        };
        let end = self.is_idle().then_some(end);
        [self.link.poll_timeout(), end].into_iter().flatten().min()
    }

    /// Whether everything it is to hear has arrived, or never will.
    pub(super) fn has_all_it_needs(&self) -> bool {
        self.link.is_idle() || self.suspect.is_some()
    }

    fn is_idle(&self) -> bool {
        self.guests.is_empty() && self.clients.is_empty()
    }
}

impl Router {
    /// The link to `node`, made where there is none.
    pub(super) fn peer(&mut self, node: NodeId, now: Moment) -> &mut Peer {
        let (times, up) = (self.times.link, self.up);
        self.peers.entry(node).or_insert_with(|| {
            // Later links between the same two have a higher one.
            let since = now.unix.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let generation = u64::try_from(since.as_millis()).unwrap_or(0);
            Peer::new(Link::new(times, generation, up, now.instant))
        })
    }

    pub(super) fn send(&mut self, node: NodeId, message: &Message) {
        // A node that was forgotten has forgotten us too.
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.overflown |= peer.link.send(message.to_payload()).is_err();
        }
    }

    /// Bytes arrived on this node's channel.
    pub(crate) fn handle_frame(&mut self, frame: &[u8], now: Moment) {
        let (from, packet) = match wire::parse_frame(frame) {
            Ok((from, packet)) if from != self.node => (from, packet),
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "a frame from another node was dropped"),
        };
        self.handle_packet(from, packet, now);
    }

    fn handle_packet(&mut self, from: NodeId, packet: Packet, now: Moment) {
        let (times, up) = (self.times.link, self.up);
        let peer = self
            .peers
            .entry(from)
            .or_insert_with(|| Peer::new(Link::new(times, packet.generation, up, now.instant)));
        peer.suspect = None;
        let arrival = peer.link.handle_packet(packet, now.instant);
        if arrival.reset {
            self.lose(from, now);
        }
        for payload in arrival.payloads {
            match Message::parse(&payload) {
                Ok(message) => self.handle_message(from, message, now),
                Err(error) => tracing::warn!(%error, "a message of another node was dropped"),
            }
        }
    }

    /// Whether `node` fell silent; it is asked for a sign of life while the answer matters.
    pub(super) fn is_suspect(&mut self, node: NodeId, now: Moment) -> bool {
        self.peer(node, now).suspect.is_some()
    }

    /// What was under way to and from `node` is lost. Its clients' seats are held, as after any
    /// broken connection, and ours there are to be taken up again.
    fn lose(&mut self, node: NodeId, now: Moment) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.returned.clear();
        let mut guests: Vec<ConnectionId> = peer.guests.drain().map(|(_, guest)| guest).collect();
        let mut clients: Vec<ClientId> = peer.clients.drain().collect();
        guests.sort_unstable();
        clients.sort_unstable();
        for connection in guests {
            self.forget_guest(connection);
            let reason = ByeReason::Lost;
            self.tell_hub(Command::Closed { connection, reason });
        }
        for id in clients {
            self.seat_again(id, now.instant, now);
        }
    }

    pub(super) fn time_out_links(&mut self, now: Moment) {
        let mut silent = Vec::new();
        self.peers.retain(|node, peer| {
            peer.link.handle_timeout(now.instant);
            if peer.link.is_silent(now.instant) {
                silent.push(*node);
            }
            let is_over = match peer.suspect {
                Some(since) => since + SUSPECT_FOR <= now.instant,
                None => peer.link.heard() + FORGET_AFTER <= now.instant,
            };
            !(peer.is_idle() && is_over)
        });
        for node in silent {
            if let Some(peer) = self.peers.get_mut(&node) {
                tracing::warn!(%node, "a node fell silent");
                peer.suspect.get_or_insert(now.instant);
                peer.link.reset(now.instant);
                self.lose(node, now);
            }
        }
    }

    /// Turns what waits in the links into actions.
    pub(super) fn flush(&mut self, now: Moment) {
        let overflown: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.overflown).map(|(node, _)| *node).collect();
        for node in overflown {
            if let Some(peer) = self.peers.get_mut(&node) {
                tracing::warn!(%node, "too much waits for a node: the link starts afresh");
                peer.overflown = false;
                peer.link.reset(now.instant);
                self.lose(node, now);
            }
        }
        for (node, peer) in &mut self.peers {
            for ((connection, kind), count) in std::mem::take(&mut peer.returned) {
                let message = match kind {
                    ReturnKind::Done => Message::Done { connection, count },
                    ReturnKind::Written => Message::Written { connection, count },
                };
                peer.overflown |= peer.link.send(message.to_payload()).is_err();
            }
            let is_watched = !peer.is_idle() || peer.suspect.is_some();
            peer.link.watch(is_watched, now.instant);
            while let Some(packet) = peer.link.poll_transmit(now.instant) {
                let frame = wire::to_frame(self.node, &packet);
                self.actions.push_back(Action::Publish { to: *node, frame });
            }
        }
    }
}
