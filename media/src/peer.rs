//! One connection to one other person: the only user of the `webrtc` crate.
//!
//! A [`Peer`] negotiates, sends what [`Outlets`] are fed and hands received packets to
//! [`Inlets`]. It never touches pixels or samples and knows no policy; a new peer id means a new
//! `Peer`. Settings and workarounds follow what was measured about the crate; each is named
//! where it stands.

mod interceptors;
mod network;

pub use network::first_lan_address;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{
    CongestionControlBuilder, NackResponderBuilder, Registry, Slot, TwccReceiverBuilder,
    TwccSenderBuilder,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::configure_rtcp_reports;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MediaEngine,
};
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use tokio::sync::{Notify, mpsc};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidateInit, RTCIceServer, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    RTCSdpType, RTCSessionDescription, SettingEngineBuilder,
};
use webrtc::rtp_transceiver::RtpSender;

use crate::congestion::{Controller, Limits};
use crate::rtp::assemble::RtpPacket;
use crate::stats::Counters;

/// Largest RTP payload: 1280 bytes of IPv6 minimum MTU less IP, UDP, RTP with extensions, SRTP
/// tag, and room for a TURN header.
pub const MAX_PAYLOAD: usize = 1150;

/// A STUN or TURN server, as `ready` hands them out (W3C `RTCIceServer`).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct IceServer {
    /// One URL or several.
    #[serde(deserialize_with = "one_or_many")]
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default)]
    pub username: String,
    /// For TURN.
    #[serde(default)]
    pub credential: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(
        match <Urls as serde::Deserialize>::deserialize(deserializer)? {
            Urls::One(url) => vec![url],
            Urls::Many(urls) => urls,
        },
    )
}

/// An ICE candidate as it travels between the ends (RFC 8839 section 5.1; empty: the last).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The `candidate:` attribute.
    pub candidate: String,
    /// `sdpMid`.
    pub mid: Option<String>,
    /// `sdpMLineIndex`.
    pub mline_index: Option<u16>,
}

/// What a connection tells.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerEvent {
    /// A local candidate to pass on.
    Candidate(Candidate),
    /// Media can flow.
    Connected,
    /// The path went silent; it may come back.
    Disconnected,
    /// The path is dead.
    Failed,
}

/// Why the connection refused something. None of them ends it.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The stack could not be built.
    #[error("cannot set up a connection: {0}")]
    Setup(String),
    /// A description from the other end is not usable.
    #[error("the other end's session description was refused: {0}")]
    Description(String),
    /// A candidate from the other end is not usable.
    #[error("the other end's candidate was refused: {0}")]
    Candidate(String),
    /// A description of our own could not be made.
    #[error("no session description could be made: {0}")]
    Local(String),
}

