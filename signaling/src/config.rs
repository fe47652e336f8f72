//! What the operator wants: flags, then the environment, then a TOML file, then the defaults.
//!
//! A new setting is a field of [`Config`], with its default, and one of [`ServeArgs`], under the
//! same name.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    access::AccessToken,
    admission::ConnectionLimits,
    cluster::{ClusterOptions, RedisUrl},
    invite::PublicAddress,
    logging::{LogFormat, LogLevel},
    origin::AllowedOrigin,
    proxy::{ForwardedHeader, Network, TrustedProxies},
    room::{HOLD, Limits},
    state_dir::StateDir,
    tls::TlsMode,
    token::TokenKey,
    turn::settings::{PortRange, Switch, Transport},
};

/// Where browsers and the documentation look first.
pub const HTTP_PORT: u16 = 8080;

/// Keeps rooms in the server alone.
const MEMORY: &str = "memory";

/// Where the same is served over TLS.
pub const HTTPS_PORT: u16 = 8443;

/// Everything settled. In the file, names are written with hyphens, as the flags are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Addresses and ports to listen on.
    pub listen: Vec<SocketAddr>,
    /// Connections there may be in all.
    pub max_connections: usize,
    /// Connections there may be from one address; of IPv6, from one /64 network.
    pub max_connections_per_address: usize,
    /// New connections from one address a second; without limit if 0.
    pub connection_rate: u32,
    /// In how many seconds what comes before the first request, each request's head, and its
    /// body, must be there.
    pub handshake_seconds: u64,
    /// Foreign origins whose pages may speak to the server.
    pub allow_origin: Vec<AllowedOrigin>,
    /// Proxies that are believed to say who the client is.
    pub trusted_proxy: Vec<Network>,
    /// Where in a request they say so.
    pub forwarded_header: ForwardedHeader,
    /// Whether their connections begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// What a client must present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<AccessToken>,
    /// A file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token_file: Option<PathBuf>,
    /// Where to serve metrics to anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// How to log.
    pub log_format: LogFormat,
    /// What to log.
    pub log_level: LogLevel,
    /// A folder served in place of the built-in page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PathBuf>,
    /// How to do TLS; by default `auto` when listening beyond this machine, else `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
    /// Addresses and ports to listen on for TLS; by default those of `listen`, at port 8443.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_listen: Option<Vec<SocketAddr>>,
    /// Where others reach this server, for links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<PublicAddress>,
    /// Where keys and certificates are kept; see [`Self::state_dir`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// Where rooms are kept: `memory`, or the address of a Redis that many nodes share; see
    /// [`Self::cluster`].
    pub rooms: String,
    /// Holds the key of resume tokens that all nodes share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_key_file: Option<PathBuf>,
    /// For how many seconds a seat is held for a client whose connection broke.
    pub hold: u64,
    /// The longest message, in bytes.
    pub message_bytes: usize,
    /// Messages a second that a connection may send in the long run.
    pub message_rate: u32,
    /// Messages it may send at once.
    pub message_burst: u32,
    /// Seats an address may ask for in a minute.
    pub joins_per_minute: u32,
    /// Rooms in all.
    pub max_rooms: usize,
    /// Whether to relay; see [`crate::turn::settings::options`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Switch>,
    /// Addresses and ports of the relay; where this server listens, port 3478, if empty.
    pub turn_listen: Vec<SocketAddr>,
    /// Over what the relay is reached.
    pub turn_transports: Vec<Transport>,
    /// Addresses of the relay as others see them.
    pub turn_public_ip: Vec<IpAddr>,
    /// URLs of another relay, to be handed out instead.
    pub turn_url: Vec<String>,
    /// The secret shared with that relay; or the built-in one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_secret: Option<String>,
    /// Ports of relayed addresses.
    pub turn_ports: PortRange,
    /// The realm that the relay tells.
    pub turn_realm: String,
    /// Networks not to relay to.
    pub turn_deny: Vec<IpNet>,
    /// Networks to relay to even so.
    pub turn_allow: Vec<IpNet>,
    /// Allocations a user may have.
    pub turn_user_quota: usize,
    /// Allocations an address may have.
    pub turn_address_quota: usize,
    /// Allocations in all.
    pub turn_quota: usize,
    /// The longest life of an allocation, in hours.
    pub turn_hours: u64,
    /// What an allocation may relay each way, in kbit/s; 0: no limit.
    pub turn_kbps: u64,
    /// How long credentials can be used, in minutes.
    pub turn_credential_minutes: u64,
}

