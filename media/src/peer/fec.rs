//! Forward error correction in the interceptor chain: [`FecSender`] makes repair packets for the
//! pictures that leave, [`FecReceiver`] restores what the network lost.
//!
//! Nothing of it is negotiated in SDP. Each receiver tells in RTCP what it lost
//! ([`AppMessage::Losses`]); only who hears that sends repairs. A browser neither says nor gets
//! anything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{
    Attribute, AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket,
};
use rtc::rtcp::raw_packet::RawPacket;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use super::overflow::Overflow;
use crate::rtp::app_message::{AppMessage, PictureFeedback};
use crate::rtp::fec::{FecDecoder, FecEncoder, Media, PAYLOAD_TYPE, PathLoss, Recovered, strength};
use crate::rtp::h264_depacketize::inspect;
use crate::rtp::losses::LossMeter;
use crate::stats::Counters;

/// A frame of more packets gets repairs on the way: one window holds no more than 64.
const BLOCK: usize = 32;

/// Frames further apart than this (45 ms at 90 kHz) are no motion that could slow down.
const SELDOM: u32 = 4_050;

/// How often losses are told to one of our own, and to somebody who has not said that he is.
const REPORT: Duration = Duration::from_millis(200);
const RARE_REPORT: Duration = Duration::from_secs(1);

/// No repairs for so long: none are on their way.
const REPAIRS_STOPPED: Duration = Duration::from_secs(1);

/// The message in an RTCP packet, if it is one of ours.
fn app_message(packet: &dyn rtc::rtcp::Packet) -> Option<AppMessage> {
    AppMessage::parse(&packet.as_any().downcast_ref::<RawPacket>()?.0)
}

fn media(packet: &rtc::rtp::Packet) -> Media<'_> {
    Media {
        sequence_number: packet.header.sequence_number,
        timestamp: packet.header.timestamp,
        marker: packet.header.marker,
        payload_type: packet.header.payload_type,
        payload: &packet.payload,
    }
}

