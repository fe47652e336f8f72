//! One connection to one other person: the only user of the `webrtc` crate.
//!
//! A [`Peer`] negotiates, sends what [`Outlets`] are fed and hands received packets to
//! [`Inlets`]. It never touches pixels or samples and knows no policy; a new peer id means a new
//! `Peer`. Settings and workarounds follow what was measured about the crate; each is named
//! where it stands.

mod audio_loss;
mod cookie;
mod fec;
mod feedback;
mod flow;
mod formats;
#[cfg(test)]
#[path = "../fuzz/checks/peer/mod.rs"]
pub(crate) mod fuzz;
mod handler;
mod interceptors;
mod late_binding;
mod network;
mod offer;
mod outlet;
mod overflow;
mod playout_delay;
mod sockets;
mod sync_tap;
mod turn_bridge;
mod twcc;

pub use network::{first_lan_address, local_addresses};
pub use outlet::{OutgoingPacket, Outlet, Outlets, VideoOutlet};
pub use turn_bridge::KeyPin;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rtc::interceptor::StreamInfo;
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_OPUS;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RtpCodecKind};
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCConfigurationBuilder, RTCIceCandidateInit,
    RTCIceServer, RTCIceTransportPolicy, RTCSdpType, RTCSessionDescription, SettingEngineBuilder,
};
use webrtc::rtp_transceiver::RtpSender;

use self::formats::{ReceivedVideo, SentVideo};
use self::sockets::Dialogue;
use self::turn_bridge::Bridges;
use crate::rtp::app_message::PictureFeedback;
use crate::rtp::assemble::RtpPacket;
use crate::stats::Counters;
use crate::video_codec::VideoCodec;

/// Largest RTP payload: 1280 bytes of IPv6 minimum MTU less IP, UDP, RTP with extensions, SRTP
/// tag, and room for a TURN header.
pub const MAX_PAYLOAD: usize = 1150;

/// A path from which nothing comes for so long is down. The crate looks every 200 ms.
const SILENT_AFTER: Duration = Duration::from_millis(2_500);

/// And dead after so much more: until then a restart may find another.
const DEAD_AFTER: Duration = Duration::from_millis(27_500);

/// This machine's own addresses are known within a millisecond, or something is odd.
const GATHER_WITHIN: Duration = Duration::from_millis(30);

/// How often the pairs of addresses that may yet work are tried (RFC 8445 section 14). A pair that
/// answered is taken at the next try: the crate's 200 ms were most of the time to connect.
const CHECK_EVERY: Duration = Duration::from_millis(15);

/// How often each is tried: for 10 s, since it may take the other end's firewall a moment, and a
/// lossy path several.
const CHECKS: u16 = 670;

/// For how long a pair of this machine's and the other's own addresses may yet answer before one
/// beyond a NAT is taken, and how long a direct one before one through a relay (RFC 8445 section
/// 8.1.1 leaves it open; the crate's 0.5 and 2 s were most of the time to connect).
const DIRECT_WAIT: Duration = Duration::from_millis(100);
const RELAY_WAIT: Duration = Duration::from_millis(500);

/// How often the other end is asked whether it still consents to be sent to (RFC 7675).
const CONSENT_EVERY: Duration = Duration::from_secs(1);

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

/// How the other end is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ice {
    /// STUN and TURN servers.
    pub servers: Vec<IceServer>,
    /// Through a relay or not at all: the other end does not learn our addresses.
    pub relay_only: bool,
    /// A key to accept from TURN servers over TLS, besides what the system trusts: the signaling
    /// server's, whose relay has the same.
    pub pin: Option<KeyPin>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match <Urls as serde::Deserialize>::deserialize(deserializer)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
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

/// The candidate pair that media takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedPair {
    /// The local candidate's type and protocol, e.g. `host/udp`.
    pub kind: String,
    /// This machine's address that it begins at (RFC 8445 section 5.1.1), if known.
    pub base: Option<IpAddr>,
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
    /// The link became too narrow for pictures (`true`), or carries them again.
    PicturesPaused(bool),
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

/// Where received packets go. Called on the runtime: must not block.
pub struct Inlets {
    /// Pictures' packets, repaired ones included, in order of arrival.
    pub video: Box<dyn Fn(Instant, VideoCodec, RtpPacket) + Send + Sync>,
    /// Sound's packets in order of arrival, and whether their payload is RED (RFC 2198).
    pub audio: Box<dyn Fn(Instant, RtpPacket, bool) + Send + Sync>,
}

