//! Tells the interceptors of the video stream once its codec is known.
//!
//! The crate binds a sender's stream when the negotiation is done, by the codec that its track was
//! made with; where the other end took another one, it binds nothing, and there would be neither
//! repairs nor congestion control. So the track names no codec, and the stream is bound here,
//! just before its first packet.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rtc::interceptor::{Interceptor, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Wraps a whole chain.
struct LateBinding<C> {
    chain: C,
    stream: Arc<OnceLock<StreamInfo>>,
    bound: bool,
}

/// The chain of `registry`, to which `stream` is bound as soon as it is set.
pub(super) fn wrap(registry: Registry, stream: Arc<OnceLock<StreamInfo>>) -> Registry {
    let chain = registry.build();
    Registry::new().with(Slot::from(1), LateBinding { chain, stream, bound: false })
}

impl<C: Interceptor> Protocol<TaggedPacket, TaggedPacket, ()> for LateBinding<C> {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.chain.handle_read(msg)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.chain.poll_read()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if !self.bound
            && let Some(stream) = self.stream.get()
        {
            self.chain.bind_local_stream(stream);
            self.bound = true;
        }
        self.chain.handle_write(msg)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.chain.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.chain.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.chain.poll_timeout()
    }

    fn close(&mut self) -> Result<(), Error> {
        self.chain.close()
    }
}

impl<C: Interceptor> Interceptor for LateBinding<C> {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.chain.bind_local_stream(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.chain.unbind_local_stream(info);
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.chain.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.chain.unbind_remote_stream(info);
    }
}
