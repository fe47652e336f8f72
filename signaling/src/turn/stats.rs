//! What the relay counts. Plain atomics: read them at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the start, unless a field says otherwise.
#[derive(Debug, Default)]
pub struct TurnStats {
    /// Allocations there are just now.
    pub allocations: AtomicU64,
    /// Allocations made.
    pub allocations_made: AtomicU64,
    /// TCP and TLS connections there are just now.
    pub streams: AtomicU64,
    /// STUN binding requests answered.
    pub bindings: AtomicU64,
    /// Requests with credentials that were not made here.
    pub refused_forged: AtomicU64,
    /// Allocations asked for with credentials that had run out.
    pub refused_expired: AtomicU64,
    /// Peers at addresses that are not relayed to.
    pub refused_peers: AtomicU64,
    /// Allocations beyond a user's quota.
    pub refused_user_quota: AtomicU64,
    /// Allocations, or connections, beyond an address's quota.
    pub refused_address_quota: AtomicU64,
    /// Allocations, or connections, beyond what there may be in all, and for want of a port.
    pub refused_capacity: AtomicU64,
    /// Payload bytes from clients to peers.
    pub bytes_to_peers: AtomicU64,
    /// Payload bytes from peers to clients.
    pub bytes_to_clients: AtomicU64,
    /// Packets dropped because of the bandwidth limit.
    pub dropped_bandwidth: AtomicU64,
    /// Packets dropped because no permission stood for their peer.
    pub dropped_unpermitted: AtomicU64,
    /// Packets dropped because a client did not read its connection fast enough.
    pub dropped_slow_client: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

pub(super) fn count_bytes(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Relaxed);
}
