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
    routing::get,
};
use tokio::sync::mpsc;

use super::{
    accept::RemoteAddress,
    guard::{Guard, guard},
    health::{self, Health},
};
use crate::{
    carrier::{self, CarrierKind, Guest, Liveness},
    hub::Hub,
    page,
    probe::Identity,
};

/// Stands for an address that nobody told; never happens.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What the routes share.
#[derive(Clone)]
pub(super) struct Routes {
    pub(super) hub: Hub,
    pub(super) liveness: Liveness,
    pub(super) guard: Arc<Guard>,
    pub(super) health: Health,
    /// Held by every WebSocket's task until its very end.
    pub(super) alive: mpsc::Sender<()>,
}

pub(super) fn router(routes: Routes) -> Router {
    let operators = health::router(routes.health.clone());
    let guarding = middleware::from_fn_with_state(Arc::clone(&routes.guard), guard);
    Router::new()
        .route("/", get(page::index))
        .route("/room/{name}", get(page::room))
        .route("/visavis", get(identify))
        .route("/ws", get(websocket))
        .fallback(page::asset)
        .with_state(routes)
        .merge(operators)
        .layer(middleware::from_fn(page::guard))
        // Last, so that it is asked first.
        .layer(guarding)
}

async fn identify() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Identity::own().to_text()).into_response()
}

async fn websocket(State(routes): State<Routes>, request: Request) -> Response {
    let address = request.extensions().get().map_or(UNKNOWN, |RemoteAddress(address)| address.ip());
    let guest = Guest { address: address.to_canonical(), carrier: CarrierKind::WebSocket };
    carrier::ws::upgrade(routes.hub, guest, routes.liveness, routes.alive, request)
}
