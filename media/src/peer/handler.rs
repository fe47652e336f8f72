//! What the stack calls back with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::{Notify, mpsc};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

use super::formats::ReceivedVideo;
use super::{Candidate, Inlets, PeerEvent, now};
use crate::rtp::assemble::RtpPacket;

/// Forwards what the stack's driver task calls back with; never blocks it.
pub(super) struct Handler {
    pub(super) events: mpsc::UnboundedSender<PeerEvent>,
    pub(super) inlets: Arc<Inlets>,
    pub(super) received_video: Arc<ReceivedVideo>,
    pub(super) key_frames: Arc<Notify>,
    pub(super) sender_ssrc: u32,
    /// One track of a kind: two would be mixed up behind the inlet.
    pub(super) has_video: AtomicBool,
    pub(super) has_audio: AtomicBool,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
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
            Arc::clone(&self.received_video),
            Arc::clone(&self.key_frames),
            self.sender_ssrc,
        ));
    }
}

/// Hands on what a track brings, and sends a PLI whenever asked, until the track ends.
async fn read(
    track: Arc<dyn TrackRemote>,
    kind: RtpCodecKind,
    inlets: Arc<Inlets>,
    received_video: Arc<ReceivedVideo>,
    key_frame_asked: Arc<Notify>,
    sender_ssrc: u32,
) {
    loop {
        let packet = tokio::select! {
            event = track.poll() => match event {
                Some(TrackRemoteEvent::OnRtpPacket(packet)) => packet,
                None | Some(TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError) => return,
                Some(_) => continue, // `OnOpen` comes again at every renegotiation
            },
            () = key_frame_asked.notified(), if kind == RtpCodecKind::Video => {
                if let Some(media_ssrc) = track.ssrcs().await.first().copied() {
                    let pli = PictureLossIndication { sender_ssrc, media_ssrc };
                    if track.write_rtcp(vec![Box::new(pli)]).await.is_err() {
                        return;
                    }
                }
                continue;
            }
        };
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
            _ => (inlets.audio)(now(), packet),
        }
    }
}
