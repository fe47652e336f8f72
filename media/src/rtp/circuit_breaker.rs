//! The last resort where congestion control fails (RFC 8083): next to no video is sent while the
//! peer's reports show that nothing arrives, do not come, or that far more is sent than TCP would.
//!
//! For the last the RFC lets a sender that can adapt lower its rate first: a limit of ten times
//! what TCP would reach ends the condition. Only where that leaves no rate for video does it open.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// The deterministic interval of reports (RFC 3550 section 6.2, its minimum).
const REPORT_INTERVAL: f64 = 5.0;

/// Without any report for three of them, nobody listens (RFC 8083 section 4.1).
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

/// Time between pictures.
const FRAME_INTERVAL: f64 = 0.033;

/// Sending more than this multiple of TCP's rate is too much (section 4.3).
const TCP_MULTIPLE: f64 = 10.0;

/// Bytes in a packet.
const PACKET: f64 = 1200.0;

/// Less is no rate for video.
const LEAST_VIDEO: f64 = 100_000.0;

/// How long it stays open; each time that follows soon, twice as long.
const PAUSE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(80);
const SOON: Duration = Duration::from_secs(60);

/// Before it is measured.
const UNKNOWN_RTT: Duration = Duration::from_millis(200);

/// What the breaker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Closed,
    /// No more than this.
    Limited(Bitrate),
    /// Next to no video: the sender decides how little tells when the path is back.
    Open,
}

/// Watches one video stream of ours.
pub struct CircuitBreaker {
    sent: u64,
    /// The report before: when, the highest number it named, and what had been sent by then.
    last: Option<(Instant, u32, u64)>,
    /// Since when packets are sent that reports should follow.
    listening_since: Option<Instant>,
    stalled: u32,
    excessive: u32,
    fine: u32,
    limit: Option<Bitrate>,
    open_until: Option<Instant>,
    pause: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new()
    }
}

impl CircuitBreaker {
    /// Closed.
    pub fn new() -> Self {
        Self {
            sent: 0,
            last: None,
            listening_since: None,
            stalled: 0,
            excessive: 0,
            fine: 0,
            limit: None,
            open_until: None,
            pause: PAUSE,
        }
    }

    /// A packet of the stream left.
    pub fn handle_sent(&mut self, now: Instant, bytes: usize) {
        self.sent += bytes as u64;
        self.listening_since.get_or_insert(now);
    }

    /// The peer reported on the stream: the share it lost (in 1/256), and the highest number it
    /// received.
    pub fn handle_report(
        &mut self,
        now: Instant,
        fraction_lost: u8,
        highest_sequence: u32,
        rtt: Option<Duration>,
    ) {
        self.listening_since = Some(now);
        let before = self.last.replace((now, highest_sequence, self.sent));
        let Some((at, highest, sent)) = before else {
            return;
        };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let bytes = self.sent - sent;
        if passed < 0.050 || bytes == 0 {
            return; // two in one packet, or nothing to report on
        }
        let rtt = rtt.unwrap_or(UNKNOWN_RTT).as_secs_f64().clamp(0.001, 10.0);
        let patience = reports_before_acting(passed, rtt);
        self.stalled = if highest_sequence == highest { self.stalled + 1 } else { 0 };
        if self.stalled >= patience {
            self.open(now);
            return;
        }
        let most = TCP_MULTIPLE * tcp_rate(f64::from(fraction_lost) / 256.0, rtt);
        if 8.0 * bytes as f64 / passed > most {
            self.excessive += 1;
            self.fine = 0;
        } else {
            self.fine += 1;
            self.excessive = 0;
        }
        if self.excessive >= patience {
            self.excessive = 0;
            if most < LEAST_VIDEO {
                self.open(now);
            } else {
                self.limit = Some(Bitrate::from_bps((0.95 * most) as u64));
            }
        } else if self.fine >= 2 * patience {
            self.limit = None;
        }
    }

    fn open(&mut self, now: Instant) {
        let again = self.open_until.is_some_and(|until| now < until + SOON);
        self.pause = if again { (2 * self.pause).min(MAX_PAUSE) } else { PAUSE };
        self.open_until = Some(now + self.pause);
        (self.stalled, self.excessive, self.fine) = (0, 0, 0);
        self.last = None;
        self.listening_since = None;
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.listening_since.map(|since| since + REPORT_TIMEOUT)
    }

    /// Opens where reports stopped coming.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| now >= due) {
            self.open(now);
        }
    }

    /// What to do now.
    pub fn verdict(&self, now: Instant) -> Verdict {
        if self.open_until.is_some_and(|until| now < until) {
            Verdict::Open
        } else {
            self.limit.map_or(Verdict::Closed, Verdict::Limited)
        }
    }
}

