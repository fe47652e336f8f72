//! Lip sync's part in the chain: reads the other end's sender reports as they pass, and makes ours
//! tell when sound and pictures were captured, where the stock ones tell when they left.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::sender_report::SenderReport as RtcpSenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::rtp::feedback::SenderReport;
use crate::stats::Counters;
use crate::sync::Stream;

/// Changes our sender reports, and nothing else.
pub(super) struct SyncTap {
    counters: Arc<Counters>,
    /// Of the other end, by SSRC.
    remote: HashMap<u32, Stream>,
    local: [(u32, Stream); 2],
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl SyncTap {
    pub(super) fn new(counters: Arc<Counters>, video_ssrc: u32, audio_ssrc: u32) -> Self {
        let local = [(video_ssrc, Stream::Video), (audio_ssrc, Stream::Audio)];
        let (remote, read, write) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { counters, remote, local, read, write }
    }

    fn handle_rtcp(&self, packet: &dyn rtc::rtcp::Packet) {
        let Some(report) = packet.as_any().downcast_ref::<RtcpSenderReport>() else {
            return;
        };
        let ours = SenderReport {
            ssrc: report.ssrc,
            ntp: report.ntp_time,
            rtp_timestamp: report.rtp_time,
        };
        match self.remote.get(&report.ssrc) {
            Some(Stream::Audio) => self.counters.sync(|sync| sync.handle_audio_report(ours)),
            Some(Stream::Video) => self.counters.sync(|sync| sync.handle_video_report(ours)),
            None => {}
        }
    }

    /// Our own report as it is to be, if it has to be another.
    fn corrected(
        &self,
        now: Instant,
        packet: &dyn rtc::rtcp::Packet,
    ) -> Option<Box<dyn rtc::rtcp::Packet>> {
        let report = packet.as_any().downcast_ref::<RtcpSenderReport>()?;
        let (_, stream) = *self.local.iter().find(|(ssrc, _)| *ssrc == report.ssrc)?;
        let rtp_time = self.counters.capture(|clocks| clocks.rtp_timestamp(stream, now))?;
        Some(Box::new(RtcpSenderReport { rtp_time, ..report.clone() }))
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for SyncTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            packets.iter().for_each(|packet| self.handle_rtcp(packet.as_ref()));
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &mut msg.message.packet {
            for packet in packets {
                if let Some(corrected) = self.corrected(msg.now, packet.as_ref()) {
                    *packet = corrected;
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

impl Interceptor for SyncTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        // RTX streams are bound too, but nobody sends reports about them.
        let audio = info.mime_type.to_ascii_lowercase().starts_with("audio/");
        self.remote.insert(info.ssrc, if audio { Stream::Audio } else { Stream::Video });
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.remote.remove(&info.ssrc);
    }
}