impl Default for Config {
    fn default() -> Self {
        let connections = ConnectionLimits::default();
        let limits = Limits::default();
        let turn = crate::turn::Limits::default();
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, HTTP_PORT).into()],
            page: None,
            tls: None,
            tls_listen: None,
            max_connections: connections.total,
            max_connections_per_address: connections.per_address,
            connection_rate: connections.rate,
            handshake_seconds: connections.handshake.as_secs(),
            allow_origin: Vec::new(),
            trusted_proxy: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            proxy_protocol: false,
            access_token: None,
            access_token_file: None,
            metrics_listen: None,
            log_format: LogFormat::default(),
            log_level: LogLevel::default(),
            state_dir: None,
            rooms: MEMORY.into(),
            token_key_file: None,
            public_address: None,
            hold: HOLD.as_secs(),
            message_bytes: limits.message_bytes,
            message_rate: limits.message_rate,
            message_burst: limits.message_burst,
            joins_per_minute: limits.joins_per_minute,
            max_rooms: limits.max_rooms,
            turn: None,
            turn_listen: Vec::new(),
            turn_transports: Transport::ALL.to_vec(),
            turn_public_ip: Vec::new(),
            turn_url: Vec::new(),
            turn_secret: None,
            turn_ports: PortRange::default(),
            turn_realm: "visavis".into(),
            turn_deny: Vec::new(),
            turn_allow: Vec::new(),
            turn_user_quota: turn.user,
            turn_address_quota: turn.address,
            turn_quota: turn.total,
            turn_hours: turn.age.as_secs() / 3600,
            turn_kbps: 0,
            turn_credential_minutes: 60,
        }
    }
}

