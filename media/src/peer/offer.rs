//! What is negotiated: codecs, feedback, header extensions, and the interceptors that serve them.

use std::sync::Arc;

use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::configuration::interceptor_registry::configure_rtcp_reports;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::shared::error::Error;

use super::audio_loss::AudioLoss;
use super::flow::Flow;
use super::twcc::TwccFeedback;
use super::{fec, interceptors, now, playout_delay, sync_tap};
use crate::stats::Counters;
use crate::video_codec::VideoCodec;

/// Only what we speak: with the crate's default codecs it negotiated VP8 one way and another
/// H.264 profile the other.
pub(super) fn media_engine() -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    let parameters = |rtp_codec, payload_type| RTCRtpCodecParameters { rtp_codec, payload_type };
    engine.register_codec(parameters(opus_codec(), 111), RtpCodecKind::Audio)?;
    engine.register_codec(parameters(red_codec(), 63), RtpCodecKind::Audio)?;
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

/// RFC 7587. What is said of stereo is added last, by [`announce_stereo`]: an answer of the crate
/// repeats what the offer said.
pub(super) fn opus_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![],
    }
}

/// Redundant Opus (RFC 2198). The format line, which Chromium writes too, names the payload types
/// of copy and original.
fn red_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/red".to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "111/111".to_owned(),
        rtcp_feedback: vec![],
    }
}

/// No payload type of ours: RED is not negotiated.
pub(super) const NO_RED: u8 = u8::MAX;

/// The payload type of RED in an answer, or [`NO_RED`].
pub(super) fn red_payload_type(sdp: &str) -> u8 {
    let types = sdp.lines().filter_map(|line| {
        let (payload_type, codec) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
        let red = codec.trim().get(..10)?.eq_ignore_ascii_case("red/48000/");
        red.then(|| payload_type.parse().ok().filter(|number| *number < 128)).flatten()
    });
    types.into_iter().next().unwrap_or(NO_RED)
}

/// The description with RED in front of Opus: Chromium sends RED only if it comes first. The
/// crate puts repair formats last, whatever their order of registration.
pub(super) fn prefer_red(sdp: &str) -> String {
    let red = red_payload_type(sdp);
    if red == NO_RED {
        return sdp.to_owned();
    }
    let red = red.to_string();
    let reordered = sdp.split_inclusive('\n').map(|line| {
        let Some(rest) = line.strip_prefix("m=audio ") else {
            return line.to_owned();
        };
        let mut fields: Vec<&str> = rest.split_whitespace().collect();
        // Port and protocol come before the formats.
        let Some(at) = fields.iter().skip(2).position(|format| *format == red) else {
            return line.to_owned();
        };
        let format = fields.remove(at + 2);
        fields.insert(2, format);
        format!("m=audio {}\r\n", fields.join(" "))
    });
    reordered.collect()
}

/// The description with what we say of Opus in it (RFC 7587 section 6.1): stereo is liked, and
/// whether we are likely to send it.
pub(super) fn announce_stereo(sdp: &str, sends: bool) -> String {
    let sends = u8::from(sends);
    let ours = format!("stereo=1;sprop-stereo={sends}");
    let types = opus_payload_types(sdp);
    let formatted: Vec<&str> =
        sdp.lines().filter_map(|line| Some(opus_format(line, &types)?.0)).collect();
    let told = sdp.split_inclusive('\n').map(|line| {
        if let Some((payload_type, format)) = opus_format(line, &types) {
            let others = format.split(';').map(str::trim).filter(|parameter| {
                let name = parameter.split('=').next().unwrap_or_default().trim_end();
                !name.is_empty()
                    && !["stereo", "sprop-stereo"]
                        .iter()
                        .any(|ours| ours.eq_ignore_ascii_case(name))
            });
            let all: Vec<&str> = others.chain([ours.as_str()]).collect();
            return format!("a=fmtp:{payload_type} {}\r\n", all.join(";"));
        }
        match opus_mapping(line).filter(|payload_type| !formatted.contains(payload_type)) {
            Some(payload_type) => format!("{line}a=fmtp:{payload_type} {ours}\r\n"),
            None => line.to_owned(),
        }
    });
    told.collect()
}

/// Whether the end that wrote this description likes to receive stereo (RFC 7587 section 6.1).
pub(super) fn takes_stereo(sdp: &str) -> bool {
    let types = opus_payload_types(sdp);
    sdp.lines().filter_map(|line| opus_format(line, &types)).any(|(_, format)| {
        format.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("stereo") && value.trim() == "1"
        })
    })
}

fn opus_payload_types(sdp: &str) -> Vec<&str> {
    sdp.lines().filter_map(opus_mapping).collect()
}

/// The payload type, if this line calls one Opus.
fn opus_mapping(line: &str) -> Option<&str> {
    let (payload_type, codec) = line.trim_end().strip_prefix("a=rtpmap:")?.split_once(' ')?;
    codec.trim().eq_ignore_ascii_case("opus/48000/2").then_some(payload_type)
}

