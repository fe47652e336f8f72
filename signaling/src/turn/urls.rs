//! What a seat is told of the relay: URLs (RFC 7064, RFC 7065) and credentials.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use super::{Authority, Transport, TurnOptions, route};
use crate::{
    ice_servers::IceServerProvider,
    protocol::{IceServer, PeerId},
};

/// The relay of this very server.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    authority: Authority,
    host: Option<String>,
    public_ips: Vec<IpAddr>,
    listening: Vec<SocketAddr>,
    transports: Vec<Transport>,
    lifetime: Duration,
}

impl BuiltIn {
    pub(super) fn new(options: &TurnOptions, listening: &[SocketAddr]) -> Self {
        let mut transports = options.transports.clone();
        if options.tls.is_none() || !options.tls_is_verifiable {
            transports.retain(|transport| *transport != Transport::Tls);
        }
        Self {
            authority: Authority::new(&options.secret),
            host: options.host.clone(),
            public_ips: options.public_ips.clone(),
            listening: listening.to_vec(),
            transports,
            lifetime: options.credential_lifetime,
        }
    }

    /// The host and port for the client at `address`, as they stand in a URL.
    fn authority_for(&self, address: IpAddr) -> Option<String> {
        let first = self.listening.first()?;
        if let Some(host) = &self.host {
            return Some(format!("{}:{}", bracketed(host), first.port()));
        }
        let ip =
            choose(&self.public_ips, &self.listening, address, || route::toward_client(address))?;
        let port = self.listening.iter().find(|listening| listening.is_ipv6() == ip.is_ipv6());
        Some(SocketAddr::new(ip, port.unwrap_or(first).port()).to_string())
    }
}

/// The address by which `client` reaches the server.
fn choose(
    public: &[IpAddr],
    listening: &[SocketAddr],
    client: IpAddr,
    toward: impl FnOnce() -> Option<IpAddr>,
) -> Option<IpAddr> {
    let alike = |ip: &&IpAddr| ip.is_ipv6() == client.is_ipv6();
    if let Some(ip) = public.iter().find(alike).or(public.first()) {
        return Some(*ip);
    }
    let named: Vec<IpAddr> =
        listening.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
    if named.len() == 1 && named.len() == listening.len() {
        return Some(named[0]);
    }
    let best = toward();
    if named.len() < listening.len() || best.is_some_and(|best| named.contains(&best)) {
        return best;
    }
    named.iter().find(alike).or(named.first()).copied()
}

impl IceServerProvider for BuiltIn {
    fn servers(&self, id: &PeerId, address: IpAddr, now: SystemTime) -> Vec<IceServer> {
        let Some(at) = self.authority_for(address.to_canonical()) else {
            return Vec::new();
        };
        let mut servers = Vec::new();
        if self.transports.contains(&Transport::Udp) {
            let urls = vec![format!("stun:{at}")];
            servers.push(IceServer { urls, username: None, credential: None });
        }
        let url = |transport: &Transport| match transport {
            Transport::Udp => format!("turn:{at}?transport=udp"),
            Transport::Tcp => format!("turn:{at}?transport=tcp"),
            Transport::Tls => format!("turns:{at}?transport=tcp"),
        };
        let urls: Vec<String> = self.transports.iter().map(url).collect();
        if !urls.is_empty() {
            servers.push(with_credential(urls, &self.authority, id, now + self.lifetime));
        }
        servers
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(self.lifetime)
    }
}

/// A relay elsewhere that shares a secret with this server (coturn: `use-auth-secret`).
#[derive(Debug, Clone)]
pub struct External {
    authority: Authority,
    stun: Vec<String>,
    turn: Vec<String>,
    lifetime: Duration,
}

/// Not the URL of a STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "“{0}” is not the URL of a TURN server: write it like turn:turn.example.org:3478?transport=udp"
)]
pub struct NotTurnUrl(String);

impl External {
    /// Hands out `urls`, with credentials made with `secret`.
    ///
    /// # Errors
    /// The first that is no `stun:`, `stuns:`, `turn:` or `turns:` URL.
    pub fn new(urls: &[String], secret: &[u8], lifetime: Duration) -> Result<Self, NotTurnUrl> {
        let (mut stun, mut turn) = (Vec::new(), Vec::new());
        for url in urls {
            let host = |rest: &str| !rest.is_empty() && !rest.starts_with(['/', ':', '?']);
            match url.split_once(':') {
                Some(("stun" | "stuns", rest)) if host(rest) => stun.push(url.clone()),
                Some(("turn" | "turns", rest)) if host(rest) => turn.push(url.clone()),
                _ => return Err(NotTurnUrl(url.clone())),
            }
        }
        Ok(Self { authority: Authority::new(secret), stun, turn, lifetime })
    }
}

