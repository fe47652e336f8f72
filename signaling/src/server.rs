//! The server: listening sockets, tasks, an orderly end. Knows nothing of what rooms do.

mod accept;
mod entrance;
mod gate;
mod guard;
mod health;
mod options;
mod redirect;
mod routes;
mod silence;
mod stream;
mod write_deadline;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    accept::Security,
    entrance::Entrance,
    gate::Gate,
    guard::Guard,
    health::{Audience, Health},
    redirect::SecurePort,
    routes::Routes,
};
use crate::{
    carrier::socketio,
    fingerprint::Fingerprint,
    hub::Hub,
    listen::{self, BindError},
    metrics::{Metrics, TurnFigures},
    protocol::RoomName,
    room::{Counts, Registry, RoomOptions},
    state_dir::StateDir,
    tls::Tls,
    token::TokenKey,
    turn::{TurnServer, TurnStats},
};

pub use self::{health::Readiness, options::ServerOptions};

/// When the server stops, what waits for a connection may take so long to be written, and the
/// connection to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Who hears only by asking, and just has its last answer, asks again within this: a round trip.
/// Before, its request may be on the way or unread, and would be answered by the connection's end.
const POLLERS_ASK_WITHIN: Duration = Duration::from_millis(300);

/// Keeps the key of the tokens with which clients take their seats back.
const RESUME_KEY: &str = "resume.key";

/// A server that has its port and waits for [`Self::run`].
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    hub: Hub,
    hub_task: JoinSet<()>,
    routes: Routes,
    all_ended: mpsc::Receiver<()>,
    healthy: watch::Receiver<bool>,
    entrance: Arc<Entrance>,
    metrics_listener: Option<TcpListener>,
    tls: Option<Secure>,
    turn: Option<TurnServer>,
}

/// The part that does TLS.
struct Secure {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    handshake_within: Duration,
    tls: Tls,
}

