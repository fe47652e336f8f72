//! Servers, rooms and links as people type them.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;
use url::{Host, Url};

use crate::{
    fingerprint::{Fingerprint, FingerprintError},
    protocol::{RoomName, RoomNameError},
};

/// Kept as it is in a link: what RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The scheme of links that only the app opens; stands for `https`.
const OWN_SCHEME: &str = "visavis";

/// An address without a scheme means `https` at these ports, else `http`.
const HTTPS_PORTS: [u16; 2] = [443, crate::config::HTTPS_PORT];

/// How one speaks with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the open.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Where a server is: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    scheme: Scheme,
    host: Host,
    port: u16,
}

/// A room on a server: `https://HOST[:PORT]/room/NAME[#fp=FINGERPRINT]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallLink {
    /// The server.
    pub server: ServerUrl,
    /// The room.
    pub room: RoomName,
    /// Which key the server proves itself with, whatever its certificate says.
    pub fingerprint: Option<Fingerprint>,
}

/// What someone wants to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A room, on whatever server is usual.
    Room(RoomName),
    /// A room on this server.
    Link(CallLink),
}

/// Why a text is no link, server or room.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// Not an address.
    #[error("“{text}” is not an address ({error}): write https://HOST:PORT.")]
    NotAnAddress {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        error: url::ParseError,
    },
    /// Another scheme.
    #[error("“{0}://” is not understood: ask for an address that begins with https:// or http://.")]
    Scheme(String),
    /// An address without a room.
    #[error("The link has no room: it should end in /room/NAME.")]
    NoRoom,
    /// The room's name is none.
    #[error(transparent)]
    Room(#[from] RoomNameError),
    /// A stray `%`.
    #[error("The room's name in the link is damaged: ask for the link again.")]
    Damaged,
    /// Its `#fp=` is none.
    #[error("The fingerprint in the link is damaged: ask for the link again.")]
    Fingerprint(#[from] FingerprintError),
    /// A fingerprint without TLS authenticates nobody.
    #[error("A link with a fingerprint (#fp=) has to begin with https://: ask for the link again.")]
    FingerprintWithoutTls,
}

impl ServerUrl {
    /// A server at a known address.
    pub fn new(scheme: Scheme, host: Host, port: u16) -> Self {
        Self { scheme, host, port }
    }

    /// The server at an IP address.
    pub fn at(scheme: Scheme, address: std::net::SocketAddr) -> Self {
        let host = match address.ip() {
            std::net::IpAddr::V4(ip) => Host::Ipv4(ip),
            std::net::IpAddr::V6(ip) => Host::Ipv6(ip),
        };
        Self::new(scheme, host, address.port())
    }

    /// How one speaks with it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host's name or address, IPv6 without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`, IPv6 in brackets.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl From<std::net::SocketAddr> for ServerUrl {
    /// In the open.
    fn from(address: std::net::SocketAddr) -> Self {
        Self::at(Scheme::Http, address)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl FromStr for ServerUrl {
    type Err = LinkError;

    /// Reads `https://HOST[:PORT]`, `http://…`, `visavis://…` (which is `https`) or `HOST[:PORT]`
    /// (`https` at the ports 443 and 8443, else `http`); anything after that is left aside.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        server_of(&parse_url(text)?, text)
    }
}

impl CallLink {
    /// The link to `room` on `server`.
    pub fn new(server: ServerUrl, room: RoomName, fingerprint: Option<Fingerprint>) -> Self {
        Self { server, room, fingerprint }
    }
}

impl fmt::Display for CallLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = utf8_percent_encode(self.room.as_str(), ESCAPED);
        write!(f, "{}/room/{room}", self.server)?;
        self.fingerprint.map_or(Ok(()), |fingerprint| write!(f, "#fp={fingerprint}"))
    }
}

impl FromStr for CallLink {
    type Err = LinkError;

