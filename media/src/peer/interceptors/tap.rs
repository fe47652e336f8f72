//! Round trips, losses and key frame requests, read out of RTCP: the crate's statistics leave
//! everything derived from reports at zero.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::stats::Counters;

/// Reads RTCP as it passes; changes nothing.
pub(in crate::peer) struct RtcpTap {
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
    pub(in crate::peer) fn new(counters: Arc<Counters>, video_ssrc: u32, audio_ssrc: u32) -> Self {
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