/// Steers a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    hub: Hub,
    healthy: watch::Receiver<bool>,
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
    /// Which address could not be had, or which file not be used, why, and what to do.
    // `async` because it needs the runtime, and name look-ups may come.
    #[allow(clippy::unused_async)]
    pub async fn bind(options: ServerOptions) -> Result<Self, BindError> {
        // First what may be wrong in the operator's files, before any port is taken.
        let tls = Tls::prepare(&options.tls, options.state_dir.as_ref())?;
        let listeners = listen::bind(&options.listen)?;
        let addresses = addresses_of(&listeners);
        let tls = match tls {
            Some(tls) => {
                let listeners = listen::bind(&options.tls.listen)?;
                let addresses = addresses_of(&listeners);
                let handshake_within = options.tls.handshake_within;
                Some(Secure { listeners, addresses, handshake_within, tls })
            }
            None => None,
        };
        let metrics_listener = match options.metrics_listen {
            Some(address) => listen::bind(&[address])?.pop(),
            None => None,
        };
        let turn = options.turn.map(|mut turn| {
            turn.tls = tls.as_ref().map(|secure| secure.tls.acceptor.clone());
            // Only browsers' own authorities make a relay over TLS of use to them.
            turn.tls_is_verifiable = options.tls.mode.is_verifiable();
            TurnServer::bind(turn)
        });
        let turn = turn.transpose().map_err(|error| BindError::Turn(Box::new(error)))?;
        let ice = match &turn {
            Some(turn) => Arc::new(turn.ice_servers()),
            None => options.ice,
        };
        let metrics = Arc::new(Metrics::new());
        if let Some(turn) = &turn {
            let stats = turn.stats();
            metrics.watch_turn(move || figures(&stats));
        }
        let rooms = RoomOptions {
            policy: options.rooms,
            limits: options.limits,
            hold: options.hold,
            // In a cluster each room tells whether it was another node's before.
            recover_until: options.cluster.is_none().then(|| Instant::now() + options.hold),
            key: match &options.cluster {
                Some(cluster) => Some(cluster.key()),
                None => options.state_dir.as_ref().and_then(resume_key),
            },
            ice,
        };
        let registry = Registry::with(rooms, rand::random());
        let (hub, task) = Hub::start(registry, Arc::clone(&metrics));
        let mut hub_task = JoinSet::new();
        hub_task.spawn(task);
        let readiness: Arc<Readiness> = Arc::default();
        let (hub, healthy) = match options.cluster {
            Some(cluster) => {
                let (hub, healthy) = cluster.join(hub, options.hold, &mut hub_task);
                hub_task.spawn(tell_readiness(healthy.clone(), Arc::clone(&readiness)));
                (hub, healthy)
            }
            None => (hub, watch::channel(true).1),
        };
        let (connections, liveness) = (options.connections, options.liveness);
        let gate = Gate::new(connections, Arc::clone(&metrics));
        let proxies = Arc::new(options.proxies);
        let entrance = Entrance::new(
            Arc::clone(&gate),
            Arc::clone(&proxies),
            Arc::clone(&metrics),
            connections.handshake,
            liveness,
        );
        let guard = Arc::new(Guard {
            proxies,
            origins: options.origins,
            token: options.access_token,
            body_within: connections.handshake,
            metrics: Arc::clone(&metrics),
        });
        let audience = match metrics_listener {
            Some(_) => Audience::Nobody,
            None => Audience::ThisMachine,
        };
        let health = Health { readiness, metrics, gate, hub: hub.clone(), audience };
        let (alive, all_ended) = mpsc::channel(1);
        let socketio = socketio::Carrier::new(hub.clone(), liveness, &alive);
        let tls_port =
            tls.as_ref().and_then(|secure| secure.addresses.first()).map(SocketAddr::port);
        let (hub_here, page) = (hub.clone(), options.page);
        let routes =
            Routes { hub: hub_here, liveness, guard, health, socketio, page, tls_port, alive };
        Ok(Self {
            listeners,
            addresses,
            hub,
            hub_task,
            routes,
            all_ended,
            healthy,
            entrance,
            metrics_listener,
            tls,
            turn,
        })
    }

    /// Where the server listens, ports included.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the server listens for TLS, ports included; empty without TLS.
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        self.tls.as_ref().map_or(&[], |secure| &secure.addresses)
    }

    /// What links have to tell so that the server is recognised: of its key, where its
    /// certificate is self-signed.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.tls.as_ref().and_then(|secure| secure.tls.fingerprint)
    }

    /// Where the relay listens, if there is one.
    pub fn turn_addrs(&self) -> &[SocketAddr] {
        self.turn.as_ref().map_or(&[], TurnServer::local_addrs)
    }

    /// What the relay counts, if there is one.
    pub fn turn_stats(&self) -> Option<Arc<TurnStats>> {
        self.turn.as_ref().map(TurnServer::stats)
    }

    /// Where `/metrics` is served, if on a port of its own.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_listener.as_ref()?.local_addr().ok()
    }

    /// A handle to steer the server with.
    pub fn handle(&self) -> ServerHandle {
        let Health { metrics, readiness, .. } = self.routes.health.clone();
        let healthy = self.healthy.clone();
        ServerHandle { hub: self.hub.clone(), healthy, metrics, readiness }
    }

    /// Serves until `shutdown` resolves. Then takes no one in, tells everyone “server
    /// restarting”, writes what waits to be written, closes all connections (code 1012) and
    /// returns, after 5.3 seconds at most. Dropping the future stops the server at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            listeners, hub, mut hub_task, routes, mut all_ended, entrance, tls, turn, ..
        } = self;
        let readiness = Arc::clone(&routes.health.readiness);
        let sessions = routes.socketio.clone();
        // Both are dropped, and with that ended, when this function returns.
        let (mut operators, mut upkeep) = (JoinSet::new(), JoinSet::new());
        let (_open, open) = watch::channel(false);
        if let Some(listener) = self.metrics_listener {
            let health = Health { audience: Audience::Anybody, ..routes.health.clone() };
            let (router, entrance) =
                (health::router(health), Entrance::for_operators(entrance.handshake));
            operators.spawn(accept::accept(listener, Security::Plain, router, entrance, open));
        }
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let serve = |listener, security, secure| {
            let router = routes::router(routes.clone(), secure);
            accept::accept(listener, security, router, Arc::clone(&entrance), stopping.clone())
        };
        for listener in listeners {
            let secure = routes.tls_port.zip(listener.local_addr().ok());
            let secure = secure.map(|(port, local)| SecurePort { port, local });
            tasks.spawn(serve(listener, Security::Plain, secure));
        }
        if let Some(Secure { listeners, handshake_within, tls, .. }) = tls {
            for listener in listeners {
                let security = Security::Tls(tls.acceptor.clone(), handshake_within);
                tasks.spawn(serve(listener, security, None));
            }
            upkeep.spawn(tls.upkeep);
        }
        if let Some(turn) = turn {
            tasks.spawn(turn.run(stopping.clone()));
        }
        drop((routes, stopping));
        shutdown.await;
        readiness.drain();
        // A hub that is gone already has nothing to close.
        let _ = hub.stop().await;
        if sessions.has_pollers() {
            sleep(POLLERS_ASK_WITHIN).await;
        }
        let _ = stop.send(true);
        let ended = async {
            // Ends when the last connection is closed.
            while hub_task.join_next().await.is_some() {}
            sessions.close().await;
            while tasks.join_next().await.is_some() {}
            // Ends when the last connection drops its sender; nothing is ever sent.
            all_ended.recv().await;
        };
        if timeout(DRAIN_WITHIN, ended).await.is_err() {
            tracing::info!("some connections did not end in time and were cut");
        }
    }
}

