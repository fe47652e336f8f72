//! Spreads packets over time: sound at once, then repairs, then pictures, then padding for a probe.
//!
//! At most one packet more than the rate allows leaves at a time. Nothing that was put in is
//! dropped, save what waits in [`Pacer::clear_repairs`]; who puts in asks [`Pacer::backlog`] first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::congestion::Probe;
use crate::units::Bitrate;

/// In which order packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Leaves at once, past everything, and is counted.
    Audio,
    /// Retransmissions and forward error correction.
    Repair,
    /// Pictures.
    Video,
}

/// What leaves now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure<T> {
    /// A packet, as part of a probe or not.
    Packet(T, Class, Option<u32>),
    /// A probe lacks packets: send padding of about this size, and say so to
    /// [`Pacer::handle_padding`].
    Padding(usize, u32),
}

/// What the congestion controller allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Packets that wait leave at this rate.
    pub rate: Bitrate,
    /// Repairs and pictures may leave.
    pub open: bool,
}

/// A timer that fires late is caught up with, by at most this.
const LATE: Duration = Duration::from_millis(5);

/// A probe that found so little to send in this time is no burst.
const PROBE_LIMIT: Duration = Duration::from_millis(300);

struct Burst {
    probe: Probe,
    bytes: usize,
    packets: u32,
    began: Instant,
}

/// Three queues and a clock. `T` is a packet.
pub struct Pacer<T> {
    audio: VecDeque<(T, usize)>,
    repairs: VecDeque<(T, usize)>,
    video: VecDeque<(T, usize)>,
    repair_bytes: usize,
    video_bytes: usize,
    /// What has left so far is paid for then.
    free_at: Instant,
    /// Something waited for `free_at` at the last poll.
    waits: bool,
    burst: Option<Burst>,
}

impl<T> Pacer<T> {
    /// Empty.
    pub fn new(now: Instant) -> Self {
        Self {
            audio: VecDeque::new(),
            repairs: VecDeque::new(),
            video: VecDeque::new(),
            repair_bytes: 0,
            video_bytes: 0,
            free_at: now,
            waits: false,
            burst: None,
        }
    }

    /// A packet of `bytes` on the wire wants to leave.
    pub fn push(&mut self, class: Class, packet: T, bytes: usize) {
        match class {
            Class::Audio => self.audio.push_back((packet, bytes)),
            Class::Repair => {
                self.repair_bytes += bytes;
                self.repairs.push_back((packet, bytes));
            }
            Class::Video => {
                self.video_bytes += bytes;
                self.video.push_back((packet, bytes));
            }
        }
    }

    /// Bytes of pictures and repairs that wait.
    pub fn backlog(&self) -> usize {
        self.video_bytes + self.repair_bytes
    }

    /// Bytes of repairs that wait.
    pub fn repair_backlog(&self) -> usize {
        self.repair_bytes
    }

    /// Drops waiting repairs that `keep` does not want kept.
    pub fn clear_repairs(&mut self, keep: impl Fn(&T) -> bool) {
        self.repairs.retain(|(packet, _)| keep(packet));
        self.repair_bytes = self.repairs.iter().map(|(_, bytes)| bytes).sum();
    }

    /// Starts a probe; one under way is replaced. What left at `rate` and is not paid for yet is
    /// paid for at the probe's.
    pub fn start_probe(&mut self, now: Instant, probe: Probe, rate: Bitrate) {
        self.burst = Some(Burst { probe, bytes: 0, packets: 0, began: now });
        let share = (rate.bps() as f64 / probe.rate.max(1.0)).clamp(0.0, 1.0);
        self.free_at = now + self.free_at.saturating_duration_since(now).mul_f64(share);
        self.waits = false;
    }

    /// Ends a probe under way.
    pub fn cancel_probe(&mut self) {
        self.burst = None;
    }

    /// Whether a probe is under way.
    pub fn is_probing(&self) -> bool {
        self.burst.is_some()
    }