/// A connection. Close it with [`Peer::close`]; dropping it closes it too, only later.
pub struct Peer {
    connection: Arc<dyn PeerConnection>,
    video: Arc<TrackLocalStaticRTP>,
    audio: Arc<TrackLocalStaticRTP>,
    video_ssrc: u32,
    rtx_ssrc: u32,
    audio_ssrc: u32,
    sent_video: Arc<OnceLock<StreamInfo>>,
    received_video: Arc<ReceivedVideo>,
    senders: [Arc<dyn RtpSender>; 2],
    feedback: Arc<feedback::FeedbackQueue>,
    /// Pictures on their way to the pacer.
    video_flow: Arc<flow::Flow>,
    bridges: tokio::sync::Mutex<Bridges>,
    red: Arc<AtomicU8>,
    /// The other end likes sound in two channels.
    takes_stereo: AtomicBool,
    /// We are likely to send sound in two channels.
    sends_stereo: AtomicBool,
    relay_only: bool,
    gathering: watch::Receiver<u64>,
    dialogue: Arc<Dialogue>,
    /// As it was when the connection was made.
    network: network::Network,
}

impl Peer {
    /// Makes a connection that will offer or answer, with one sendrecv transceiver a kind, and
    /// starts gathering with the first local description. Events and media flow until it is
    /// closed.
    ///
    /// # Errors
    /// [`PeerError::Setup`] where sockets or keys cannot be had.
    pub async fn new(
        ice: Ice,
        inlets: Inlets,
        counters: Arc<Counters>,
        events: mpsc::UnboundedSender<PeerEvent>,
    ) -> Result<Self, PeerError> {
        let setup = |error: webrtc::error::Error| PeerError::Setup(error.to_string());
        let (video_ssrc, rtx_ssrc, audio_ssrc) = (rand::random(), rand::random(), rand::random());
        let mut media_engine = offer::media_engine().map_err(setup)?;
        let video_flow = Arc::<flow::Flow>::default();
        let ssrcs = (video_ssrc, audio_ssrc);
        let registry = offer::interceptor_chain(&mut media_engine, &counters, &video_flow, ssrcs)
            .map_err(setup)?;
        let sent_video = Arc::default();
        let registry = late_binding::wrap(registry, Arc::clone(&sent_video));
        let received_video = Arc::<ReceivedVideo>::default();
        let network = network::addresses();
        let crypto = |error: rtc::crypto::CryptoError| PeerError::Setup(error.to_string());
        let provider = rtc::crypto::default_provider().and_then(cookie::Provider::new);
        let provider = Arc::new(provider.map_err(crypto)?);
        let cookie = provider.cookie();
        let dialogue = Arc::new(Dialogue::new(provider.clone(), cookie, Arc::clone(&counters)));
        let settings = SettingEngineBuilder::new()
            .with_crypto_provider(provider)
            // As the answerer we are the DTLS server: a client's `setup:active` makes Chromium
            // refuse a later offer of ours, and connecting took 1 s longer.
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_connection_attempts(Some(CHECK_EVERY), Some(CHECKS))
            .with_ice_timeouts(Some(SILENT_AFTER), Some(DEAD_AFTER), Some(CONSENT_EVERY))
            .with_srflx_acceptance_min_wait(Some(DIRECT_WAIT))
            .with_prflx_acceptance_min_wait(Some(DIRECT_WAIT))
            .with_relay_acceptance_min_wait(Some(RELAY_WAIT))
            .with_multicast_dns_mode(network.multicast_dns)
            // A restart binds afresh: the addresses of before may be gone.
            .with_discard_local_candidates_during_ice_restart(true)
            .build();
        let mut bridges = Bridges::new(ice.pin);
        let configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(rtc_servers(bridges.translate(ice.servers).await))
            .with_ice_transport_policy(if ice.relay_only {
                RTCIceTransportPolicy::Relay
            } else {
                RTCIceTransportPolicy::All
            })
            .build();
        let feedback = Arc::new(feedback::FeedbackQueue::default());
        let red = Arc::new(AtomicU8::new(offer::NO_RED));
        let (gathered, gathering) = watch::channel(0);
        let handler = handler::Handler {
            events,
            gathered,
            inlets: Arc::new(inlets),
            feedback: Arc::clone(&feedback),
            received_video: Arc::clone(&received_video),
            sender_ssrc: video_ssrc,
            has_video: AtomicBool::new(false),
            has_audio: AtomicBool::new(false),
            red: Arc::clone(&red),
        };
        let builder = match sockets::runtime(Arc::clone(&dialogue)) {
            Some(runtime) => PeerConnectionBuilder::new().with_runtime(runtime),
            None => PeerConnectionBuilder::new(),
        };
        let connection: Arc<dyn PeerConnection> = Arc::new(
            builder
                .with_configuration(configuration)
                .with_media_engine(media_engine)
                .with_setting_engine(settings)
                .with_interceptor_registry(registry)
                .with_handler(Arc::new(handler))
                .with_udp_addrs(network.udp.clone())
                .build()
                .await
                .map_err(setup)?,
        );
        let audio = outlet::track(RtpCodecKind::Audio, offer::opus_codec(), audio_ssrc, None);
        let video =
            outlet::track(RtpCodecKind::Video, RTCRtpCodec::default(), video_ssrc, Some(rtx_ssrc));
        let audio_sender =
            connection.add_track(Arc::clone(&audio) as Arc<dyn TrackLocal>).await.map_err(setup)?;
        let video_sender =
            connection.add_track(Arc::clone(&video) as Arc<dyn TrackLocal>).await.map_err(setup)?;
        Ok(Self {
            connection,
            video,
            audio,
            video_ssrc,
            rtx_ssrc,
            audio_ssrc,
            sent_video,
            received_video,
            senders: [audio_sender, video_sender],
            feedback,
            video_flow,
            bridges: tokio::sync::Mutex::new(bridges),
            red,
            takes_stereo: AtomicBool::new(false),
            sends_stereo: AtomicBool::new(false),
            relay_only: ice.relay_only,
            gathering,
            dialogue,
            network,
        })
    }

