//! Who may open one more connection. Pure: the caller says when, and keeps the sockets.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::subnet::Subnet;

/// The rate may be exceeded at a stroke by what it allows in this time: a page is a dozen files,
/// and a school has one address.
const BURST: Duration = Duration::from_secs(10);

/// This machine itself may open so many connections beyond the limit, so that its operator can
/// still look at a full server.
const RESERVED: usize = 16;

/// Of addresses without a connection, as many are remembered as there may be connections, and
/// at least these.
const REMEMBERED: usize = 8_192;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one address (of IPv6, one /64 network). Loopback may open any number.
    pub per_address: usize,
    /// New ones from one address, a second; without limit if 0. Ten seconds' worth may come at
    /// once.
    pub rate: u32,
    /// What comes before the first request (a proxy's preamble, a TLS handshake), the head of
    /// each request, and its body, must each be there within this.
    pub handshake: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 10_000, per_address: 256, rate: 20, handshake: Duration::from_secs(10) }
    }
}

/// Why a connection is refused. [`std::fmt::Display`] is a sentence for the one refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// The server is full.
    #[error("This server has as many connections as it can take: try again in a while.")]
    Full,
    /// The address has its share.
    #[error("There are too many connections from your address: close some, or try again later.")]
    Share,
    /// The address opens them too fast.
    #[error("Your address opens connections too fast: wait some seconds, then try again.")]
    Rate,
}

impl Refusal {
    /// The HTTP status: 503 if the server is at its limit, 429 if the address is (RFC 6585).
    pub fn status(self) -> u16 {
        match self {
            Self::Full => 503,
            Self::Share | Self::Rate => 429,
        }
    }

    /// When to try again.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Full | Self::Share => Duration::from_secs(30),
            Self::Rate => BURST,
        }
    }
}

/// Counts the open connections, in all and by address.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: ConnectionLimits,
    open: usize,
    shares: HashMap<Subnet, Share>,
}

#[derive(Debug)]
struct Share {
    open: usize,
    /// When the bucket of the rate is full again: a bucket kept as one moment (virtual scheduling, as in GCRA).
    rested_at: Instant,
}

