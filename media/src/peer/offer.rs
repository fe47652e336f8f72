//! What is negotiated: codecs, feedback, header extensions, and the interceptors that serve them.

use std::sync::Arc;
use std::time::Duration;

use rtc::interceptor::{
    CongestionControlBuilder, NackResponderBuilder, Registry, Slot, TwccReceiverBuilder,
    TwccSenderBuilder,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::configure_rtcp_reports;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use super::{interceptors, now};
use crate::congestion::{Controller, Limits};
use crate::stats::Counters;
use crate::video_codec::VideoCodec;

/// Only what we speak: with the crate's default codecs it negotiated VP8 one way and another
/// H.264 profile the other.
pub(super) fn media_engine() -> Result<MediaEngine, webrtc::error::Error> {
    let mut engine = MediaEngine::default();
    let parameters = |rtp_codec, payload_type| RTCRtpCodecParameters { rtp_codec, payload_type };
    engine.register_codec(parameters(opus_codec(), 111), RtpCodecKind::Audio)?;
    for (codec, payload_type) in VideoCodec::ALL.into_iter().zip([102, 96]) {
        let rtx = RTCRtpCodec {
            mime_type: "video/rtx".to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: format!("apt={payload_type}"),
            rtcp_feedback: vec![],
        };
        engine.register_codec(parameters(video_codec(codec), payload_type), RtpCodecKind::Video)?;
        engine.register_codec(parameters(rtx, payload_type + 1), RtpCodecKind::Video)?;
    }
    Ok(engine)
}

/// RFC 7587; mono is sent, either is understood.
pub(super) fn opus_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![],
    }
}

/// H.264 (RFC 6184) as constrained baseline, level 3.1, packetization mode 1 (RFC 7742 section
/// 6.2), with pictures and rates of level 4 (1080p at 30 frames a second); VP8 (RFC 7741) without
/// limits.
fn video_codec(codec: VideoCodec) -> RTCRtpCodec {
    let parameters = match codec {
        VideoCodec::H264 => {
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f;\
             max-fs=8192;max-mbps=245760"
        }
        VideoCodec::Vp8 => "",
    };
    RTCRtpCodec {
        mime_type: format!("video/{}", codec.name()),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: parameters.to_owned(),
        rtcp_feedback: vec![],
    }
}

/// The stock parts that serve, with ours in place of those that do not: no stock pacer and no
/// stock congestion controller, which were measured unfit.
pub(super) fn interceptor_chain(
    engine: &mut MediaEngine,
    counters: &Arc<Counters>,
    video_ssrc: u32,
    audio_ssrc: u32,
) -> Result<Registry, webrtc::error::Error> {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    for (typ, parameter) in [("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("transport-cc", "")] {
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
        .with(Slot::CongestionControl, CongestionControlBuilder::new(estimator).build())
        .with(Slot::TwccSender, TwccSenderBuilder::new().build())
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(
            Slot::NackGenerator,
            interceptors::RepairRequests::new(Arc::clone(counters), video_ssrc),
        )
        .with(
            Slot::TwccReceiver,
            TwccReceiverBuilder::new().with_interval(Duration::from_millis(50)).build(),
        );
    Ok(configure_rtcp_reports(registry))
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