/// What the command line and the environment say.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServeArgs {
    /// Address and port to listen on; may be given several times [default: 127.0.0.1:8080].
    /// All interfaces: --listen 0.0.0.0:8080 --listen [::]:8080
    #[arg(long, value_name = "ADDRESS:PORT", env = "VISAVIS_LISTEN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<SocketAddr>>,

    /// Connections to take in all [default: 10000]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_MAX_CONNECTIONS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,

    /// Connections to take from one address; of IPv6, from one /64 network [default: 256]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_MAX_CONNECTIONS_PER_ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_address: Option<usize>,

    /// New connections to take from one address a second; 0 is no limit [default: 20]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_CONNECTION_RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<u32>,

    /// Seconds for what comes before a request, for its head, and for its body [default: 10]
    #[arg(long, value_name = "SECONDS", env = "VISAVIS_HANDSHAKE_SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_seconds: Option<u64>,

    /// Let pages from this origin use the server too, or from anywhere (*); may be given several
    /// times
    #[arg(long, value_name = "ORIGIN", env = "VISAVIS_ALLOW_ORIGIN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_origin: Option<Vec<AllowedOrigin>>,

    /// Believe proxies at this address or in this network who the client is; may be given
    /// several times
    #[arg(long, value_name = "NETWORK", env = "VISAVIS_TRUSTED_PROXY", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_proxy: Option<Vec<Network>>,

    /// Where trusted proxies write the client's address [default: x-forwarded-for]
    #[arg(long, value_name = "HEADER", env = "VISAVIS_FORWARDED_HEADER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_header: Option<ForwardedHeader>,

    /// Connections of trusted proxies begin with the PROXY protocol, version 1 or 2
    #[arg(long, value_name = "BOOL", env = "VISAVIS_PROXY_PROTOCOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<bool>,

    /// Serve only clients that present this token; better kept in a file, see below
    #[arg(long, value_name = "TOKEN", env = "VISAVIS_ACCESS_TOKEN", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,

    /// Serve only clients that present the token in this file
    #[arg(long, value_name = "FILE", env = "VISAVIS_ACCESS_TOKEN_FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token_file: Option<PathBuf>,

    /// Serve metrics and health on a port of their own, to anybody who reaches it; else metrics
    /// are served on the main port, to this machine only
    #[arg(long, value_name = "ADDRESS:PORT", env = "VISAVIS_METRICS_LISTEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,

    /// How to log [default: text]
    #[arg(long, value_name = "FORMAT", env = "VISAVIS_LOG_FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,

    /// What to log; RUST_LOG wins [default: info]
    #[arg(long, value_name = "LEVEL", env = "VISAVIS_LOG_LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,

    /// A folder served in place of the built-in page; its index.html is at /
    #[arg(long, value_name = "DIR", env = "VISAVIS_PAGE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PathBuf>,

    /// auto: a certificate of its own making, whose fingerprint links tell; CERT,KEY: two PEM
    /// files, read again when they change; acme:DOMAIN: from Let's Encrypt; off
    /// [default: auto when listening beyond this machine, else off]
    #[arg(long, value_name = "auto|off|CERT,KEY|acme:DOMAIN", env = "VISAVIS_TLS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,

    /// Address and port to listen on for TLS [default: as --listen, at port 8443]
    #[arg(long, value_name = "ADDRESS:PORT", env = "VISAVIS_TLS_LISTEN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_listen: Option<Vec<SocketAddr>>,

    /// The name or address, with or without port, at which others reach this server: it goes into
    /// links and into a self-signed certificate [default: this machine's likeliest address]
    #[arg(long, value_name = "HOST[:PORT]", env = "VISAVIS_PUBLIC_ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<PublicAddress>,

    /// Print the invite link as a QR code too, even where standard output is no terminal
    #[arg(long)]
    #[serde(skip)]
    pub qr: bool,

    /// Where keys and certificates are kept, so that links and calls survive a restart [default: $STATE_DIRECTORY, else the
    /// user's data directory]
    #[arg(long, value_name = "FOLDER", env = "VISAVIS_STATE_DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,

    /// Where rooms are kept: “memory”, or redis://HOST:PORT[/DB], where any number of servers
    /// meet and are one [default: memory]
    #[arg(long, value_name = "WHERE", env = "VISAVIS_ROOMS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<String>,

    /// A file of 32 secret bytes, the same on every node, that seals resume tokens; without it
    /// the nodes keep such a key in Redis
    #[arg(long, value_name = "FILE", env = "VISAVIS_TOKEN_KEY_FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_key_file: Option<PathBuf>,

    /// For how long a seat is held for a client whose connection broke, and rooms are set up
    /// again after a restart; 0: not at all [default: 30]
    #[arg(long, value_name = "SECONDS", env = "VISAVIS_HOLD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<u64>,

    /// The longest message [default: 65536]
    #[arg(long, value_name = "BYTES", env = "VISAVIS_MESSAGE_BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_bytes: Option<usize>,

    /// Messages a second that a connection may send in the long run; 0: no limit [default: 50]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_MESSAGE_RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_rate: Option<u32>,

    /// Messages a connection may send at once [default: 200]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_MESSAGE_BURST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_burst: Option<u32>,

    /// Seats an address may ask for in a minute, a /64 of IPv6 counting as one address; 0: no
    /// limit [default: 60]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_JOINS_PER_MINUTE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins_per_minute: Option<u32>,

    /// Rooms in all; 0: no limit [default: 10000]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_MAX_ROOMS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rooms: Option<usize>,

    /// Relay for those who cannot reach each other: the built-in STUN and TURN server [default:
    /// on, unless the server listens on this machine only or --turn-url names another relay]
    #[arg(long, value_name = "on|off", env = "VISAVIS_TURN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Switch>,

    /// Address and port of the relay, for UDP, TCP and TLS alike; may be given several times
    /// [default: the addresses of --listen, port 3478]
    #[arg(long, value_name = "ADDRESS:PORT", env = "VISAVIS_TURN_LISTEN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_listen: Option<Vec<SocketAddr>>,

    /// Over what the relay may be reached; TLS needs a certificate besides [default: udp,tcp,tls]
    #[arg(long, value_name = "TRANSPORT", env = "VISAVIS_TURN_TRANSPORTS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_transports: Option<Vec<Transport>>,

    /// The address under which others reach this machine, where a NAT stands in front of it: one
    /// of IPv4, one of IPv6 or both
    #[arg(long, value_name = "IP", env = "VISAVIS_TURN_PUBLIC_IP", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_public_ip: Option<Vec<IpAddr>>,

    /// URL of another TURN or STUN server to be used instead of the built-in one, like
    /// turn:turn.example.org:3478?transport=udp; may be given several times. coturn: with
    /// use-auth-secret
    #[arg(long, value_name = "URL", env = "VISAVIS_TURN_URL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_url: Option<Vec<String>>,

    /// The secret shared with that server (coturn: static-auth-secret), or for the built-in one
    /// [default for the built-in one: made once and kept]
    #[arg(long, value_name = "SECRET", env = "VISAVIS_TURN_SECRET", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_secret: Option<String>,

    /// Ports of relayed addresses, to be open in a firewall for UDP [default: 49152-65535]
    #[arg(long, value_name = "LOW-HIGH", env = "VISAVIS_TURN_PORTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_ports: Option<PortRange>,

    /// The realm that the relay tells [default: visavis]
    #[arg(long, value_name = "NAME", env = "VISAVIS_TURN_REALM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_realm: Option<String>,

    /// A network not to relay to, like 10.0.0.0/8; may be given several times. This machine,
    /// link-local and multicast addresses are never relayed to
    #[arg(long, value_name = "CIDR", env = "VISAVIS_TURN_DENY", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_deny: Option<Vec<IpNet>>,

    /// A network to relay to whatever else is said; may be given several times
    #[arg(long, value_name = "CIDR", env = "VISAVIS_TURN_ALLOW", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_allow: Option<Vec<IpNet>>,

    /// Allocations one participant may have [default: 24]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_TURN_USER_QUOTA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_user_quota: Option<usize>,

    /// Allocations, and connections, one address may have, a /64 of IPv6 counting as one
    /// address [default: 100]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_TURN_ADDRESS_QUOTA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_address_quota: Option<usize>,

    /// Allocations, and connections, in all [default: 2000]
    #[arg(long, value_name = "NUMBER", env = "VISAVIS_TURN_QUOTA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_quota: Option<usize>,

    /// The longest life of an allocation with all its renewals [default: 24]
    #[arg(long, value_name = "HOURS", env = "VISAVIS_TURN_HOURS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_hours: Option<u64>,

    /// What an allocation may relay each way, in kbit/s; 0: no limit [default: 0]
    #[arg(long, value_name = "KBPS", env = "VISAVIS_TURN_KBPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_kbps: Option<u64>,

    /// For how long credentials that were handed out can be used to begin [default: 60]
    #[arg(long, value_name = "MINUTES", env = "VISAVIS_TURN_CREDENTIAL_MINUTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_credential_minutes: Option<u64>,

    /// A TOML file with settings: the names of these flags, without the leading hyphens
    #[arg(long, value_name = "FILE", env = "VISAVIS_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Print the settings as they would be used, in the form of the file, and stop
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No file there, or not readable.
    #[error("Cannot read the settings in {}: {error}.", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// Not TOML, or a setting that is none.
    #[error("The settings in {} cannot be used: {error}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        #[source]
        error: toml::de::Error,
    },
    /// A flag that cannot be used.
    #[error("The settings cannot be used: {0}")]
    Unusable(String),
}

