//! Which video codec a connection speaks. Pure; the codecs themselves are in [`crate::codec`].

/// The codecs that every WebRTC endpoint has to know (RFC 7742 section 5), in order of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VideoCodec {
    /// H.264, constrained baseline: cheaper at the same quality, and everyone but Firefox on
    /// systems without a licensed encoder has it.
    #[default]
    H264,
    /// VP8.
    Vp8,
}

impl VideoCodec {
    /// All, the preferred first.
    pub const ALL: [Self; 2] = [Self::H264, Self::Vp8];

    /// The encoding name of its RTP payload format, as in `a=rtpmap` and in the statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
        }
    }

    /// The codec of a media type such as `video/VP8` (case ignored, RFC 4855).
    pub fn of_mime(mime_type: &str) -> Option<Self> {
        let name = mime_type.split_once('/').filter(|(kind, _)| kind.eq_ignore_ascii_case("video"));
        let (_, name) = name?;
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_names_a_codec_in_any_case() {
        assert_eq!(VideoCodec::of_mime("video/vp8"), Some(VideoCodec::Vp8));
        assert_eq!(VideoCodec::of_mime("VIDEO/H264"), Some(VideoCodec::H264));
        for other in ["video/rtx", "audio/VP8", "VP8", "", "video/"] {
            assert_eq!(VideoCodec::of_mime(other), None, "{other}");
        }
    }
}
