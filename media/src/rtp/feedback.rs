//! What RTCP reports say about the path (RFC 3550 section 6.4 and appendix A).
//!
//! [`PathReports`] reads what the peer reports about our packets, [`ReceiveStatistics`] makes
//! what we report about the peer's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sequence::{SequenceUnwrapper, Unwrapped};

/// The part of a sender report that does not depend on its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Whose packets it is about.
    pub ssrc: u32,
    /// NTP time, 32.32 fixed point seconds.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp_timestamp: u32,
}

/// One report block, of a sender or a receiver report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// Whose packets it is about.
    pub ssrc: u32,
    /// Lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning, 24 bits; negative with duplicates.
    pub cumulative_lost: i32,
    /// Extended highest sequence number.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the RTP clock.
    pub jitter: u32,
    /// Middle 32 bits of the newest sender report's NTP time, 0 without one.
    pub last_sender_report: u32,
    /// Since that report, in 1/65536 s.
    pub delay_since_last: u32,
}

/// The middle 32 bits of an NTP time: 16.16 fixed point seconds.
pub const fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// The round trip by RFC 3550 section 6.4.1, all in 16.16 seconds: `arrival` is the middle of
/// our NTP time when the block arrived. `None` without a sender report, and for results below
/// zero (clocks step) or above ten seconds.
pub fn round_trip_time(
    arrival: u32,
    last_sender_report: u32,
    delay_since_last: u32,
) -> Option<Duration> {
    if last_sender_report == 0 {
        return None;
    }
    let trip = arrival.wrapping_sub(last_sender_report).wrapping_sub(delay_since_last);
    let trip = fixed_to_duration(trip);
    (trip <= MAX_RTT).then_some(trip)
}

fn fixed_to_duration(fixed: u32) -> Duration {
    Duration::from_micros((u64::from(fixed) * 1_000_000) >> 16)
}

/// Nobody holds a conversation over more.
const MAX_RTT: Duration = Duration::from_secs(10);

/// Sender reports of ours that the peer may still answer.
const KEPT_REPORTS: usize = 16;

/// Weight of a new measurement.
const RTT_WEIGHT: f64 = 0.2;
const LOSS_WEIGHT: f64 = 0.3;

/// What the peer's reports say about one SSRC of ours.
#[derive(Clone, Debug)]
pub struct PathReports {
    ssrc: u32,
    clock_rate: u32,
    sent: VecDeque<(u32, Instant)>,
    rtt: Option<f64>,
    last_rtt: Option<Duration>,
    loss: Option<f64>,
    jitter_ms: f64,
    cumulative_lost: i32,
}