/// Adds repair packets to the pictures that leave, as strong as the path needs.
pub(super) struct FecSender {
    counters: Arc<Counters>,
    media_ssrc: u32,
    ssrc: u32,
    sequence_number: u16,
    encoder: FecEncoder,
    /// Once the other end has told of losses.
    path: Option<PathLoss>,
    overflow: Overflow,
    /// The frame under way has a part of a key frame.
    key_frame: bool,
    /// RTP timestamp of the last frame, or block of one, that was finished.
    finished: u32,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl FecSender {
    /// Protects the stream `media_ssrc` under the SSRC `ssrc`.
    pub(super) fn new(counters: Arc<Counters>, media_ssrc: u32, ssrc: u32) -> Self {
        Self {
            counters,
            media_ssrc,
            ssrc,
            sequence_number: rand::random::<u16>() >> 1,
            encoder: FecEncoder::new(media_ssrc),
            path: None,
            overflow: Overflow::default(),
            key_frame: false,
            finished: 0,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    fn handle_rtcp(&mut self, now: Instant, packet: &dyn rtc::rtcp::Packet) {
        let state = self.counters.sending().map(|sending| sending.state);
        let overflowing = self.overflow.handle_state(now, state, self.counters.rtt());
        let Some(message) = app_message(packet) else {
            return;
        };
        self.counters.set_peer_is_ours();
        if let AppMessage::Losses { ssrc, expected, lost, runs } = message
            && ssrc == self.media_ssrc
        {
            let path = self.path.get_or_insert_default();
            if !overflowing {
                path.handle_report(expected, lost, runs);
            }
        } else if let Some(said) = PictureFeedback::from_message(message, self.media_ssrc) {
            self.counters.add_picture_feedback(said);
        }
    }

    /// The repairs that are due behind this packet.
    fn repairs(&mut self, packet: &rtc::rtp::Packet) -> Vec<rtc::rtp::Packet> {
        let Some(path) = self.path.filter(|_| packet.header.ssrc == self.media_ssrc) else {
            return Vec::new();
        };
        self.encoder.handle_media(&media(packet));
        self.key_frame |= inspect(&packet.payload).key;
        let packets = self.encoder.open_packets();
        if !packet.header.marker && packets < BLOCK {
            return Vec::new();
        }
        let since = packet.header.timestamp.wrapping_sub(self.finished);
        self.finished = packet.header.timestamp;
        let (seldom, rtt) = (since > SELDOM, self.counters.rtt());
        let strength = strength(packets, self.key_frame, seldom, &path, rtt);
        self.key_frame &= !packet.header.marker;
        let payloads = self.encoder.finish_frame(strength);
        payloads.into_iter().map(|payload| self.packet(packet.header.timestamp, payload)).collect()
    }

    fn packet(&mut self, timestamp: u32, payload: Vec<u8>) -> rtc::rtp::Packet {
        let mut repair = rtc::rtp::Packet::default();
        repair.header.version = 2;
        repair.header.payload_type = PAYLOAD_TYPE;
        repair.header.sequence_number = self.sequence_number;
        repair.header.timestamp = timestamp;
        repair.header.ssrc = self.ssrc;
        repair.payload = payload.into();
        self.sequence_number = self.sequence_number.wrapping_add(1);
        repair
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for FecSender {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            packets.iter().for_each(|packet| self.handle_rtcp(msg.now, packet.as_ref()));
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let repairs = match &msg.message.packet {
            Packet::Rtp(packet) => self.repairs(packet),
            _ => Vec::new(),
        };
        let (now, transport) = (msg.now, msg.transport);
        self.write.push_back(msg);
        self.write.extend(repairs.into_iter().map(|repair| TaggedPacket {
            now,
            transport,
            message: AttributedPacket::new(Packet::Rtp(repair)),
        }));
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for FecSender {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

/// Restores lost packets of the remote pictures, and tells the other end what was lost.
///
/// It stands behind everything that measures the network, so that what was restored counts as
/// lost there, and before what asks for lost packets, which then does not.
pub(super) struct FecReceiver {
    counters: Arc<Counters>,
    sender_ssrc: u32,
    streams: HashMap<u32, Stream>,
    /// RTX SSRC to the SSRC it repairs.
    retransmissions: HashMap<u32, u32>,
    repaired_at: Option<Instant>,
    report_at: Option<Instant>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

struct Stream {
    decoder: FecDecoder,
    meter: LossMeter,
    payload_type: u8,
}

impl FecReceiver {
    pub(super) fn new(counters: Arc<Counters>, sender_ssrc: u32) -> Self {
        Self {
            counters,
            sender_ssrc,
            streams: HashMap::new(),
            retransmissions: HashMap::new(),
            repaired_at: None,
            report_at: None,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    /// What this packet made known, and whether the packet itself goes on.
    fn handle_rtp(
        &mut self,
        now: Instant,
        packet: &rtc::rtp::Packet,
    ) -> (bool, Vec<(u32, Recovered)>) {
        let ssrc = packet.header.ssrc;
        if let Some(stream) = self.streams.get_mut(&ssrc) {
            stream.meter.handle_received(packet.header.sequence_number);
            self.report_at.get_or_insert(now + REPORT);
            return (true, tag(ssrc, stream.decoder.handle_media(&media(packet))));
        }
        if let Some(media_ssrc) = self.retransmissions.get(&ssrc) {
            let media_ssrc = *media_ssrc;
            let recovered = self.handle_retransmission(media_ssrc, packet);
            return (true, tag(media_ssrc, recovered));
        }
        if packet.header.payload_type != PAYLOAD_TYPE {
            return (true, Vec::new());
        }
        self.repaired_at = Some(now);
        self.counters.set_peer_is_ours();
        // Only the stream that the repair names takes it.
        let recovered = self.streams.iter_mut().find_map(|(ssrc, stream)| {
            let found = stream.decoder.handle_repair(&packet.payload);
            (!found.is_empty()).then(|| tag(*ssrc, found))
        });
        (false, recovered.unwrap_or_default())
    }

    /// RFC 4588 section 4: the original sequence number leads the payload.
    fn handle_retransmission(
        &mut self,
        media_ssrc: u32,
        packet: &rtc::rtp::Packet,
    ) -> Vec<Recovered> {
        let Some((&[high, low], payload)) = packet.payload.split_first_chunk::<2>() else {
            return Vec::new();
        };
        let Some(stream) = self.streams.get_mut(&media_ssrc) else {
            return Vec::new();
        };
        stream.decoder.handle_media(&Media {
            sequence_number: u16::from_be_bytes([high, low]),
            payload_type: stream.payload_type,
            payload,
            ..media(packet)
        })
    }

    fn report(&mut self, now: Instant) {
        for (&ssrc, stream) in &mut self.streams {
            let losses = stream.meter.take();
            if losses.expected == 0 {
                continue;
            }
            let (expected, lost, runs) = (losses.expected, losses.lost, losses.runs);
            let message = AppMessage::Losses { ssrc, expected, lost, runs };
            let bytes = message.to_bytes(self.sender_ssrc);
            self.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(vec![Box::new(RawPacket(
                    bytes.into(),
                ))])),
            });
        }
    }
}

fn tag(ssrc: u32, recovered: Vec<Recovered>) -> Vec<(u32, Recovered)> {
    recovered.into_iter().map(|packet| (ssrc, packet)).collect()
}

fn rtp_packet(ssrc: u32, recovered: Recovered) -> rtc::rtp::Packet {
    let mut packet = rtc::rtp::Packet::default();
    packet.header.version = 2;
    packet.header.marker = recovered.marker;
    packet.header.payload_type = recovered.payload_type;
    packet.header.sequence_number = recovered.sequence_number;
    packet.header.timestamp = recovered.timestamp;
    packet.header.ssrc = ssrc;
    packet.payload = recovered.payload;
    packet
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for FecReceiver {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let (now, transport) = (msg.now, msg.transport);
        let (goes_on, recovered) = match &msg.message.packet {
            Packet::Rtp(packet) => self.handle_rtp(now, packet),
            _ => (true, Vec::new()),
        };
        if goes_on {
            self.read.push_back(msg);
        }
        if !recovered.is_empty() {
            self.counters.video_in(|flow| flow.recovered += recovered.len() as u64);
        }
        self.read.extend(recovered.into_iter().map(|(ssrc, packet)| {
            TaggedPacket {
                now,
                transport,
                message: AttributedPacket::new(Packet::Rtp(rtp_packet(ssrc, packet)))
                    .with(Attribute::RecoveredByFec),
            }
        }));
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.report_at.is_some_and(|at| now >= at) {
            self.report(now);
            self.report_at =
                Some(now + if self.counters.peer_is_ours() { REPORT } else { RARE_REPORT });
            let coming = self.repaired_at.is_some_and(|at| now < at + REPAIRS_STOPPED);
            self.counters.set_fec_coming(coming);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.report_at
    }
}

impl Interceptor for FecReceiver {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        // The stack binds the RTX stream too, with the codec of the one it repairs.
        if !info.mime_type.starts_with("video/") || self.retransmissions.contains_key(&info.ssrc) {
            return;
        }
        self.streams.entry(info.ssrc).or_insert_with(|| Stream {
            decoder: FecDecoder::new(info.ssrc),
            meter: LossMeter::new(),
            payload_type: info.payload_type,
        });
        if let Some(rtx) = info.ssrc_rtx {
            self.retransmissions.insert(rtx, info.ssrc);
            self.streams.remove(&rtx);
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
        self.retransmissions.retain(|_, media| *media != info.ssrc);
    }
}

#[cfg(test)]
mod tests;
