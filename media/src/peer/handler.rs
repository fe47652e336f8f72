//! What the stack calls back with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

use super::feedback::{self, FeedbackQueue};
use super::formats::ReceivedVideo;
use super::{Candidate, Inlets, PeerEvent, now};
use crate::rtp::assemble::RtpPacket;

/// Forwards what the stack's driver task calls back with; never blocks it.
pub(super) struct Handler {
    pub(super) events: mpsc::UnboundedSender<PeerEvent>,
    /// Counts the candidates gathered. The first of a generation comes when all of this
    /// machine's own are known to the stack.
    pub(super) gathered: watch::Sender<u64>,
    pub(super) inlets: Arc<Inlets>,
    pub(super) feedback: Arc<FeedbackQueue>,
    pub(super) received_video: Arc<ReceivedVideo>,
    pub(super) sender_ssrc: u32,
    /// One track of a kind: two would be mixed up behind the inlet.
    pub(super) has_video: AtomicBool,
    pub(super) has_audio: AtomicBool,
    /// The payload type of RED; [`NO_RED`](super::offer::NO_RED) where it is not negotiated.
    pub(super) red: Arc<AtomicU8>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        self.gathered.send_modify(|count| *count += 1);
        match event.candidate.to_json() {
            Ok(init) => {
                let _ = self.events.send(PeerEvent::Candidate(Candidate {
                    candidate: init.candidate,
                    // The crate leaves the mid empty; with BUNDLE the first section's is meant.
                    mid: Some("0".to_owned()),
                    mline_index: Some(0),
                }));
            }
            Err(error) => tracing::debug!(%error, "a local candidate cannot be written"),
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        tracing::debug!(%state, "connection");
        let event = match state {
            RTCPeerConnectionState::Connected => PeerEvent::Connected,
            RTCPeerConnectionState::Disconnected => PeerEvent::Disconnected,
            RTCPeerConnectionState::Failed => PeerEvent::Failed,
            _ => return,
        };
        let _ = self.events.send(event);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let kind = track.kind().await;
        let taken = match kind {
            RtpCodecKind::Video => &self.has_video,
            RtpCodecKind::Audio => &self.has_audio,
            _ => return,
        };
        if taken.swap(true, Relaxed) {
            tracing::debug!(%kind, "a second track of a kind is not taken");
            return;
        }
        tokio::spawn(read(
            track,
            kind,
            Arc::clone(&self.inlets),
            Arc::clone(&self.feedback),
            Arc::clone(&self.received_video),
            self.sender_ssrc,
            Arc::clone(&self.red),
        ));
    }
}

/// Hands on what a track brings, and sends what there is to say about it, until it ends.
async fn read(
    track: Arc<dyn TrackRemote>,
    kind: RtpCodecKind,
    inlets: Arc<Inlets>,
    feedback: Arc<FeedbackQueue>,
    received_video: Arc<ReceivedVideo>,
    sender_ssrc: u32,
    red: Arc<AtomicU8>,
) {
    loop {
        let packet = tokio::select! {
            event = track.poll() => match event {
                Some(TrackRemoteEvent::OnRtpPacket(packet)) => packet,
                None | Some(TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError) => return,
                Some(_) => continue, // `OnOpen` comes again at every renegotiation
            },
            said = feedback.next(), if kind == RtpCodecKind::Video => {
                if let Some(media_ssrc) = track.ssrcs().await.first().copied() {
                    let packet = feedback::packet(said, sender_ssrc, media_ssrc);
                    if track.write_rtcp(vec![packet]).await.is_err() {
                        return;
                    }
                }
                continue;
            }
        };
        let is_red = packet.header.payload_type == red.load(Relaxed);
        let payload_type = packet.header.payload_type;
        let packet = RtpPacket {
            sequence_number: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload,
        };
        match kind {
            // What was never negotiated is nobody's.
            RtpCodecKind::Video => {
                if let Some(codec) = received_video.codec(payload_type) {
                    (inlets.video)(now(), codec, packet);
                }
            }
            _ => (inlets.audio)(now(), packet, is_red),
        }
    }
}
