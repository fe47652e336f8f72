//! The word that a closed server wants to hear. Pure.

use std::fmt;

use axum::http::{HeaderMap, Uri, header};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Shown in place of a token.
const HIDDEN: &str = "(hidden)";

/// Shorter ones can be guessed.
pub const SHORTEST_TOKEN: usize = 8;
/// Longer ones do not fit into a link.
pub const LONGEST_TOKEN: usize = 256;

/// What clients must present. Never shown: neither in logs nor by `--print-config`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccessToken(String);

/// Not usable as a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "The access token cannot be used: take {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits, “-”, “_”, “.” or “~”, \
     for instance what “openssl rand -hex 16” prints."
)]
pub struct BadToken;

impl AccessToken {
    /// Takes `text`, without the blanks around it, as a token.
    ///
    /// # Errors
    /// When it is too short, too long, or would have to be escaped in a link.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        if (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&text.len()) && text.chars().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(BadToken)
        }
    }

    /// Whether a request presents it: `Authorization: Bearer TOKEN` (RFC 6750, section 2.1), or
    /// `?token=TOKEN`, since a page cannot add headers to a WebSocket's request. Takes the same
    /// time for every token of the same length.
    pub fn is_presented(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let query = uri.query().unwrap_or_default();
        let in_query =
            query.split('&').filter_map(|pair| pair.strip_prefix("token=")).map(str::trim);
        // The plain alphabet needs no percent-decoding.
        bearer.into_iter().chain(in_query).any(|token| self.is(token))
    }

    fn is(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// The word itself: to be sent, never to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl TryFrom<String> for AccessToken {
    type Error = BadToken;

    fn try_from(text: String) -> Result<Self, BadToken> {
        Self::parse(&text)
    }
}

/// For the settings as they are printed. (“(hidden)” is no token, so it cannot be read back by
/// mistake.)
impl From<AccessToken> for String {
    fn from(_: AccessToken) -> Self {
        HIDDEN.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presents(uri: &str, authorization: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        let token = AccessToken::parse("open-sesame\n").unwrap();
        token.is_presented(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn it_is_heard_in_a_header_and_in_the_address() {
        assert!(presents("/ws", Some("Bearer open-sesame")));
        assert!(presents("/ws", Some("bearer  open-sesame")));
        assert!(presents("/ws?token=open-sesame", None));
        assert!(presents("/socket.io/?EIO=4&token=open-sesame&t=1", Some("Basic x")));
    }

    #[test]
    fn nothing_else_opens() {
        for uri in ["/ws", "/ws?token=", "/ws?token=open-sesam", "/ws?token=open-sesame2"] {
            assert!(!presents(uri, None), "{uri}");
        }
        assert!(!presents("/ws?xtoken=open-sesame", None));
        assert!(!presents("/ws", Some("open-sesame")));
        assert!(!presents("/ws", Some("Basic open-sesame")));
        assert!(!presents("/ws", Some("Bearer Open-sesame")));
    }

    #[test]
    fn a_token_is_plain_and_never_shown() {
        for bad in ["", "short", "has blank inside", "ümlaut-token", "(hidden)", &"x".repeat(257)]
        {
            assert_eq!(AccessToken::parse(bad), Err(BadToken), "{bad}");
        }
        let token = AccessToken::parse("open-sesame").unwrap();
        assert!(!format!("{token:?} {}", String::from(token.clone())).contains("sesame"));
        assert_eq!(token.expose(), "open-sesame");
    }
}
