//! Restores what was lost, and tells of it.

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

use super::media;
use crate::rtp::app_message::AppMessage;
use crate::rtp::fec::{FecDecoder, Media, PAYLOAD_TYPE, Recovered, protected_ssrc};
use crate::rtp::losses::LossMeter;
use crate::stats::Counters;

/// How often losses are told to one of our own, and to somebody who has not said that he is.
const REPORT: Duration = Duration::from_millis(200);
pub(super) const RARE_REPORT: Duration = Duration::from_secs(1);

/// No repairs for so long: none are on their way.
const REPAIRS_STOPPED: Duration = Duration::from_secs(1);

/// Restores lost packets of the remote pictures and sound, and tells the other end what was lost.
///
/// It stands behind everything that measures the network, so that what was restored counts as
/// lost there, and before what asks for lost packets, which then does not.
pub(in crate::peer) struct FecReceiver {
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
    pictures: bool,
    decoder: FecDecoder,
    meter: LossMeter,
    payload_type: u8,
}

impl FecReceiver {
    pub(in crate::peer) fn new(counters: Arc<Counters>, sender_ssrc: u32) -> Self {
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

    #[cfg(test)]
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
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
        self.counters.set_peer_is_ours();
        let Some(ssrc) = protected_ssrc(&packet.payload) else {
            return (false, Vec::new());
        };
        let Some(stream) = self.streams.get_mut(&ssrc) else {
            return (false, Vec::new());
        };
        if stream.pictures {
            self.repaired_at = Some(now);
        }
        (false, tag(ssrc, stream.decoder.handle_repair(&packet.payload)))
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
        let mut messages: Vec<Box<dyn rtc::rtcp::Packet>> = Vec::new();
        for (&ssrc, stream) in &mut self.streams {
            let losses = stream.meter.take();
            if losses.expected == 0 {
                continue;
            }
            let (expected, lost, runs) = (losses.expected, losses.lost, losses.runs);
            let message = AppMessage::Losses { ssrc, expected, lost, runs };
            let bytes = message.to_bytes(self.sender_ssrc);
            messages.push(Box::new(RawPacket(bytes.into())));
        }
        if !messages.is_empty() {
            self.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(messages)),
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
        let pictures = |ssrc| self.streams.get(&ssrc).is_some_and(|stream| stream.pictures);
        let restored = recovered.iter().filter(|(ssrc, _)| pictures(*ssrc)).count();
        if restored > 0 {
            self.counters.video_in(|flow| flow.recovered += restored as u64);
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
        if self.retransmissions.contains_key(&info.ssrc) {
            return;
        }
        self.streams.entry(info.ssrc).or_insert_with(|| Stream {
            pictures: info.mime_type.starts_with("video/"),
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