    /// Reads `[SCHEME://]HOST[:PORT]/room/NAME[#fp=FINGERPRINT]`, with or without a query; the
    /// schemes are those of [`ServerUrl`].
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let url = parse_url(text)?;
        let server = server_of(&url, text)?;
        let room = url.path().strip_prefix("/room/").ok_or(LinkError::NoRoom)?;
        let room = room.strip_suffix('/').unwrap_or(room);
        if room.is_empty() {
            return Err(LinkError::NoRoom);
        }
        let room = decoded_room(room)?;
        let fingerprint = fingerprint_of(&url)?;
        if fingerprint.is_some() && server.scheme == Scheme::Http {
            return Err(LinkError::FingerprintWithoutTls);
        }
        Ok(Self { server, room, fingerprint })
    }
}

impl FromStr for Target {
    type Err = LinkError;

    /// Reads a link, or a room's name; spaces inside a name become `-`.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let text = text.trim();
        if text.contains('/') {
            return text.parse().map(Self::Link);
        }
        let name = text.split_whitespace().collect::<Vec<_>>().join("-");
        decoded_room(&name).map(Self::Room)
    }
}

fn decoded_room(text: &str) -> Result<RoomName, LinkError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| LinkError::Damaged)?;
    Ok(RoomName::parse(&text)?)
}

/// The fingerprint after the `#` of a link or of a server's address, if there is one.
///
/// # Errors
/// What is wrong with the address, or with the fingerprint.
pub fn pinned_in(text: &str) -> Result<Option<Fingerprint>, LinkError> {
    fingerprint_of(&parse_url(text)?)
}

fn fingerprint_of(url: &Url) -> Result<Option<Fingerprint>, LinkError> {
    let fragment = url.fragment().unwrap_or_default();
    let value = fragment.split('&').find_map(|part| part.strip_prefix("fp="));
    Ok(value.map(str::parse).transpose()?)
}

fn parse_url(text: &str) -> Result<Url, LinkError> {
    let text = text.trim();
    let short = || text.chars().take(80).collect();
    let parse = |full: &str| {
        Url::parse(full).map_err(|error| LinkError::NotAnAddress { text: short(), error })
    };
    match text.split_once("://") {
        // Read as what it means: the rules for hosts belong to the well-known schemes.
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(OWN_SCHEME) => {
            parse(&format!("https://{rest}"))
        }
        Some(_) => parse(text),
        None => {
            let plain = parse(&format!("http://{text}"))?;
            let secure = plain.port().is_some_and(|port| HTTPS_PORTS.contains(&port))
                || fingerprint_of(&plain)?.is_some();
            if secure { parse(&format!("https://{text}")) } else { Ok(plain) }
        }
    }
}