impl PathReports {
    /// For packets of `ssrc` whose RTP clock ticks `clock_rate` times a second.
    pub fn new(ssrc: u32, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate: clock_rate.max(1),
            sent: VecDeque::with_capacity(KEPT_REPORTS),
            rtt: None,
            last_rtt: None,
            loss: None,
            jitter_ms: 0.0,
            cumulative_lost: 0,
        }
    }

    /// A sender report of ours leaves. With it the round trip needs no wall clock.
    pub fn handle_sent(&mut self, now: Instant, report: &SenderReport) {
        if report.ssrc != self.ssrc {
            return;
        }
        if self.sent.len() == KEPT_REPORTS {
            self.sent.pop_front();
        }
        self.sent.push_back((ntp_middle(report.ntp), now));
    }

    /// A report block arrived. `ntp_now`, the clock our sender reports are stamped by, is used
    /// only if the report it answers did not pass [`handle_sent`](Self::handle_sent). True if
    /// it was about our packets.
    pub fn handle_report(&mut self, now: Instant, ntp_now: u64, block: &ReportBlock) -> bool {
        if block.ssrc != self.ssrc {
            return false;
        }
        if let Some(rtt) = self.round_trip(now, ntp_now, block) {
            let new = rtt.as_secs_f64();
            self.rtt = Some(self.rtt.map_or(new, |old| old + RTT_WEIGHT * (new - old)));
            self.last_rtt = Some(rtt);
        }
        let lost = f64::from(block.fraction_lost) / 256.0;
        self.loss = Some(self.loss.map_or(lost, |old| old + LOSS_WEIGHT * (lost - old)));
        self.jitter_ms = f64::from(block.jitter) * 1000.0 / f64::from(self.clock_rate);
        self.cumulative_lost = block.cumulative_lost;
        true
    }

    fn round_trip(&self, now: Instant, ntp_now: u64, block: &ReportBlock) -> Option<Duration> {
        if block.last_sender_report == 0 {
            return None;
        }
        let answered = self.sent.iter().rev().find(|(ntp, _)| *ntp == block.last_sender_report);
        let Some((_, sent_at)) = answered else {
            let (asked, held) = (block.last_sender_report, block.delay_since_last);
            return round_trip_time(ntp_middle(ntp_now), asked, held);
        };
        let elapsed = now.saturating_duration_since(*sent_at);
        let rtt = elapsed.checked_sub(fixed_to_duration(block.delay_since_last));
        // A peer that claims to have held it longer than we waited rounds up, at best.
        rtt.filter(|rtt| *rtt <= MAX_RTT)
    }

    /// Round trip, smoothed.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(Duration::from_secs_f64)
    }

    /// Round trip of the newest report.
    pub fn last_rtt(&self) -> Option<Duration> {
        self.last_rtt
    }

    /// Share of our packets that was lost lately, 0 to 1, smoothed.
    pub fn loss(&self) -> Option<f64> {
        self.loss
    }

    /// Lost since the beginning, by the newest report.
    pub fn cumulative_lost(&self) -> i32 {
        self.cumulative_lost
    }

    /// Jitter at the peer, milliseconds.
    pub fn jitter_ms(&self) -> f64 {
        self.jitter_ms
    }
}

/// Counts the packets of one SSRC of the peer's (RFC 3550 appendix A.1, A.3, A.8).
#[derive(Clone, Debug)]
pub struct ReceiveStatistics {
    ssrc: u32,
    clock_rate: u32,
    sequence: SequenceUnwrapper,
    first: u64,
    received: u64,
    bytes: u64,
    expected_before: u64,
    received_before: u64,
    /// Arrival and RTP timestamp of the packet before.
    last: Option<(Instant, u32)>,
    /// In RTP clock units.
    jitter: f64,
    last_report: Option<(SenderReport, Instant)>,
}