    /// What leaves now; call it until `None`.
    pub fn poll(&mut self, now: Instant, allowance: Allowance) -> Option<Departure<T>> {
        if self.burst.as_ref().is_some_and(|burst| now > burst.began + PROBE_LIMIT) {
            self.burst = None;
        }
        if let Some((packet, bytes)) = self.audio.pop_front() {
            // Part of the burst only once that has begun with something else.
            let begun = self.burst.as_ref().is_some_and(|burst| burst.packets > 0);
            let probe = self.account(now, bytes, allowance.rate, begun);
            return Some(Departure::Packet(packet, Class::Audio, probe));
        }
        let has_media = !(self.repairs.is_empty() && self.video.is_empty());
        let may_leave = self.burst.is_some() || (has_media && allowance.open);
        if !may_leave {
            self.waits = false;
            return None;
        }
        if now < self.free_at {
            self.waits = true;
            return None;
        }
        let (class, taken) = match self.repairs.pop_front() {
            Some(repair) => {
                self.repair_bytes -= repair.1;
                (Class::Repair, Some(repair))
            }
            None => {
                let video = self.video.pop_front();
                self.video_bytes -= video.as_ref().map_or(0, |(_, bytes)| *bytes);
                (Class::Video, video)
            }
        };
        match taken {
            Some((packet, bytes)) => {
                let probe = self.account(now, bytes, allowance.rate, true);
                Some(Departure::Packet(packet, class, probe))
            }
            None => {
                let burst = self.burst.as_ref()?;
                Some(Departure::Padding(burst.probe.packet_size, burst.probe.id))
            }
        }
    }

    /// Padding was sent as asked, of so many bytes; `None`: there was none to send, and the probe
    /// ends.
    pub fn handle_padding(&mut self, now: Instant, bytes: Option<usize>) {
        match bytes {
            Some(bytes) => {
                self.account(now, bytes, Bitrate::ZERO, true);
            }
            None => self.burst = None,
        }
    }

    /// When to poll again, if nothing changes.
    pub fn poll_timeout(&self, now: Instant, allowance: Allowance) -> Option<Instant> {
        if !self.audio.is_empty() {
            return Some(now);
        }
        let has_media = !(self.repairs.is_empty() && self.video.is_empty());
        (self.burst.is_some() || (has_media && allowance.open)).then_some(self.free_at)
    }

