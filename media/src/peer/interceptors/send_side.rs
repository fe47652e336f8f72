//! Everything between numbering and the wire, in one place of the chain: pacing, retransmission,
//! transport-wide numbers, congestion control. The stock parts for these were measured unfit, or
//! leave retransmissions unnumbered and unbounded. The rules are in [`crate::rtp::sender`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;

use super::feedback::Reader;
use crate::congestion::Limits;
use crate::peer::flow::Flow;
use crate::rtp::circuit_breaker::{CircuitBreaker, Verdict};
use crate::rtp::pacer::Class;
use crate::rtp::sender::{Agreed, Kind, Outgoing, Sender, Sent};
use crate::stats::{Counters, Sending};
use crate::units::Bitrate;

type RtpPacket = rtc::rtp::Packet;

/// What the controller may choose between, for audio and video of one call. The start is what even
/// the narrowest link carries; a probe tells within the first tenths of a second what more there is.
pub(in crate::peer) const LIMITS: Limits = Limits {
    min: Bitrate::from_kbps(60),
    start: Bitrate::from_kbps(200),
    max: Bitrate::from_kbps(3_200),
};

/// With the circuit breaker open: so little harms nobody, and shows when the path is back. Pictures
/// that stopped for ten seconds after a cable was plugged in again were worse (RFC 8083 section 4.5
/// lets a sender lower its rate to a tenth first).
const TRICKLE: Bitrate = Bitrate::from_kbps(120);

/// Added to an RTP packet on its way: the transport-wide number (8), SRTP's tag (10), UDP and
/// IPv4 (28).
const ADDED: usize = 46;

/// A NACK asks for no more packets than this; there are 17 in a pair, and the message is finite.
const MAX_ASKED: usize = 1024;

struct Stream {
    class: Class,
    /// Id of the header extension with the transport-wide number.
    extension: Option<u8>,
    /// SSRC and payload type of retransmissions.
    rtx: Option<(u32, u8)>,
}

/// Paces, numbers, repeats, and adapts to what comes back.
pub(in crate::peer) struct SendSide {
    sender: Sender<RtpPacket>,
    breaker: CircuitBreaker,
    feedback: Reader,
    counters: Arc<Counters>,
    flow: Arc<Flow>,
    video_ssrc: u32,
    /// Of repairs made ahead, which nobody negotiates.
    fec_ssrc: u32,
    streams: HashMap<u32, Stream>,
    rtx_sequence_number: u16,
    /// The time as last told.
    now: Instant,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl SendSide {
    pub(in crate::peer) fn new(
        now: Instant,
        counters: Arc<Counters>,
        flow: Arc<Flow>,
        video_ssrc: u32,
        fec_ssrc: u32,
    ) -> Self {
        let mut new = Self {
            sender: Sender::new(now, LIMITS),
            breaker: CircuitBreaker::new(),
            feedback: Reader::default(),
            counters,
            flow,
            video_ssrc,
            fec_ssrc,
            streams: HashMap::new(),
            rtx_sequence_number: rand::random::<u16>() >> 1,
            now,
            read: VecDeque::new(),
            write: VecDeque::new(),
        };
        new.publish(now);
        new
    }

    fn push(&mut self, packet: RtpPacket) {
        let stream = self.streams.get(&packet.header.ssrc);
        let is_video = packet.header.ssrc == self.video_ssrc;
        if is_video {
            self.flow.note_entered();
        }
        let bytes = packet.marshal_size() + ADDED;
        self.sender.push(Outgoing {
            // What nobody announced repairs what somebody did; feedback does not cover it.
            class: stream.map_or(Class::Repair, |stream| stream.class),
            number: is_video.then_some(packet.header.sequence_number),
            bytes,
            overhead: bytes - packet.payload.len(),
            numbered: stream.is_some_and(|stream| stream.extension.is_some()),
            packet,
        });
    }

    /// Lets out what may leave, and tells the others how things stand.
    fn pump(&mut self, now: Instant) {
        self.now = now;
        self.sender.set_upstream(self.flow.upstream());
        self.sender.set_has_fec(self.counters.peer_is_ours());
        let verdict = self.breaker.verdict(now);
        self.sender.set_limit(match verdict {
            Verdict::Limited(limit) => Some(limit),
            Verdict::Open => Some(TRICKLE),
            Verdict::Closed => None,
        });
        if self.sender.take_flush() {
            self.flow.flush();
            self.counters.request_key_frame();
        }
        while let Some(sent) = self.sender.poll(now) {
            let packet = self.finish(now, sent);
            self.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtp(packet)),
            });
        }
        self.publish(now);
    }

    /// The packet as it goes to the wire.
    fn finish(&mut self, now: Instant, sent: Sent<RtpPacket>) -> RtpPacket {
        let stream = self.streams.get(&sent.packet.header.ssrc);
        let rtx = stream.and_then(|stream| stream.rtx);
        let mut packet = match (sent.kind, rtx) {
            (Kind::First, _) | (_, None) => sent.packet,
            (_, Some((ssrc, payload_type))) => {
                let number = self.rtx_sequence_number;
                self.rtx_sequence_number = number.wrapping_add(1);
                retransmission(&sent.packet, ssrc, payload_type, number)
            }
        };
        if sent.kind == Kind::First && packet.header.ssrc == self.video_ssrc {
            self.breaker.handle_sent(now, packet.payload.len());
        }
        if let (Some(id), Some(number)) = (stream.and_then(|s| s.extension), sent.number) {
            let number = Bytes::copy_from_slice(&number.to_be_bytes());
            if let Err(error) = packet.header.set_extension(id, number) {
                tracing::debug!(%error, "a packet without its transport-wide number");
            }
        }
        packet
    }

    fn publish(&mut self, now: Instant) {
        self.flow.set_queued(self.sender.backlog());
        self.counters.set_sending(Sending {
            target: self.sender.target(),
            video: self.sender.video_budget(),
            pace: self.sender.pacing_rate(),
            may_encode: self.sender.may_encode(now),
            queue: self.sender.queue(),
            state: self.sender.state(),
        });
    }

    fn handle_rtcp(&mut self, now: Instant, packet: &dyn rtc::rtcp::Packet) {
        let any = packet.as_any();
        if let Some(message) = any.downcast_ref::<TransportLayerCc>() {
            let statuses = self.feedback.read(message);
            self.sender.handle_feedback(now, message.base_sequence_number, statuses);
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            if nack.media_ssrc == self.video_ssrc {
                let numbers = nack.nacks.iter().flat_map(NackPair::packet_list);
                let repaired = self.sender.handle_nack(now, numbers.take(MAX_ASKED));
                self.counters.add_retransmitted_out(repaired as u64);
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.handle_reports(now, &report.reports);
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.handle_reports(now, &report.reports);
        }
    }

    fn handle_reports(&mut self, now: Instant, reports: &[ReceptionReport]) {
        for report in reports.iter().filter(|report| report.ssrc == self.video_ssrc) {
            let (lost, highest) = (report.fraction_lost, report.last_sequence_number);
            self.breaker.handle_report(now, lost, highest, self.counters.rtt());
        }
    }

    fn agree(&mut self) {
        let video = self.streams.get(&self.video_ssrc);
        self.sender.set_agreed(Agreed {
            feedback: video.is_some_and(|stream| stream.extension.is_some()),
            rtx: video.is_some_and(|stream| stream.rtx.is_some()),
        });
    }
}

