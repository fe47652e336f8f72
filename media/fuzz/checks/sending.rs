//! What a peer can say to the sending side: feedback, requests for repairs, reports.

use std::time::{Duration, Instant};

use super::Records;
use crate::congestion::Limits;
use crate::rtp::circuit_breaker::CircuitBreaker;
use crate::rtp::pacer::Class;
use crate::rtp::send_history::Status;
use crate::rtp::sender::{Agreed, Outgoing, Sender};
use crate::units::Bitrate;

const LIMITS: Limits = Limits {
    min: Bitrate::from_kbps(60),
    start: Bitrate::from_kbps(200),
    max: Bitrate::from_kbps(3200),
};

/// Panics if `data` breaks something.
pub fn check(data: &[u8]) {
    let mut now = Instant::now();
    let mut sender = Sender::new(now, LIMITS);
    let mut breaker = CircuitBreaker::new();
    let mut number = 0_u16;
    for record in Records(data) {
        now += Duration::from_millis(u64::from(record.wait));
        sender.set_agreed(Agreed { feedback: record.flags & 1 == 0, rtx: record.flags & 2 == 0 });
        if sender.backlog() < 3600 {
            sender.push(Outgoing {
                class: Class::Video,
                number: Some(number),
                bytes: 60 + 4 * usize::from(record.wait),
                overhead: 58,
                numbered: record.flags & 4 == 0,
                packet: number,
            });
            number = number.wrapping_add(1);
        }
        let base = record.sequence_number;
        if record.flags & 8 == 0 {
            let statuses = record.payload.iter().map(|byte| match byte {
                0 => Status::Lost,
                1 => Status::Unknown,
                ticks => Status::Arrived(Duration::from_micros(
                    u64::from(record.timestamp) * 250 * u64::from(*ticks),
                )),
            });
            sender.handle_feedback(now, base, statuses);
        } else {
            let near = record.payload.iter().map(|back| number.wrapping_sub(u16::from(*back)));
            sender.handle_nack(now, near.chain([base]));
        }
        breaker.handle_sent(now, record.payload.len());
        let rtt = Some(Duration::from_millis(u64::from(base)));
        breaker.handle_report(now, record.flags, record.timestamp, rtt);
        breaker.handle_timeout(now);
        sender.handle_timeout(now);
        let mut burst = 0;
        while sender.poll(now).is_some() {
            burst += 1;
            assert!(burst < 200);
        }
        assert!(sender.backlog() < 80_000);
        assert!((LIMITS.min..=LIMITS.max).contains(&sender.target()));
        let _ = (sender.take_flush(), sender.poll_timeout(now), breaker.verdict(now));
    }
}