/// One RTP packet to be sent; the sequence number and the rest of the header come later.
#[derive(Clone, Debug)]
pub struct OutgoingPacket {
    /// RTP timestamp in the codec's clock.
    pub timestamp: u32,
    /// Last packet of a picture.
    pub marker: bool,
    /// Payload, at most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

/// Where a pipeline puts its packets.
#[derive(Clone)]
pub struct Outlet {
    packets: mpsc::Sender<OutgoingPacket>,
    backlog: Arc<AtomicUsize>,
}

impl Outlet {
    fn new(capacity: usize) -> (Self, mpsc::Receiver<OutgoingPacket>) {
        let (packets, receiver) = mpsc::channel(capacity);
        (
            Self {
                packets,
                backlog: Arc::default(),
            },
            receiver,
        )
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

/// Where received packets go. Called on the runtime: must not block.
pub struct Inlets {
    /// Pictures' packets, repaired ones included, in order of arrival.
    pub video: Box<dyn Fn(Instant, RtpPacket) + Send + Sync>,
    /// Sound's packets in order of arrival.
    pub audio: Box<dyn Fn(Instant, RtpPacket) + Send + Sync>,
}

/// A connection. Close it with [`Peer::close`]; dropping it closes it too, only later.
pub struct Peer {
    connection: Arc<dyn PeerConnection>,
    video: Arc<TrackLocalStaticRTP>,
    audio: Arc<TrackLocalStaticRTP>,
    video_ssrc: u32,
    audio_ssrc: u32,
    senders: [Arc<dyn RtpSender>; 2],
    key_frames: Arc<Notify>,
    counters: Arc<Counters>,
}

impl Peer {
    /// Makes a connection that will offer or answer, with one sendrecv transceiver a kind, and
    /// starts gathering with the first local description. Events and media flow until it is
    /// closed.
    ///
    /// # Errors
    /// [`PeerError::Setup`] where sockets or keys cannot be had.
    pub async fn new(
        ice_servers: Vec<IceServer>,
        inlets: Inlets,
        counters: Arc<Counters>,
        events: mpsc::UnboundedSender<PeerEvent>,
    ) -> Result<Self, PeerError> {
        let setup = |error: webrtc::error::Error| PeerError::Setup(error.to_string());
        let (video_ssrc, rtx_ssrc, audio_ssrc) = (rand::random(), rand::random(), rand::random());
        let mut media_engine = media_engine().map_err(setup)?;
        let registry = interceptor_chain(&mut media_engine, &counters, video_ssrc, audio_ssrc)
            .map_err(setup)?;
        let network = network::addresses();
        let settings = SettingEngineBuilder::new()
            // As the answerer we are the DTLS server: a client's `setup:active` makes Chromium
            // refuse a later offer of ours, and connecting took 1 s longer.
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_timeouts(
                Some(Duration::from_secs(3)),
                Some(Duration::from_secs(6)),
                Some(Duration::from_secs(1)),
            )
            .with_prflx_acceptance_min_wait(Some(Duration::from_millis(100)))
            .with_relay_acceptance_min_wait(Some(Duration::from_millis(500)))
            .with_multicast_dns_mode(network.multicast_dns)
            .build();
        let configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(
                ice_servers
                    .into_iter()
                    .map(|server| RTCIceServer {
                        urls: server.urls,
                        username: server.username,
                        credential: server.credential,
                    })
                    .collect(),
            )
            .build();
        let key_frames = Arc::new(Notify::new());
        let handler = Handler {
            events,
            inlets: Arc::new(inlets),
            key_frames: Arc::clone(&key_frames),
            sender_ssrc: video_ssrc,
        };
        let connection: Arc<dyn PeerConnection> = Arc::new(
            PeerConnectionBuilder::new()
                .with_configuration(configuration)
                .with_media_engine(media_engine)
                .with_setting_engine(settings)
                .with_interceptor_registry(registry)
                .with_handler(Arc::new(handler))
                .with_udp_addrs(network.udp)
                .build()
                .await
                .map_err(setup)?,
        );
        let audio = track(RtpCodecKind::Audio, opus_codec(), audio_ssrc, None);
        let video = track(
            RtpCodecKind::Video,
            h264_codec(),
            video_ssrc,
            Some(rtx_ssrc),
        );
        let audio_sender = connection
            .add_track(Arc::clone(&audio) as Arc<dyn TrackLocal>)
            .await
            .map_err(setup)?;
        let video_sender = connection
            .add_track(Arc::clone(&video) as Arc<dyn TrackLocal>)
            .await
            .map_err(setup)?;
        Ok(Self {
            connection,
            video,
            audio,
            video_ssrc,
            audio_ssrc,
            senders: [audio_sender, video_sender],
            key_frames,
            counters,
        })
    }

    /// Makes and applies an offer; returns its SDP.
    ///
    /// # Errors
    /// [`PeerError::Local`].
    pub async fn offer(&self) -> Result<String, PeerError> {
        let local = |error: webrtc::error::Error| PeerError::Local(error.to_string());
        let offer = self.connection.create_offer(None).await.map_err(local)?;
        let sdp = offer.sdp.clone();
        self.connection
            .set_local_description(offer)
            .await
            .map_err(local)?;
        Ok(sdp)
    }

    /// Applies the other end's offer and answers it; returns the answer's SDP.
    ///
    /// # Errors
    /// [`PeerError::Description`] where the offer is unusable, [`PeerError::Local`] where no
    /// answer could be made.
    pub async fn answer(&self, offer: &str) -> Result<String, PeerError> {
        self.apply(RTCSdpType::Offer, offer).await?;
        let local = |error: webrtc::error::Error| PeerError::Local(error.to_string());
        let answer = self.connection.create_answer(None).await.map_err(local)?;
        let sdp = answer.sdp.clone();
        self.connection
            .set_local_description(answer)
            .await
            .map_err(local)?;
        Ok(sdp)
    }

    /// Applies the other end's answer.
    ///
    /// # Errors
    /// [`PeerError::Description`].
    pub async fn accept_answer(&self, answer: &str) -> Result<(), PeerError> {
        self.apply(RTCSdpType::Answer, answer).await
    }

    /// Takes our own offer back, for the polite end of a glare (W3C perfect negotiation).
    ///
    /// # Errors
    /// [`PeerError::Local`].
    pub async fn rollback(&self) -> Result<(), PeerError> {
        let rollback = RTCSessionDescription::rollback(None)
            .map_err(|error| PeerError::Local(error.to_string()))?;
        self.connection
            .set_local_description(rollback)
            .await
            .map_err(|error| PeerError::Local(error.to_string()))
    }

    async fn apply(&self, kind: RTCSdpType, sdp: &str) -> Result<(), PeerError> {
        let refuse = |error: webrtc::error::Error| PeerError::Description(error.to_string());
        let description = match kind {
            RTCSdpType::Answer => RTCSessionDescription::answer(sdp.to_owned()),
            _ => RTCSessionDescription::offer(sdp.to_owned()),
        }
        .map_err(refuse)?;
        self.connection
            .set_remote_description(description)
            .await
            .map_err(refuse)
    }

    /// Adds a candidate of the other end; one that came before the description is the caller's
    /// to keep.
    ///
    /// # Errors
    /// [`PeerError::Candidate`].
    pub async fn add_candidate(&self, candidate: Candidate) -> Result<(), PeerError> {
        if candidate.candidate.is_empty() {
            return Ok(()); // end of candidates
        }
        self.connection
            .add_ice_candidate(RTCIceCandidateInit {
                candidate: candidate.candidate,
                sdp_mid: candidate.mid,
                sdp_mline_index: candidate.mline_index,
                username_fragment: None,
                url: None,
            })
            .await
            .map_err(|error| PeerError::Candidate(error.to_string()))
    }

    /// Opens the outlets for sound and pictures. Only when connected: earlier packets are lost,
    /// and with them the first key frame. A kind the other end refused has none.
    pub async fn outlets(&self) -> Outlets {
        let [audio, video] = &self.senders;
        let mut outlets = Outlets {
            audio: None,
            video: None,
        };
        if let Some(payload_type) = payload_type(audio, MIME_TYPE_OPUS).await {
            let (outlet, packets) = Outlet::new(64);
            let writer = Writer::new(&self.audio, self.audio_ssrc, payload_type, &outlet);
            tokio::spawn(writer.run(packets, None));
            outlets.audio = Some(outlet);
        }
        if let Some(payload_type) = payload_type(video, MIME_TYPE_H264).await {
            let (outlet, packets) = Outlet::new(2048);
            let writer = Writer::new(&self.video, self.video_ssrc, payload_type, &outlet);
            tokio::spawn(writer.run(packets, Some(Arc::clone(&self.counters))));
            outlets.video = Some(outlet);
        }
        outlets
    }

    /// Asks the other end for a key frame (PLI, RFC 4585 section 6.3.1).
    pub fn key_frame_requester(&self) -> Arc<dyn Fn() + Send + Sync> {
        let notify = Arc::clone(&self.key_frames);
        Arc::new(move || notify.notify_one())
    }

    /// The candidate pair in use: the local candidate's type and protocol, e.g. `host/udp`.
    pub async fn selected_pair(&self) -> Option<String> {
        let [audio, _] = &self.senders;
        // The statistics report lists no candidates, so the transport itself is asked.
        let transport = audio.transport().await.ok()??;
        let selected = transport
            .ice_transport()
            .get_selected_candidate_pair()
            .await;
        let pair = selected.ok()??;
        let local = pair.local();
        Some(format!("{}/{}", local.typ, local.protocol).to_lowercase())
    }

    /// Ends the connection; returns within a fraction of a second.
    pub async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing the connection");
        }
    }
}

/// What a connected peer sends. `None`: refused by the other end.
pub struct Outlets {
    /// Sound.
    pub audio: Option<Outlet>,
    /// Pictures.
    pub video: Option<Outlet>,
}

async fn payload_type(sender: &Arc<dyn RtpSender>, mime_type: &str) -> Option<u8> {
    let parameters = sender.get_parameters().await.ok()?;
    let codecs = &parameters.rtp_parameters.codecs;
    codecs
        .iter()
        .find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(mime_type))
        .map(|codec| codec.payload_type)
}

