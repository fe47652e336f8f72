//! Allocations, permissions and channels (RFC 8656): bytes in, actions out. Pure: no sockets, no
//! clock; the caller says when things happen and carries the actions out, in order.

mod allocation;
mod requests;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use self::allocation::Allocation;
use super::{
    credentials::Authority,
    filter::PeerFilter,
    quota::{Limits, Quota},
    stats::{TurnStats, count, count_bytes},
    stun::{Builder, Class, Message, Method, attribute},
};

/// The moment, on both clocks: lives are measured, credentials run out by the calendar.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For lives.
    pub instant: Instant,
    /// For credentials.
    pub wall: SystemTime,
}

/// Which of the server's sockets a client is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// A UDP socket, by its index.
    Udp(usize),
    /// A TCP or TLS connection, by a number never used again.
    Stream(u64),
}

/// The 5-tuple that owns an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// The server's end.
    pub path: Path,
    /// The client's end.
    pub remote: SocketAddr,
}

/// Names a relayed address's socket; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub u64);

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send to a client: unpadded, as it goes over UDP.
    ToClient(Client, Vec<u8>),
    /// Send to a peer from a relayed address.
    ToPeer(RelayId, SocketAddr, Vec<u8>),
    /// The allocation is over: close its socket.
    Close(RelayId, Client),
}

/// A relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// Where the socket is bound.
    pub bound: SocketAddr,
    /// What others reach it as: differs behind a NAT.
    pub told: SocketAddr,
}

/// Why there is no socket for a relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRelay {
    /// The server has no address of this family.
    Family,
    /// No port is free, or no file descriptor.
    Capacity,
}

/// Where sockets for relayed addresses come from.
pub trait OpenRelay {
    /// Opens one for a client. Must not block.
    ///
    /// # Errors
    /// Why there is none.
    fn open(&mut self, id: RelayId, client: &Client, ipv6: bool) -> Result<Relayed, NoRelay>;
}

/// All allocations of a server.
pub struct Allocations {
    authority: Authority,
    realm: String,
    limits: Limits,
    filter: PeerFilter,
    stats: Arc<TurnStats>,
    quota: Quota,
    clients: HashMap<Client, RelayId>,
    allocations: HashMap<RelayId, Allocation>,
    /// The live relayed addresses, by what they are told as and by what they are bound to.
    relayed: HashMap<SocketAddr, RelayId>,
    expiries: BTreeSet<(Instant, RelayId)>,
    last_id: u64,
}

impl Allocations {
    /// No allocations yet.
    pub fn new(
        authority: Authority,
        realm: String,
        limits: Limits,
        filter: PeerFilter,
        stats: Arc<TurnStats>,
    ) -> Self {
        Self {
            authority,
            realm,
            limits,
            filter,
            stats,
            quota: Quota::default(),
            clients: HashMap::new(),
            allocations: HashMap::new(),
            relayed: HashMap::new(),
            expiries: BTreeSet::new(),
            last_id: 0,
        }
    }

    /// Which addresses may be reached.
    pub fn filter_mut(&mut self) -> &mut PeerFilter {
        &mut self.filter
    }

    /// Whether `client` has an allocation.
    pub fn has(&self, client: &Client) -> bool {
        self.clients.contains_key(client)
    }

    /// A client sent one message or ChannelData.
    pub fn handle_client(
        &mut self,
        client: Client,
        bytes: &[u8],
        now: Now,
        relays: &mut impl OpenRelay,
    ) -> Vec<Action> {
        if bytes.first().is_some_and(|first| first >> 6 == 1) {
            return self.channel_data(client, bytes, now.instant);
        }
        let Ok(message) = Message::parse(bytes) else {
            return Vec::new();
        };
        match (message.class, message.method) {
            (Class::Request, Method::Binding) => vec![self.binding(client, &message)],
            (Class::Request, _) => self.request(client, &message, now, relays),
            (Class::Indication, Method::Send) => self.send(client, &message, now.instant),
            // Others are for clients.
            _ => Vec::new(),
        }
    }

