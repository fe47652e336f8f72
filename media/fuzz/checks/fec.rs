//! Messages and repair packets of one of our own, and what is told of losses.

use std::time::Duration;

use super::Records;
use crate::rtp::app_message::{AppMessage, PictureFeedback};
use crate::rtp::fec::{FecDecoder, FecEncoder, Media, PathLoss, strength};
use crate::rtp::losses::LossMeter;
use crate::units::Bitrate;

const SSRC: u32 = 0x0102_0304;

/// Panics if `data` breaks something.
pub fn check(data: &[u8]) {
    if let Some(message) = AppMessage::parse(data) {
        assert_eq!(AppMessage::parse(&message.to_bytes(1)), Some(message));
        PictureFeedback::from_message(message, SSRC);
    }
    let mut encoder = FecEncoder::new(SSRC);
    // One hears what the fuzzer says, the other what the encoder makes of it.
    let (mut hostile, mut honest) = (FecDecoder::new(SSRC), FecDecoder::new(SSRC));
    let mut meter = LossMeter::new();
    let mut path = PathLoss::default();
    for record in Records(data) {
        let media = Media {
            sequence_number: record.sequence_number,
            timestamp: record.timestamp,
            marker: record.flags & 1 == 1,
            payload_type: record.flags >> 1,
            payload: record.payload,
        };
        meter.handle_received(media.sequence_number);
        let losses = meter.take();
        path.handle_report(losses.expected, losses.lost, losses.runs);
        assert!((0.0..=1.0).contains(&path.loss()) && path.mean_run() >= 1.0);
        encoder.handle_media(&media);
        if record.flags & 2 == 0 {
            hostile.handle_media(&media);
            honest.handle_media(&media);
        }
        if record.flags & 4 == 4 {
            let rtt = Duration::from_millis(u64::from(record.wait) * 4);
            let packets = encoder.open_packets();
            let seldom = record.flags & 8 == 8;
            let target = Bitrate::from_kbps(u64::from(record.wait) * 20);
            let mut strength = strength(packets, media.marker, seldom, &path, Some(rtt), target);
            assert!(strength.repairs <= packets);
            strength.repairs = usize::from(record.flags >> 5);
            for repair in encoder.finish_frame(strength) {
                honest.handle_repair(&repair);
                let mut bent = repair;
                if let Some(byte) = bent.get_mut(usize::from(record.wait)) {
                    *byte ^= record.flags;
                }
                hostile.handle_repair(&bent);
            }
        }
        hostile.handle_repair(record.payload);
    }
}
