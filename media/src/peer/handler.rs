//! What the stack calls back with.

use std::sync::Arc;

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::{Notify, mpsc};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

use super::{Candidate, Inlets, PeerEvent, now};
use crate::rtp::assemble::RtpPacket;

/// Forwards what the stack's driver task calls back with; never blocks it.
pub(super) struct Handler {
    pub(super) events: mpsc::UnboundedSender<PeerEvent>,
    pub(super) inlets: Arc<Inlets>,
    pub(super) key_frames: Arc<Notify>,
    pub(super) sender_ssrc: u32,
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
        let inlets = Arc::clone(&self.inlets);
        if kind == RtpCodecKind::Video {
            tokio::spawn(ask_for_key_frames(
                Arc::clone(&track),
                Arc::clone(&self.key_frames),
                self.sender_ssrc,
            ));
        }
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                let packet = match event {
                    TrackRemoteEvent::OnRtpPacket(packet) => packet,
                    TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError => break,
                    _ => continue, // `OnOpen` comes again at every renegotiation
                };
                let packet = RtpPacket {
                    sequence_number: packet.header.sequence_number,
                    timestamp: packet.header.timestamp,
                    marker: packet.header.marker,
                    payload: packet.payload,
                };
                match kind {
                    RtpCodecKind::Video => (inlets.video)(now(), packet),
                    RtpCodecKind::Audio => (inlets.audio)(now(), packet),
                    _ => {}
                }
            }
        });
    }
}

/// Sends a PLI whenever asked, until the connection is gone.
async fn ask_for_key_frames(track: Arc<dyn TrackRemote>, asked: Arc<Notify>, sender_ssrc: u32) {
    loop {
        asked.notified().await;
        let Some(media_ssrc) = track.ssrcs().await.first().copied() else {
            continue;
        };
        let pli = PictureLossIndication {
            sender_ssrc,
            media_ssrc,
        };
        if track.write_rtcp(vec![Box::new(pli)]).await.is_err() {
            return;
        }
    }
}
