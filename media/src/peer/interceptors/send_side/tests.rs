use std::time::Duration;

use super::*;
use rtc::interceptor::{RTCPFeedback, RTPHeaderExtension};
use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, SymbolTypeTcc,
};

const MS: Duration = Duration::from_millis(1);
const VIDEO: u32 = 7;
const RTX: u32 = 8;
const AUDIO: u32 = 9;
const FEC: u32 = 10;
const EXTENSION: u8 = 3;

fn stream(ssrc: u32, mime_type: &str, rtx: Option<u32>) -> StreamInfo {
    StreamInfo {
        ssrc,
        ssrc_rtx: rtx,
        payload_type_rtx: rtx.map(|_| 103),
        mime_type: mime_type.to_owned(),
        rtcp_feedback: vec![RTCPFeedback {
            typ: "transport-cc".to_owned(),
            parameter: String::new(),
        }],
        rtp_header_extensions: vec![RTPHeaderExtension {
            uri: rtc::sdp::extmap::TRANSPORT_CC_URI.to_owned(),
            id: u16::from(EXTENSION),
        }],
        ..StreamInfo::default()
    }
}

fn side(rtx: Option<u32>) -> (SendSide, Arc<Counters>, Arc<Flow>, Instant) {
    let (counters, flow, now) = (Arc::new(Counters::new()), Arc::<Flow>::default(), Instant::now());
    let mut side = SendSide::new(now, Arc::clone(&counters), Arc::clone(&flow), VIDEO, FEC);
    side.bind_local_stream(&stream(VIDEO, "video/H264", rtx));
    side.bind_local_stream(&stream(AUDIO, "audio/opus", None));
    (side, counters, flow, now)
}

fn write(side: &mut SendSide, now: Instant, ssrc: u32, number: u16, bytes: usize) {
    let mut packet = RtpPacket::default();
    packet.header.version = 2;
    packet.header.ssrc = ssrc;
    packet.header.sequence_number = number;
    packet.payload = vec![number as u8; bytes].into();
    let message = AttributedPacket::new(Packet::Rtp(packet));
    let transport = TransportContext::default();
    side.handle_write(TaggedPacket { now, transport, message }).expect("taken");
}

fn read(side: &mut SendSide, now: Instant, packet: Box<dyn rtc::rtcp::Packet>) {
    let message = AttributedPacket::new(Packet::Rtcp(vec![packet]));
    let transport = TransportContext::default();
    side.handle_read(TaggedPacket { now, transport, message }).expect("taken");
}

/// What leaves until then, with when.
fn run(side: &mut SendSide, from: Instant, length: Duration) -> Vec<(Duration, RtpPacket)> {
    let mut left = Vec::new();
    let mut now = from;
    loop {
        while let Some(message) = side.poll_write() {
            if let Packet::Rtp(packet) = message.message.packet {
                left.push((now - from, packet));
            }
        }
        let next = side.poll_timeout().map_or(from + length, |due| due.max(now + MS / 4));
        if next >= from + length {
            return left;
        }
        now = next;
        side.handle_timeout(now).expect("no error");
    }
}

fn transport_number(packet: &RtpPacket) -> u16 {
    let extension = packet.header.get_extension(EXTENSION).expect("numbered");
    u16::from_be_bytes([extension[0], extension[1]])
}

fn nack(numbers: impl IntoIterator<Item = u16>) -> Box<TransportLayerNack> {
    let nacks = numbers.into_iter().map(NackPair::new).collect();
    Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc: VIDEO, nacks })
}

#[test]
fn packets_are_paced_sound_first_and_numbered_as_they_leave() {
    let (mut side, counters, flow, now) = side(None);
    for number in 0..6 {
        write(&mut side, now, VIDEO, 100 + number, 1100);
    }
    write(&mut side, now, AUDIO, 5, 100);
    assert!(flow.queued() > 4000, "{}", flow.queued());
    let left = run(&mut side, now, 1000 * MS);
    let ssrcs: Vec<u32> = left.iter().map(|(_, packet)| packet.header.ssrc).collect();
    assert_eq!(ssrcs, [VIDEO, AUDIO, VIDEO, VIDEO, VIDEO, VIDEO, VIDEO]);
    let numbers: Vec<u16> = left.iter().map(|(_, packet)| transport_number(packet)).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
    // The rest of it at the start's pace, 250 kbit/s, after a probe of 600.
    let last = left.last().expect("packets").0;
    assert!((100 * MS..260 * MS).contains(&last), "{last:?}");
    assert_eq!(flow.queued(), 0);
    assert_eq!(counters.sending().expect("known").target, LIMITS.start);
}