fn server_of(url: &Url, text: &str) -> Result<ServerUrl, LinkError> {
    let scheme = match url.scheme() {
        "http" | "ws" => Scheme::Http,
        "https" | "wss" => Scheme::Https,
        other => return Err(LinkError::Scheme(other.to_owned())),
    };
    match (url.host(), url.port_or_known_default()) {
        (Some(host), Some(port)) => Ok(ServerUrl { scheme, host: host.to_owned(), port }),
        _ => Err(LinkError::NotAnAddress {
            text: text.chars().take(80).collect(),
            error: url::ParseError::EmptyHost,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> CallLink {
        text.parse().unwrap()
    }

    #[test]
    fn a_link_survives_being_written_and_read() {
        for text in [
            "http://192.168.1.5:8080/room/tea",
            "http://[fe80::1]:8080/room/tea",
            "http://tea.example/room/%E8%8C%B6",
            "https://192.168.1.5:8443/room/tea",
            "https://tea.example/room/tea",
            "https://[2001:db8::1]:8443/room/tea#fp=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        ] {
            assert_eq!(link(text).to_string(), text);
        }
        assert_eq!(link("http://h:1/room/%E8%8C%B6?join").room.as_str(), "茶");
        assert_eq!(link("http://h:1/room/茶/").room.as_str(), "茶");
        assert_eq!(
            link("192.168.1.5:8080/room/Tea").to_string(),
            "http://192.168.1.5:8080/room/tea"
        );
    }

    const FP: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    #[test]
    fn a_link_of_our_own_scheme_means_https() {
        for (text, meant) in [
            ("visavis://192.168.1.5:8443/room/tea", "https://192.168.1.5:8443/room/tea"),
            ("VISAVIS://[::1]:9/room/tea", "https://[::1]:9/room/tea"),
            ("visavis://tea.example/room/茶", "https://tea.example/room/%E8%8C%B6"),
            ("wss://tea.example/room/tea", "https://tea.example/room/tea"),
        ] {
            assert_eq!(link(text).to_string(), meant);
        }
        assert!(matches!("visavis://h:8443/room/x".parse(), Ok(Target::Link(_))));
        assert_eq!(link(&format!("visavis://h:8443/room/x#fp={FP}")).fingerprint, FP.parse().ok());
    }

    #[test]
    fn without_a_scheme_the_port_or_the_fingerprint_tells_it() {
        for (text, meant) in [
            ("192.168.1.5:8443/room/tea", "https://192.168.1.5:8443/room/tea".to_owned()),
            ("tea.example:443/room/tea", "https://tea.example/room/tea".to_owned()),
            ("tea.example/room/tea", "http://tea.example/room/tea".to_owned()),
            (&format!("h:9/room/tea#fp={FP}"), format!("https://h:9/room/tea#fp={FP}")),
        ] {
            assert_eq!(link(text).to_string(), meant);
        }
    }

    #[test]
    fn a_fingerprint_is_read_wholly_or_refused() {
        assert_eq!(
            link(&format!("https://h/room/x?join#a=b&fp={FP}")).fingerprint,
            FP.parse().ok()
        );
        assert_eq!(link("https://h/room/x#elsewhere").fingerprint, None);
        let error = |text: &str| text.parse::<CallLink>().expect_err(text);
        assert!(matches!(error("https://h/room/x#fp=abc"), LinkError::Fingerprint(_)));
        let stripped = format!("http://h/room/x#fp={FP}");
        assert_eq!(error(&stripped), LinkError::FingerprintWithoutTls);
        assert_eq!(pinned_in(&format!("https://h:8443#fp={FP}")), Ok(FP.parse().ok()));
    }

    #[test]
    fn a_bare_name_is_a_room() {
        let room = |text: &str| match text.parse() {
            Ok(Target::Room(room)) => room.as_str().to_owned(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(room(" Tea "), "tea");
        assert_eq!(room("%E8%8C%B6"), "茶");
        assert_eq!(room("five o clock"), "five-o-clock");
        assert!(matches!("http://h/room/x".parse(), Ok(Target::Link(_))));
    }

    #[test]
    fn what_is_no_link_is_told_why() {
        let error = |text: &str| text.parse::<CallLink>().expect_err(text);
        assert!(matches!(error("http://"), LinkError::NotAnAddress { .. }));
        assert!(matches!(error("http://h:99999/room/x"), LinkError::NotAnAddress { .. }));
        assert_eq!(error("ftp://h/room/x"), LinkError::Scheme("ftp".into()));
        assert_eq!(error("http://h:1/"), LinkError::NoRoom);
        assert_eq!(error("http://h:1/room/"), LinkError::NoRoom);
        assert_eq!(error("http://h:1/room/%FF"), LinkError::Damaged);
        assert!(matches!(error("http://h:1/room/a%20b"), LinkError::Room(_)));
        assert!(matches!(error("http://h:1/room/a/b"), LinkError::Room(_)));
        assert!("".parse::<Target>().is_err());
    }

    #[test]
    fn a_server_needs_no_scheme() {
        let server = |text: &str| text.parse::<ServerUrl>().unwrap().to_string();
        assert_eq!(server("192.168.1.5:8080"), "http://192.168.1.5:8080");
        assert_eq!(server("http://tea.example/"), "http://tea.example");
        assert_eq!(server("https://tea.example:443/"), "https://tea.example");
        assert_eq!(server("https://tea.example:80/"), "https://tea.example:80");
        assert_eq!(server("[::1]:8080"), "http://[::1]:8080");
    }
}
