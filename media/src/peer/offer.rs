//! What is negotiated: codecs, feedback, header extensions, and the interceptors that serve them.

use std::sync::Arc;
use std::time::Duration;

use rtc::interceptor::{
    CongestionControlBuilder, NackResponderBuilder, Registry, Slot, TwccReceiverBuilder,
    TwccSenderBuilder,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::configure_rtcp_reports;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MediaEngine,
};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use super::{fec, interceptors, now, playout_delay, sync_tap};
use crate::congestion::{Controller, Limits};
use crate::stats::Counters;

/// Only what we speak: with the crate's default codecs it negotiated VP8 one way and another
/// H.264 profile the other.
pub(super) fn media_engine() -> Result<MediaEngine, webrtc::error::Error> {
    let mut engine = MediaEngine::default();
    let parameters = |rtp_codec, payload_type| RTCRtpCodecParameters { rtp_codec, payload_type };
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
pub(super) fn opus_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![],
    }
}

/// RFC 6184, constrained baseline, level 3.1, packetization mode 1 (RFC 7742 section 6.2).
pub(super) fn h264_codec() -> RTCRtpCodec {
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
    let uri = playout_delay::URI.to_owned();
    let capability = RTCRtpHeaderExtensionCapability { uri };
    engine.register_header_extension(capability, RtpCodecKind::Video, None)?;
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
        .with(Slot::from(600), sync_tap::SyncTap::new(Arc::clone(counters)))
        .with(Slot::CongestionControl, CongestionControlBuilder::new(estimator).build())
        .with(Slot::TwccSender, TwccSenderBuilder::new().build())
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(
            Slot::FecEncoder,
            fec::FecSender::new(Arc::clone(counters), video_ssrc, rand::random()),
        )
        .with(Slot::from(5_500), playout_delay::PlayoutDelay::new(Arc::clone(counters), video_ssrc))
        // Behind the receiver reports: what is restored was lost all the same. And what asks for
        // lost packets behind that: what is restored need not be asked for.
        .with(Slot::from(10_500), fec::FecReceiver::new(Arc::clone(counters), video_ssrc))
        .with(
            Slot::from(10_700),
            interceptors::RepairRequests::new(Arc::clone(counters), video_ssrc),
        )
        .with(
            Slot::TwccReceiver,
            TwccReceiverBuilder::new().with_interval(Duration::from_millis(50)).build(),
        );
    Ok(configure_rtcp_reports(registry))
}

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
