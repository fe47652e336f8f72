//! Repairs that nobody has asked for yet. An end that takes no forward error correction of ours, a
//! browser, waits a round trip for each lost packet, and another where the request or the answer
//! is lost. Where the path loses packets and congestion control allows more than is sent, packets
//! go out a second time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// Loss from which it is worth it, and below which it ends.
const BEGIN: f64 = 0.01;
const END: f64 = 0.005;

/// With a shorter round trip, asking is soon enough.
const LONG_RTT: Duration = Duration::from_millis(60);

/// So long after the first time: past most bursts of loss, and before the next picture.
const LATER: Duration = Duration::from_millis(12);

/// Older ones help nobody.
const STALE: Duration = Duration::from_millis(60);

/// Share of the target that is used with repairs ahead, and for how long none of it is saved up.
const SHARE: f64 = 0.95;
const SAVED: Duration = Duration::from_millis(100);

/// Repairs that were asked for go a second time until so many bytes more were sent than that.
const OVERDRAFT: f64 = 9_600.0;

/// Pictures take a little less than half, so that all of them can leave twice beside the sound; but they
/// keep this much.
const HALF: f64 = 0.45;
const GOOD_VIDEO: f64 = 1_300_000.0;

/// Packets that will leave again.
pub(super) struct Ahead<T> {
    on: bool,
    /// When they left for the first time, and their bytes.
    waiting: VecDeque<(Instant, T, usize)>,
    /// Bytes that the target left unused of late; below zero where more was sent.
    unused: f64,
    counted_at: Instant,
}

impl<T> Ahead<T> {
    pub fn new(now: Instant) -> Self {
        Self { on: false, waiting: VecDeque::new(), unused: 0.0, counted_at: now }
    }

    /// How the path is: the share of packets it loses, and its round trip.
    pub fn handle_path(&mut self, loss: f64, rtt: Option<Duration>) {
        let long = rtt.is_some_and(|rtt| rtt >= LONG_RTT);
        self.on = long && loss >= if self.on { END } else { BEGIN };
    }

    /// None are wanted, whatever the path is like.
    pub fn stop(&mut self) {
        self.on = false;
        self.waiting.clear();
    }

    /// What waits is worthless.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// So many bytes leave, of whatever kind, where `target` is allowed.
    pub fn handle_sent(&mut self, now: Instant, bytes: usize, target: Bitrate) {
        let allowed = SHARE * target.bps() as f64 / 8.0;
        let passed = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.counted_at = now;
        let most = allowed * SAVED.as_secs_f64();
        self.unused = (self.unused + allowed * passed).min(most) - bytes as f64;
        self.unused = self.unused.max(-most);
    }

    /// A packet of pictures leaves for the first time: it will again, if there is room.
    pub fn add(&mut self, now: Instant, bytes: usize, packet: impl FnOnce() -> T) {
        if !self.on {
            return;
        }
        let wait: usize = self.waiting.iter().map(|(.., bytes)| bytes).sum();
        if self.unused >= (wait + bytes) as f64 {
            self.waiting.push_back((now, packet(), bytes));
        }
    }

    /// A packet that was asked for leaves: it will again, unless far too much is sent already (who asks
    /// for everything would get it twice).
    pub fn add_repair(&mut self, now: Instant, bytes: usize, packet: impl FnOnce() -> T) {
        if self.on && self.unused > -OVERDRAFT {
            self.waiting.push_back((now, packet(), bytes));
        }
    }

    /// The next one whose turn it is.
    pub fn poll(&mut self, now: Instant) -> Option<T> {
        while let Some((left_at, ..)) = self.waiting.front()
            && now >= *left_at + LATER
        {
            let (left_at, packet, _) = self.waiting.pop_front()?;
            if now < left_at + STALE {
                return Some(packet);
            }
        }
        None
    }

