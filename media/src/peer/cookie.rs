//! The cookie that the crate's DTLS server asks for, told in the answer (see `sockets::hello`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rtc::crypto::{CryptoError, RTCCrypto, RTCCryptoProvider, RTCRandom};

use super::sockets::Cookie;

/// In the session part of an answer, with the cookie in hexadecimal digits. Other ends pass over
/// attributes that they do not know (RFC 8866 section 5.13).
const ATTRIBUTE: &str = "a=visavis-dtls-cookie:";

/// The description with the cookie in it.
pub(super) fn announce(sdp: &str, cookie: &Cookie) -> String {
    let digits: String = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
    let session = sdp.find("\nm=").map_or(sdp.len(), |before| before + 1);
    let (session, media) = sdp.split_at(session);
    format!("{session}{ATTRIBUTE}{digits}\r\n{media}")
}

/// The cookie that a description tells.
pub(super) fn announced(sdp: &str) -> Option<Cookie> {
    let digits = sdp.lines().find_map(|line| line.strip_prefix(ATTRIBUTE))?.trim_end().as_bytes();
    let mut cookie = Cookie::default();
    if digits.len() != 2 * cookie.len() {
        return None;
    }
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    for (byte, pair) in cookie.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    }
    Some(cookie)
}

/// The crate's cryptography, whose next cookie is known beforehand.
pub(super) struct Provider {
    inner: Arc<dyn RTCCryptoProvider>,
    cookie: Cookie,
    /// The crate has it.
    given: AtomicBool,
}

impl Provider {
    /// With a cookie of its own.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn new(inner: Arc<dyn RTCCryptoProvider>) -> Result<Self, CryptoError> {
        let mut cookie = Cookie::default();
        inner.random().fill(&mut cookie)?;
        Ok(Self { inner, cookie, given: AtomicBool::new(false) })
    }

    /// What its server will ask for.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self.inner.crypto()
    }

    fn random(&self) -> &dyn RTCRandom {
        self
    }
}

impl RTCRandom for Provider {
    /// The cookie is the first thing of its length that the crate asks for, and the only one: keys
    /// are made inside `crypto`, and other secrets have 8, 16, 28 or 64 bytes.
    fn fill(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        if output.len() == self.cookie.len() && !self.given.swap(true, Relaxed) {
            output.copy_from_slice(&self.cookie);
            return Ok(());
        }
        self.inner.random().fill(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";

    #[test]
    fn a_cookie_is_told_in_the_session_part() {
        let cookie = std::array::from_fn(|index| index as u8 * 13);
        let told = announce(SDP, &cookie);
        assert_eq!(announced(&told), Some(cookie));
        let (session, media) = told.split_once("m=audio").unwrap();
        assert!(session.starts_with("v=0") && session.ends_with("eaf7\r\n"), "{session}");
        assert_eq!(media, SDP.split_once("m=audio").unwrap().1);
        assert_eq!(announced(SDP), None);
        assert_eq!(announced(&announce("", &cookie)), Some(cookie));
    }

    #[test]
    fn no_cookie_is_made_of_anything_else() {
        for value in ["", "00", &"0".repeat(39), &"0".repeat(41), &"+1".repeat(20), &"é".repeat(20)]
        {
            assert_eq!(announced(&format!("{ATTRIBUTE}{value}\r\n")), None, "{value}");
        }
        assert_eq!(announced(&format!("{ATTRIBUTE}{}\n", "aF".repeat(20))), Some([0xaf; 20]));
    }

    #[test]
    fn it_is_what_the_server_draws_and_all_else_is_random() {
        let provider = Provider::new(rtc::crypto::default_provider().unwrap()).unwrap();
        let draw = |length| {
            let mut drawn = vec![0; length];
            provider.random().fill(&mut drawn).unwrap();
            drawn
        };
        assert_ne!(draw(28), draw(28));
        assert_eq!(draw(20), provider.cookie());
        assert_ne!(draw(20), provider.cookie(), "once");
        let another = Provider::new(rtc::crypto::default_provider().unwrap()).unwrap();
        assert_ne!(another.cookie(), provider.cookie());
    }
}