impl ReceiveStatistics {
    /// For packets of `ssrc` whose RTP clock ticks `clock_rate` times a second.
    pub fn new(ssrc: u32, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate: clock_rate.max(1),
            sequence: SequenceUnwrapper::new(),
            first: 0,
            received: 0,
            bytes: 0,
            expected_before: 0,
            received_before: 0,
            last: None,
            jitter: 0.0,
            last_report: None,
        }
    }

    /// A packet arrived, `bytes` long with its header. Not for repairs.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        sequence_number: u16,
        timestamp: u32,
        bytes: usize,
    ) {
        match self.sequence.unwrap(sequence_number) {
            Unwrapped::Index(index) if self.received == 0 => self.first = index,
            // Older than the first: the stream began before it.
            Unwrapped::Index(index) => self.first = self.first.min(index),
            Unwrapped::Suspect => return,
            Unwrapped::Restarted(index) => {
                *self = Self { bytes: self.bytes, ..Self::new(self.ssrc, self.clock_rate) };
                self.sequence.unwrap(sequence_number);
                self.first = self.sequence.highest().unwrap_or(index);
            }
        }
        self.received += 1;
        self.bytes += bytes as u64;
        if let Some((arrival, before)) = self.last {
            let passed = now.saturating_duration_since(arrival).as_secs_f64();
            let step = f64::from(timestamp.wrapping_sub(before) as i32);
            let d = (passed * f64::from(self.clock_rate) - step).abs();
            // Packets of one video frame share a timestamp and are spread by the sender; a
            // minute is a jump of its clock. Neither is jitter of the network.
            if step != 0.0 && d < 60.0 * f64::from(self.clock_rate) {
                self.jitter += (d - self.jitter) / 16.0;
            }
        }
        if self.last.is_none_or(|(_, before)| before != timestamp) {
            self.last = Some((now, timestamp));
        }
    }

    /// A sender report of the peer's arrived.
    pub fn handle_sender_report(&mut self, now: Instant, report: &SenderReport) {
        if report.ssrc == self.ssrc {
            self.last_report = Some((*report, now));
        }
    }

    /// The newest sender report and when it arrived: what NTP time an RTP time is.
    pub fn sender_report(&self) -> Option<(SenderReport, Instant)> {
        self.last_report
    }

    /// What to report now. The fraction lost counts from one call to the next.
    pub fn report(&mut self, now: Instant) -> ReportBlock {
        let (expected, received) = (self.expected(), self.received);
        let expected_now = expected.saturating_sub(self.expected_before);
        let received_now = received.saturating_sub(self.received_before);
        (self.expected_before, self.received_before) = (expected, received);
        let lost = expected_now.saturating_sub(received_now);
        let fraction = (lost * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last_sender_report, delay_since_last) =
            self.last_report.map_or((0, 0), |(report, at)| {
                let held = now.saturating_duration_since(at).as_micros();
                let held = (held << 16) / 1_000_000;
                (ntp_middle(report.ntp), u32::try_from(held).unwrap_or(u32::MAX))
            });
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            // One cycle less: indices begin in the second.
            highest_sequence: self.sequence.highest().map_or(0, |high| (high - 0x1_0000) as u32),
            jitter: self.jitter as u32,
            last_sender_report,
            delay_since_last,
        }
    }

    /// Packets received, duplicates among them.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes received, with headers.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that should have come.
    pub fn expected(&self) -> u64 {
        match self.sequence.highest() {
            Some(highest) if self.received > 0 => highest - self.first + 1,
            _ => 0,
        }
    }

    /// Packets that did not come; negative with duplicates.
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// Interarrival jitter, milliseconds.
    pub fn jitter_ms(&self) -> f64 {
        self.jitter * 1000.0 / f64::from(self.clock_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The worked example of RFC 3550, figure 2.
    #[test]
    fn the_round_trip_of_the_rfc_is_the_one_of_the_rfc() {
        let (arrival, last, held) = (0xb710_8000, 0xb705_2000, 0x0005_4000);
        let rtt = round_trip_time(arrival, last, held);
        assert_eq!(rtt, Some(Duration::from_millis(6125)));
        assert_eq!(round_trip_time(arrival, 0, 0), None);
        assert_eq!(round_trip_time(last + held - 1, last, held), None, "below zero");
    }

    #[test]
    fn the_wall_clock_may_step_once_our_reports_are_known() {
        let now = Instant::now();
        let mut path = PathReports::new(7, 90_000);
        let ntp = 0xe000_0001_8000_0000u64;
        path.handle_sent(now, &SenderReport { ssrc: 7, ntp, rtp_timestamp: 0 });
        let block = ReportBlock {
            ssrc: 7,
            last_sender_report: ntp_middle(ntp),
            delay_since_last: 0x8000,
            jitter: 450,
            fraction_lost: 64,
            cumulative_lost: 9,
            ..ReportBlock::default()
        };
        assert!(path.handle_report(now + 540 * MS, 0, &block));
        assert_eq!(path.last_rtt(), Some(40 * MS));
        assert_eq!(path.loss(), Some(0.25));
        assert_eq!((path.jitter_ms(), path.cumulative_lost()), (5.0, 9));
        // Smoothed: a fifth of the way.
        assert!(path.handle_report(now + 640 * MS, 0, &block));
        assert_eq!(path.rtt(), Some(60 * MS));
        // Held for longer than the whole took: not believed.
        path.handle_report(now + 100 * MS, 0, &block);
        assert_eq!(path.rtt(), Some(60 * MS));
        assert!(!path.handle_report(now, 0, &ReportBlock { ssrc: 8, ..block }));
    }

    #[test]
    fn loss_is_counted_per_report_and_in_all_across_the_wrap() {
        let begin = Instant::now();
        let mut stats = ReceiveStatistics::new(1, 48_000);
        for i in 0..100u16 {
            if i % 4 != 1 {
                let now = begin + u32::from(i) * 20 * MS;
                stats.handle_packet(now, 65_500u16.wrapping_add(i), u32::from(i) * 960, 100);
            }
        }
        let report = stats.report(begin);
        assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 25));
        assert_eq!(report.highest_sequence, 65_500 + 99);
        assert_eq!((stats.received(), stats.expected(), stats.bytes()), (75, 100, 7500));
        assert!(stats.jitter_ms() < 0.001);
        for i in 100..110u16 {
            let now = begin + u32::from(i) * 20 * MS;
            stats.handle_packet(now, 65_500u16.wrapping_add(i), u32::from(i) * 960, 100);
        }
        let report = stats.report(begin);
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25));
    }

    #[test]
    fn duplicates_never_make_a_fraction_below_zero() {
        let now = Instant::now();
        let mut stats = ReceiveStatistics::new(1, 48_000);
        (0..5).for_each(|_| stats.handle_packet(now, 5, 0, 1));
        let report = stats.report(now);
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -4));
    }

    #[test]
    fn jitter_approaches_the_mean_deviation() {
        let begin = Instant::now();
        let mut stats = ReceiveStatistics::new(1, 90_000);
        for i in 0..300u32 {
            let now = begin + i * 33 * MS + (i % 2) * 8 * MS;
            stats.handle_packet(now, i as u16, i * 33 * 90, 1);
        }
        assert!((stats.jitter_ms() - 8.0).abs() < 0.1, "{}", stats.jitter_ms());
    }

    #[test]
    fn what_we_report_gives_the_peer_its_round_trip() {
        let begin = Instant::now();
        let (mut ours, mut theirs) =
            (ReceiveStatistics::new(3, 90_000), PathReports::new(3, 90_000));
        let report = SenderReport { ssrc: 3, ntp: 0x1234_5678_9abc_def0, rtp_timestamp: 0 };
        theirs.handle_sent(begin, &report);
        ours.handle_sender_report(begin + 30 * MS, &report);
        let block = ours.report(begin + 1030 * MS);
        theirs.handle_report(begin + 1060 * MS, 0, &block);
        let rtt = theirs.rtt().unwrap();
        assert!(rtt.abs_diff(60 * MS) < MS, "{rtt:?}");
        assert_eq!(ours.sender_report(), Some((report, begin + 30 * MS)));
    }

    #[test]
    fn any_numbers_from_a_peer_are_fine() {
        use rand::{Rng, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(6);
        let begin = Instant::now();
        let mut stats = ReceiveStatistics::new(1, 48_000);
        let mut path = PathReports::new(1, 0);
        for i in 0..20_000u16 {
            let now = begin + random.random_range(0..10_000) * MS;
            let number = if i % 50 == 0 { random.random() } else { i };
            stats.handle_packet(now, number, random.random(), 10);
            let block = stats.report(now);
            path.handle_report(now, random.random(), &block);
            let block = ReportBlock {
                ssrc: 1,
                fraction_lost: random.random(),
                cumulative_lost: random.random(),
                highest_sequence: random.random(),
                jitter: random.random(),
                last_sender_report: random.random(),
                delay_since_last: random.random(),
            };
            path.handle_report(now, random.random(), &block);
        }
        assert!(path.rtt().is_none_or(|rtt| rtt <= MAX_RTT));
    }
}
