//! Reads what lip sync needs as it passes: sender reports of both streams, and when sound
//! arrives.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::sender_report::SenderReport as RtcpSenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::rtp::feedback::SenderReport;
use crate::stats::Counters;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio,
    Video,
}

/// Changes nothing.
pub(super) struct SyncTap {
    counters: Arc<Counters>,
    kinds: HashMap<u32, Kind>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl SyncTap {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let (kinds, read, write) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { counters, kinds, read, write }
    }

    fn handle_rtp(&self, now: Instant, packet: &rtc::rtp::Packet) {
        if self.kinds.get(&packet.header.ssrc) == Some(&Kind::Audio) {
            // It will be heard when what is buffered before it was played.
            let mut buffer = None;
            self.counters.audio_in(|flow| buffer = flow.buffer);
            let heard = now + buffer.unwrap_or_default();
            self.counters.sync(|sync| sync.handle_audio_played(heard, packet.header.timestamp));
        }
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
        match self.kinds.get(&report.ssrc) {
            Some(Kind::Audio) => self.counters.sync(|sync| sync.handle_audio_report(ours)),
            Some(Kind::Video) => self.counters.sync(|sync| sync.handle_video_report(ours)),
            None => {}
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for SyncTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        match &msg.message.packet {
            Packet::Rtp(packet) => self.handle_rtp(msg.now, packet),
            Packet::Rtcp(packets) => {
                packets.iter().for_each(|packet| self.handle_rtcp(packet.as_ref()));
            }
            _ => {}
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
}

impl Interceptor for SyncTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        // RTX streams are bound too, but nobody sends reports about them.
        let audio = info.mime_type.to_ascii_lowercase().starts_with("audio/");
        self.kinds.insert(info.ssrc, if audio { Kind::Audio } else { Kind::Video });
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.kinds.remove(&info.ssrc);
    }
}
