//! Who a client is that comes through a proxy. Pure.
//!
//! Only what trusted proxies say counts: anybody can send a header.

mod forwarded;
mod preamble;

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::{HeaderMap, header};
use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use forwarded::{Hop, parse_forwarded, parse_node};
pub use preamble::{Preamble, PreambleError, read_preamble};

/// A network, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Not a network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("“{0}” is not a network: write an address, or ADDRESS/BITS such as 10.0.0.0/8.")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
            (Ok(network), _) => Ok(Self(network)),
            (_, Ok(address)) => Ok(Self(address.to_canonical().into())),
            _ => Err(NotANetwork(text.into())),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a proxy writes the client's address. Exactly one is believed: most proxies pass the
/// other on as the client wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Host` and `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Which proxies are believed, and how they speak.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<Network>,
    /// How they name the client in a request.
    pub header: ForwardedHeader,
    /// Whether each of their connections begins with a PROXY protocol preamble.
    pub preamble: bool,
}

/// Who asks, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address; the nearest proxy's where nothing better is known.
    pub address: IpAddr,
    /// What it asked for by `Host`.
    pub host: Option<String>,
    /// Whether it asked over TLS.
    pub https: Option<bool>,
}

impl TrustedProxies {
    /// Whether `address` is one of theirs.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.0.contains(&address))
    }

    /// Who asks: `peer` itself, unless that is a trusted proxy, which says on whose behalf.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        let text = |value: &axum::http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let mut client =
            Client { address: peer, host: headers.get(header::HOST).and_then(text), https: None };
        if !self.trust(peer) {
            return client;
        }
        let hops = match self.header {
            ForwardedHeader::XForwardedFor => forwarded::hops_of_x_headers(headers),
            ForwardedHeader::Forwarded => forwarded::hops_of_forwarded(headers),
        };
        // What the nearest proxy was asked for; those before it are asked by the same name.
        if let Some(nearest) = hops.last() {
            client.https = nearest.https;
            if let Some(host) = &nearest.host {
                client.host = Some(host.clone());
            }
        }
        // From the nearest outwards, to the first who is not one of ours.
        for hop in hops.iter().rev() {
            let Some(address) = hop.address else { break };
            client.address = address;
            if !self.trust(address) {
                break;
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: ForwardedHeader) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"];
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        TrustedProxies { networks, header, preamble: false }
    }

    fn client(header: ForwardedHeader, peer: &str, headers: &[(&'static str, &str)]) -> Client {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        proxies(header).client(peer.parse().unwrap(), &map)
    }

    fn x(peer: &str, forwarded_for: &[&str]) -> String {
        let headers: Vec<_> =
            forwarded_for.iter().map(|value| ("x-forwarded-for", *value)).collect();
        client(ForwardedHeader::XForwardedFor, peer, &headers).address.to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(x("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        let headers = [("host", "a"), ("x-forwarded-host", "evil"), ("x-forwarded-proto", "https")];
        let client = client(ForwardedHeader::XForwardedFor, "203.0.113.9", &headers);
        assert_eq!((client.host.as_deref(), client.https), (Some("a"), None));
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_is_the_client() {
        assert_eq!(x("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(x("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(x("192.0.2.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(x("10.0.0.1", &["[2001:dead::1]:4711"]), "2001:dead::1");
        assert_eq!(x("10.0.0.1", &["::ffff:198.51.100.1"]), "198.51.100.1");
        // What a client puts there itself stands further left.
        assert_eq!(x("10.0.0.1", &["127.0.0.1, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(x("10.0.0.1", &["127.0.0.1", "198.51.100.1"]), "198.51.100.1");
        assert_eq!(x("10.0.0.1", &["198.51.100.1, 10.9.9.9, 2001:db8::7"]), "198.51.100.1");
        // All of them proxies: the farthest.
        assert_eq!(x("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn where_a_proxy_says_nothing_useful_it_is_the_client() {
        for nonsense in ["", "unknown", "198.51.100.1, ", "1.2.3.4.5", "\u{7f}"] {
            let headers = match nonsense.parse::<axum::http::HeaderValue>() {
                Ok(_) => vec![nonsense],
                Err(_) => vec![],
            };
            assert_eq!(x("10.0.0.1", &headers), "10.0.0.1", "{nonsense}");
        }
        assert_eq!(x("10.0.0.1", &["198.51.100.1, nobody, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn only_the_header_asked_for_is_believed() {
        let both = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.2")];
        let address = |header| client(header, "10.0.0.1", &both).address.to_string();
        assert_eq!(address(ForwardedHeader::XForwardedFor), "198.51.100.1");
        assert_eq!(address(ForwardedHeader::Forwarded), "198.51.100.2");
    }

    #[test]
    fn a_proxy_tells_what_it_was_asked_for() {
        let x = [
            ("host", "backend:8080"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-host", "tea.example"),
            ("x-forwarded-proto", "https"),
        ];
        let forwarded = [
            ("host", "backend:8080"),
            ("forwarded", "for=198.51.100.1;host=\"tea.example\";proto=HTTPS"),
        ];
        for (header, headers) in
            [(ForwardedHeader::XForwardedFor, &x[..]), (ForwardedHeader::Forwarded, &forwarded)]
        {
            let client = client(header, "10.0.0.1", headers);
            assert_eq!((client.host.as_deref(), client.https), (Some("tea.example"), Some(true)));
            assert_eq!(client.address.to_string(), "198.51.100.1");
        }
        let plain = client(ForwardedHeader::XForwardedFor, "10.0.0.1", &[("host", "b:1")]);
        assert_eq!((plain.host.as_deref(), plain.https), (Some("b:1"), None));
    }

    #[test]
    fn a_network_is_an_address_or_has_its_bits() {
        for (text, written) in
            [("10.0.0.0/8", "10.0.0.0/8"), ("192.0.2.1", "192.0.2.1/32"), ("::1", "::1/128")]
        {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), written);
        }
        let error = "10.0.0.0/33".parse::<Network>().expect_err("too many bits").to_string();
        assert!(error.contains("10.0.0.0/33") && error.contains("ADDRESS/BITS"), "{error}");
    }
}
