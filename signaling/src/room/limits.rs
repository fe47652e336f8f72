//! How much one client, or one address, may ask for.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::protocol::MAX_EVENT_BYTES;

/// What a server allows. 0 is no limit, except for [`Self::message_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest event, in bytes.
    pub message_bytes: usize,
    /// Events a second that a connection may say in the long run.
    pub message_rate: u32,
    /// Events that it may say at once.
    pub message_burst: u32,
    /// Seats an address may ask for in a minute. A whole /64 of IPv6 is one address; this
    /// machine's own are not counted.
    pub joins_per_minute: u32,
    /// Rooms in all.
    pub max_rooms: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: MAX_EVENT_BYTES,
            message_rate: 50,
            message_burst: 200,
            joins_per_minute: 60,
            max_rooms: 10_000,
        }
    }
}

/// Lets `burst` through at once and `rate` a second in the long run.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBucket {
    left: f64,
    at: Instant,
}

impl TokenBucket {
    pub(super) fn new(burst: u32, now: Instant) -> Self {
        Self { left: f64::from(burst), at: now }
    }

    /// Whether one more passes; a `rate` of 0 lets everything.
    pub(super) fn take(&mut self, rate: f64, burst: u32, now: Instant) -> bool {
        if rate <= 0.0 {
            return true;
        }
        self.fill(rate, burst, now);
        let passes = self.left >= 1.0;
        if passes {
            self.left -= 1.0;
        }
        passes
    }

    fn fill(&mut self, rate: f64, burst: u32, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        // Not even a burst of 0 may lock everybody out.
        self.left = (self.left + gained).min(f64::from(burst.max(1)));
        self.at = self.at.max(now);
    }

    fn is_full(&mut self, rate: f64, burst: u32, now: Instant) -> bool {
        self.fill(rate, burst, now);
        self.left >= f64::from(burst)
    }
}

/// Counts how often each address asks for a seat.
#[derive(Debug)]
pub(super) struct Joins {
    per_minute: u32,
    addresses: HashMap<IpAddr, TokenBucket>,
    swept: Option<Instant>,
}

impl Joins {
    /// Addresses counted at a time. When so many ask within a minute, the limit on rooms is what
    /// is left.
    const MAX_ADDRESSES: usize = 50_000;

    /// Addresses that have not asked for a while are forgotten so often.
    const SWEEP_EVERY: Duration = Duration::from_secs(60);

    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, addresses: HashMap::new(), swept: None }
    }

    /// Whether `address` may ask once more.
    pub(super) fn admit(&mut self, address: IpAddr, now: Instant) -> bool {
        let address = group(address);
        if self.per_minute == 0 || address.is_loopback() {
            return true;
        }
        let (burst, rate) = (self.per_minute, f64::from(self.per_minute) / 60.0);
        if self.swept.is_none_or(|swept| swept + Self::SWEEP_EVERY <= now) {
            self.swept = Some(now);
            self.addresses.retain(|_, bucket| !bucket.is_full(rate, burst, now));
        }
        if self.addresses.len() >= Self::MAX_ADDRESSES && !self.addresses.contains_key(&address) {
            return true;
        }
        let bucket = self.addresses.entry(address);
        bucket.or_insert_with(|| TokenBucket::new(burst, now)).take(rate, burst, now)
    }
}

/// What counts as one address: one subscriber's network in IPv6 (RFC 6177).
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let mut now = Instant::now();
        let mut bucket = TokenBucket::new(200, now);
        let passed = |bucket: &mut TokenBucket, now| {
            (0..1000).filter(|_| bucket.take(50.0, 200, now)).count()
        };
        assert_eq!(passed(&mut bucket, now), 200);
        for _ in 0..10 {
            now += SECOND;
            assert_eq!(passed(&mut bucket, now), 50);
        }
        now += 3600 * SECOND;
        assert_eq!(passed(&mut bucket, now), 200);
        assert!((0..1000).all(|_| bucket.take(0.0, 0, now)), "0 is no limit");
        assert!(TokenBucket::new(0, now).take(1.0, 0, now + SECOND), "nobody is locked out");
    }

    #[test]
    fn an_address_may_ask_sixty_times_a_minute() {
        let now = Instant::now();
        let mut joins = Joins::new(60);
        let asks = |joins: &mut Joins, address: &str, now| {
            (0..1000).filter(|_| joins.admit(ip(address), now)).count()
        };
        assert_eq!(asks(&mut joins, "192.0.2.1", now), 60);
        assert_eq!(asks(&mut joins, "192.0.2.2", now), 60);
        assert_eq!(asks(&mut joins, "::ffff:192.0.2.2", now), 0, "the same in other words");
        assert_eq!(asks(&mut joins, "192.0.2.1", now + 5 * SECOND), 5);
        assert_eq!(asks(&mut joins, "127.0.0.1", now), 1000);
        assert_eq!(asks(&mut joins, "::1", now), 1000);
        assert_eq!(asks(&mut Joins::new(0), "192.0.2.1", now), 1000);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let now = Instant::now();
        let mut joins = Joins::new(1);
        assert!(joins.admit(ip("2001:db8:0:1::1"), now));
        assert!(!joins.admit(ip("2001:db8:0:1:ffff::2"), now));
        assert!(joins.admit(ip("2001:db8:0:2::1"), now));
    }

    #[test]
    fn addresses_are_forgotten_and_never_too_many() {
        let now = Instant::now();
        let mut joins = Joins::new(60);
        for bits in 0..2 * Joins::MAX_ADDRESSES as u32 {
            assert!(joins.admit(std::net::Ipv4Addr::from_bits(0x0a00_0000 + bits).into(), now));
        }
        assert_eq!(joins.addresses.len(), Joins::MAX_ADDRESSES);
        joins.admit(ip("192.0.2.1"), now + 61 * SECOND);
        assert_eq!(joins.addresses.len(), 1);
    }
}