    /// Uses these STUN and TURN servers from now on: renewed credentials keep a relay that is in
    /// use.
    ///
    /// # Errors
    /// [`PeerError::Setup`] where the stack refuses them.
    pub async fn set_ice_servers(&self, servers: Vec<IceServer>) -> Result<(), PeerError> {
        let servers = rtc_servers(self.bridges.lock().await.translate(servers).await);
        let policy = self.connection.get_configuration().await.ice_transport_policy();
        let configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(servers)
            .with_ice_transport_policy(policy)
            .build();
        self.connection
            .set_configuration(configuration)
            .await
            .map_err(|error| PeerError::Setup(error.to_string()))
    }

    /// Whether descriptions from now on say that we are likely to send sound in two channels.
    pub fn set_sends_stereo(&self, sends: bool) {
        self.sends_stereo.store(sends, Relaxed);
    }

    /// Makes and applies an offer; returns its SDP.
    ///
    /// # Errors
    /// [`PeerError::Local`].
    pub async fn offer(&self) -> Result<String, PeerError> {
        self.make_offer(None).await
    }

    /// Makes and applies an offer that looks for a new path (ICE restart, RFC 8445 section 9),
    /// from whatever addresses this machine has by now. The path there is ends at once.
    ///
    /// # Errors
    /// [`PeerError::Local`], also where the network is another one than a restart can follow: a
    /// new connection can.
    pub async fn restart(&self) -> Result<String, PeerError> {
        self.may_restart()?;
        self.make_offer(Some(RTCOfferOptions { ice_restart: true })).await
    }

    /// The crate binds the same wildcards again, and its driver ends where it cannot.
    fn may_restart(&self) -> Result<(), PeerError> {
        if network::addresses() == self.network {
            return Ok(());
        }
        Err(PeerError::Local("the machine's network is of another kind now".to_owned()))
    }

    async fn make_offer(&self, options: Option<RTCOfferOptions>) -> Result<String, PeerError> {
        let local = |error: webrtc::error::Error| PeerError::Local(error.to_string());
        let offer = self.connection.create_offer(options).await.map_err(local)?;
        self.describe(offer).await
    }

    /// Applies a description of our own; returns its SDP with this machine's addresses in it,
    /// which spares the other end a round trip and the crate its next look: candidates that come
    /// one by one do not wake it.
    async fn describe(&self, description: RTCSessionDescription) -> Result<String, PeerError> {
        let sends_stereo = self.sends_stereo.load(Relaxed);
        let finish = |sdp: &str| offer::announce_stereo(&offer::prefer_red(sdp), sends_stereo);
        let sdp = finish(&description.sdp);
        let mut gathering = self.gathering.clone();
        gathering.mark_unchanged();
        self.connection
            .set_local_description(description)
            .await
            .map_err(|error| PeerError::Local(error.to_string()))?;
        if self.relay_only {
            return Ok(sdp); // the relay answers later
        }
        // Those that do not come in time follow one by one, as all others do.
        let _ = tokio::time::timeout(GATHER_WITHIN, gathering.changed()).await;
        let described = self.connection.local_description().await;
        Ok(described.map_or(sdp, |described| finish(&described.sdp)))
    }

    /// Applies the other end's offer and answers it; returns the answer's SDP.
    ///
    /// # Errors
    /// [`PeerError::Description`] where the offer is unusable, [`PeerError::Local`] where no
    /// answer could be made.
    pub async fn answer(&self, offer: &str) -> Result<String, PeerError> {
        let current = self.connection.current_remote_description().await;
        if current.is_some_and(|current| ice_credentials(&current.sdp) != ice_credentials(offer)) {
            self.may_restart()?;
        }
        self.apply(RTCSdpType::Offer, offer).await?;
        self.prefer_our_codec().await;
        let local = |error: webrtc::error::Error| PeerError::Local(error.to_string());
        let answer = self.connection.create_answer(None).await.map_err(local)?;
        let sdp = cookie::announce(&self.describe(answer).await?, &self.dialogue.cookie());
        self.red.store(offer::red_payload_type(&sdp), Relaxed);
        Ok(sdp)
    }

