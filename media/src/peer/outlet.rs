//! The way out: packets of the pipelines, numbered, spread a little, handed to the stack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::RtpSender;

use super::now;
use crate::adapt::Limits;
use crate::stats::Counters;
use crate::video_codec::VideoCodec;

/// One RTP packet to be sent; the sequence number and the rest of the header come later.
#[derive(Clone, Debug)]
pub struct OutgoingPacket {
    /// RTP timestamp in the codec's clock.
    pub timestamp: u32,
    /// Last packet of a picture.
    pub marker: bool,
    /// Payload, at most [`MAX_PAYLOAD`](super::MAX_PAYLOAD) bytes.
    pub payload: Bytes,
}

/// Where a pipeline puts its packets.
#[derive(Clone)]
pub struct Outlet {
    packets: mpsc::Sender<OutgoingPacket>,
    backlog: Arc<AtomicUsize>,
}

impl Outlet {
    pub(super) fn new(capacity: usize) -> (Self, mpsc::Receiver<OutgoingPacket>) {
        let (packets, receiver) = mpsc::channel(capacity);
        (Self { packets, backlog: Arc::default() }, receiver)
    }

    /// Bytes not yet on the wire. A sender asks before it encodes, since nothing is dropped
    /// afterwards.
    pub fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Queues a packet, waiting for room; false when the connection is gone. Never call it on
    /// the runtime's threads.
    pub fn send(&self, packet: OutgoingPacket) -> bool {
        let size = packet.payload.len();
        self.backlog.fetch_add(size, Ordering::Relaxed);
        let sent = self.packets.blocking_send(packet).is_ok();
        if !sent {
            self.backlog.fetch_sub(size, Ordering::Relaxed);
        }
        sent
    }
}

/// What a connected peer sends. `None`: refused by the other end.
pub struct Outlets {
    /// Sound.
    pub audio: Option<Outlet>,
    /// Pictures.
    pub video: Option<VideoOutlet>,
}

/// The way out for pictures, and what was agreed about them.
pub struct VideoOutlet {
    /// The way out.
    pub outlet: Outlet,
    /// The codec to send.
    pub codec: VideoCodec,
    /// What the other end's decoder takes.
    pub limits: Limits,
}

pub(super) async fn payload_type(sender: &Arc<dyn RtpSender>, mime_type: &str) -> Option<u8> {
    let parameters = sender.get_parameters().await.ok()?;
    let codecs = &parameters.rtp_parameters.codecs;
    codecs
        .iter()
        .find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(mime_type))
        .map(|codec| codec.payload_type)
}

/// Numbers packets and hands them to the stack.
pub(super) struct Writer {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    payload_type: u8,
    sequence_number: u16,
    backlog: Arc<AtomicUsize>,
}

impl Writer {
    pub(super) fn new(
        track: &Arc<TrackLocalStaticRTP>,
        ssrc: u32,
        payload_type: u8,
        outlet: &Outlet,
    ) -> Self {
        Self {
            track: Arc::clone(track),
            ssrc,
            payload_type,
            // RFC 3550 section 5.1: random; low, so that SRTP's rollover is far off (RFC 3711).
            sequence_number: rand::random::<u16>() >> 1,
            backlog: Arc::clone(&outlet.backlog),
        }
    }

    /// Runs until the outlet is dropped or the connection is gone. `paced` spreads a picture's
    /// packets at a multiple of the target, so that a key frame does not fill a router's queue.
    pub(super) async fn run(
        mut self,
        mut packets: mpsc::Receiver<OutgoingPacket>,
        paced: Option<Arc<Counters>>,
    ) {
        let mut pace = Pace::new(now());
        while let Some(packet) = packets.recv().await {
            let size = packet.payload.len();
            if let Some(counters) = &paced
                && let Some(delay) = pace.admit(now(), size, counters)
            {
                tokio::time::sleep(delay).await;
            }
            let mut rtp = rtc::rtp::Packet::default();
            rtp.header.version = 2;
            rtp.header.marker = packet.marker;
            rtp.header.payload_type = self.payload_type;
            rtp.header.sequence_number = self.sequence_number;
            rtp.header.timestamp = packet.timestamp;
            rtp.header.ssrc = self.ssrc;
            rtp.payload = packet.payload;
            self.sequence_number = self.sequence_number.wrapping_add(1);
            let written = self.track.write_rtp(rtp).await;
            self.backlog.fetch_sub(size, Ordering::Relaxed);
            if let Err(error) = written {
                tracing::debug!(%error, "the connection takes no more packets");
                return;
            }
        }
    }
}

/// A leaky bucket: what may leave now, and how long the rest waits.
struct Pace {
    clear_at: Instant,
}

/// A burst that any path takes: about eight packets.
const BURST: f64 = 10_000.0 * 8.0;

impl Pace {
    fn new(now: Instant) -> Self {
        Self { clear_at: now }
    }

    fn admit(&mut self, now: Instant, bytes: usize, counters: &Counters) -> Option<Duration> {
        let target = counters.target().map_or(2e6, |target| target.bps() as f64);
        let rate = (target * 2.5).max(1e6);
        self.clear_at = self.clear_at.max(now) + Duration::from_secs_f64(bytes as f64 * 8.0 / rate);
        let ahead = self.clear_at.saturating_duration_since(now);
        let allowed = Duration::from_secs_f64(BURST / rate);
        // Timers are no finer than a millisecond.
        ahead.checked_sub(allowed).filter(|wait| *wait >= Duration::from_millis(1))
    }
}
