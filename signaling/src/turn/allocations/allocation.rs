//! One allocation: whom it may talk to, and by which channels.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{Client, Relayed};
use crate::turn::quota::Bucket;

/// RFC 8656 section 9.
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// RFC 8656 section 12.
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// Peers, and channels, an allocation may have: a call needs one for each of the other end's
/// candidates.
const MAX_PEERS: usize = 64;

pub(super) struct Allocation {
    pub(super) client: Client,
    /// Who made it: the username without its expiry.
    pub(super) user: String,
    pub(super) relayed: Relayed,
    pub(super) made: Instant,
    pub(super) expires: Instant,
    /// The request that made it and its answer, in case the answer is lost.
    pub(super) transaction: [u8; 12],
    pub(super) answer: Vec<u8>,
    pub(super) to_peers: Option<Bucket>,
    pub(super) to_client: Option<Bucket>,
    pub(super) permissions: HashMap<IpAddr, Instant>,
    pub(super) channels: Channels,
}

/// No more of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Allocation {
    pub(super) fn has_permission(&self, ip: IpAddr, now: Instant) -> bool {
        self.permissions.get(&ip).is_some_and(|until| *until > now)
    }

    pub(super) fn permit(&mut self, ip: IpAddr, now: Instant) -> Result<(), Full> {
        if !self.permissions.contains_key(&ip) {
            self.permissions.retain(|_, until| *until > now);
            if self.permissions.len() >= MAX_PEERS {
                return Err(Full);
            }
        }
        self.permissions.insert(ip, now + PERMISSION_LIFETIME);
        Ok(())
    }

    pub(super) fn peer_of(&self, channel: u16, now: Instant) -> Option<SocketAddr> {
        self.channels.peers.get(&channel).filter(|(_, until)| *until > now).map(|(peer, _)| *peer)
    }

    pub(super) fn channel_to(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let channel = *self.channels.numbers.get(&peer)?;
        self.peer_of(channel, now).map(|_| channel)
    }
}

/// Why a channel cannot be bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoChannel {
    /// The number stands for another peer, or the peer has another number.
    Taken,
    Full,
}

/// Channel numbers and peers, one to one.
#[derive(Default)]
pub(super) struct Channels {
    peers: HashMap<u16, (SocketAddr, Instant)>,
    numbers: HashMap<SocketAddr, u16>,
}

impl Channels {
    pub(super) fn bind(
        &mut self,
        channel: u16,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<(), NoChannel> {
        self.peers.retain(|_, (_, until)| *until > now);
        let peers = &self.peers;
        self.numbers.retain(|_, channel| peers.contains_key(channel));
        let number_differs = self.numbers.get(&peer).is_some_and(|number| *number != channel);
        let peer_differs = self.peers.get(&channel).is_some_and(|(known, _)| *known != peer);
        if number_differs || peer_differs {
            return Err(NoChannel::Taken);
        }
        if !self.peers.contains_key(&channel) && self.peers.len() >= MAX_PEERS {
            return Err(NoChannel::Full);
        }
        self.peers.insert(channel, (peer, now + CHANNEL_LIFETIME));
        self.numbers.insert(peer, channel);
        Ok(())
    }
}