    /// Applies the other end's answer.
    ///
    /// # Errors
    /// [`PeerError::Description`].
    pub async fn accept_answer(&self, answer: &str) -> Result<(), PeerError> {
        self.apply(RTCSdpType::Answer, answer).await?;
        self.red.store(offer::red_payload_type(answer), Relaxed);
        Ok(())
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
        let [_, password] = ice_credentials(sdp);
        self.dialogue.meet(password, cookie::announced(sdp));
        self.connection.set_remote_description(description).await.map_err(refuse)?;
        self.takes_stereo.store(offer::takes_stereo(sdp), Relaxed);
        let [_, video] = &self.senders;
        if let Ok(parameters) = video.get_parameters().await {
            self.received_video.set(&parameters.rtp_parameters.codecs);
        }
        Ok(())
    }

    /// Has the answer to come list first what we prefer. Where that fails, the offer's order
    /// stays: the call works with either.
    async fn prefer_our_codec(&self) {
        let [_, video] = &self.senders;
        let Ok(parameters) = video.get_parameters().await else {
            return;
        };
        let codecs = formats::by_preference(&parameters.rtp_parameters.codecs);
        for transceiver in self.connection.get_transceivers().await {
            if transceiver.id() == usize::from(video.id())
                && let Err(error) = transceiver.set_codec_preferences(codecs.clone()).await
            {
                tracing::debug!(%error, "the codecs stay in the offer's order");
            }
        }
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
        let red = Some(self.red.load(Relaxed)).filter(|red| *red != offer::NO_RED);
        let stereo = self.takes_stereo.load(Relaxed);
        let mut outlets = Outlets { audio: None, red, stereo, video: None };
        if let Some(payload_type) = outlet::payload_type(audio, MIME_TYPE_OPUS).await {
            let (outlet, packets) = Outlet::new(64);
            let writer = outlet::Writer::new(&self.audio, self.audio_ssrc, payload_type, &outlet);
            tokio::spawn(writer.run(packets, false));
            outlets.audio = Some(outlet);
        }
        let negotiated = video.get_parameters().await.ok();
        if let Some(sent) = negotiated.and_then(|negotiated| {
            SentVideo::of(&negotiated.rtp_parameters, self.video_ssrc, self.rtx_ssrc)
        }) {
            let (outlet, packets) = Outlet::through(2048, Arc::clone(&self.video_flow));
            let SentVideo { codec, payload_type, limits, stream } = sent;
            // Before the first packet. A second time nothing changes: one codec for the whole call.
            let _ = self.sent_video.set(stream);
            let writer = outlet::Writer::new(&self.video, self.video_ssrc, payload_type, &outlet);
            tokio::spawn(writer.run(packets, true));
            outlets.video = Some(VideoOutlet { outlet, codec, limits });
        }
        outlets
    }

    /// Tells the other end what its pictures need.
    pub fn picture_feedback(&self) -> Arc<dyn Fn(PictureFeedback) + Send + Sync> {
        let queue = Arc::clone(&self.feedback);
        Arc::new(move |feedback| queue.push(feedback))
    }

    /// The candidate pair in use.
    pub async fn selected_pair(&self) -> Option<SelectedPair> {
        // Not from the statistics: there a pair names its candidates by other ids than theirs.
        let [sender, _] = &self.senders;
        let transport = sender.transport().await.ok()??.ice_transport();
        let pair = transport.get_selected_candidate_pair().await.ok()??;
        let local = pair.local();
        let base =
            if local.related_address.is_empty() { &local.address } else { &local.related_address };
        Some(SelectedPair {
            kind: format!("{}/{}", local.typ, local.protocol).to_lowercase(),
            base: base.parse().ok(),
        })
    }

    /// Ends the connection; returns within a fraction of a second.
    pub async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing the connection");
        }
    }
}

fn rtc_servers(servers: Vec<IceServer>) -> Vec<RTCIceServer> {
    let rtc =
        |IceServer { urls, username, credential }| RTCIceServer { urls, username, credential };
    servers.into_iter().map(rtc).collect()
}

/// Other ones in an offer than in the description before mean a restart (RFC 8839 section 4.4.1.1.1).
fn ice_credentials(sdp: &str) -> [Option<&str>; 2] {
    ["a=ice-ufrag:", "a=ice-pwd:"]
        .map(|attribute| sdp.lines().find_map(|line| line.strip_prefix(attribute)))
}

fn now() -> Instant {
    Instant::now()
}
