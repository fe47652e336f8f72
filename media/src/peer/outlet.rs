//! The way out: packets of the pipelines, numbered and handed to the stack as its pacer has room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters,
    RtpCodecKind,
};
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::RtpSender;

use super::flow::Flow;
use crate::adapt::Limits;
use crate::video_codec::VideoCodec;

/// One RTP packet to be sent; the sequence number and the rest of the header come later.
#[derive(Clone, Debug)]
pub struct OutgoingPacket {
    /// RTP timestamp in the codec's clock.
    pub timestamp: u32,
    /// Last packet of a picture, or first of the voice after a pause.
    pub marker: bool,
    /// Another payload type than the codec's own.
    pub payload_type: Option<u8>,
    /// Payload, at most [`MAX_PAYLOAD`](super::MAX_PAYLOAD) bytes.
    pub payload: Bytes,
}

/// A packet, and how many flushes there had been when it was made.
pub(crate) struct Waiting {
    packet: OutgoingPacket,
    flushes: u64,
}

/// Where a pipeline puts its packets.
#[derive(Clone)]
pub struct Outlet {
    packets: mpsc::Sender<Waiting>,
    flow: Arc<Flow>,
}

impl Outlet {
    pub(crate) fn new(capacity: usize) -> (Self, mpsc::Receiver<Waiting>) {
        Self::through(capacity, Arc::default())
    }

    /// As [`Self::new`]; what waits in the pacer behind `flow` counts as backlog.
    pub(crate) fn through(capacity: usize, flow: Arc<Flow>) -> (Self, mpsc::Receiver<Waiting>) {
        let (packets, receiver) = mpsc::channel(capacity);
        (Self { packets, flow }, receiver)
    }

    /// Bytes not yet on the wire. A sender asks before it encodes, since nothing is dropped
    /// once it is numbered.
    pub fn backlog(&self) -> usize {
        self.flow.upstream() + self.flow.queued()
    }

    #[cfg(test)]
    pub(crate) fn forget_backlog(&self) {
        self.flow.upstream.store(0, Ordering::Relaxed);
    }

    /// Queues a packet, waiting for room; false when the connection is gone. Never call it on
    /// the runtime's threads.
    pub fn send(&self, packet: OutgoingPacket) -> bool {
        let size = packet.payload.len();
        self.flow.upstream.fetch_add(size, Ordering::Relaxed);
        let flushes = self.flow.flushes.load(Ordering::Relaxed);
        let sent = self.packets.blocking_send(Waiting { packet, flushes }).is_ok();
        if !sent {
            self.flow.upstream.fetch_sub(size, Ordering::Relaxed);
        }
        sent
    }
}

/// What a connected peer sends. `None`: refused by the other end.
pub struct Outlets {
    /// Sound.
    pub audio: Option<Outlet>,
    /// The payload type of RED (RFC 2198), where the other end takes it.
    pub red: Option<u8>,
    /// Whether the other end likes sound in two channels (RFC 7587 section 6.1).
    pub stereo: bool,
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

/// A track that sends with this SSRC. `codec` is empty where it is known only after negotiation:
/// all that are registered are offered then.
pub(super) fn track(
    kind: RtpCodecKind,
    codec: RTCRtpCodec,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
) -> Arc<TrackLocalStaticRTP> {
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "visavis".to_owned(),
        format!("visavis-{kind}"),
        format!("visavis-{kind}"),
        kind,
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                rtx: rtx_ssrc.map(|ssrc| RTCRtpRtxParameters { ssrc }),
                ..Default::default()
            },
            codec,
            ..Default::default()
        }],
    )))
}

/// Numbers packets and hands them to the stack.
pub(super) struct Writer {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    payload_type: u8,
    sequence_number: u16,
    flow: Arc<Flow>,
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
            flow: Arc::clone(&outlet.flow),
        }
    }

    /// Runs until the outlet is dropped or the connection is gone. `paced`: packets wait until the
    /// pacer has room, and are dropped at a flush; else they go at once.
    pub(super) async fn run(mut self, mut packets: mpsc::Receiver<Waiting>, paced: bool) {
        while let Some(Waiting { packet, flushes }) = packets.recv().await {
            let size = packet.payload.len();
            let wanted = !paced || self.flow.room(flushes).await;
            self.flow.upstream.fetch_sub(size, Ordering::Relaxed);
            if !wanted {
                continue;
            }
            let mut rtp = rtc::rtp::Packet::default();
            rtp.header.version = 2;
            rtp.header.marker = packet.marker;
            rtp.header.payload_type = packet.payload_type.unwrap_or(self.payload_type);
            rtp.header.sequence_number = self.sequence_number;
            rtp.header.timestamp = packet.timestamp;
            rtp.header.ssrc = self.ssrc;
            rtp.payload = packet.payload;
            self.sequence_number = self.sequence_number.wrapping_add(1);
            self.flow.written.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.track.write_rtp(rtp).await {
                tracing::debug!(%error, "the connection takes no more packets");
                return;
            }
        }
    }
}
