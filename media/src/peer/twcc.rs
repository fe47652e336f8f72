//! When the other end is told what arrived: transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), the crate's, at a pace of ours.
//!
//! A link of many Mbit/s that becomes one of 500 kbit/s has 300 ms of queue after a tenth of a
//! second: there every 25 ms count. On a narrow link that much feedback would be a tenth of it, and
//! on a long way it would be late all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{
    Interceptor, Packet, StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccReceiverInterceptor,
};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::stats::Counters;

/// Feedback comes as often as this, and on a fast link as often as that.
const PACE: Duration = Duration::from_millis(50);
const FAST_PACE: Duration = Duration::from_millis(25);

/// A link is fast if so many bytes came within a [`PACE`] (1 Mbit/s), and is taken for fast for so
/// long: what gets narrow must not slow down the feedback about it.
const FAST_BYTES: usize = 6_250;
const STAYS_FAST: Duration = Duration::from_secs(2);

/// From this round trip on the way is long. While a queue builds up it may seem so, too: what was
/// short a moment ago counts.
const LONG_WAY: Duration = Duration::from_millis(60);

/// Decides when. Pure.
#[derive(Debug, Default)]
struct Pace {
    since: Option<Instant>,
    bytes: usize,
    fast_until: Option<Instant>,
    due: Option<Instant>,
}

impl Pace {
    fn handle_packet(&mut self, now: Instant, bytes: usize, rtt: Option<Duration>) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= PACE {
            (self.since, self.bytes) = (Some(now), 0);
        }
        self.bytes += bytes;
        if self.bytes >= FAST_BYTES && rtt.is_some_and(|rtt| rtt < LONG_WAY) {
            self.fast_until = Some(now + STAYS_FAST);
        }
    }

    /// Whether it is time; the next time is set then.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.due.is_some_and(|due| now < due) {
            return false;
        }
        let fast = self.fast_until.is_some_and(|until| now < until);
        self.due = Some(now + if fast { FAST_PACE } else { PACE });
        true
    }
}

/// The crate's feedback, at [`Pace`].
pub(super) struct TwccFeedback {
    counters: Arc<Counters>,
    inner: TwccReceiverInterceptor,
    pace: Pace,
}

impl TwccFeedback {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let inner = TwccReceiverBuilder::new().with_interval(FAST_PACE).build();
        Self { counters, inner, pace: Pace::default() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for TwccFeedback {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &msg.message.packet {
            self.pace.handle_packet(msg.now, packet.payload.len(), self.counters.rtt());
        }
        self.inner.handle_read(msg)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_read()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.inner.handle_write(msg)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        let ready = self.inner.poll_timeout().is_some_and(|at| now >= at);
        if ready && self.pace.is_due(now) {
            return self.inner.handle_timeout(now);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let ready = self.inner.poll_timeout()?;
        Some(self.pace.due.map_or(ready, |due| due.max(ready)))
    }
}

impl Interceptor for TwccFeedback {
    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.inner.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.inner.unbind_remote_stream(info);
    }

    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.inner.bind_local_stream(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.inner.unbind_local_stream(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports within a second after `seconds`, if every 10 ms `bytes(at)` come (`at` in ms).
    fn reports(seconds: u64, rtt: u64, bytes: impl Fn(u64) -> usize) -> usize {
        let (begin, mut pace) = (Instant::now(), Pace::default());
        let mut told = 0;
        for at in 0..(seconds + 1) * 1000 {
            let now = begin + Duration::from_millis(at);
            if at % 10 == 0 {
                pace.handle_packet(now, bytes(at), Some(Duration::from_millis(rtt)));
            }
            told += usize::from(pace.is_due(now) && at >= seconds * 1000);
        }
        told
    }

    #[test]
    fn a_fast_and_short_link_is_told_of_twice_as_often() {
        // 400 kbit/s, 2 Mbit/s.
        assert_eq!(reports(3, 5, |_| 500), 20);
        assert_eq!(reports(3, 5, |_| 2500), 40);
        assert_eq!(reports(3, 200, |_| 2500), 20);
    }

    #[test]
    fn a_link_that_gets_narrow_stays_fast_for_two_seconds() {
        let step = |at| if at < 5_000 { 2500 } else { 500 };
        assert_eq!(reports(5, 5, step), 40);
        assert_eq!(reports(8, 5, step), 20);
    }
}
