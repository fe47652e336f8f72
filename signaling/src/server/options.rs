//! What a server is to be.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    access::AccessToken,
    admission::ConnectionLimits,
    carrier::Liveness,
    cluster::Cluster,
    ice_servers::{IceServerProvider, NoIceServers},
    origin::AllowedOrigin,
    page::PageFolder,
    proxy::TrustedProxies,
    room::{HOLD, Limits, RoomPolicy},
    state_dir::StateDir,
    tls::TlsOptions,
    turn::TurnOptions,
};

/// What a server is to be.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where to listen; see [`all_interfaces`](crate::all_interfaces). Addresses with port 0
    /// share one free port.
    pub listen: Vec<SocketAddr>,
    /// TLS, beside plain HTTP for this machine.
    pub tls: TlsOptions,
    /// Which rooms to serve.
    pub rooms: RoomPolicy,
    /// When a connection counts as dead.
    pub liveness: Liveness,
    /// How much one client, or one address, may ask for.
    pub limits: Limits,
    /// How long a seat is held for a client whose connection broke; not at all if zero. For as
    /// long after its start the server sets up again rooms it had before.
    pub hold: Duration,
    /// Where to keep what must outlive the server. Without, no client finds its seat again after
    /// a restart.
    pub state_dir: Option<StateDir>,
    /// Hands out STUN and TURN servers, where `turn` does not.
    pub ice: Arc<dyn IceServerProvider>,
    /// Makes this server one of many.
    pub cluster: Option<Cluster>,
    /// The built-in relay.
    pub turn: Option<TurnOptions>,
    /// Served in place of the built-in page.
    pub page: Option<PageFolder>,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// Foreign origins whose pages may speak to the server.
    pub origins: Vec<AllowedOrigin>,
    /// Proxies that say on whose behalf they come.
    pub proxies: TrustedProxies,
    /// What a client must present to reach the rooms.
    pub access_token: Option<AccessToken>,
    /// Where to serve `/metrics`, `/healthz` and `/readyz` to anybody; `/metrics` is then no
    /// longer on the main port. With port 0 the system chooses one.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            tls: TlsOptions::default(),
            rooms: RoomPolicy::default(),
            liveness: Liveness::default(),
            limits: Limits::default(),
            hold: HOLD,
            state_dir: None,
            ice: Arc::new(NoIceServers),
            cluster: None,
            turn: None,
            page: None,
            connections: ConnectionLimits::default(),
            origins: Vec::new(),
            proxies: TrustedProxies::default(),
            access_token: None,
            metrics_listen: None,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("listen", &self.listen)
            .field("tls", &self.tls)
            .field("rooms", &self.rooms)
            .field("liveness", &self.liveness)
            .field("limits", &self.limits)
            .field("hold", &self.hold)
            .field("state_dir", &self.state_dir)
            .field("cluster", &self.cluster)
            .field("turn", &self.turn)
            .field("page", &self.page)
            .field("connections", &self.connections)
            .field("origins", &self.origins)
            .field("proxies", &self.proxies)
            .field("access_token", &self.access_token)
            .field("metrics_listen", &self.metrics_listen)
            .finish_non_exhaustive()
    }
}
