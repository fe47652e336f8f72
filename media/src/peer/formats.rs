//! Which codec and which payload types came out of the negotiation.

use std::sync::{Mutex, PoisonError};

use rtc::interceptor::{RTCPFeedback, RTPHeaderExtension, StreamInfo};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodecParameters, RTCRtpParameters};

use crate::adapt::Limits;
use crate::video_codec::VideoCodec;

/// What pictures are sent as.
#[derive(Clone, Debug)]
pub(super) struct SentVideo {
    pub codec: VideoCodec,
    pub payload_type: u8,
    /// What the other end's decoder takes.
    pub limits: Limits,
    /// For the interceptors, which have to know it before the first packet.
    pub stream: StreamInfo,
}

impl SentVideo {
    /// The codec we prefer among the negotiated ones; nothing where none of ours is.
    pub fn of(negotiated: &RTCRtpParameters, ssrc: u32, rtx_ssrc: u32) -> Option<Self> {
        let codecs = &negotiated.codecs;
        let (codec, found) = VideoCodec::ALL.into_iter().find_map(|codec| {
            codecs
                .iter()
                .find(|found| video_codec(found) == Some(codec))
                .map(|found| (codec, found))
        })?;
        let payload_type = found.payload_type;
        let rtx = codecs.iter().find(|rtx| repairs(rtx) == Some(payload_type));
        let rtp_header_extensions = negotiated
            .header_extensions
            .iter()
            .map(|found| RTPHeaderExtension { uri: found.uri.clone(), id: found.id })
            .collect();
        let rtcp_feedback = found
            .rtp_codec
            .rtcp_feedback
            .iter()
            .map(|found| RTCPFeedback {
                typ: found.typ.clone(),
                parameter: found.parameter.clone(),
            })
            .collect();
        let stream = StreamInfo {
            ssrc,
            ssrc_rtx: rtx.map(|_| rtx_ssrc),
            payload_type,
            payload_type_rtx: rtx.map(|rtx| rtx.payload_type),
            rtp_header_extensions,
            mime_type: found.rtp_codec.mime_type.clone(),
            clock_rate: found.rtp_codec.clock_rate,
            sdp_fmtp_line: found.rtp_codec.sdp_fmtp_line.clone(),
            rtcp_feedback,
            ..StreamInfo::default()
        };
        let limits = Limits::of_parameters(codec, &found.rtp_codec.sdp_fmtp_line);
        Some(Self { codec, payload_type, limits, stream })
    }
}

/// The same codecs in the order we prefer, each kind in the order it had. The crate's answer
/// keeps the offer's order, and a browser sends what an answer lists first.
pub(super) fn by_preference(codecs: &[RTCRtpCodecParameters]) -> Vec<RTCRtpCodecParameters> {
    let mut codecs = codecs.to_vec();
    let last = VideoCodec::ALL.len();
    codecs.sort_by_key(|found| {
        let codec = video_codec(found);
        VideoCodec::ALL.iter().position(|ours| Some(*ours) == codec).unwrap_or(last)
    });
    codecs
}

/// What each payload type of received pictures holds.
#[derive(Debug, Default)]
pub(super) struct ReceivedVideo(Mutex<Vec<(u8, VideoCodec)>>);

impl ReceivedVideo {
    /// Takes what was negotiated.
    pub fn set(&self, codecs: &[RTCRtpCodecParameters]) {
        let known = codecs
            .iter()
            .filter_map(|found| Some((found.payload_type, video_codec(found)?)))
            .collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The codec of a payload type, if it was negotiated.
    pub fn codec(&self, payload_type: u8) -> Option<VideoCodec> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(known, _)| *known == payload_type).map(|(_, codec)| *codec)
    }
}

fn video_codec(found: &RTCRtpCodecParameters) -> Option<VideoCodec> {
    VideoCodec::of_mime(&found.rtp_codec.mime_type)
}

/// The payload type that this one repairs (RFC 4588 section 8.1).
fn repairs(found: &RTCRtpCodecParameters) -> Option<u8> {
    if !found.rtp_codec.mime_type.eq_ignore_ascii_case("video/rtx") {
        return None;
    }
    let mut parameters = found.rtp_codec.sdp_fmtp_line.split(';');
    parameters.find_map(|parameter| parameter.trim().strip_prefix("apt=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use rtc::rtp_transceiver::rtp_sender::RTCRtpCodec;

    use super::*;

    fn codec(payload_type: u8, mime_type: &str, fmtp: &str) -> RTCRtpCodecParameters {
        let rtp_codec = RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            sdp_fmtp_line: fmtp.to_owned(),
            ..RTCRtpCodec::default()
        };
        RTCRtpCodecParameters { rtp_codec, payload_type }
    }

    fn negotiated(codecs: Vec<RTCRtpCodecParameters>) -> RTCRtpParameters {
        RTCRtpParameters { codecs, ..RTCRtpParameters::default() }
    }

    #[test]
    fn h264_is_sent_where_it_was_negotiated_and_vp8_elsewhere() {
        let vp8 = vec![codec(120, "video/VP8", "max-fs=12288"), codec(124, "video/rtx", "apt=120")];
        let sent = SentVideo::of(&negotiated(vp8.clone()), 1, 2).expect("VP8");
        assert_eq!((sent.codec, sent.payload_type), (VideoCodec::Vp8, 120));
        assert_eq!((sent.stream.ssrc_rtx, sent.stream.payload_type_rtx), (Some(2), Some(124)));
        assert_eq!(sent.limits.max_fs, 12_288);
        let both = [vp8, vec![codec(126, "video/h264", "")]].concat();
        let sent = SentVideo::of(&negotiated(both), 1, 2).expect("H.264");
        assert_eq!((sent.codec, sent.payload_type), (VideoCodec::H264, 126));
        assert_eq!((sent.stream.ssrc_rtx, sent.stream.payload_type_rtx), (None, None));
        let none = vec![codec(98, "video/VP9", ""), codec(99, "video/rtx", "apt=98")];
        assert!(SentVideo::of(&negotiated(none), 1, 2).is_none());
    }

    #[test]
    fn an_answer_lists_the_preferred_codec_first_and_loses_none() {
        let offered = [
            codec(96, "video/VP8", ""),
            codec(97, "video/rtx", "apt=96"),
            codec(102, "video/H264", "a"),
            codec(103, "video/rtx", "apt=102"),
            codec(106, "video/H264", "b"),
        ];
        let order: Vec<u8> = by_preference(&offered).iter().map(|c| c.payload_type).collect();
        assert_eq!(order, [102, 106, 96, 97, 103]);
    }

    #[test]
    fn a_payload_type_that_was_not_negotiated_is_no_codec() {
        let received = ReceivedVideo::default();
        assert_eq!(received.codec(96), None);
        received.set(&[codec(96, "video/VP8", ""), codec(97, "video/rtx", "apt=96")]);
        assert_eq!(received.codec(96), Some(VideoCodec::Vp8));
        assert_eq!(received.codec(97), None);
    }
}
