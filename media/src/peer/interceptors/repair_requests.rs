//! Asking the other end for lost packets, in place of the stock generator: that one never learns of
//! repairs that come by RTX (RFC 4588), and asks for them again for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use crate::rtp::nack::NackGenerator;
use crate::stats::Counters;

/// Asks for lost packets of the remote streams that negotiated `nack` (RFC 4585 section 6.2.1).
pub(in crate::peer) struct RepairRequests {
    counters: Arc<Counters>,
    lists: HashMap<u32, NackGenerator>,
    /// RTX SSRC to the SSRC it repairs.
    repairs: HashMap<u32, u32>,
    sender_ssrc: u32,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl RepairRequests {
    pub(in crate::peer) fn new(counters: Arc<Counters>, sender_ssrc: u32) -> Self {
        Self {
            counters,
            lists: HashMap::new(),
            repairs: HashMap::new(),
            sender_ssrc,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    fn handle_rtp(&mut self, now: Instant, packet: &rtc::rtp::Packet) {
        let ssrc = packet.header.ssrc;
        if let Some(list) = self.lists.get_mut(&ssrc) {
            list.handle_received(packet.header.sequence_number, now);
        } else if let Some(list) = self.repairs.get(&ssrc).and_then(|media| self.lists.get_mut(media))
            // RFC 4588 section 4: the original sequence number leads the payload.
            && let [high, low, ..] = packet.payload[..]
        {
            let before = list.stats().repaired;
            list.handle_received(u16::from_be_bytes([high, low]), now);
            // What nobody asked for is padding of a probe.
            self.counters.add_retransmitted_in(list.stats().repaired - before);
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RepairRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &msg.message.packet {
            self.handle_rtp(msg.now, packet);
        }
        self.read.push_back(msg);
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
        let rtt = self.counters.rtt();
        for (&media_ssrc, list) in &mut self.lists {
            list.set_repairs_coming(self.counters.fec_coming());
            let missing = list.poll(now, rtt);
            if missing.is_empty() {
                continue;
            }
            let nack = TransportLayerNack {
                sender_ssrc: self.sender_ssrc,
                media_ssrc,
                nacks: nack_pairs_from_sequence_numbers(&missing),
            };
            self.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)])),
            });
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.lists.values().filter_map(NackGenerator::poll_timeout).min()
    }
}

impl Interceptor for RepairRequests {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        let nack = info.rtcp_feedback.iter().any(|fb| fb.typ == "nack" && fb.parameter.is_empty());
        // The stack binds the RTX stream too, after the one it repairs, with the same feedback.
        // Its own gaps are of no interest: what is missing is asked for by the original number.
        if nack && !self.repairs.contains_key(&info.ssrc) {
            self.lists.entry(info.ssrc).or_default();
            if let Some(rtx) = info.ssrc_rtx {
                self.repairs.insert(rtx, info.ssrc);
                self.lists.remove(&rtx);
            }
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.lists.remove(&info.ssrc);
        self.repairs.retain(|_, media| *media != info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use rtc::interceptor::RTCPFeedback;

    const MEDIA: u32 = 7;
    const RTX: u32 = 8;

    fn stream(ssrc: u32, ssrc_rtx: Option<u32>) -> StreamInfo {
        StreamInfo {
            ssrc,
            ssrc_rtx,
            rtcp_feedback: vec![RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() }],
            ..StreamInfo::default()
        }
    }

    fn packet(ssrc: u32, sequence_number: u16, payload: &[u8]) -> rtc::rtp::Packet {
        let mut packet = rtc::rtp::Packet::default();
        packet.header.ssrc = ssrc;
        packet.header.sequence_number = sequence_number;
        packet.payload = payload.to_vec().into();
        packet
    }

    #[test]
    fn a_repair_by_rtx_ends_the_asking_in_whatever_order_streams_are_bound() {
        for rtx_first in [false, true] {
            let counters = Arc::new(Counters::new());
            let mut requests = RepairRequests::new(Arc::clone(&counters), 1);
            let mut streams = [stream(MEDIA, Some(RTX)), stream(RTX, None)];
            if rtx_first {
                streams.reverse();
            }
            streams.iter().for_each(|info| requests.bind_remote_stream(info));
            let mut now = Instant::now();
            for sequence_number in [100, 101, 103, 104, 105, 106, 107, 108] {
                now += Duration::from_millis(5);
                requests.handle_rtp(now, &packet(MEDIA, sequence_number, &[1]));
            }
            let mut asked = 0;
            for step in 0..50 {
                now += Duration::from_millis(20);
                requests.handle_timeout(now).expect("no error");
                asked += std::iter::from_fn(|| requests.poll_write()).count();
                if step == 2 {
                    // With a gap in its own numbers, which nobody is to ask for.
                    requests.handle_rtp(now, &packet(RTX, 9, &[0, 102, 1]));
                    requests.handle_rtp(now, &packet(RTX, 11, &[0, 102, 1]));
                }
            }
            assert!((1..=2).contains(&asked), "asked {asked} times");
            let mut repaired = 0;
            counters.video_in(|flow| repaired = flow.retransmitted);
            assert_eq!(repaired, 1, "what comes again is padding");
        }
    }
}
