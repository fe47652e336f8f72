//! What we add to the crate's interceptor chain.
//!
//! * [`RtcpTap`], wire-most: reads round trips, losses and keyframe requests out of RTCP. The
//!   crate's statistics leave everything derived from reports at zero.
//! * [`RepairRequests`] replaces the stock one, which never learns of repairs that come by RTX
//!   (RFC 4588) and asks for them again for ever.
//! * [`Estimator`] feeds transport-wide feedback to [`crate::congestion`] in place of the stock
//!   controller.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{
    AttributedPacket, BandwidthEstimator, Interceptor, Packet, PacketReport as StackReport,
    StreamInfo, TaggedPacket,
};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use crate::congestion::{Controller, PacketReport};
use crate::rtp::nack::NackGenerator;
use crate::stats::Counters;
use crate::units::Bitrate;

/// Reads RTCP as it passes; changes nothing.
pub(super) struct RtcpTap {
    counters: Arc<Counters>,
    /// Middle 32 bits of each recent sender report's NTP time, and when it left
    /// (RFC 3550 section 6.4.1: the peer quotes them as LSR).
    sent_reports: VecDeque<(u32, Instant)>,
    video_ssrc: u32,
    audio_ssrc: u32,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

/// Sender reports of 16 s at two streams.
const KEPT_REPORTS: usize = 32;

impl RtcpTap {
    pub(super) fn new(counters: Arc<Counters>, video_ssrc: u32, audio_ssrc: u32) -> Self {
        Self {
            counters,
            sent_reports: VecDeque::new(),
            video_ssrc,
            audio_ssrc,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    fn handle_rtcp(&mut self, now: Instant, packet: &dyn rtc::rtcp::Packet) {
        let any = packet.as_any();
        if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            if pli.media_ssrc == self.video_ssrc {
                self.counters.request_key_frame();
            }
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            if fir.fir.iter().any(|entry| entry.ssrc == self.video_ssrc) {
                self.counters.request_key_frame();
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.handle_reports(now, &report.reports);
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.handle_reports(now, &report.reports);
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>()
            && nack.media_ssrc == self.video_ssrc
        {
            let asked: u32 = nack.nacks.iter().map(|pair| 1 + pair.lost_packets.count_ones()).sum();
            self.counters.add_retransmitted_out(u64::from(asked));
        }
    }

    fn handle_reports(&mut self, now: Instant, reports: &[ReceptionReport]) {
        for report in reports {
            // RFC 3550 section A.8: round trip = arrival - LSR - DLSR, here with the instant at
            // which that very report left instead of the wall clock.
            if report.last_sender_report != 0
                && let Some((_, sent)) = self
                    .sent_reports
                    .iter()
                    .rev()
                    .find(|(middle, _)| *middle == report.last_sender_report)
            {
                let held = Duration::from_secs_f64(f64::from(report.delay) / 65_536.0);
                if let Some(rtt) = now.saturating_duration_since(*sent).checked_sub(held) {
                    self.counters.set_rtt(rtt);
                }
            }
            if report.ssrc == self.video_ssrc {
                self.counters.set_video_loss_out(report.fraction_lost, report.total_lost);
            } else if report.ssrc == self.audio_ssrc {
                self.counters.set_audio_loss_out(report.fraction_lost, report.total_lost);
            }
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RtcpTap {
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
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            for packet in packets {
                if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
                    if self.sent_reports.len() == KEPT_REPORTS {
                        self.sent_reports.pop_front();
                    }
                    self.sent_reports.push_back(((report.ntp_time >> 16) as u32, msg.now));
                }
            }
        }
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for RtcpTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

/// Asks for lost packets of the remote streams that negotiated `nack` (RFC 4585 section 6.2.1).
pub(super) struct RepairRequests {
    counters: Arc<Counters>,
    lists: HashMap<u32, NackGenerator>,
    /// RTX SSRC to the SSRC it repairs.
    repairs: HashMap<u32, u32>,
    sender_ssrc: u32,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl RepairRequests {
    pub(super) fn new(counters: Arc<Counters>, sender_ssrc: u32) -> Self {
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
            list.handle_received(u16::from_be_bytes([high, low]), now);
            self.counters.add_retransmitted_in(1);
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
            self.lists.entry(info.ssrc).or_insert_with(|| NackGenerator::new());
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

/// Our congestion controller in the stack's place for one.
pub(super) struct Estimator {
    controller: Controller,
    counters: Arc<Counters>,
    epoch: Instant,
    /// When the application's rate was last taken, and the bytes it had sent by then.
    measured: (Instant, u64),
}

/// Over which time the application's rate is taken.
const RATE_WINDOW: Duration = Duration::from_millis(500);

impl Estimator {
    pub(super) fn new(controller: Controller, counters: Arc<Counters>, now: Instant) -> Self {
        counters.set_target(controller.target());
        Self { controller, counters, epoch: now, measured: (now, 0) }
    }

    fn measure_application(&mut self, now: Instant) {
        let (since, before) = self.measured;
        let elapsed = now.saturating_duration_since(since);
        if elapsed < RATE_WINDOW {
            return;
        }
        let sent = self.counters.sent_bytes();
        let bits = sent.saturating_sub(before) as f64 * 8.0;
        let rate = Bitrate::from_bps((bits / elapsed.as_secs_f64()) as u64);
        self.controller.handle_application_rate(now, rate);
        self.measured = (now, sent);
    }
}

impl BandwidthEstimator for Estimator {
    fn on_reports(&mut self, now: Instant, reports: &[StackReport]) {
        self.measure_application(now);
        if let Some(rtt) = self.counters.rtt() {
            self.controller.set_rtt(rtt);
        }
        let reports: Vec<PacketReport> = reports
            .iter()
            .map(|report| PacketReport {
                sequence: report.id,
                size: report.size,
                departure: report.departure.saturating_duration_since(self.epoch),
                arrival: report.arrival.filter(|_| report.arrived),
            })
            .collect();
        self.controller.handle_reports(now, &reports);
        self.counters.set_target(self.controller.target());
    }

    fn target_bitrate(&self) -> f64 {
        self.controller.target().bps() as f64
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.measure_application(now);
        self.controller.handle_no_feedback(now);
        self.counters.set_target(self.controller.target());
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.controller.poll_timeout()
    }
}

/// What the controller may choose between: audio and video of one call.
pub(super) const LIMITS: (Bitrate, Bitrate, Bitrate) =
    (Bitrate::from_kbps(60), Bitrate::from_kbps(1_200), Bitrate::from_kbps(3_200));

#[cfg(test)]
mod tests {
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
            assert_eq!(repaired, 2);
        }
    }
}
