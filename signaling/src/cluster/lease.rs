//! Which rooms this node owns, and until when it can be sure of it. Pure: the leases themselves
//! lie in Redis.
//!
//! A lease counts from the moment it was *asked for*, so it never lasts longer here than there.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::protocol::RoomName;

/// When leases are renewed and run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// A lease that is not renewed for so long is free for others.
    pub lifetime: Duration,
    /// Between renewals.
    pub renew_every: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(15), renew_every: Duration::from_secs(3) }
    }
}

/// One room's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    fence: u64,
    until: Instant,
    /// When someone was last let in.
    used: u64,
}

/// The leases that this node holds.
#[derive(Debug)]
pub struct Leases {
    times: LeaseTimes,
    rooms: HashMap<RoomName, Lease>,
    /// Counts uses and looks, so that one can tell which came first.
    clock: u64,
    renew_at: Option<Instant>,
}

impl Leases {
    /// None yet.
    pub fn new(times: LeaseTimes) -> Self {
        Self { times, rooms: HashMap::new(), clock: 0, renew_at: None }
    }

    /// When leases are renewed and run out.
    pub fn times(&self) -> LeaseTimes {
        self.times
    }

    /// The lease of `room`, asked for at `asked`, is ours.
    pub fn acquired(&mut self, room: RoomName, fence: u64, asked: Instant) {
        self.clock += 1;
        let until = asked + self.times.lifetime;
        self.rooms.insert(room, Lease { fence, until, used: self.clock });
        self.renew_at.get_or_insert(asked + self.times.renew_every);
    }

    /// The fence under which `room` is ours, if it is.
    pub fn fence(&self, room: &RoomName) -> Option<u64> {
        self.rooms.get(room).map(|lease| lease.fence)
    }

    /// Whether `room` is surely ours: only then may someone be let in.
    pub fn is_sure(&self, room: &RoomName, now: Instant) -> bool {
        self.rooms.get(room).is_some_and(|lease| now < lease.until)
    }

    /// Someone is let into `room`: it is not to be released on account of an earlier look.
    pub fn used(&mut self, room: &RoomName) {
        self.clock += 1;
        if let Some(lease) = self.rooms.get_mut(room) {
            lease.used = self.clock;
        }
    }

    /// A moment to which later uses can be compared; see [`Self::unused_since`].
    pub fn moment(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The rooms for which `exists` does not hold, if nobody was let in after `moment`.
    pub fn unused_since(
        &self,
        moment: u64,
        exists: impl Fn(&RoomName) -> bool,
    ) -> Vec<(RoomName, u64)> {
        let unused = |(room, lease): &(&RoomName, &Lease)| lease.used < moment && !exists(room);
        let rooms = self.rooms.iter().filter(unused);
        rooms.map(|(room, lease)| (room.clone(), lease.fence)).collect()
    }

    /// `room` is no longer ours, if it was under `fence`. Whether it was.
    pub fn lost(&mut self, room: &RoomName, fence: u64) -> bool {
        let was_ours = self.fence(room) == Some(fence);
        if was_ours {
            self.rooms.remove(room);
        }
        if self.rooms.is_empty() {
            self.renew_at = None;
        }
        was_ours
    }

    /// The lease of `room` under `fence` was renewed, on a request made at `asked`.
    pub fn renewed(&mut self, room: &RoomName, fence: u64, asked: Instant) {
        if let Some(lease) = self.rooms.get_mut(room)
            && lease.fence == fence
        {
            lease.until = lease.until.max(asked + self.times.lifetime);
        }
    }

    /// When the leases are to be renewed, if there are any.
    pub fn renew_at(&self) -> Option<Instant> {
        self.renew_at
    }

    /// What is to be renewed now, if it is time; the next time is counted from here.
    pub fn to_renew(&mut self, now: Instant) -> Vec<(RoomName, u64)> {
        if self.renew_at.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.renew_at = Some(now + self.times.renew_every);
        self.all()
    }

    /// The medium is back: renew at once.
    pub fn renew_soon(&mut self, now: Instant) {
        if let Some(due) = &mut self.renew_at {
            *due = (*due).min(now);
        }
    }

    /// Every lease: room and fence.
    pub fn all(&self) -> Vec<(RoomName, u64)> {
        self.rooms.iter().map(|(room, lease)| (room.clone(), lease.fence)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tea() -> RoomName {
        RoomName::parse("tea").unwrap()
    }

    fn holding(now: Instant) -> Leases {
        let mut leases = Leases::new(LeaseTimes::default());
        leases.acquired(tea(), 5, now);
        leases
    }

    #[test]
    fn a_lease_is_renewed_every_three_seconds_and_lasts_fifteen() {
        let now = Instant::now();
        let mut leases = holding(now);
        assert_eq!(leases.renew_at(), Some(now + 3 * SECOND));
        assert_eq!(leases.to_renew(now), []);
        assert_eq!(leases.to_renew(now + 3 * SECOND), [(tea(), 5)]);
        assert_eq!(leases.renew_at(), Some(now + 6 * SECOND));
        assert!(leases.is_sure(&tea(), now + 14 * SECOND));
        assert!(!leases.is_sure(&tea(), now + 15 * SECOND));
        leases.renewed(&tea(), 5, now + 3 * SECOND);
        assert!(leases.is_sure(&tea(), now + 17 * SECOND));
    }

    #[test]
    fn five_seconds_without_redis_are_nothing() {
        let start = Instant::now();
        let mut leases = holding(start);
        // The worst moment: just before a renewal.
        let back = start + 3 * SECOND + 5 * SECOND;
        assert!(leases.is_sure(&tea(), back));
        leases.renew_soon(back);
        assert_eq!(leases.to_renew(back), [(tea(), 5)]);
    }

    #[test]
    fn an_answer_about_an_older_lease_changes_nothing() {
        let now = Instant::now();
        let mut leases = holding(now);
        leases.acquired(tea(), 6, now + SECOND);
        leases.renewed(&tea(), 5, now + 9 * SECOND);
        assert!(!leases.is_sure(&tea(), now + 16 * SECOND));
        assert!(!leases.lost(&tea(), 5));
        assert_eq!(leases.fence(&tea()), Some(6));
        assert!(leases.lost(&tea(), 6));
        assert_eq!((leases.fence(&tea()), leases.renew_at()), (None, None));
    }

    #[test]
    fn an_empty_room_is_released_unless_someone_came_meanwhile() {
        let now = Instant::now();
        let mut leases = holding(now);
        let look = leases.moment();
        assert_eq!(leases.unused_since(look, |_| true), []);
        assert_eq!(leases.unused_since(look, |_| false), [(tea(), 5)]);
        leases.used(&tea());
        assert_eq!(leases.unused_since(look, |_| false), []);
    }
}
