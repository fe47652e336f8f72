//! STUN and TURN, built in: the way between two ends that cannot reach each other.
//!
//! One port answers UDP, TCP and TLS. Everything that decides is pure (`allocations` and what it
//! uses); the rest carries bytes.

pub mod allocations;
pub mod credentials;
pub mod filter;
pub mod frame;
pub mod quota;
pub mod settings;
pub mod stats;
pub mod stun;
pub mod urls;

mod relays;
mod route;
mod service;
mod stream;
mod udp;

use std::{net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::{net::TcpListener, net::UdpSocket, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;

pub use self::{
    credentials::Authority,
    quota::Limits,
    settings::{PortRange, Transport},
    stats::TurnStats,
    urls::{BuiltIn, External},
};
use self::{filter::PeerFilter, service::Service};
use crate::listen::BindError;

/// The port that RFC 8656 gives STUN and TURN.
pub const TURN_PORT: u16 = 3478;

/// What the relay is to be.
#[derive(Clone)]
pub struct TurnOptions {
    /// Where to listen. Addresses with port 0 share one free port.
    pub listen: Vec<SocketAddr>,
    /// Over what clients may come. TLS needs [`Self::tls`] besides.
    pub transports: Vec<Transport>,
    /// The addresses under which others reach this machine, where a NAT stands in front of it;
    /// at most one a family.
    pub public_ips: Vec<IpAddr>,
    /// The name or address to put into URLs; else the address that leads to the client.
    pub host: Option<String>,
    /// Credentials are made with it.
    pub secret: Vec<u8>,
    /// How long the credentials that are handed out can be used to allocate.
    pub credential_lifetime: Duration,
    /// Told to clients; they mix it into their keys.
    pub realm: String,
    /// Ports of relayed addresses.
    pub ports: PortRange,
    /// Networks not to relay to, besides those that nobody may reach.
    pub deny: Vec<IpNet>,
    /// Networks to relay to even so.
    pub allow: Vec<IpNet>,
    /// How much anyone gets.
    pub limits: Limits,
    /// Speaks TLS on the TCP port; may be the one for HTTPS.
    pub tls: Option<TlsAcceptor>,
    /// Whether browsers can verify the certificate: else they are not told of TLS.
    pub tls_is_verifiable: bool,
}

impl std::fmt::Debug for TurnOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the secret.
        f.debug_struct("TurnOptions")
            .field("listen", &self.listen)
            .field("transports", &self.transports)
            .field("public_ips", &self.public_ips)
            .field("host", &self.host)
            .field("ports", &self.ports)
            .field("deny", &self.deny)
            .field("allow", &self.allow)
            .field("limits", &self.limits)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for TurnOptions {
    fn default() -> Self {
        Self {
            listen: crate::all_interfaces(TURN_PORT),
            transports: Transport::ALL.to_vec(),
            public_ips: Vec::new(),
            host: None,
            secret: rand::random::<[u8; 32]>().to_vec(),
            credential_lifetime: Duration::from_secs(3600),
            realm: "visavis".into(),
            ports: PortRange::default(),
            deny: Vec::new(),
            allow: Vec::new(),
            limits: Limits::default(),
            tls: None,
            tls_is_verifiable: false,
        }
    }
}

/// A relay that has its ports and waits for [`Self::run`].
pub struct TurnServer {
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    options: TurnOptions,
    stats: Arc<TurnStats>,
}

impl TurnServer {
    /// Takes the ports.
    ///
    /// # Errors
    /// Which address could not be had, why, and what to do.
    pub fn bind(options: TurnOptions) -> Result<Self, BindError> {
        let over_udp = options.transports.contains(&Transport::Udp);
        let over_tcp = options.transports.iter().any(|transport| *transport != Transport::Udp);
        let (udp, tcp) = udp::bind_both(&options.listen, over_udp, over_tcp)?;
        let of_udp = udp.iter().filter_map(|socket| socket.local_addr().ok());
        let of_tcp = tcp.iter().filter_map(|listener| listener.local_addr().ok());
        let mut addresses: Vec<_> = of_udp.chain(of_tcp).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let udp = udp.into_iter().map(Arc::new).collect();
        Ok(Self { udp, tcp, addresses, options, stats: Arc::default() })
    }

    /// Where it listens, ports included.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<TurnStats> {
        Arc::clone(&self.stats)
    }

    /// Tells seats of this relay.
    pub fn ice_servers(&self) -> BuiltIn {
        BuiltIn::new(&self.options, &self.addresses)
    }

    /// Relays until `stopping` changes or its sender is gone. Dropping the future stops it at
    /// once.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let Self { udp, tcp, addresses, options, stats } = self;
        let service = Service::new(udp.clone(), &addresses, &options, stats);
        let mut tasks = JoinSet::new();
        for (index, socket) in udp.into_iter().enumerate() {
            tasks.spawn(udp::serve(Arc::clone(&service), index, socket));
        }
        let plain = options.transports.contains(&Transport::Tcp);
        let tls = options.tls.filter(|_| options.transports.contains(&Transport::Tls));
        let tls = tls.map(|tls| without_alpn(&tls));
        for listener in tcp {
            tasks.spawn(stream::accept(Arc::clone(&service), listener, plain, tls.clone()));
        }
        tasks.spawn(service::keep_time(Arc::clone(&service)));
        // An error means that whoever would say so is gone.
        let _ = stopping.changed().await;
        tasks.shutdown().await;
        service.close_all();
    }
}

/// The acceptor may be the one for HTTPS: TURN is another protocol (RFC 7443), and a client that
/// names it would be refused.
fn without_alpn(tls: &TlsAcceptor) -> TlsAcceptor {
    let mut config = rustls::ServerConfig::clone(tls.config());
    config.alpn_protocols.clear();
    Arc::new(config).into()
}

/// Which addresses may be reached, as far as the options say.
fn filter(options: &TurnOptions) -> PeerFilter {
    PeerFilter::new(options.deny.clone(), options.allow.clone())
}
