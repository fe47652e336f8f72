//! The server: listening sockets, routes, an orderly end. Knows nothing of what rooms do.

use std::{net::SocketAddr, pin::pin, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    carrier::{self, Liveness},
    hub::Hub,
    listen::{self, BindError},
    page,
    probe::Identity,
    protocol::RoomName,
    room::{Counts, Registry, RoomPolicy},
};

/// A request's head must be there within this.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long connections may take to end when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// After a failed accept (the process has too many open files): wait, or it fails at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

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
}

/// A server that has its port and waits for [`Self::run`].
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    hub: Hub,
    hub_task: JoinSet<()>,
    liveness: Liveness,
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
        let (hub, task) = Hub::start(Registry::new(options.rooms, rand::random()));
        let mut hub_task = JoinSet::new();
        hub_task.spawn(task);
        Ok(Self { listeners, addresses, hub, hub_task, liveness: options.liveness })
    }

    /// Where the server listens, ports included.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle to steer the server with.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { hub: self.hub.clone() }
    }

    /// Serves until `shutdown` resolves, then closes all connections (code 1012) and returns,
    /// after a few seconds at most. Dropping the future stops the server at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listeners, hub, mut hub_task, liveness, .. } = self;
        let (alive, mut all_ended) = mpsc::channel(1);
        let routes = Routes { hub: hub.clone(), liveness, alive };
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept(listener, router(routes.clone()), stopping.clone()));
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

#[derive(Clone)]
struct Routes {
    hub: Hub,
    liveness: Liveness,
    /// Held by every WebSocket's task until its very end.
    alive: mpsc::Sender<()>,
}

fn router(routes: Routes) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/room/{name}", get(page::room))
        .route("/visavis", get(identify))
        .route("/ws", get(websocket))
        .fallback(page::asset)
        .layer(middleware::from_fn(page::guard))
        .with_state(routes)
}

async fn identify() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Identity::own().to_text()).into_response()
}

async fn websocket(State(routes): State<Routes>, request: Request) -> Response {
    carrier::ws::upgrade(routes.hub, routes.liveness, routes.alive, request)
}

/// Accepts until told to stop, then sees the HTTP connections to their end.
async fn accept(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    tracing::debug!(%address, "accepted");
                    connections.spawn(serve(stream, router.clone(), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    drop((listener, router));
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Signaling is small messages; none should wait for the next.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut told = false;
    let result = loop {
        tokio::select! {
            result = connection.as_mut() => break result,
            _ = stopping.changed(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}