/// Numbers packets and hands them to the stack.
struct Writer {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    payload_type: u8,
    sequence_number: u16,
    backlog: Arc<AtomicUsize>,
}

impl Writer {
    fn new(track: &Arc<TrackLocalStaticRTP>, ssrc: u32, payload_type: u8, outlet: &Outlet) -> Self {
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
    async fn run(
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
        ahead
            .checked_sub(allowed)
            .filter(|wait| *wait >= Duration::from_millis(1))
    }
}

fn now() -> Instant {
    Instant::now()
}

/// Forwards what the stack's driver task calls back with; never blocks it.
struct Handler {
    events: mpsc::UnboundedSender<PeerEvent>,
    inlets: Arc<Inlets>,
    key_frames: Arc<Notify>,
    sender_ssrc: u32,
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

/// Only what we speak: with the crate's default codecs it negotiated VP8 one way and another
/// H.264 profile the other.
fn media_engine() -> Result<MediaEngine, webrtc::error::Error> {
    let mut engine = MediaEngine::default();
    let parameters = |rtp_codec, payload_type| RTCRtpCodecParameters {
        rtp_codec,
        payload_type,
    };
    engine.register_codec(parameters(opus_codec(), 111), RtpCodecKind::Audio)?;
    engine.register_codec(parameters(h264_codec(), 102), RtpCodecKind::Video)?;
    let rtx = RTCRtpCodec {
        mime_type: "video/rtx".to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: "apt=102".to_owned(),
        rtcp_feedback: vec![],
    };
    engine.register_codec(parameters(rtx, 103), RtpCodecKind::Video)?;
    Ok(engine)
}

/// RFC 7587; mono is sent, either is understood.
fn opus_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![],
    }
}

