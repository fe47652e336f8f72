//! Settings of the relay that have a shape of their own.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{External, Limits, TURN_PORT, TurnOptions};
use crate::{
    config::{Config, ConfigError},
    invite::PublicAddress,
};

/// What the settings come to.
#[derive(Debug)]
pub enum Turn {
    /// No relay.
    Off,
    /// The built-in one. `secret` is empty unless it is set.
    BuiltIn(Box<TurnOptions>),
    /// One elsewhere.
    External(Box<External>),
}

/// Reads what `config` says of the relay.
///
/// # Errors
/// What does not go together.
pub fn options(config: &Config) -> Result<Turn, ConfigError> {
    let unusable = |text: &str| Err(ConfigError::Unusable(text.into()));
    let minutes = config.turn_credential_minutes;
    if !(1..=24 * 60).contains(&minutes) {
        return unusable("turn-credential-minutes must be from 1 to 1440.");
    }
    if !(1..=24 * 365).contains(&config.turn_hours) {
        return unusable("turn-hours must be from 1 to 8760.");
    }
    let credential_lifetime = Duration::from_secs(minutes * 60);
    if !config.turn_url.is_empty() {
        if config.turn == Some(Switch::On) {
            return unusable(
                "turn-url names another relay, so the built-in one cannot be on: use one of the two.",
            );
        }
        if config.turn == Some(Switch::Off) {
            return Ok(Turn::Off);
        }
        let Some(secret) = config.turn_secret.as_deref().filter(|secret| !secret.is_empty()) else {
            return unusable("turn-url needs turn-secret: the secret that the relay there knows.");
        };
        let external = External::new(&config.turn_url, secret.as_bytes(), credential_lifetime);
        return external
            .map(|external| Turn::External(Box::new(external)))
            .map_err(|error| ConfigError::Unusable(format!("{error}.")));
    }
    let beyond = config.listen.iter().chain(&config.turn_listen).any(|a| !a.ip().is_loopback());
    if !config.turn.map_or(beyond, |switch| switch == Switch::On) {
        return Ok(Turn::Off);
    }
    if config.turn_transports.is_empty() {
        return unusable("turn-transports is empty: name udp, tcp or tls, or say turn off.");
    }
    for (ipv6, family) in [(false, "IPv4"), (true, "IPv6")] {
        if config.turn_public_ip.iter().filter(|ip| ip.is_ipv6() == ipv6).count() > 1 {
            return Err(ConfigError::Unusable(format!(
                "turn-public-ip has several {family} addresses: give the one that others use."
            )));
        }
    }
    Ok(Turn::BuiltIn(Box::new(TurnOptions {
        listen: listen(config),
        transports: config.turn_transports.clone(),
        public_ips: config.turn_public_ip.clone(),
        host: config.public_address.as_ref().map(PublicAddress::name),
        secret: config.turn_secret.clone().unwrap_or_default().into_bytes(),
        credential_lifetime,
        realm: config.turn_realm.clone(),
        ports: config.turn_ports.clone(),
        deny: config.turn_deny.clone(),
        allow: config.turn_allow.clone(),
        limits: Limits {
            user: config.turn_user_quota,
            address: config.turn_address_quota,
            total: config.turn_quota,
            age: Duration::from_secs(config.turn_hours * 3600),
            bytes_per_second: Some(config.turn_kbps * 125).filter(|rate| *rate > 0),
            ..Limits::default()
        },
        tls: None,
        tls_is_verifiable: false,
    })))
}

/// The addresses of the relay: the server's own, unless named. All of IPv6 stands for all of
/// both families, so that a relay needs no socket that speaks both.
fn listen(config: &Config) -> Vec<SocketAddr> {
    if !config.turn_listen.is_empty() {
        return config.turn_listen.clone();
    }
    let mut ips: Vec<IpAddr> = config.listen.iter().map(SocketAddr::ip).collect();
    let all: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    if ips.contains(&Ipv6Addr::UNSPECIFIED.into()) && !ips.iter().any(IpAddr::is_ipv4) {
        ips.push(all);
    }
    ips.sort_unstable();
    ips.dedup();
    ips.into_iter().map(|ip| SocketAddr::new(ip, TURN_PORT)).collect()
}