    /// When to poll again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|(left_at, ..)| *left_at + LATER)
    }

    /// What pictures may take of `video`, so that there is room.
    pub fn leave_room(&self, video: Bitrate) -> Bitrate {
        let bps = video.bps() as f64;
        let room = if self.on { (HALF * bps).max(GOOD_VIDEO.min(bps)) } else { bps };
        Bitrate::from_bps(room as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LONG: Option<Duration> = Some(Duration::from_millis(110));
    const TARGET: Bitrate = Bitrate::from_kbps(3000);

    /// Ten seconds of 1 kB packets at `kbps`; returns which share was sent again.
    fn share(ahead: &mut Ahead<u32>, begin: Instant, kbps: u32) -> f64 {
        let (mut again, packets) = (0, 10 * kbps / 8);
        let mut next = 0;
        for ms in 0..10_000 {
            let now = begin + ms * MS;
            while let Some(number) = ahead.poll(now) {
                assert!(next > number);
                ahead.handle_sent(now, 1000, TARGET);
                again += 1;
            }
            while next * 10_000 < ms * packets {
                ahead.handle_sent(now, 1000, TARGET);
                ahead.add(now, 1000, || next);
                next += 1;
            }
        }
        f64::from(again) / f64::from(packets)
    }

    #[test]
    fn what_the_target_leaves_unused_repairs_ahead() {
        let now = Instant::now();
        for (kbps, from, to) in [(1200, 0.97, 1.0), (2000, 0.3, 0.45), (2900, 0.0, 0.02)] {
            let mut ahead = Ahead::new(now);
            ahead.handle_path(0.05, LONG);
            let share = share(&mut ahead, now, kbps);
            assert!((from..=to).contains(&share), "{kbps} kbit/s: {share}");
        }
    }

    #[test]
    fn only_with_losses_and_a_long_way() {
        let now = Instant::now();
        for (loss, rtt) in [(0.004, LONG), (0.05, Some(30 * MS)), (0.05, None)] {
            let mut ahead = Ahead::new(now);
            ahead.handle_path(loss, rtt);
            assert_eq!(share(&mut ahead, now, 1200), 0.0);
            assert_eq!(ahead.leave_room(TARGET), TARGET);
        }
        let mut ahead = Ahead::<u32>::new(now);
        ahead.handle_path(0.02, LONG);
        ahead.handle_path(0.007, LONG);
        assert!(ahead.on, "it goes on for a while");
        ahead.handle_path(0.004, LONG);
        assert!(!ahead.on);
    }

    #[test]
    fn they_leave_later_and_not_late() {
        let now = Instant::now();
        let mut ahead = Ahead::new(now);
        ahead.handle_path(0.05, LONG);
        ahead.handle_sent(now + 100 * MS, 0, TARGET);
        for number in 0..3 {
            ahead.add(now + (100 + 30 * number) * MS, 1000, || number);
        }
        assert_eq!(ahead.poll_timeout(), Some(now + 112 * MS));
        assert_eq!(ahead.poll(now + 111 * MS), None);
        assert_eq!(ahead.poll(now + 112 * MS), Some(0));
        assert_eq!(ahead.poll(now + 195 * MS), Some(2), "the second is stale");
        ahead.handle_sent(now + 200 * MS, 40_000, TARGET);
        ahead.add(now + 200 * MS, 1000, || 3);
        assert_eq!(ahead.poll_timeout(), None, "no room");
        ahead.add_repair(now + 200 * MS, 1000, || 3);
        assert_eq!(ahead.poll_timeout(), Some(now + 212 * MS));
        ahead.clear();
        assert_eq!(ahead.poll_timeout(), None);
        ahead.handle_sent(now + 200 * MS, 10_000, TARGET);
        ahead.add_repair(now + 200 * MS, 1000, || 4);
        assert_eq!(ahead.poll_timeout(), None, "a flood of requests");
    }

    #[test]
    fn pictures_make_room_down_to_a_good_rate() {
        let mut ahead = Ahead::<u32>::new(Instant::now());
        ahead.handle_path(0.05, LONG);
        for (video, left) in [(3000, 1350), (2000, 1300), (1000, 1000)] {
            assert_eq!(ahead.leave_room(Bitrate::from_kbps(video)).bps(), left * 1000);
        }
    }
}
