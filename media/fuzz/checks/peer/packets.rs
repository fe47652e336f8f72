//! RTP and RTCP as they come out of SRTP, through the interceptors of a call and on to where
//! pictures and sound are put together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{
    AttributedPacket, Interceptor, Packet, RTCPFeedback, RTPHeaderExtension, StreamInfo,
    TaggedPacket,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::marshal::{Marshal, Unmarshal};

use crate::peer::{flow::Flow, offer, playout_delay};
use crate::rtp::assemble::{Assembler, RtpPacket};
use crate::rtp::red;
use crate::sound::jitter::JitterBuffer;
use crate::stats::Counters;
use crate::video_codec::VideoCodec;

const OUR_VIDEO: u32 = 1;
const OUR_RTX: u32 = 2;
const OUR_AUDIO: u32 = 3;
const THEIR_VIDEO: u32 = 0x0101_0101;
const THEIR_RTX: u32 = 0x0202_0202;
const THEIR_AUDIO: u32 = 0x0303_0303;
const RED: u8 = 63;
/// What one packet, or a quarter of a second, may set off.
const MOST: usize = 2000;

/// Panics if the packets of `data` break something, or set off too much. Each is led by a byte
/// that says what it is, one for the time since the one before, and one for its length.
pub fn check(data: &[u8]) {
    let counters = Arc::new(Counters::new());
    let flow = Arc::<Flow>::default();
    let mut engine = offer::media_engine().expect("our codecs");
    let registry = offer::interceptor_chain(&mut engine, &counters, &flow, (OUR_VIDEO, OUR_AUDIO));
    let mut chain = registry.expect("our interceptors").build();
    chain.bind_local_stream(&stream(OUR_VIDEO, "video/H264", Some(OUR_RTX)));
    chain.bind_local_stream(&stream(OUR_AUDIO, "audio/opus", None));
    chain.bind_remote_stream(&stream(THEIR_VIDEO, "video/H264", Some(THEIR_RTX)));
    chain.bind_remote_stream(&stream(THEIR_RTX, "video/rtx", None));
    chain.bind_remote_stream(&stream(THEIR_AUDIO, "audio/opus", None));
    let mut ends = Ends::default();
    let (mut now, mut number, mut rest) = (Instant::now(), 0_u16, data);
    while let Some((&[control, wait, length], after)) = rest.split_first_chunk::<3>() {
        let (bytes, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        now += Duration::from_millis(u64::from(wait));
        let transport = TransportContext::default();
        let tagged =
            |packet| TaggedPacket { now, transport, message: AttributedPacket::new(packet) };
        match control & 3 {
            0 => {
                if let Some(packet) = rtp(control, bytes) {
                    let _ = chain.handle_read(tagged(Packet::Rtp(packet)));
                }
            }
            1 | 2 => {
                // As the stack does it.
                let mut bytes = Bytes::from(named(control, bytes));
                if let Ok(packets) = rtc::rtcp::packet::unmarshal(&mut bytes) {
                    let _ = chain.handle_read(tagged(Packet::Rtcp(packets)));
                }
            }
            _ => {
                let mut packet = rtc::rtp::Packet::default();
                packet.header.version = 2;
                packet.header.marker = control & 4 == 4;
                packet.header.sequence_number = number;
                packet.header.timestamp = u32::from(number) * 3000;
                packet.header.ssrc = if control & 8 == 0 { OUR_VIDEO } else { OUR_AUDIO };
                packet.payload = Bytes::copy_from_slice(bytes);
                number = number.wrapping_add(1);
                let _ = chain.handle_write(tagged(Packet::Rtp(packet)));
            }
        }
        let _ = chain.handle_timeout(now);
        let mut passed = 0;
        while let Some(message) = chain.poll_read() {
            passed += 1;
            if let Packet::Rtp(packet) = message.message.packet {
                ends.handle_packet(now, packet);
            }
        }
        while let Some(message) = chain.poll_write() {
            passed += 1;
            match message.message.packet {
                Packet::Rtp(packet) => drop(packet.marshal().expect("ours can be written")),
                Packet::Rtcp(packets) => {
                    drop(rtc::rtcp::packet::marshal(&packets).expect("ours can be written"));
                }
                _ => {}
            }
        }
        assert!(passed < MOST, "{passed} packets of one");
        chain.poll_timeout();
        counters.sync(|sync| assert!(sync.hold(now, u32::from(number)) < Duration::from_secs(1)));
    }
}

fn stream(ssrc: u32, mime_type: &str, ssrc_rtx: Option<u32>) -> StreamInfo {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    let uris = [rtc::sdp::extmap::TRANSPORT_CC_URI, rtc::sdp::extmap::SDES_MID_URI];
    let uris = uris.into_iter().chain([playout_delay::URI]).zip(1..);
    StreamInfo {
        ssrc,
        ssrc_rtx,
        payload_type: 102,
        payload_type_rtx: ssrc_rtx.map(|_| 103),
        clock_rate: if mime_type.starts_with("audio") { 48_000 } else { 90_000 },
        mime_type: mime_type.to_owned(),
        rtcp_feedback: vec![feedback("transport-cc", ""), feedback("nack", "")],
        rtp_header_extensions: uris
            .map(|(uri, id)| RTPHeaderExtension { uri: uri.to_owned(), id })
            .collect(),
        ..StreamInfo::default()
    }
}

/// A packet of one of the streams, as chance hardly ever finds them.
fn rtp(control: u8, bytes: &[u8]) -> Option<rtc::rtp::Packet> {
    let mut bytes = bytes.to_vec();
    let ssrc =
        [THEIR_VIDEO, THEIR_RTX, THEIR_AUDIO][usize::from(control >> 2 & 3).checked_sub(1)?];
    bytes.get_mut(8..12)?.copy_from_slice(&ssrc.to_be_bytes());
    rtc::rtp::Packet::unmarshal(&mut Bytes::from(bytes)).ok()
}

/// RTCP that is about one of the streams: where feedback, a receiver's and a sender's report name
/// it.
fn named(control: u8, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let (at, ssrc) = match control >> 2 & 7 {
        0 => (8, OUR_VIDEO),
        1 => (8, OUR_AUDIO),
        2 => (28, OUR_VIDEO),
        3 => (4, THEIR_VIDEO),
        4 => (4, THEIR_AUDIO),
        _ => (12, OUR_VIDEO),
    };
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&ssrc.to_be_bytes());
    }
    bytes
}

