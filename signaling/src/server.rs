//! The server: listening sockets, tasks, an orderly end. Knows nothing of what rooms do.

mod accept;
mod routes;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use self::routes::Routes;
use crate::{
    carrier::Liveness,
    cluster::Cluster,
    hub::Hub,
    ice_servers::{IceServerProvider, NoIceServers},
    listen::{self, BindError},
    protocol::RoomName,
    room::{Counts, HOLD, Limits, Registry, RoomOptions, RoomPolicy},
    state_dir::StateDir,
    token::TokenKey,
    turn::{TurnOptions, TurnServer, TurnStats},
};

/// When the server stops, what waits for a connection may take so long to be written, and the
/// connection to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Keeps the key of the tokens with which clients take their seats back.
const RESUME_KEY: &str = "resume.key";

/// What a server is to be.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where to listen; see [`all_interfaces`](crate::all_interfaces). Addresses with port 0
    /// share one free port.
    pub listen: Vec<SocketAddr>,
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
    /// Hands out STUN and TURN servers, unless [`Self::turn`] does.
    pub ice: Arc<dyn IceServerProvider>,
    /// Makes this server one of many.
    pub cluster: Option<Cluster>,
    /// Relays for those who cannot reach each other.
    pub turn: Option<TurnOptions>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            rooms: RoomPolicy::default(),
            liveness: Liveness::default(),
            limits: Limits::default(),
            hold: HOLD,
            state_dir: None,
            ice: Arc::new(NoIceServers),
            cluster: None,
            turn: None,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("listen", &self.listen)
            .field("rooms", &self.rooms)
            .field("liveness", &self.liveness)
            .field("limits", &self.limits)
            .field("hold", &self.hold)
            .field("cluster", &self.cluster)
            .field("state_dir", &self.state_dir)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

/// A server that has its port and waits for [`Self::run`].
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    hub: Hub,
    hub_task: JoinSet<()>,
    liveness: Liveness,
    healthy: watch::Receiver<bool>,
    turn: Option<TurnServer>,
}

/// Steers a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    hub: Hub,
    healthy: watch::Receiver<bool>,
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
        let listeners = listen::bind(&options.listen)?;
        let addresses =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let turn = options.turn.map(TurnServer::bind).transpose();
        let turn = turn.map_err(|error| BindError::Turn(Box::new(error)))?;
        let ice = match &turn {
            Some(turn) => Arc::new(turn.ice_servers()),
            None => options.ice,
        };
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
        let (hub, task) = Hub::start(Registry::with(rooms, rand::random()));
        let mut hub_task = JoinSet::new();
        hub_task.spawn(task);
        let (hub, healthy) = match options.cluster {
            Some(cluster) => cluster.join(hub, options.hold, &mut hub_task),
            None => (hub, watch::channel(true).1),
        };
        let liveness = options.liveness;
        Ok(Self { listeners, addresses, hub, hub_task, liveness, healthy, turn })
    }

    /// Where the server listens, ports included.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the relay listens, if there is one.
    pub fn turn_addrs(&self) -> &[SocketAddr] {
        self.turn.as_ref().map_or(&[], TurnServer::local_addrs)
    }

    /// What the relay counts, if there is one.
    pub fn turn_stats(&self) -> Option<Arc<TurnStats>> {
        self.turn.as_ref().map(TurnServer::stats)
    }

    /// A handle to steer the server with.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { hub: self.hub.clone(), healthy: self.healthy.clone() }
    }

    /// Serves until `shutdown` resolves. Then takes no one in, tells everyone “server
    /// restarting”, writes what waits to be written, closes all connections (code 1012) and
    /// returns, after five seconds at most. Dropping the future stops the server at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listeners, hub, mut hub_task, liveness, turn, .. } = self;
        let (alive, mut all_ended) = mpsc::channel(1);
        let routes = Routes { hub: hub.clone(), liveness, alive };
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            let router = routes::router(routes.clone());
            tasks.spawn(accept::accept(listener, router, stopping.clone()));
        }
        if let Some(turn) = turn {
            tasks.spawn(turn.run(stopping.clone()));
        }
        drop((routes, stopping));
        shutdown.await;
        // A hub that is gone already has nothing to close.
        let _ = hub.stop().await;
        let _ = stop.send(true);
        let ended = async {
            while tasks.join_next().await.is_some() {}
            // Ends when the last connection drops its sender; nothing is ever sent.
            all_ended.recv().await;
            while hub_task.join_next().await.is_some() {}
        };
        if timeout(DRAIN_WITHIN, ended).await.is_err() {
            tracing::info!("some connections did not end in time and were cut");
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

    /// Whether clients should be sent here: in a cluster, whether the other nodes can be
    /// reached; else always.
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.healthy.clone()
    }

    /// How many connections, rooms and seats there are just now.
    pub fn counts(&self) -> Counts {
        self.hub.counts()
    }
}
