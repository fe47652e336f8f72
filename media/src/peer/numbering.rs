//! Transport-wide sequence numbers for retransmissions and repair packets too.
//!
//! The stack numbers only the streams it binds, so congestion control would neither count such
//! bytes nor learn of their loss.

use std::time::Instant;

use rtc::interceptor::{Interceptor, StreamInfo, TaggedPacket, TwccSenderInterceptor};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// The stock numbering, which learns of each local stream's RTX stream and, with the first video
/// stream, of one more.
pub(super) struct Numbering {
    stock: TwccSenderInterceptor,
    repair_ssrc: u32,
}

impl Numbering {
    pub(super) fn new(stock: TwccSenderInterceptor, repair_ssrc: u32) -> Self {
        Self { stock, repair_ssrc }
    }

    fn repair_streams(&self, info: &StreamInfo) -> impl Iterator<Item = StreamInfo> + use<> {
        let fec = info.mime_type.starts_with("video/").then_some(self.repair_ssrc);
        let info = info.clone();
        info.ssrc_rtx.into_iter().chain(fec).map(move |ssrc| StreamInfo { ssrc, ..info.clone() })
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Numbering {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.stock.handle_read(msg)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.stock.poll_read()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.stock.handle_write(msg)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.stock.poll_write()
    }
}

impl Interceptor for Numbering {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.stock.bind_local_stream(info);
        self.repair_streams(info).for_each(|info| self.stock.bind_local_stream(&info));
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.stock.unbind_local_stream(info);
        self.repair_streams(info).for_each(|info| self.stock.unbind_local_stream(&info));
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.stock.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.stock.unbind_remote_stream(info);
    }
}
