//! Asks a browser to show our pictures when they come (the playout-delay header extension, as
//! Chromium has it). Without it Chromium keeps each picture some 25 ms; on an even network that
//! buys nothing. On an uneven one it gets as much delay as keeps motion smooth.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::stats::Counters;

/// The extension's name in SDP.
pub(super) const URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// Jitter, in milliseconds, from which a delay is asked for, and below which none is.
const UNEVEN: f64 = 10.0;
const EVEN: f64 = 7.0;

/// The mean deviation that reports tell, times this, covers nearly all pictures.
const COVER: f64 = 2.5;

/// Never asks for more. Milliseconds.
const LONGEST: f64 = 150.0;

/// Weight of a new report.
const WEIGHT: f64 = 0.3;

/// Which delay to ask for, from the jitter that receiver reports tell. Pure.
#[derive(Clone, Copy, Debug, Default)]
struct Delay {
    jitter: Option<f64>,
    uneven: bool,
}

impl Delay {
    /// The other end reports this jitter, in units of 90 kHz (RFC 3550 section 6.4.1).
    fn handle_jitter(&mut self, jitter: u32) {
        let new = f64::from(jitter) / 90.0;
        let jitter = self.jitter.map_or(new, |old| old + WEIGHT * (new - old));
        self.jitter = Some(jitter);
        self.uneven = jitter > if self.uneven { EVEN } else { UNEVEN };
    }

    /// The extension: least and most delay, 12 bits each, in units of 10 ms.
    fn to_bytes(self) -> [u8; 3] {
        let wanted = if self.uneven { self.jitter.unwrap_or(0.0) * COVER } else { 0.0 };
        let delay = (wanted.min(LONGEST) / 10.0).ceil() as u32;
        let [_, high, middle, low] = (delay << 12 | delay).to_be_bytes();
        [high, middle, low]
    }
}

/// Adds the extension to the packets of one stream.
pub(super) struct PlayoutDelay {
    counters: Arc<Counters>,
    ssrc: u32,
    extension: Option<u8>,
    delay: Delay,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl PlayoutDelay {
    /// For the pictures of `ssrc`.
    pub(super) fn new(counters: Arc<Counters>, ssrc: u32) -> Self {
        Self {
            counters,
            ssrc,
            extension: None,
            delay: Delay::default(),
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    fn handle_reports(&mut self, reports: &[ReceptionReport]) {
        for report in reports.iter().filter(|report| report.ssrc == self.ssrc) {
            self.delay.handle_jitter(report.jitter);
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for PlayoutDelay {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            for packet in packets {
                let any = packet.as_any();
                if let Some(report) = any.downcast_ref::<ReceiverReport>() {
                    self.handle_reports(&report.reports);
                } else if let Some(report) = any.downcast_ref::<SenderReport>() {
                    self.handle_reports(&report.reports);
                }
            }
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        // One of ours decides for itself.
        if let (Packet::Rtp(packet), Some(id)) = (&mut msg.message.packet, self.extension)
            && packet.header.ssrc == self.ssrc
            && !self.counters.peer_is_ours()
        {
            let bytes = Bytes::copy_from_slice(&self.delay.to_bytes());
            if let Err(error) = packet.header.set_extension(id, bytes) {
                tracing::debug!(%error, "a packet without its playout delay");
            }
        }
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for PlayoutDelay {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        if info.ssrc == self.ssrc {
            let found = info.rtp_header_extensions.iter().find(|extension| extension.uri == URI);
            self.extension =
                found.and_then(|found| u8::try_from(found.id).ok()).filter(|id| *id != 0);
        }
    }

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use rtc::interceptor::{AttributedPacket, RTPHeaderExtension};
    use rtc::shared::TransportContext;

    use super::*;

    #[test]
    fn an_even_network_gets_none_and_an_uneven_one_what_it_needs() {
        let mut delay = Delay::default();
        assert_eq!(delay.to_bytes(), [0, 0, 0]);
        delay.handle_jitter(9 * 90);
        assert_eq!(delay.to_bytes(), [0, 0, 0]);
        (0..20).for_each(|_| delay.handle_jitter(20 * 90));
        assert_eq!(delay.to_bytes(), [0, 0x50, 5], "50 ms, least and most");
        (0..20).for_each(|_| delay.handle_jitter(8 * 90));
        assert_eq!(delay.to_bytes(), [0, 0x30, 3], "still uneven");
        (0..20).for_each(|_| delay.handle_jitter(0));
        assert_eq!(delay.to_bytes(), [0, 0, 0]);
        (0..20).for_each(|_| delay.handle_jitter(u32::MAX));
        assert_eq!(delay.to_bytes(), [0, 0xf0, 15], "150 ms at most");
    }

    #[test]
    fn only_negotiated_and_only_to_somebody_else() {
        let counters = Arc::new(Counters::new());
        let mut interceptor = PlayoutDelay::new(Arc::clone(&counters), 7);
        let extended = |interceptor: &mut PlayoutDelay, ssrc| {
            let mut packet = rtc::rtp::Packet::default();
            packet.header.ssrc = ssrc;
            let message = AttributedPacket::new(Packet::Rtp(packet));
            let (now, transport) = (Instant::now(), TransportContext::default());
            interceptor.handle_write(TaggedPacket { now, transport, message }).expect("taken");
            let msg = interceptor.poll_write().expect("passes");
            let Packet::Rtp(packet) = msg.message.packet else { unreachable!() };
            packet.header.get_extension(5)
        };
        assert_eq!(extended(&mut interceptor, 7), None);
        interceptor.bind_local_stream(&StreamInfo {
            ssrc: 7,
            rtp_header_extensions: vec![RTPHeaderExtension { uri: URI.to_owned(), id: 5 }],
            ..StreamInfo::default()
        });
        assert_eq!(extended(&mut interceptor, 7), Some(Bytes::from_static(&[0, 0, 0])));
        assert_eq!(extended(&mut interceptor, 8), None);
        counters.set_peer_is_ours();
        assert_eq!(extended(&mut interceptor, 7), None);
    }
}
