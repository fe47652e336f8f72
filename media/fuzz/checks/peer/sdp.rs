//! What our own readers of descriptions make of any text, and what the stack's parser does.

use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RTCRtpParameters};

use crate::adapt::Limits;
use crate::peer::cookie;
use crate::peer::formats::{ReceivedVideo, SentVideo, by_preference};
use crate::peer::offer::{NO_RED, prefer_red, red_payload_type};
use crate::video_codec::VideoCodec;

/// Panics if `data` breaks a reader.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let red = red_payload_type(&text);
    assert!(red < 128 || red == NO_RED);
    let reordered = prefer_red(&text);
    assert_eq!(red_payload_type(&reordered), red);
    assert_eq!(prefer_red(&reordered), reordered, "once is enough");
    if let Some(told) = cookie::announced(&text) {
        assert_eq!(cookie::announced(&cookie::announce("", &told)), Some(told));
    }
    formats(&text);
    // Only that it comes back.
    drop(RTCSessionDescription::offer(text.into_owned()));
}

/// Each line is a format that was negotiated: type and parameters of what the byte names.
fn formats(text: &str) {
    let names = ["video/H264", "video/vp8", "video/rtx", "audio/opus"];
    let codecs: Vec<RTCRtpCodecParameters> = text
        .lines()
        .enumerate()
        .map(|(number, line)| RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: names[line.len() % names.len()].to_owned(),
                sdp_fmtp_line: line.to_owned(),
                ..RTCRtpCodec::default()
            },
            payload_type: (number % 128) as u8,
        })
        .collect();
    assert_eq!(by_preference(&codecs).len(), codecs.len());
    ReceivedVideo::default().set(&codecs);
    for codec in VideoCodec::ALL {
        let limits = Limits::of_parameters(codec, text);
        assert!(limits.max_fs > 0 && limits.fps(1280, 720) >= 1.0);
    }
    let parameters = RTCRtpParameters { codecs, ..RTCRtpParameters::default() };
    if let Some(sent) = SentVideo::of(&parameters, 1, 2) {
        assert_eq!(sent.stream.ssrc_rtx.is_some(), sent.stream.payload_type_rtx.is_some());
    }
}
