//! Which request goes where.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use tokio::sync::mpsc;

use super::{
    accept::RemoteAddress,
    guard::{Guard, guard},
    health::{self, Health},
    redirect::{self, SecurePort},
};
use crate::{
    carrier::{self, CarrierKind, Guest, Liveness},
    hub::Hub,
    page::{self, PageFolder},
    probe::Identity,
};

/// Stands for an address that nobody told; never happens.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What the routes share.
#[derive(Clone)]
pub(super) struct Routes {
    pub(super) hub: Hub,
    pub(super) liveness: Liveness,
    pub(super) socketio: carrier::socketio::Carrier,
    pub(super) page: Option<PageFolder>,
    /// The TLS port, if there is one.
    pub(super) tls_port: Option<u16>,
    pub(super) guard: Arc<Guard>,
    pub(super) health: Health,
    /// Held by every WebSocket's task until its very end.
    pub(super) alive: mpsc::Sender<()>,
}

/// With `secure`, whoever is not on this machine is sent there.
pub(super) fn router(routes: Routes, secure: Option<SecurePort>) -> Router {
    let operators = health::router(routes.health.clone());
    let guarding = middleware::from_fn_with_state(Arc::clone(&routes.guard), guard);
    let router = match routes.page {
        None => Router::new()
            .route("/", get(page::index))
            .route("/room/{name}", get(page::room))
            .fallback(page::asset),
        Some(_) => Router::new().fallback(folder),
    };
    let router = router
        .route("/socket.io", any(socketio))
        .route("/socket.io/", any(socketio))
        .route("/socket.io/socket.io.js", get(carrier::socketio::client))
        .route("/visavis", get(identify))
        .route("/ws", get(websocket))
        .with_state(routes)
        .merge(operators)
        .layer(middleware::from_fn(page::guard))
        .layer(guarding);
    // The last layer is asked first: by the connection's own address, not the one that a proxy
    // on this machine tells.
    match secure {
        Some(secure) => router.layer(middleware::from_fn_with_state(secure, redirect::to_tls)),
        None => router,
    }
}

async fn identify(State(routes): State<Routes>) -> Response {
    let identity = Identity::own(routes.tls_port).to_text();
    ([(header::CONTENT_TYPE, "application/json")], identity).into_response()
}

async fn folder(State(routes): State<Routes>, request: Request) -> Response {
    match routes.page {
        Some(folder) => folder.answer(request).await,
        None => page::asset(request.method().clone(), request.uri().clone()).await,
    }
}

async fn socketio(State(routes): State<Routes>, request: Request) -> Response {
    routes.socketio.answer(address_of(&request), request).await
}

fn address_of(request: &Request) -> IpAddr {
    let address = request.extensions().get().map_or(UNKNOWN, |RemoteAddress(address)| address.ip());
    address.to_canonical()
}

async fn websocket(State(routes): State<Routes>, request: Request) -> Response {
    let guest = Guest { address: address_of(&request), carrier: CarrierKind::WebSocket };
    carrier::ws::upgrade(routes.hub, guest, routes.liveness, routes.alive, request)
}
