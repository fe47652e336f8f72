//! The flags, and the variables that stand for them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use crate::{
    invite::PublicAddress,
    logging::{LogFormat, LogLevel},
    origin::AllowedOrigin,
    proxy::{ForwardedHeader, Network},
    tls::TlsMode,
    turn::settings::{PortRange, Switch, Transport},
};

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