/// RFC 4588 section 4: a stream and numbers of its own, the original number first.
fn retransmission(packet: &RtpPacket, ssrc: u32, payload_type: u8, number: u16) -> RtpPacket {
    let mut payload = Vec::with_capacity(packet.payload.len() + 2);
    payload.extend_from_slice(&packet.header.sequence_number.to_be_bytes());
    payload.extend_from_slice(&packet.payload);
    let mut again = RtpPacket::default();
    again.header.version = 2;
    again.header.marker = packet.header.marker;
    again.header.payload_type = payload_type;
    again.header.sequence_number = number;
    again.header.timestamp = packet.header.timestamp;
    again.header.ssrc = ssrc;
    again.payload = payload.into();
    again
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for SendSide {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            for packet in packets {
                self.handle_rtcp(msg.now, packet.as_ref());
            }
            self.pump(msg.now);
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        match msg.message.packet {
            Packet::Rtp(packet) => {
                self.push(packet);
                self.pump(msg.now);
            }
            _ => self.write.push_back(msg), // RTCP is small, and worth something only fresh
        }
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.sender.handle_timeout(now);
        self.breaker.handle_timeout(now);
        self.pump(now);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let breaker = self.breaker.poll_timeout();
        self.sender.poll_timeout(self.now).into_iter().chain(breaker).min()
    }
}

impl Interceptor for SendSide {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        let uri = rtc::sdp::extmap::TRANSPORT_CC_URI;
        let extension = info.rtp_header_extensions.iter().find(|extension| extension.uri == uri);
        let feedback = info.rtcp_feedback.iter().any(|fb| fb.typ == "transport-cc");
        let extension = extension
            .filter(|_| feedback)
            .and_then(|extension| u8::try_from(extension.id).ok())
            .filter(|id| *id != 0);
        let audio = info.mime_type.to_ascii_lowercase().starts_with("audio/");
        let class = if audio { Class::Audio } else { Class::Video };
        let rtx = info.ssrc_rtx.zip(info.payload_type_rtx);
        self.streams.insert(info.ssrc, Stream { class, extension, rtx });
        if info.ssrc == self.video_ssrc {
            let repairs = Stream { class: Class::Repair, extension, rtx: None };
            self.streams.insert(self.fec_ssrc, repairs);
        }
        self.agree();
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
        if info.ssrc == self.video_ssrc {
            self.streams.remove(&self.fec_ssrc);
        }
        self.agree();
    }

    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests;