impl Admission {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, open: 0, shares: HashMap::new() }
    }

    /// Takes one of the places of the whole server, for a connection from `peer`.
    pub(crate) fn take_place(&mut self, peer: IpAddr) -> Result<(), Refusal> {
        let reserved = if is_exempt(peer) { RESERVED } else { 0 };
        if self.open >= self.limits.total.saturating_add(reserved) {
            return Err(Refusal::Full);
        }
        self.open += 1;
        Ok(())
    }

    /// Gives a place back.
    pub(crate) fn free_place(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Takes one of the connections that `client` may have; a `new` one counts for the rate too.
    pub(crate) fn take_share(
        &mut self,
        client: IpAddr,
        new: bool,
        now: Instant,
    ) -> Result<(), Refusal> {
        if is_exempt(client) {
            return Ok(());
        }
        self.forget_the_rested(now);
        let limits = self.limits;
        let share = self
            .shares
            .entry(Subnet::of(client))
            .or_insert_with(|| Share { open: 0, rested_at: now });
        if share.open >= limits.per_address {
            return Err(Refusal::Share);
        }
        if let Some(interval) = interval(limits.rate).filter(|_| new) {
            let rested_at = share.rested_at.max(now) + interval;
            if rested_at > now + BURST {
                return Err(Refusal::Rate);
            }
            share.rested_at = rested_at;
        }
        share.open += 1;
        Ok(())
    }

    /// Gives a share back.
    pub(crate) fn free_share(&mut self, client: IpAddr) {
        if let Some(share) = self.shares.get_mut(&Subnet::of(client)) {
            share.open = share.open.saturating_sub(1);
        }
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Keeps the table bounded: addresses without a connection are only there for their rate.
    fn forget_the_rested(&mut self, now: Instant) {
        let bound = self.limits.total.max(REMEMBERED).saturating_mul(2);
        if self.shares.len() < bound {
            return;
        }
        self.shares.retain(|_, share| share.open > 0 || share.rested_at > now);
        // So many at once are an attack. Forgetting their rate lets each begin anew, no more;
        // and the table is not searched again until it has filled up again.
        if self.shares.len() > bound / 2 {
            self.shares.retain(|_, share| share.open > 0);
        }
    }
}

/// This machine's own programs, among them a proxy that nobody told us of.
fn is_exempt(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Between two at an even `rate`.
fn interval(rate: u32) -> Option<Duration> {
    (rate > 0).then(|| Duration::from_secs(1) / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits =
        ConnectionLimits { total: 5, per_address: 3, rate: 0, handshake: Duration::from_secs(10) };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_full_server_takes_one_again_when_one_leaves() {
        let mut admission = Admission::new(LIMITS);
        let stranger = ip("192.0.2.1");
        for _ in 0..5 {
            admission.take_place(stranger).unwrap();
        }
        assert_eq!(admission.take_place(stranger), Err(Refusal::Full));
        // Its operator still gets in.
        admission.take_place(ip("::1")).unwrap();
        admission.free_place();
        assert_eq!(admission.take_place(stranger), Err(Refusal::Full));
        admission.free_place();
        admission.take_place(stranger).unwrap();
        assert_eq!(admission.open(), 5);
    }

    #[test]
    fn an_address_gets_its_share_and_leaves_the_others_theirs() {
        let now = Instant::now();
        let mut admission = Admission::new(LIMITS);
        for address in ["2001:db8::1", "2001:db8::2", "2001:db8::3"] {
            admission.take_share(ip(address), true, now).unwrap();
        }
        assert_eq!(admission.take_share(ip("2001:db8::4"), true, now), Err(Refusal::Share));
        admission.take_share(ip("2001:db8:0:1::1"), true, now).unwrap();
        admission.free_share(ip("2001:db8::9"));
        admission.take_share(ip("2001:db8::4"), true, now).unwrap();
        for _ in 0..100 {
            admission.take_share(ip("127.0.0.1"), true, now).unwrap();
        }
    }

    #[test]
    fn the_rate_lets_a_burst_through_and_then_holds() {
        let mut now = Instant::now();
        let limits = ConnectionLimits { rate: 2, per_address: 1000, ..LIMITS };
        let mut admission = Admission::new(limits);
        let client = ip("192.0.2.1");
        for _ in 0..20 {
            admission.take_share(client, true, now).unwrap();
        }
        assert_eq!(admission.take_share(client, true, now), Err(Refusal::Rate));
        // A request on a connection that is there already is none of the rate's business.
        admission.take_share(client, false, now).unwrap();
        admission.take_share(ip("192.0.2.2"), true, now).unwrap();
        for _ in 0..10 {
            now += Duration::from_millis(500);
            admission.take_share(client, true, now).unwrap();
            assert_eq!(admission.take_share(client, true, now), Err(Refusal::Rate));
        }
        // Without a rate, none.
        let mut admission = Admission::new(ConnectionLimits { rate: 0, ..limits });
        for _ in 0..1000 {
            admission.take_share(client, true, now).unwrap();
        }
    }

    #[test]
    fn the_table_does_not_grow_with_the_number_of_strangers() {
        let now = Instant::now();
        let mut admission = Admission::new(ConnectionLimits { rate: 1, ..LIMITS });
        let staying = ip("2001:db8:ffff::1");
        admission.take_share(staying, true, now).unwrap();
        for network in 0..100_000_u128 {
            let address = std::net::Ipv6Addr::from((0x2001_0db8 << 96) | (network << 64));
            admission.take_share(address.into(), true, now).unwrap();
            admission.free_share(address.into());
        }
        assert!(admission.shares.len() <= 2 * REMEMBERED, "{}", admission.shares.len());
        assert_eq!(admission.shares[&Subnet::of(staying)].open, 1);
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        for refusal in [Refusal::Full, Refusal::Share, Refusal::Rate] {
            assert!(matches!(refusal.status(), 429 | 503));
            assert!(refusal.retry_after() >= Duration::from_secs(1));
            assert!(refusal.to_string().ends_with('.'));
        }
    }
}
