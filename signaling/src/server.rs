//! The server: listening sockets, tasks, an orderly end. Knows nothing of what rooms do.

mod accept;
mod entrance;
mod gate;
mod guard;
mod health;
mod routes;
mod stream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use self::{
    entrance::Entrance,
    gate::Gate,
    guard::Guard,
    health::{Audience, Health},
    routes::Routes,
};
use crate::{
    access::AccessToken,
    admission::ConnectionLimits,
    carrier::Liveness,
    hub::Hub,
    listen::{self, BindError},
    metrics::Metrics,
    origin::AllowedOrigin,
    protocol::RoomName,
    proxy::TrustedProxies,
    room::{Counts, Registry, RoomPolicy},
};

pub use self::health::Readiness;

/// How long connections may take to end when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What a server is to be.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where to listen; see [`all_interfaces`](crate::all_interfaces). Addresses with port 0
    /// share one free port.
    pub listen: Vec<SocketAddr>,
    /// Which rooms to serve.
    pub rooms: RoomPolicy,
    /// When a connection counts as dead.
    pub liveness: Liveness,
    /// How many connections there may be.
    pub limits: ConnectionLimits,
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

/// A server that has its port and waits for [`Self::run`].
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    hub: Hub,
    hub_task: JoinSet<()>,
    routes: Routes,
    all_ended: mpsc::Receiver<()>,
    entrance: Arc<Entrance>,
    metrics_listener: Option<TcpListener>,
}

/// Steers a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    hub: Hub,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

/// The server has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The server has stopped.")]
pub struct ServerStopped;

impl Server {
    /// Takes the port. Clients that connect from now on are served once [`Self::run`] runs.
    ///
    /// # Errors
    /// Which address could not be had, why, and what to do.
    // `async` because it needs the runtime, and name look-ups may come.
    #[allow(clippy::unused_async)]
    pub async fn bind(options: ServerOptions) -> Result<Self, BindError> {
        let ServerOptions {
            listen,
            rooms,
            liveness,
            limits,
            origins,
            proxies,
            access_token,
            metrics_listen,
        } = options;
        let listeners = listen::bind(&listen)?;
        let metrics_listener = match metrics_listen {
            Some(address) => listen::bind(&[address])?.pop(),
            None => None,
        };
        let addresses =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let metrics = Arc::new(Metrics::new());
        let (hub, task) = Hub::start(Registry::new(rooms, rand::random()), Arc::clone(&metrics));
        let mut hub_task = JoinSet::new();
        hub_task.spawn(task);
        let gate = Gate::new(limits, Arc::clone(&metrics));
        let proxies = Arc::new(proxies);
        let entrance = Entrance::new(
            Arc::clone(&gate),
            Arc::clone(&proxies),
            Arc::clone(&metrics),
            limits.handshake,
        );
        let guard = Arc::new(Guard {
            proxies,
            origins,
            token: access_token,
            body_within: limits.handshake,
            metrics: Arc::clone(&metrics),
        });
        let readiness = Arc::default();
        let audience = match metrics_listener {
            Some(_) => Audience::Nobody,
            None => Audience::ThisMachine,
        };
        let health = Health { readiness, metrics, gate, hub: hub.clone(), audience };
        let (alive, all_ended) = mpsc::channel(1);
        let routes = Routes { hub: hub.clone(), liveness, guard, health, alive };
        Ok(Self {
            listeners,
            addresses,
            hub,
            hub_task,
            routes,
            all_ended,
            entrance,
            metrics_listener,
        })
    }

    /// Where the server listens, ports included.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where `/metrics` is served, if on a port of its own.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_listener.as_ref()?.local_addr().ok()
    }

    /// A handle to steer the server with.
    pub fn handle(&self) -> ServerHandle {
        let Health { metrics, readiness, .. } = self.routes.health.clone();
        ServerHandle { hub: self.hub.clone(), metrics, readiness }
    }

    /// Serves until `shutdown` resolves, then closes all connections (code 1012) and returns,
    /// after a few seconds at most. Dropping the future stops the server at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listeners, hub, mut hub_task, routes, mut all_ended, entrance, .. } = self;
        let readiness = Arc::clone(&routes.health.readiness);
        // Dropped, and so ended, last: a probe may ask until then.
        let mut operators = JoinSet::new();
        let (_open, open) = watch::channel(false);
        if let Some(listener) = self.metrics_listener {
            let health = Health { audience: Audience::Anybody, ..routes.health.clone() };
            let entrance = Entrance::for_operators(entrance.handshake);
            operators.spawn(accept::accept(listener, health::router(health), entrance, open));
        }
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            let router = routes::router(routes.clone());
            tasks.spawn(accept::accept(listener, router, Arc::clone(&entrance), stopping.clone()));
        }
        drop((routes, stopping));
        shutdown.await;
        readiness.drain();
        // A hub that is gone already has nothing to close.
        let _ = hub.stop().await;
        let _ = stop.send(true);
        let ended = async {
            while tasks.join_next().await.is_some() {}
            // Ends when the last connection drops its sender; nothing is ever sent.
            all_ended.recv().await;
            while hub_task.join_next().await.is_some() {}
        };
        if timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::info!("some connections did not end in time and were cut");
        }
    }
}

impl ServerHandle {
    /// Serves `room` from now on.
    ///
    /// # Errors
    /// When the server has stopped.
    pub async fn allow_room(&self, room: RoomName) -> Result<(), ServerStopped> {
        self.hub.allow(room).await.map_err(|_| ServerStopped)
    }

    /// No longer serves `room`; whoever sits there is told. A server with [`RoomPolicy::Any`]
    /// goes on serving it.
    ///
    /// # Errors
    /// When the server has stopped.
    pub async fn disallow_room(&self, room: RoomName) -> Result<(), ServerStopped> {
        self.hub.disallow(room).await.map_err(|_| ServerStopped)
    }

    /// What the server counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether the server should be sent new clients: to be told of dependencies, or to let it
    /// drain before it is stopped.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// How many connections, rooms and seats there are just now.
    pub fn counts(&self) -> Counts {
        self.hub.counts()
    }
}
