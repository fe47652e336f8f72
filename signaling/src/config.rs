//! What the operator wants: flags, then the environment, then a TOML file, then the defaults.
//!
//! A new setting is a field of [`Config`], with its default, and one of [`ServeArgs`], under the
//! same name.

mod args;
mod derived;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    access::AccessToken,
    admission::ConnectionLimits,
    invite::PublicAddress,
    logging::{LogFormat, LogLevel},
    origin::AllowedOrigin,
    proxy::{ForwardedHeader, Network},
    room::{HOLD, Limits},
    tls::TlsMode,
    turn::settings::{PortRange, Switch, Transport},
};

pub use self::args::ServeArgs;

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