    /// A peer sent something to a relayed address.
    pub fn handle_peer(
        &mut self,
        relay: RelayId,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> Vec<Action> {
        // The machine's own services are no peers, even where another relayed address made
        // a permission for the machine's address.
        if self.filter.is_own(from.ip()) && !self.filter.permits(from.ip()) {
            count(&self.stats.dropped_unpermitted);
            return Vec::new();
        }
        self.deliver(relay, from, data, now).into_iter().collect()
    }

    /// A client's connection ended.
    pub fn handle_closed(&mut self, client: &Client) -> Vec<Action> {
        let relay = self.clients.get(client).copied();
        relay.and_then(|relay| self.remove(relay)).into_iter().collect()
    }

    /// A relayed address's socket failed.
    pub fn handle_relay_lost(&mut self, relay: RelayId) -> Vec<Action> {
        self.remove(relay).into_iter().collect()
    }

    /// When [`Self::handle_timeout`] has something to do, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Ends allocations that were not refreshed.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((at, relay)) = self.expiries.first().copied() {
            if at > now {
                break;
            }
            self.expiries.pop_first();
            actions.extend(self.remove(relay));
        }
        actions
    }

    fn binding(&self, client: Client, message: &Message) -> Action {
        let unknown = message.not_understood(&[
            attribute::USERNAME,
            attribute::MESSAGE_INTEGRITY,
            attribute::MESSAGE_INTEGRITY_SHA256,
            attribute::PRIORITY,
            attribute::USE_CANDIDATE,
        ]);
        if !unknown.is_empty() {
            return Action::ToClient(client, unknown_attributes(message, &unknown).finish());
        }
        count(&self.stats.bindings);
        let answer = Builder::new(message.method, Class::Success, message.transaction)
            .xor_address(attribute::XOR_MAPPED_ADDRESS, client.remote)
            .fingerprint();
        Action::ToClient(client, answer.finish())
    }

    fn send(&mut self, client: Client, message: &Message, now: Instant) -> Vec<Action> {
        let mut peers = message.xor_addresses(attribute::XOR_PEER_ADDRESS);
        let (Some(Some(peer)), Some(data)) = (peers.next(), message.get(attribute::DATA)) else {
            return Vec::new();
        };
        match self.clients.get(&client).copied() {
            Some(relay) => self.forward(relay, peer, data, now).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn channel_data(&mut self, client: Client, bytes: &[u8], now: Instant) -> Vec<Action> {
        let Some((&[a, b, high, low], data)) = bytes.split_first_chunk::<4>() else {
            return Vec::new();
        };
        let (channel, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([high, low]));
        // Over UDP there may be padding too.
        let (Some(data), Some(relay)) =
            (data.get(..usize::from(length)), self.clients.get(&client).copied())
        else {
            return Vec::new();
        };
        let peer = self.allocations.get(&relay).and_then(|a| a.peer_of(channel, now));
        peer.and_then(|peer| self.forward(relay, peer, data, now)).into_iter().collect()
    }

    /// From a client to a peer.
    fn forward(
        &mut self,
        relay: RelayId,
        peer: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> Option<Action> {
        let allocation = self.allocations.get_mut(&relay)?;
        if !allocation.has_permission(peer.ip(), now) {
            count(&self.stats.dropped_unpermitted);
            return None;
        }
        if !allocation.to_peers.as_mut().is_none_or(|bucket| bucket.take(data.len(), now)) {
            count(&self.stats.dropped_bandwidth);
            return None;
        }
        let told = allocation.relayed.told;
        if let Some(target) = self.relayed.get(&peer).copied() {
            // Two relayed ends meet here. Not through the network: a NAT in front of the
            // server need not send its own address back.
            count_bytes(&self.stats.bytes_to_peers, data.len());
            return self.deliver(target, told, data, now);
        }
        if !self.filter.permits(peer.ip()) {
            count(&self.stats.dropped_unpermitted);
            return None;
        }
        count_bytes(&self.stats.bytes_to_peers, data.len());
        Some(Action::ToPeer(relay, peer, data.to_vec()))
    }

    /// From a peer to a client.
    fn deliver(
        &mut self,
        relay: RelayId,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> Option<Action> {
        let allocation = self.allocations.get_mut(&relay)?;
        if !allocation.has_permission(from.ip(), now) {
            count(&self.stats.dropped_unpermitted);
            return None;
        }
        if !allocation.to_client.as_mut().is_none_or(|bucket| bucket.take(data.len(), now)) {
            count(&self.stats.dropped_bandwidth);
            return None;
        }
        let length = u16::try_from(data.len()).ok()?;
        count_bytes(&self.stats.bytes_to_clients, data.len());
        let bytes = match allocation.channel_to(from, now) {
            Some(channel) => {
                let mut bytes = Vec::with_capacity(4 + data.len() + 3);
                bytes.extend(channel.to_be_bytes());
                bytes.extend(length.to_be_bytes());
                bytes.extend(data);
                bytes
            }
            None => Builder::new(Method::Data, Class::Indication, rand::random())
                .xor_address(attribute::XOR_PEER_ADDRESS, from)
                .attribute(attribute::DATA, data)
                .finish(),
        };
        Some(Action::ToClient(allocation.client, bytes))
    }

    fn remove(&mut self, relay: RelayId) -> Option<Action> {
        let allocation = self.allocations.remove(&relay)?;
        self.expiries.remove(&(allocation.expires, relay));
        self.clients.remove(&allocation.client);
        for address in [allocation.relayed.bound, allocation.relayed.told] {
            self.relayed.remove(&address);
        }
        self.quota.give_back(&allocation.user, allocation.client.remote.ip());
        self.stats
            .allocations
            .store(self.quota.total() as u64, std::sync::atomic::Ordering::Relaxed);
        Some(Action::Close(relay, allocation.client))
    }
}

fn unknown_attributes(message: &Message, unknown: &[u16]) -> Builder {
    let list: Vec<u8> = unknown.iter().flat_map(|number| number.to_be_bytes()).collect();
    Builder::new(message.method, Class::Error, message.transaction)
        .error(420, "Unknown Attribute")
        .attribute(attribute::UNKNOWN_ATTRIBUTES, &list)
}