    /// `bytes` leave: the next packet waits until they are paid for. The probe they belong to.
    fn account(
        &mut self,
        now: Instant,
        bytes: usize,
        rate: Bitrate,
        in_burst: bool,
    ) -> Option<u32> {
        let mut bps = rate.bps().max(1) as f64;
        let mut id = None;
        if let Some(burst) = &mut self.burst {
            bps = burst.probe.rate.max(1.0);
            if in_burst {
                burst.bytes += bytes;
                burst.packets += 1;
                id = Some(burst.probe.id);
                if burst.bytes >= burst.probe.bytes && burst.packets >= burst.probe.packets {
                    self.burst = None;
                }
            }
        }
        let from = if self.waits { self.free_at.max(now - LATE) } else { self.free_at.max(now) };
        let paid = Duration::from_secs_f64((8.0 * bytes as f64 / bps).min(10.0));
        self.free_at = from + paid;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn allow(kbps: u64, open: bool) -> Allowance {
        Allowance { rate: Bitrate::from_kbps(kbps), open }
    }

    fn probe(rate: f64) -> Probe {
        Probe { id: 7, rate, bytes: 5000, packets: 5, packet_size: 1000 }
    }

    /// Polls every `step` until then; returns when what left.
    fn run(
        pacer: &mut Pacer<u32>,
        from: Instant,
        length: Duration,
        step: Duration,
        allowance: Allowance,
    ) -> Vec<(Duration, Departure<u32>)> {
        let mut left = Vec::new();
        let mut now = from;
        while now <= from + length {
            while let Some(departure) = pacer.poll(now, allowance) {
                if let Departure::Padding(size, _) = departure {
                    pacer.handle_padding(now, Some(size));
                }
                left.push((now - from, departure));
            }
            now += step;
        }
        left
    }

    #[test]
    fn pictures_leave_at_the_rate_one_packet_at_a_time() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        (0..20).for_each(|n| pacer.push(Class::Video, n, 1000));
        // 8 kbit at 800 kbit/s: one in 10 ms.
        let left = run(&mut pacer, now, 95 * MS, MS, allow(800, true));
        assert_eq!(left.len(), 10);
        for (n, (at, departure)) in left.iter().enumerate() {
            assert_eq!(*at, 10 * n as u32 * MS);
            assert_eq!(*departure, Departure::Packet(n as u32, Class::Video, None));
        }
        assert_eq!(pacer.backlog(), 10_000);
        // Rest earns nothing: after a pause it is still one at a time.
        let left = run(&mut pacer, now + 1000 * MS, Duration::ZERO, MS, allow(800, true));
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn late_timers_do_not_lower_the_rate() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        (0..2000).for_each(|n| pacer.push(Class::Video, n, 1000));
        // 2 ms a packet, polled every 3 ms: the rate holds, with at most two together.
        let left = run(&mut pacer, now, 999 * MS, 3 * MS, allow(4000, true));
        assert!((495..=502).contains(&left.len()), "{}", left.len());
        let together = left.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).max();
        assert_eq!(together, Some(2));
    }

    #[test]
    fn sound_goes_first_and_is_counted() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.push(Class::Video, 1, 1000);
        pacer.push(Class::Repair, 2, 1000);
        pacer.push(Class::Audio, 3, 1000);
        pacer.push(Class::Audio, 4, 1000);
        let left = run(&mut pacer, now, 100 * MS, MS, allow(800, true));
        let order: Vec<_> = left
            .iter()
            .map(|(at, departure)| match departure {
                Departure::Packet(n, ..) => (at.as_millis(), *n),
                Departure::Padding(..) => unreachable!("no probe"),
            })
            .collect();
        assert_eq!(order, [(0, 3), (0, 4), (20, 2), (30, 1)]);
    }

    #[test]
    fn a_shut_gate_stops_all_but_sound_and_probes() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.push(Class::Video, 1, 1000);
        pacer.push(Class::Repair, 2, 1000);
        let shut = allow(800, false);
        assert_eq!(pacer.poll_timeout(now, shut), None);
        assert!(run(&mut pacer, now, 50 * MS, MS, shut).is_empty());
        pacer.push(Class::Audio, 3, 100);
        let left = run(&mut pacer, now + 50 * MS, 50 * MS, MS, shut);
        assert_eq!(left, [(Duration::ZERO, Departure::Packet(3, Class::Audio, None))]);
        let mut open = allow(800, true);
        open.rate = Bitrate::from_kbps(8000);
        assert_eq!(run(&mut pacer, now + 100 * MS, 50 * MS, MS, open).len(), 2);
    }

    #[test]
    fn a_probe_takes_media_along_then_padding_and_sound_past_both() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.start_probe(now, probe(1_000_000.0), Bitrate::from_kbps(200));
        pacer.push(Class::Video, 1, 1000);
        pacer.push(Class::Repair, 2, 1000);
        let mut left = run(&mut pacer, now, 10 * MS, MS, allow(200, true));
        pacer.push(Class::Audio, 3, 100);
        left.extend(run(&mut pacer, now + 11 * MS, 100 * MS, MS, allow(200, true)));
        let departures: Vec<_> = left.into_iter().map(|(_, departure)| departure).collect();
        assert_eq!(departures[0], Departure::Packet(2, Class::Repair, Some(7)));
        assert_eq!(departures[1], Departure::Packet(1, Class::Video, Some(7)));
        assert_eq!(departures[2], Departure::Packet(3, Class::Audio, Some(7)));
        assert!(departures[3..].iter().all(|d| *d == Departure::Padding(1000, 7)));
        assert_eq!(departures.len(), 6, "2100 bytes of media, 3000 of padding");
        assert!(!pacer.is_probing());
    }

    #[test]
    fn a_probe_does_not_begin_with_two_packets_at_once() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        (0..3).for_each(|n| pacer.push(Class::Video, n, 1000));
        assert!(pacer.poll(now, allow(200, true)).is_some());
        pacer.start_probe(now, probe(1_000_000.0), Bitrate::from_kbps(200));
        assert_eq!(pacer.poll(now + 7 * MS, allow(200, true)), None);
        assert!(pacer.poll(now + 8 * MS, allow(200, true)).is_some());
    }

    #[test]
    fn a_probe_without_padding_ends() {
        let now = Instant::now();
        let mut pacer: Pacer<u32> = Pacer::new(now);
        pacer.start_probe(now, probe(1_000_000.0), Bitrate::from_kbps(200));
        assert_eq!(pacer.poll(now, allow(200, true)), Some(Departure::Padding(1000, 7)));
        pacer.handle_padding(now, None);
        assert_eq!(pacer.poll(now, allow(200, true)), None);
        assert_eq!(pacer.poll_timeout(now, allow(200, true)), None);
    }

    #[test]
    fn repairs_can_be_given_up_and_nothing_else() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.push(Class::Video, 1, 1000);
        pacer.push(Class::Repair, 2, 700);
        pacer.push(Class::Repair, 3, 500);
        pacer.clear_repairs(|n| *n == 3);
        assert_eq!((pacer.repair_backlog(), pacer.backlog()), (500, 1500));
    }
}
