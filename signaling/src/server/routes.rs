//! Which request goes where.

use std::net::{IpAddr, Ipv6Addr};

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::mpsc;

use super::accept::RemoteAddress;
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
    /// Held by every WebSocket's task until its very end.
    pub(super) alive: mpsc::Sender<()>,
}

pub(super) fn router(routes: Routes) -> Router {
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
    let address = request.extensions().get().map_or(UNKNOWN, |RemoteAddress(address)| address.ip());
    let guest = Guest { address: address.to_canonical(), carrier: CarrierKind::WebSocket };
    carrier::ws::upgrade(routes.hub, guest, routes.liveness, routes.alive, request)
}