/// Over what a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// The quick way.
    Udp,
    /// Where UDP is blocked.
    Tcp,
    /// Where everything but web traffic is blocked.
    Tls,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];
}

/// Whether to relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// A range of ports, written `LOW-HIGH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange(RangeInclusive<u16>);

impl Default for PortRange {
    /// RFC 6335's dynamic ports, as RFC 8656 section 7.2 advises.
    fn default() -> Self {
        Self(49_152..=65_535)
    }
}

impl PortRange {
    /// How many ports.
    #[allow(clippy::len_without_is_empty)] // Never empty.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The port at `index`, counted around.
    pub(super) fn at(&self, index: usize) -> u16 {
        // Less than the length, so it fits.
        self.0.start() + (index % self.len()) as u16
    }
}

/// Not a range of ports.
#[derive(Debug, Error)]
#[error(
    "“{0}” is no range of ports: write two numbers from 1 to 65535 like 49152-65535, the lower one first"
)]
pub struct NotPorts(String);

impl FromStr for PortRange {
    type Err = NotPorts;

    fn from_str(text: &str) -> Result<Self, NotPorts> {
        let range = text
            .split_once('-')
            .and_then(|(low, high)| Some(low.trim().parse().ok()?..=high.trim().parse().ok()?));
        match range {
            Some(range) if *range.start() > 0 && !range.is_empty() => Ok(Self(range)),
            _ => Err(NotPorts(text.to_owned())),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = NotPorts;

    fn try_from(text: String) -> Result<Self, NotPorts> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        toml::from_str(toml).unwrap()
    }

    fn built_in(toml: &str) -> Option<TurnOptions> {
        match options(&config(toml)).unwrap() {
            Turn::BuiltIn(options) => Some(*options),
            _ => None,
        }
    }

    #[test]
    fn a_server_beyond_this_machine_relays_unless_told_not_to() {
        assert!(built_in("").is_none());
        assert!(built_in("listen = ['0.0.0.0:8080']\nturn = 'off'").is_none());
        let on = built_in("listen = ['[::]:8080', '0.0.0.0:8080', '0.0.0.0:9']").unwrap();
        assert_eq!(on.listen, crate::all_interfaces(TURN_PORT));
        let on = built_in("turn = 'on'\nturn-kbps = 8").unwrap();
        assert_eq!(on.listen, ["127.0.0.1:3478".parse().unwrap()]);
        assert_eq!(on.limits.bytes_per_second, Some(1000));
    }

    #[test]
    fn another_relay_needs_its_secret_and_excludes_ours() {
        let say = |toml: &str| options(&config(toml)).expect_err("unusable").to_string();
        assert!(say("turn-url = ['turn:a']").contains("turn-secret"));
        assert!(say("turn-url = ['a']\nturn-secret = 's'").contains("“a”"));
        assert!(say("turn-url = ['turn:a']\nturn-secret = 's'\nturn = 'on'").contains("built-in"));
        let both = "turn-url = ['turn:a']\nturn-secret = 's'\nlisten = ['0.0.0.0:1']";
        assert!(matches!(options(&config(both)), Ok(Turn::External(_))));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let say = |toml: &str| options(&config(toml)).expect_err("unusable").to_string();
        assert!(say("turn-credential-minutes = 0").contains("turn-credential-minutes"));
        assert!(say("turn-hours = 0").contains("turn-hours"));
        assert!(say("turn = 'on'\nturn-transports = []").contains("turn-transports"));
        assert!(say("turn = 'on'\nturn-public-ip = ['1.1.1.1', '2.2.2.2']").contains("IPv4"));
        assert!(toml::from_str::<Config>("turn-ports = '9-1'").is_err());
        assert!(toml::from_str::<Config>("turn-deny = ['10/8']").is_err());
    }

    #[test]
    fn a_range_of_ports_is_two_numbers_in_order() {
        let range: PortRange = "5000-5002".parse().unwrap();
        assert_eq!(
            (range.len(), range.at(0), range.at(5), range.to_string()),
            (3, 5000, 5002, "5000-5002".into())
        );
        for bad in ["", "5000", "5002-5000", "0-3", "1-65536", "a-b"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}