/// The relay's counters as `/metrics` tells them.
fn figures(stats: &TurnStats) -> TurnFigures {
    let now = |counter: &AtomicU64| counter.load(Relaxed);
    TurnFigures {
        allocations: now(&stats.allocations),
        streams: now(&stats.streams),
        allocated: now(&stats.allocations_made),
        refused: vec![
            ("forged", now(&stats.refused_forged)),
            ("expired", now(&stats.refused_expired)),
            ("peer", now(&stats.refused_peers)),
            ("user-quota", now(&stats.refused_user_quota)),
            ("address-quota", now(&stats.refused_address_quota)),
            ("capacity", now(&stats.refused_capacity)),
        ],
        dropped: vec![
            ("bandwidth", now(&stats.dropped_bandwidth)),
            ("unpermitted", now(&stats.dropped_unpermitted)),
            ("slow-client", now(&stats.dropped_slow_client)),
        ],
        bytes_to_peers: now(&stats.bytes_to_peers),
        bytes_to_clients: now(&stats.bytes_to_clients),
    }
}

fn addresses_of(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Tells readiness whether Redis answers, until the router ends.
async fn tell_readiness(mut healthy: watch::Receiver<bool>, readiness: Arc<Readiness>) {
    loop {
        let is_up = *healthy.borrow_and_update();
        let state = if is_up { Ok(()) } else { Err("no answer".to_owned()) };
        readiness.set_dependency("redis", state);
        if healthy.changed().await.is_err() {
            return;
        }
    }
}

/// The key in `state`, made if there is none; `None` if it cannot be kept.
fn resume_key(state: &StateDir) -> Option<TokenKey> {
    let new = || rand::random::<[u8; TokenKey::LENGTH]>();
    let key = state.read_or_create(RESUME_KEY, || new().to_vec()).and_then(|bytes| {
        <[u8; TokenKey::LENGTH]>::try_from(bytes).or_else(|bytes| {
            let found = bytes.len();
            tracing::warn!(found, "the resume key has a wrong length and is made anew");
            let key = new();
            state.write(RESUME_KEY, &key)?;
            Ok::<_, io::Error>(key)
        })
    });
    match key {
        Ok(key) => Some(TokenKey::new(&key)),
        Err(error) => {
            let path = state.path().join(RESUME_KEY);
            tracing::warn!(%error, path = %path.display(), "no key is kept: no call will survive a restart of this server");
            None
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

    /// Whether the other nodes of a cluster can be reached; always true without one.
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.healthy.clone()
    }

    /// How many connections, rooms and seats there are just now.
    pub fn counts(&self) -> Counts {
        self.hub.counts()
    }
}
