//! How much of the relay anyone gets. Pure.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// How many allocations there may be, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one user: of one seat, that is. A browser makes one an interface and transport.
    pub user: usize,
    /// Of one address; of a /64 where that is IPv6.
    pub address: usize,
    /// In all.
    pub total: usize,
    /// Longest life that is granted at once; a client refreshes in time.
    pub lifetime: Duration,
    /// Longest life with all refreshes.
    pub age: Duration,
    /// Bytes a second an allocation may relay, each way; without limit if `None`.
    pub bytes_per_second: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            user: 24,
            address: 100,
            total: 2_000,
            lifetime: Duration::from_secs(3600),
            age: Duration::from_secs(24 * 3600),
            bytes_per_second: None,
        }
    }
}

/// Which limit stands against an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverQuota {
    /// [`Limits::user`].
    User,
    /// [`Limits::address`].
    Address,
    /// [`Limits::total`].
    Total,
}

/// Counts allocations.
#[derive(Debug, Default)]
pub struct Quota {
    users: HashMap<String, usize>,
    addresses: HashMap<IpAddr, usize>,
    total: usize,
}

impl Quota {
    /// Counts one more, unless that were too many.
    ///
    /// # Errors
    /// Which limit it would break.
    pub fn take(&mut self, user: &str, address: IpAddr, limits: &Limits) -> Result<(), OverQuota> {
        let address = subnet(address);
        let of_user = self.users.get(user).copied().unwrap_or(0);
        let of_address = self.addresses.get(&address).copied().unwrap_or(0);
        if of_user >= limits.user {
            return Err(OverQuota::User);
        }
        if of_address >= limits.address {
            return Err(OverQuota::Address);
        }
        if self.total >= limits.total {
            return Err(OverQuota::Total);
        }
        self.users.insert(user.to_owned(), of_user + 1);
        self.addresses.insert(address, of_address + 1);
        self.total += 1;
        Ok(())
    }

    /// Counts one less; `user` and `address` as they were taken.
    pub fn give_back(&mut self, user: &str, address: IpAddr) {
        if let Some(count) = self.users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(user);
            }
        }
        let address = subnet(address);
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
        self.total = self.total.saturating_sub(1);
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total
    }
}

/// What counts as one address: whoever has one IPv6 address has its whole /64.
pub fn subnet(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// A token bucket that holds a second's worth.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: u64,
    tokens: u64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket for `rate` bytes a second.
    pub fn new(rate: u64, now: Instant) -> Self {
        Self { rate, tokens: rate, filled: now }
    }

    /// Whether `bytes` more may pass; takes them out if so.
    pub fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).min(Duration::from_secs(1));
        let fresh = self.rate.saturating_mul(passed.as_micros() as u64) / 1_000_000;
        if fresh > 0 {
            self.tokens = (self.tokens + fresh).min(self.rate);
            self.filled = now;
        }
        match self.tokens.checked_sub(bytes as u64) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_stands_for_itself_and_frees_again() {
        let limits = Limits { user: 2, address: 3, total: 4, ..Limits::default() };
        let (here, there): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut quota = Quota::default();
        assert_eq!(quota.take("a", here, &limits), Ok(()));
        assert_eq!(quota.take("a", here, &limits), Ok(()));
        assert_eq!(quota.take("a", there, &limits), Err(OverQuota::User));
        assert_eq!(quota.take("b", here, &limits), Ok(()));
        assert_eq!(quota.take("c", here, &limits), Err(OverQuota::Address));
        assert_eq!(quota.take("c", there, &limits), Ok(()));
        assert_eq!(quota.take("d", there, &limits), Err(OverQuota::Total));
        quota.give_back("a", here);
        assert_eq!(quota.take("a", here, &limits), Ok(()));
        for (user, address) in [("a", here), ("a", here), ("b", here), ("c", there)] {
            quota.give_back(user, address);
        }
        assert_eq!(quota.total(), 0);
        assert!(quota.users.is_empty() && quota.addresses.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let subnet = |ip: &str| subnet(ip.parse().unwrap());
        assert_eq!(subnet("2001:db8::1"), subnet("2001:db8::ffff:1"));
        assert_ne!(subnet("2001:db8::1"), subnet("2001:db8:0:1::1"));
        assert_eq!(subnet("::ffff:192.0.2.1"), subnet("192.0.2.1"));
    }

    #[test]
    fn a_bucket_lets_pass_what_its_rate_allows() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        let mut passed = 0;
        for tenth in 0..100 {
            for _ in 0..10 {
                if bucket.take(100, start + Duration::from_millis(tenth * 100)) {
                    passed += 100;
                }
            }
        }
        assert_eq!(passed, 1000 + 9_900);
        assert!(!bucket.take(1001, start + Duration::from_secs(100)));
    }
}
