//! The server: listening sockets, tasks, an orderly end. Knows nothing of what rooms do.

mod accept;
mod routes;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use self::routes::Routes;
use crate::{
    carrier::Liveness,
    hub::Hub,
    ice_servers::{IceServerProvider, NoIceServers},
    listen::{self, BindError},
    protocol::RoomName,
    room::{Counts, Registry, RoomPolicy},
    turn::{TurnOptions, TurnServer, TurnStats},
};

/// How long connections may take to end when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(3);

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
    /// Hands out STUN and TURN servers, unless [`Self::turn`] does.
    pub ice: Arc<dyn IceServerProvider>,
    /// Relays for those who cannot reach each other.
    pub turn: Option<TurnOptions>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            rooms: RoomPolicy::default(),
            liveness: Liveness::default(),
            ice: Arc::new(NoIceServers),
            turn: None,
        }
    }
}

/// A server that has its port and waits for [`Self::run`].
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    hub: Hub,
    hub_task: JoinSet<()>,
    liveness: Liveness,
    turn: Option<TurnServer>,
}

/// Steers a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    hub: Hub,
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
        let turn = options.turn.map(TurnServer::bind).transpose()?;
        let ice = match &turn {
            Some(turn) => Arc::new(turn.ice_servers()),
            None => options.ice,
        };
        let registry = Registry::new(options.rooms, rand::random()).with_ice(ice);
        let (hub, task) = Hub::start(registry);
        let mut hub_task = JoinSet::new();
        hub_task.spawn(task);
        Ok(Self { listeners, addresses, hub, hub_task, liveness: options.liveness, turn })
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
        ServerHandle { hub: self.hub.clone() }
    }

    /// Serves until `shutdown` resolves, then closes all connections (code 1012) and returns,
    /// after a few seconds at most. Dropping the future stops the server at once.
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

    /// How many connections, rooms and seats there are just now.
    pub fn counts(&self) -> Counts {
        self.hub.counts()
    }
}