/// Where packets end up.
struct Ends {
    pictures: [Assembler; 2],
    sound: JitterBuffer,
}

impl Default for Ends {
    fn default() -> Self {
        Self { pictures: VideoCodec::ALL.map(Assembler::of), sound: JitterBuffer::new() }
    }
}

impl Ends {
    fn handle_packet(&mut self, now: Instant, packet: rtc::rtp::Packet) {
        let (number, timestamp) = (packet.header.sequence_number, packet.header.timestamp);
        if packet.header.ssrc != THEIR_AUDIO {
            for assembler in &mut self.pictures {
                assembler.handle_packet(
                    now,
                    RtpPacket {
                        sequence_number: number,
                        timestamp,
                        marker: packet.header.marker,
                        payload: packet.payload.clone(),
                    },
                );
                while assembler.poll_frame(now).is_some() {}
                while assembler.poll_event().is_some() {}
            }
        } else if packet.header.payload_type != RED {
            self.sound.handle_packet(now, number, timestamp, packet.payload);
        } else if let Ok(red) = red::parse(&packet.payload) {
            self.sound.handle_packet(now, number, timestamp, red.payload);
            for copy in red.copies {
                self.sound.handle_copy(now, copy.offset, copy.payload);
            }
        }
        self.sound.poll_frame(now);
    }
}
