//! Servers, rooms and links as people type them.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;
use url::{Host, Url};

use crate::protocol::{RoomName, RoomNameError};

/// Kept as it is in a link: what RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a server is: `http://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    host: Host,
    port: u16,
}

/// A room on a server: `http://HOST[:PORT]/room/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallLink {
    /// The server.
    pub server: ServerUrl,
    /// The room.
    pub room: RoomName,
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
    #[error("“{text}” is not an address ({error}): write http://HOST:PORT.")]
    NotAnAddress {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        error: url::ParseError,
    },
    /// Another scheme.
    #[error("“{0}://” is not understood: ask for an address that begins with http://.")]
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
}

impl ServerUrl {
    /// A server at a known address.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
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
    fn from(address: std::net::SocketAddr) -> Self {
        let host = match address.ip() {
            std::net::IpAddr::V4(ip) => Host::Ipv4(ip),
            std::net::IpAddr::V6(ip) => Host::Ipv6(ip),
        };
        Self::new(host, address.port())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            80 => write!(f, "http://{}", self.host),
            port => write!(f, "http://{}:{port}", self.host),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = LinkError;

    /// Reads `http://HOST[:PORT]` or `HOST[:PORT]`; anything after that is left aside.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        server_of(&parse_url(text)?, text)
    }
}

impl CallLink {
    /// The link to `room` on `server`.
    pub fn new(server: ServerUrl, room: RoomName) -> Self {
        Self { server, room }
    }
}

impl fmt::Display for CallLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = utf8_percent_encode(self.room.as_str(), ESCAPED);
        write!(f, "{}/room/{room}", self.server)
    }
}

impl FromStr for CallLink {
    type Err = LinkError;

    /// Reads `[http://]HOST[:PORT]/room/NAME`, with or without a query.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let url = parse_url(text)?;
        let server = server_of(&url, text)?;
        let room = url.path().strip_prefix("/room/").ok_or(LinkError::NoRoom)?;
        let room = room.strip_suffix('/').unwrap_or(room);
        if room.is_empty() {
            return Err(LinkError::NoRoom);
        }
        Ok(Self { server, room: decoded_room(room)? })
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

fn parse_url(text: &str) -> Result<Url, LinkError> {
    let text = text.trim();
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let short = || text.chars().take(80).collect();
    Url::parse(&full).map_err(|error| LinkError::NotAnAddress { text: short(), error })
}

fn server_of(url: &Url, text: &str) -> Result<ServerUrl, LinkError> {
    if !matches!(url.scheme(), "http" | "ws") {
        return Err(LinkError::Scheme(url.scheme().to_owned()));
    }
    match (url.host(), url.port_or_known_default()) {
        (Some(host), Some(port)) => Ok(ServerUrl { host: host.to_owned(), port }),
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
        assert_eq!(server("[::1]:8080"), "http://[::1]:8080");
    }
}