#[test]
fn repairs_are_wrapped_numbered_and_bounded_under_a_flood() {
    let (mut side, counters, _, now) = side(Some(RTX));
    write(&mut side, now, VIDEO, 100, 900);
    write(&mut side, now, VIDEO, 101, 900);
    let first = run(&mut side, now, 500 * MS);
    let media = |packet: &RtpPacket| packet.header.ssrc == VIDEO;
    assert_eq!(first.iter().filter(|(_, packet)| media(packet)).count(), 2);
    let mut repairs = Vec::new();
    for step in 0..1000_u32 {
        let now = now + 500 * MS + step * MS;
        read(&mut side, now, nack((0..200).map(|n| 90 + n)));
        read(&mut side, now, nack([101, 101, 101]));
        repairs.extend(run(&mut side, now, MS));
    }
    // Two packets in a second, each at most every 100 ms, and 25 % of 200 kbit/s in all.
    assert!((4..=20).contains(&repairs.len()), "{}", repairs.len());
    let bytes: usize = repairs.iter().map(|(_, packet)| packet.payload.len()).sum();
    assert!(bytes < 13_000, "{bytes}");
    for (_, packet) in &repairs {
        assert_eq!((packet.header.ssrc, packet.header.payload_type), (RTX, 103));
        assert!(matches!(packet.payload[..], [0, 100 | 101, ..]));
        transport_number(packet);
    }
    let mut counted = 0;
    counters.video_out(|flow| counted = flow.retransmitted);
    assert!(counted.abs_diff(repairs.len() as u64) <= 2);
}

#[test]
fn padding_of_probes_is_retransmission_and_absent_without_rtx() {
    for rtx in [None, Some(RTX)] {
        let (mut side, _, _, now) = side(rtx);
        write(&mut side, now, VIDEO, 100, 450);
        let left = run(&mut side, now, 100 * MS);
        let padding: Vec<_> = left.iter().filter(|(_, p)| p.header.ssrc == RTX).collect();
        assert_eq!(left.len() - padding.len(), 1);
        assert_eq!(padding.len(), if rtx.is_some() { 4 } else { 0 });
        let numbers: Vec<u16> = padding.iter().map(|(_, p)| p.header.sequence_number).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
    }
}

#[test]
fn feedback_raises_the_rate_by_the_probe() {
    let (mut side, counters, _, now) = side(Some(RTX));
    (0..4).for_each(|number| write(&mut side, now, VIDEO, number, 1100));
    let left = run(&mut side, now, 300 * MS);
    let mut before = Duration::ZERO;
    let deltas = left.iter().map(|(at, _)| {
        let delta = (*at - before).as_micros() as i64;
        before = *at;
        RecvDelta { type_tcc_packet: SymbolTypeTcc::PacketReceivedSmallDelta, delta }
    });
    let feedback = TransportLayerCc {
        base_sequence_number: 0,
        packet_status_count: left.len() as u16,
        reference_time: 77,
        packet_chunks: vec![PacketStatusChunk::RunLengthChunk(RunLengthChunk {
            type_tcc: StatusChunkTypeTcc::RunLengthChunk,
            packet_status_symbol: SymbolTypeTcc::PacketReceivedSmallDelta,
            run_length: left.len() as u16,
        })],
        recv_deltas: deltas.collect(),
        ..TransportLayerCc::default()
    };
    read(&mut side, now + 300 * MS, Box::new(feedback));
    let target = counters.sending().expect("known").target.kbps();
    assert!((500.0..620.0).contains(&target), "{target}");
}

#[test]
fn what_is_not_announced_is_paced_as_a_repair_and_not_numbered() {
    let (mut side, _, _, now) = side(None);
    for (ssrc, number) in [(VIDEO, 1), (VIDEO, 2), (77, 3), (77, 4)] {
        write(&mut side, now, ssrc, number, 1100);
    }
    let left = run(&mut side, now, 1000 * MS);
    let order: Vec<u16> = left.iter().map(|(_, packet)| packet.header.sequence_number).collect();
    assert_eq!(order, [1, 3, 4, 2]);
    assert!(left[1].1.header.get_extension(EXTENSION).is_none());
    assert_eq!(transport_number(&left[3].1), 1);
    assert!(left.windows(2).all(|pair| pair[1].0 > pair[0].0), "one at a time");
}

#[test]
fn video_that_does_not_arrive_becomes_a_trickle() {
    let (mut side, counters, _, mut now) = side(None);
    for second in 0..5_u16 {
        write(&mut side, now, VIDEO, second, 1000);
        run(&mut side, now, 100 * MS);
        now += Duration::from_secs(1);
        let report = ReceptionReport { ssrc: VIDEO, last_sequence_number: 7, ..Default::default() };
        read(
            &mut side,
            now,
            Box::new(ReceiverReport { reports: vec![report], ..Default::default() }),
        );
    }
    assert!(counters.sending().expect("known").target <= TRICKLE);
}