/// RFC 6184, constrained baseline, level 3.1, packetization mode 1 (RFC 7742 section 6.2).
fn h264_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_H264.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
            .to_owned(),
        rtcp_feedback: vec![],
    }
}

/// The stock parts that serve, with ours in place of those that do not: no stock pacer and no
/// stock congestion controller, which were measured unfit.
fn interceptor_chain(
    engine: &mut MediaEngine,
    counters: &Arc<Counters>,
    video_ssrc: u32,
    audio_ssrc: u32,
) -> Result<Registry, webrtc::error::Error> {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    for (typ, parameter) in [
        ("nack", ""),
        ("nack", "pli"),
        ("ccm", "fir"),
        ("transport-cc", ""),
    ] {
        engine.register_feedback(feedback(typ, parameter), RtpCodecKind::Video);
    }
    engine.register_feedback(feedback("transport-cc", ""), RtpCodecKind::Audio);
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let uri = rtc::sdp::extmap::TRANSPORT_CC_URI.to_owned();
        engine.register_header_extension(RTCRtpHeaderExtensionCapability { uri }, kind, None)?;
    }
    let uri = rtc::sdp::extmap::SDES_MID_URI.to_owned();
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let capability = RTCRtpHeaderExtensionCapability { uri: uri.clone() };
        engine.register_header_extension(capability, kind, None)?;
    }
    let (min, start, max) = interceptors::LIMITS;
    let estimator = interceptors::Estimator::new(
        Controller::new(Limits { min, start, max }),
        Arc::clone(counters),
        now(),
    );
    let registry = Registry::new()
        .with(
            Slot::from(500),
            interceptors::RtcpTap::new(Arc::clone(counters), video_ssrc, audio_ssrc),
        )
        .with(
            Slot::CongestionControl,
            CongestionControlBuilder::new(estimator).build(),
        )
        .with(Slot::TwccSender, TwccSenderBuilder::new().build())
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(
            Slot::NackGenerator,
            interceptors::RepairRequests::new(Arc::clone(counters), video_ssrc),
        )
        .with(
            Slot::TwccReceiver,
            TwccReceiverBuilder::new()
                .with_interval(Duration::from_millis(50))
                .build(),
        );
    Ok(configure_rtcp_reports(registry))
}

fn track(
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