impl ServeArgs {
    /// Settles what to use; reads the file, if one is named.
    ///
    /// # Errors
    /// Which file or setting cannot be used, and why.
    pub fn settle(&self) -> Result<Config, ConfigError> {
        let mut settings = match &self.config {
            Some(path) => read(path)?,
            None => toml::Table::new(),
        };
        let unusable = |error: &dyn std::fmt::Display| ConfigError::Unusable(error.to_string());
        let flags = toml::Table::try_from(self).map_err(|error| unusable(&error))?;
        settings.extend(flags);
        let config = Config::deserialize(settings).map_err(|error| unusable(&error))?;
        config.check()?;
        Ok(config)
    }
}

impl Config {
    /// How to do TLS.
    pub fn tls_mode(&self) -> TlsMode {
        let beyond = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        match &self.tls {
            Some(mode) => mode.clone(),
            None if self.listen.iter().any(beyond) => TlsMode::Auto,
            None => TlsMode::Off,
        }
    }

    /// Where to listen for TLS. Port 0, which is any free port, stays 0.
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        let secure = |address: &SocketAddr| {
            let port = if address.port() == 0 { 0 } else { HTTPS_PORT };
            SocketAddr::new(address.ip(), port)
        };
        match &self.tls_listen {
            Some(addresses) => addresses.clone(),
            None => {
                let mut addresses: Vec<SocketAddr> = Vec::new();
                for address in self.listen.iter().map(secure) {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                addresses
            }
        }
    }

    /// How many connections to take.
    ///
    /// # Errors
    /// Which setting would let nobody in.
    pub fn connection_limits(&self) -> Result<ConnectionLimits, ConfigError> {
        for (name, value) in [
            ("max-connections", self.max_connections),
            ("max-connections-per-address", self.max_connections_per_address),
        ] {
            if value == 0 {
                return unusable(format!("{name} is 0, which lets nobody in: take 1 or more."));
            }
        }
        if !(1..=3600).contains(&self.handshake_seconds) {
            let seconds = self.handshake_seconds;
            return unusable(format!("handshake-seconds is {seconds}: take 1 to 3600."));
        }
        Ok(ConnectionLimits {
            total: self.max_connections,
            per_address: self.max_connections_per_address,
            rate: self.connection_rate,
            handshake: Duration::from_secs(self.handshake_seconds),
        })
    }