/// RFC 8083 section 4.3, CB_INTERVAL, for reports that come so far apart.
fn reports_before_acting(interval: f64, rtt: f64) -> u32 {
    let long = (10.0 * FRAME_INTERVAL).max(10.0 * rtt).max(3.0 * interval);
    let window = long.min(f64::max(15.0, 3.0 * REPORT_INTERVAL));
    ((window / interval).ceil() as u32).max(1)
}

/// The simplified throughput of TCP (RFC 8083 section 4.3), bits per second.
fn tcp_rate(loss: f64, rtt: f64) -> f64 {
    if loss <= 0.0 { f64::INFINITY } else { 8.0 * PACKET / (rtt * (2.0 * loss / 3.0).sqrt()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Option<Duration> = Some(Duration::from_millis(100));

    /// Sends at this rate for so many seconds, with a report after each.
    fn run(
        breaker: &mut CircuitBreaker,
        now: &mut Instant,
        seconds: u32,
        kbps: u64,
        lost: u8,
        highest: impl Fn(u32) -> u32,
        rtt: Option<Duration>,
    ) {
        for second in 0..seconds {
            (0..100).for_each(|_| breaker.handle_sent(*now, kbps as usize * 10 / 8));
            *now += Duration::from_secs(1);
            breaker.handle_report(*now, lost, highest(second), rtt);
            breaker.handle_timeout(*now);
        }
    }

    #[test]
    fn the_intervals_of_the_rfc() {
        assert_eq!(reports_before_acting(1.0, 0.1), 3);
        assert_eq!(reports_before_acting(1.0, 0.6), 6);
        assert_eq!(reports_before_acting(5.0, 0.1), 3);
        // TCP at 1 % and 100 ms: 1.18 Mbit/s.
        assert!((tcp_rate(0.01, 0.1) - 1.1758e6).abs() < 1e3);
        assert_eq!(tcp_rate(0.0, 0.1), f64::INFINITY);
    }

    #[test]
    fn video_that_does_not_arrive_stops_and_tries_again_ever_later() {
        let mut now = Instant::now();
        let mut breaker = CircuitBreaker::new();
        run(&mut breaker, &mut now, 30, 2000, 0, |s| 100 * s, RTT);
        assert_eq!(breaker.verdict(now), Verdict::Closed);
        run(&mut breaker, &mut now, 2, 2000, 0, |_| 2900, RTT);
        assert_eq!(breaker.verdict(now), Verdict::Closed);
        run(&mut breaker, &mut now, 1, 2000, 0, |_| 2900, RTT);
        assert_eq!(breaker.verdict(now), Verdict::Open);
        now += Duration::from_secs(10);
        assert_eq!(breaker.verdict(now), Verdict::Closed);
        run(&mut breaker, &mut now, 4, 2000, 0, |_| 2900, RTT);
        assert_eq!(breaker.verdict(now + Duration::from_secs(19)), Verdict::Open);
        assert_eq!(breaker.verdict(now + Duration::from_secs(20)), Verdict::Closed);
    }

    #[test]
    fn who_sends_nothing_is_not_stopped() {
        let mut now = Instant::now();
        let mut breaker = CircuitBreaker::new();
        run(&mut breaker, &mut now, 30, 0, 0, |_| 7, RTT);
        assert_eq!(breaker.verdict(now), Verdict::Closed);
    }

    #[test]
    fn without_reports_video_stops_after_three_intervals() {
        let begin = Instant::now();
        let mut breaker = CircuitBreaker::new();
        assert_eq!(breaker.poll_timeout(), None);
        breaker.handle_sent(begin, 1000);
        let due = begin + REPORT_TIMEOUT;
        assert_eq!(breaker.poll_timeout(), Some(due));
        breaker.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(breaker.verdict(due), Verdict::Closed);
        breaker.handle_timeout(due);
        assert_eq!(breaker.verdict(due), Verdict::Open);
        assert_eq!(breaker.poll_timeout(), None);
    }

    #[test]
    fn ten_times_what_tcp_would_send_is_the_limit() {
        let mut now = Instant::now();
        let mut breaker = CircuitBreaker::new();
        // 10 % lost at 100 ms: TCP reaches 372 kbit/s.
        run(&mut breaker, &mut now, 30, 3000, 26, |s| s, RTT);
        assert_eq!(breaker.verdict(now), Verdict::Closed);
        run(&mut breaker, &mut now, 30, 4000, 26, |s| s, RTT);
        let Verdict::Limited(limit) = breaker.verdict(now) else {
            panic!("{:?}", breaker.verdict(now));
        };
        assert!((3300.0..3700.0).contains(&limit.kbps()), "{limit}");
        // Obeyed, and the loss gone: lifted.
        run(&mut breaker, &mut now, 10, 3000, 0, |s| s, RTT);
        assert_eq!(breaker.verdict(now), Verdict::Closed);
        // Nearly all is lost, for long: TCP would be next to nothing.
        run(&mut breaker, &mut now, 20, 3000, 250, |s| s, Some(Duration::from_secs(2)));
        assert_eq!(breaker.verdict(now), Verdict::Open);
    }
}