/// Payload type and parameters, if this line gives those of one of `types`.
fn opus_format<'a>(line: &'a str, types: &[&str]) -> Option<(&'a str, &'a str)> {
    let (payload_type, format) = line.trim_end().strip_prefix("a=fmtp:")?.split_once(' ')?;
    types.contains(&payload_type).then_some((payload_type, format))
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

/// The stock parts that serve, with ours in place of those that do not: no stock pacer,
/// retransmission or congestion controller, which were measured unfit.
pub(super) fn interceptor_chain(
    engine: &mut MediaEngine,
    counters: &Arc<Counters>,
    video_flow: &Arc<Flow>,
    (video_ssrc, audio_ssrc): (u32, u32),
) -> Result<Registry, Error> {
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
    let fec_ssrc = rand::random();
    let (for_sending, flow) = (Arc::clone(counters), Arc::clone(video_flow));
    let uri = playout_delay::URI.to_owned();
    let capability = RTCRtpHeaderExtensionCapability { uri };
    engine.register_header_extension(capability, RtpCodecKind::Video, None)?;
    let registry = Registry::new()
        .with(
            Slot::from(500),
            interceptors::RtcpTap::new(Arc::clone(counters), video_ssrc, audio_ssrc),
        )
        .with(Slot::from(510), AudioLoss::new(Arc::clone(counters), audio_ssrc))
        .with(
            Slot::Pacer,
            interceptors::SendSide::new(now(), for_sending, flow, video_ssrc, fec_ssrc),
        )
        .with(
            Slot::FecEncoder,
            fec::FecSender::new(Arc::clone(counters), (video_ssrc, audio_ssrc), fec_ssrc),
        )
        .with(Slot::from(600), sync_tap::SyncTap::new(Arc::clone(counters), video_ssrc, audio_ssrc))
        .with(Slot::from(5_500), playout_delay::PlayoutDelay::new(Arc::clone(counters), video_ssrc))
        // Behind the receiver reports: what is restored was lost all the same. And what asks for
        // lost packets behind that: what is restored need not be asked for.
        .with(Slot::from(10_500), fec::FecReceiver::new(Arc::clone(counters), video_ssrc))
        .with(
            Slot::from(10_700),
            interceptors::RepairRequests::new(Arc::clone(counters), video_ssrc),
        )
        .with(Slot::TwccReceiver, TwccFeedback::new(Arc::clone(counters)));
    Ok(configure_rtcp_reports(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 102 63\r\na=rtpmap:102 H264/90000\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=rtpmap:111 opus/48000/2\r\n\
        a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n";

    #[test]
    fn red_comes_first_in_the_audio_section_only() {
        let sdp = prefer_red(SDP);
        assert!(sdp.contains("m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n"), "{sdp}");
        assert!(sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 102 63\r\n"), "{sdp}");
        assert_eq!((sdp.len(), prefer_red(&sdp)), (SDP.len(), sdp));
    }

    #[test]
    fn stereo_is_liked_and_what_the_other_end_said_of_it_is_not_repeated() {
        for (given, told) in [
            ("a=fmtp:111 minptime=10;useinbandfec=1\r\n", "a=fmtp:111 minptime=10;useinbandfec=1;"),
            ("a=fmtp:111 stereo=0;minptime=10; sprop-stereo=1\r\n", "a=fmtp:111 minptime=10;"),
            ("a=fmtp:111 Stereo=1\r\n", "a=fmtp:111 "),
            ("", "a=fmtp:111 "),
        ] {
            let sdp = format!("{SDP}{given}");
            for sends in [false, true] {
                let ours = announce_stereo(&sdp, sends);
                let line = format!("{told}stereo=1;sprop-stereo={}\r\n", u8::from(sends));
                assert!(ours.contains(&line), "{ours}");
                assert_eq!(ours.matches("a=fmtp:111 ").count(), 1, "{ours}");
                assert!(ours.contains("a=fmtp:63 111/111\r\n"), "{ours}");
                assert!(takes_stereo(&ours));
                assert_eq!(announce_stereo(&ours, sends), ours);
            }
        }
        let without = "v=0\r\na=rtpmap:96 VP8/90000\r\n";
        assert_eq!(announce_stereo(without, true), without);
    }

    #[test]
    fn only_stereo_1_of_opus_means_stereo() {
        let with = |format: &str| takes_stereo(&format!("{SDP}{format}\r\n"));
        assert!(with("a=fmtp:111 maxplaybackrate=48000;stereo=1;useinbandfec=1"));
        assert!(with("a=fmtp:111 minptime=10; STEREO=1"));
        for without in [
            "a=fmtp:111 minptime=10;useinbandfec=1",
            "a=fmtp:111 stereo=0",
            "a=fmtp:111 sprop-stereo=1",
            "a=fmtp:111 stereo",
            "a=fmtp:111 stereo=10",
            "a=fmtp:102 stereo=1",
            "a=fmtp:63 stereo=1",
            "",
        ] {
            assert!(!with(without), "{without}");
        }
    }

    #[test]
    fn red_is_found_by_its_name() {
        assert_eq!(red_payload_type(SDP), 63);
        assert_eq!(red_payload_type(&SDP.replace("63 red", "120 RED")), 120);
        for without in ["", "a=rtpmap:63 red/8000\r\n", "a=rtpmap:300 red/48000/2", "a=rtpmap:63"] {
            assert_eq!(red_payload_type(without), NO_RED, "{without}");
            assert_eq!(prefer_red(without), without);
        }
    }
}
