//! Which pages may speak to this server. Pure.
//!
//! A browser tells where a page comes from (`Origin`, RFC 6454) and lets any page open a
//! WebSocket to anywhere; so it is the server that must look. Programs that are no browsers send
//! no `Origin` and are not meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

/// An origin whose pages may speak to this server besides its own, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedOrigin {
    /// `*`: any page of the web.
    Any,
    /// This one, as a browser writes it: `https://HOST` or `https://HOST:PORT`.
    One(String),
}

/// Not an origin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("“{0}” is not an origin: write https://HOST, https://HOST:PORT or *, without a path.")]
pub struct NotAnOrigin(String);

impl FromStr for AllowedOrigin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let url = Url::parse(text).map_err(|_| NotAnOrigin(text.into()))?;
        let bare = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if bare {
            Ok(Self::One(url.origin().ascii_serialization()))
        } else {
            Err(NotAnOrigin(text.into()))
        }
    }
}

impl TryFrom<String> for AllowedOrigin {
    type Error = NotAnOrigin;

    fn try_from(text: String) -> Result<Self, NotAnOrigin> {
        text.parse()
    }
}

impl From<AllowedOrigin> for String {
    fn from(origin: AllowedOrigin) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::One(origin) => origin,
        })
    }
}

/// Whose page asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// No page: a program of its own.
    Native,
    /// A page this server served.
    OwnPage,
    /// A page from elsewhere that may speak to this server.
    AllowedPage,
    /// A page from elsewhere that may not.
    Stranger,
}

/// Who asks with the header `Origin: origin`, at a server asked for as `host` (the `Host`
/// header). `https` says whether it was asked over TLS, as far as is known.
pub fn asker(
    origin: Option<&str>,
    host: Option<&str>,
    https: Option<bool>,
    allowed: &[AllowedOrigin],
) -> Asker {
    let Some(origin) = origin else {
        return Asker::Native;
    };
    if is_same(origin, host, https) {
        return Asker::OwnPage;
    }
    let is_allowed = allowed.iter().any(|allowed| match allowed {
        AllowedOrigin::Any => true,
        AllowedOrigin::One(allowed) => allowed.eq_ignore_ascii_case(origin),
    });
    if is_allowed { Asker::AllowedPage } else { Asker::Stranger }
}

/// Whether a page of `origin` was served under the name `host`. Without a port, `host` means
/// the default one of the scheme.
fn is_same(origin: &str, host: Option<&str>, https: Option<bool>) -> bool {
    let (Ok(url), Some(host)) = (Url::parse(origin), host) else {
        return false;
    };
    // Browsers write it in one way only.
    if !url.origin().ascii_serialization().eq_ignore_ascii_case(origin) {
        return false;
    }
    let origin = url;
    let scheme = origin.scheme();
    if !matches!((scheme, https), ("http", None | Some(false)) | ("https", None | Some(true))) {
        return false;
    }
    let Ok(own) = Url::parse(&format!("{scheme}://{host}")) else {
        return false;
    };
    let authority = |url: &Url| -> Option<(Host<String>, u16)> {
        Some((url.host()?.to_owned(), url.port_or_known_default()?))
    };
    // A Host header is host and port; anything more would be another part of the URL.
    let is_bare = own.path() == "/" && own.username().is_empty() && own.query().is_none();
    is_bare && authority(&origin).is_some() && authority(&origin) == authority(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(origin: &str, host: &str) -> Asker {
        asker(Some(origin), Some(host), None, &[])
    }

    #[test]
    fn a_program_without_an_origin_is_no_page() {
        assert_eq!(asker(None, Some("a:1"), None, &[]), Asker::Native);
    }

    #[test]
    fn a_page_of_ones_own_is_known_by_host_and_port() {
        for (origin, host) in [
            ("http://tea.example:8080", "tea.example:8080"),
            ("http://tea.example", "tea.example"),
            ("http://tea.example", "TEA.example:80"),
            ("https://tea.example", "tea.example:443"),
            ("https://tea.example", "tea.example"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://192.0.2.1:8080", "192.0.2.1:8080"),
        ] {
            assert_eq!(ask(origin, host), Asker::OwnPage, "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://evil.example", "tea.example"),
            ("http://tea.example:8081", "tea.example:8080"),
            ("https://tea.example", "tea.example:80"),
            ("http://tea.example.evil.example", "tea.example"),
            ("null", "tea.example"),
            ("null", "null"),
            ("", ""),
            ("http://evil.example", "tea.example@evil.example"),
            ("http://evil.example", "evil.example/tea.example"),
            ("file://", ""),
            ("http:/tea.example", "tea.example"),
            ("http://tea.example/", "tea.example"),
            ("http://user@tea.example", "tea.example"),
            ("chrome-extension://abc", "abc"),
        ] {
            assert_eq!(ask(origin, host), Asker::Stranger, "{origin} at {host}");
        }
        assert_eq!(asker(Some("http://a"), None, None, &[]), Asker::Stranger);
    }

    #[test]
    fn where_the_scheme_is_known_it_counts() {
        let ask = |https| asker(Some("http://a:1"), Some("a:1"), https, &[]);
        assert_eq!(ask(Some(false)), Asker::OwnPage);
        assert_eq!(ask(Some(true)), Asker::Stranger);
    }

    #[test]
    fn foreign_pages_come_in_by_name_or_all_of_them() {
        let allowed = ["https://friend.example".parse().unwrap()];
        let ask = |origin| asker(Some(origin), Some("tea.example"), None, &allowed);
        assert_eq!(ask("https://friend.example"), Asker::AllowedPage);
        assert_eq!(ask("http://friend.example"), Asker::Stranger);
        assert_eq!(ask("https://friend.example:444"), Asker::Stranger);
        let any = [AllowedOrigin::Any];
        assert_eq!(asker(Some("null"), Some("tea.example"), None, &any), Asker::AllowedPage);
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        let parse = |text: &str| text.parse::<AllowedOrigin>().map(|origin| origin.to_string());
        assert_eq!(parse("HTTPS://Friend.Example:443/").unwrap(), "https://friend.example");
        assert_eq!(parse("*").unwrap(), "*");
        for wrong in ["friend.example", "https://a/b", "ftp://a", "https://u@a", "https://a?b", ""]
        {
            let error = parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains(wrong) && error.contains("https://HOST"), "{error}");
        }
    }
}
