//! Which STUN and TURN servers a seat is told of.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use crate::protocol::{IceServer, PeerId};

/// Hands out STUN and TURN servers, with credentials that run out.
pub trait IceServerProvider: Send + Sync + 'static {
    /// For the seat `id`, whose client is at `address`. Never blocks.
    fn servers(&self, id: &PeerId, address: IpAddr, now: SystemTime) -> Vec<IceServer>;

    /// How long what [`Self::servers`] returns may be used; without end if `None`. It is handed
    /// out anew well before.
    fn lifetime(&self) -> Option<Duration>;
}

/// None at all: the two ends find each other directly or not.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIceServers;

impl IceServerProvider for NoIceServers {
    fn servers(&self, _id: &PeerId, _address: IpAddr, _now: SystemTime) -> Vec<IceServer> {
        Vec::new()
    }

    fn lifetime(&self) -> Option<Duration> {
        None
    }
}