    /// Which proxies to believe.
    ///
    /// # Errors
    /// When the PROXY protocol is expected of nobody.
    pub fn trusted_proxies(&self) -> Result<TrustedProxies, ConfigError> {
        if self.proxy_protocol && self.trusted_proxy.is_empty() {
            let text = "proxy-protocol needs trusted-proxy: name the network of the proxies that \
                        speak it.";
            return unusable(text.into());
        }
        Ok(TrustedProxies {
            networks: self.trusted_proxy.clone(),
            header: self.forwarded_header,
            preamble: self.proxy_protocol,
        })
    }

    /// What clients must present, if anything; reads the file, if one is named.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn required_token(&self) -> Result<Option<AccessToken>, ConfigError> {
        match (&self.access_token, &self.access_token_file) {
            (Some(_), Some(_)) => unusable(
                "both access-token and access-token-file are given: keep one of them.".into(),
            ),
            (Some(token), None) => Ok(Some(token.clone())),
            (None, None) => Ok(None),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => match AccessToken::parse(&text) {
                    Ok(token) => Ok(Some(token)),
                    Err(error) => unusable(format!("{} holds no token. {error}", path.display())),
                },
                Err(error) => unusable(format!("cannot read {}: {error}.", path.display())),
            },
        }
    }

    /// The shortest limit on messages: a session description must fit.
    const SHORTEST_MESSAGE: usize = 4096;
    /// The longest limit, in bytes, and the longest time to hold a seat, in seconds.
    const LONGEST_MESSAGE: usize = 16 << 20;
    const LONGEST_HOLD: u64 = 3600;

    fn check(&self) -> Result<(), ConfigError> {
        let unusable = |text: String| Err(ConfigError::Unusable(text));
        if !(Self::SHORTEST_MESSAGE..=Self::LONGEST_MESSAGE).contains(&self.message_bytes) {
            return unusable(format!(
                "message-bytes is {}: use a number from {} to {}.",
                self.message_bytes,
                Self::SHORTEST_MESSAGE,
                Self::LONGEST_MESSAGE
            ));
        }
        if self.hold > Self::LONGEST_HOLD {
            return unusable(format!(
                "hold is {} s: use a number from 0 to {}.",
                self.hold,
                Self::LONGEST_HOLD
            ));
        }
        Ok(())
    }

    /// How long seats are held.
    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.hold)
    }

    /// How much one may ask for.
    pub fn limits(&self) -> Limits {
        Limits {
            message_bytes: self.message_bytes,
            message_rate: self.message_rate,
            message_burst: self.message_burst,
            joins_per_minute: self.joins_per_minute,
            max_rooms: self.max_rooms,
        }
    }

    /// Where keys are kept: the folder that was named, or systemd's for this service
    /// (`STATE_DIRECTORY`, systemd.exec(5)), or the user's data directory.
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.state_dir.clone().or_else(StateDir::usual)
    }

    /// The cluster to be part of, if any.
    ///
    /// # Errors
    /// When the address or the key cannot be used.
    pub fn cluster(&self) -> Result<Option<ClusterOptions>, ConfigError> {
        if self.rooms == MEMORY {
            return Ok(None);
        }
        let url: RedisUrl = self.rooms.parse().map_err(|error| {
            ConfigError::Unusable(format!("rooms: {error} Or “memory”, for a single server."))
        })?;
        let mut options = ClusterOptions::new(url);
        if let Some(path) = &self.token_key_file {
            let bytes = std::fs::read(path)
                .map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
            let secret = bytes.try_into().map_err(|bytes: Vec<u8>| {
                let (path, found, wanted) = (path.display(), bytes.len(), TokenKey::LENGTH);
                ConfigError::Unusable(format!(
                    "token-key-file: {path} has {found} bytes where {wanted} are needed; make one \
                     with: head -c {wanted} /dev/urandom > FILE"
                ))
            })?;
            options.secret = Some(secret);
        }
        Ok(Some(options))
    }

    /// The settings in the form of the file.
    pub fn to_toml(&self) -> String {
        // Every field is a plain value: this cannot fail.
        toml::to_string(self).unwrap_or_default()
    }
}

fn unusable<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError::Unusable(text))
}

fn read(path: &Path) -> Result<toml::Table, ConfigError> {
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(ConfigError::Unreadable { path, error }),
    };
    // As a whole first: then errors tell the line.
    match toml::from_str::<Config>(&text).and_then(|_| toml::from_str(&text)) {
        Ok(table) => Ok(table),
        Err(error) => Err(ConfigError::Malformed { path, error }),
    }
}

#[cfg(test)]
mod tests;
