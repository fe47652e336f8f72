//! How long the answers to checks take: the round trip before media and its reports. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::checks::{BINDING_REQUEST, BINDING_RESPONSE, USE_CANDIDATE, attribute, message_type};
use super::nomination::{Transaction, transaction};

/// Checks that are waited for: as many as leave within the longest round trip.
const MOST: usize = 64;

/// One socket's.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    sent: VecDeque<(Transaction, Instant)>,
}

impl RoundTrips {
    /// This left. A check that names a pair is sent several times and tells nothing.
    pub fn handle_sent(&mut self, now: Instant, datagram: &[u8]) {
        if message_type(datagram) != Some(BINDING_REQUEST)
            || attribute(datagram, USE_CANDIDATE).is_some()
        {
            return;
        }
        if let Some(transaction) = transaction(datagram) {
            self.sent.truncate(MOST - 1);
            self.sent.push_front((transaction, now));
        }
    }

    /// This came: after so long, where it is an answer.
    pub fn handle_received(&mut self, now: Instant, datagram: &[u8]) -> Option<Duration> {
        if message_type(datagram) != Some(BINDING_RESPONSE) {
            return None;
        }
        let answered = transaction(datagram)?;
        let at = self.sent.iter().position(|(transaction, _)| *transaction == answered)?;
        let (_, sent_at) = self.sent.remove(at)?;
        Some(now.saturating_duration_since(sent_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn message(kind: u16, number: u8, names: bool) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend([0, 4, 0x21, 0x12, 0xa4, 0x42]);
        bytes.extend([number; 12]);
        bytes.extend([0, if names { 0x25 } else { 6 }, 0, 0]);
        bytes
    }

    #[test]
    fn an_answer_tells_how_long_it_took_and_only_once() {
        let (mut trips, begin) = (RoundTrips::default(), Instant::now());
        trips.handle_sent(begin, &message(BINDING_REQUEST, 1, false));
        trips.handle_sent(begin + 25 * MS, &message(BINDING_REQUEST, 2, false));
        let mut came = |after: u32, number| {
            trips.handle_received(begin + after * MS, &message(BINDING_RESPONSE, number, false))
        };
        assert_eq!(came(100, 1), Some(100 * MS));
        assert_eq!(came(101, 1), None);
        assert_eq!(came(125, 2), Some(100 * MS));
        assert_eq!(came(130, 3), None, "nobody asked");
    }

    #[test]
    fn all_else_tells_nothing_and_is_forgotten() {
        let (mut trips, begin) = (RoundTrips::default(), Instant::now());
        trips.handle_sent(begin, &message(BINDING_REQUEST, 1, true));
        assert_eq!(trips.handle_received(begin, &message(BINDING_RESPONSE, 1, false)), None);
        for other in [&[][..], &[0, 1], &[22; 40], &message(BINDING_RESPONSE, 1, false)] {
            trips.handle_sent(begin, other);
            assert!(trips.sent.is_empty());
        }
        for number in 0..200 {
            trips.handle_sent(begin, &message(BINDING_REQUEST, number, false));
        }
        assert_eq!(trips.sent.len(), MOST);
        let answer = message(BINDING_RESPONSE, 199, false);
        assert_eq!(trips.handle_received(begin + MS, &answer), Some(MS), "the latest are kept");
    }
}
