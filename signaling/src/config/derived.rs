//! What the settings come to.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{Config, ConfigError, HTTPS_PORT, MEMORY, unusable};
use crate::{
    access::AccessToken,
    admission::ConnectionLimits,
    cluster::{ClusterOptions, RedisUrl},
    proxy::TrustedProxies,
    room::Limits,
    state_dir::StateDir,
    tls::TlsMode,
    token::TokenKey,
};

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

    pub(super) fn check(&self) -> Result<(), ConfigError> {
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
