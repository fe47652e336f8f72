//! Numbers and times of packets that come, and reports about those that left.

use std::time::{Duration, Instant};

use super::Records;
use crate::rtp::feedback::{PathReports, ReceiveStatistics, ReportBlock};
use crate::rtp::nack::{NackGenerator, NackPair, nack_pairs};

/// Panics if `data` breaks something.
pub fn check(data: &[u8]) {
    let mut now = Instant::now();
    let mut nack = NackGenerator::default();
    let mut statistics = ReceiveStatistics::new(1, 90_000);
    let mut path = PathReports::new(1, 90_000);
    for record in Records(data) {
        now += Duration::from_millis(u64::from(record.wait));
        nack.handle_received(record.sequence_number, now);
        let rtt = Duration::from_millis(u64::from(record.flags));
        let wanted = nack.poll(now, Some(rtt));
        assert!(wanted.len() <= 500);
        let named: Vec<u16> =
            nack_pairs(&wanted).into_iter().flat_map(NackPair::sequence_numbers).collect();
        assert_eq!(named, wanted);

        let (number, timestamp) = (record.sequence_number, record.timestamp);
        statistics.handle_packet(now, number, timestamp, record.payload.len());
        let block = ReportBlock { last_sender_report: timestamp, ..statistics.report(now) };
        path.handle_report(now, u64::from(timestamp) << 8, &block);
        assert!(path.loss().is_some_and(|loss| (0.0..=1.0).contains(&loss)));
    }
}