impl IceServerProvider for External {
    fn servers(&self, id: &PeerId, _address: IpAddr, now: SystemTime) -> Vec<IceServer> {
        let mut servers = Vec::new();
        if !self.stun.is_empty() {
            servers.push(IceServer { urls: self.stun.clone(), username: None, credential: None });
        }
        if !self.turn.is_empty() {
            let expiry = now + self.lifetime;
            servers.push(with_credential(self.turn.clone(), &self.authority, id, expiry));
        }
        servers
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(self.lifetime)
    }
}

fn with_credential(
    urls: Vec<String>,
    authority: &Authority,
    id: &PeerId,
    expiry: SystemTime,
) -> IceServer {
    let credential = authority.mint(id.as_str(), expiry);
    IceServer { urls, username: Some(credential.username), credential: Some(credential.password) }
}

/// An IPv6 address stands in brackets in a URL.
fn bracketed(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn at(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn id() -> PeerId {
        serde_json::from_str("\"p1\"").unwrap()
    }

    #[test]
    fn a_client_is_told_the_address_it_can_reach() {
        let client = ips(&["192.168.1.7"])[0];
        let near = || Some(ips(&["192.168.1.1"])[0]);
        let pick = |public: &[&str], listening: &[&str]| {
            choose(&ips(public), &at(listening), client, near).unwrap().to_string()
        };
        assert_eq!(pick(&[], &["0.0.0.0:3478", "[::]:3478"]), "192.168.1.1");
        assert_eq!(pick(&["2001:db8::1", "203.0.113.9"], &["0.0.0.0:3478"]), "203.0.113.9");
        assert_eq!(pick(&["2001:db8::1"], &["0.0.0.0:3478"]), "2001:db8::1");
        assert_eq!(pick(&[], &["10.0.0.1:3478"]), "10.0.0.1");
        assert_eq!(pick(&[], &["10.0.0.1:3478", "192.168.1.1:3478"]), "192.168.1.1");
        assert_eq!(pick(&[], &["[2001:db8::1]:3478", "10.0.0.1:3478"]), "10.0.0.1");
    }

    #[test]
    fn tls_is_told_of_only_where_it_can_be_verified() {
        let urls = |tls_is_verifiable| {
            let config = rustls_config();
            let options = TurnOptions {
                host: Some("2001:db8::1".into()),
                tls: Some(config),
                tls_is_verifiable,
                ..TurnOptions::default()
            };
            let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            BuiltIn::new(&options, &at(&["0.0.0.0:3478"])).servers(&id(), ips(&["::1"])[0], now)
        };
        let told = urls(true);
        assert_eq!(told[0].urls, ["stun:[2001:db8::1]:3478"]);
        assert_eq!(told[0].username, None);
        assert_eq!(
            told[1].urls,
            [
                "turn:[2001:db8::1]:3478?transport=udp",
                "turn:[2001:db8::1]:3478?transport=tcp",
                "turns:[2001:db8::1]:3478?transport=tcp"
            ]
        );
        assert_eq!(told[1].username.as_deref(), Some("1800003600:p1"));
        assert_eq!(urls(false)[1].urls.len(), 2);
    }

    fn rustls_config() -> tokio_rustls::TlsAcceptor {
        use tokio_rustls::rustls::{
            ServerConfig, crypto::ring, server::ResolvesServerCertUsingSni,
        };
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(std::sync::Arc::new(ResolvesServerCertUsingSni::new()));
        std::sync::Arc::new(config).into()
    }

    #[test]
    fn another_relay_s_urls_are_passed_on_with_credentials_for_it() {
        let urls = ["stun:a.example", "turns:b.example:443?transport=tcp"].map(String::from);
        let external = External::new(&urls, b"north", Duration::from_secs(600)).unwrap();
        let told = external.servers(&id(), ips(&["::1"])[0], UNIX_EPOCH);
        assert_eq!(told[0].urls, ["stun:a.example"]);
        assert_eq!(told[1].urls, ["turns:b.example:443?transport=tcp"]);
        assert_eq!(told[1].credential.as_ref(), Some(&Authority::new(b"north").password("600:p1")));
        for bad in ["", "turn:", "http://a", "turn://a", "b.example:3478"] {
            assert!(External::new(&[bad.into()], b"", Duration::ZERO).is_err(), "{bad}");
        }
    }
}
