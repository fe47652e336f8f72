//! Accepts connections and speaks HTTP on them.

use std::{net::SocketAddr, pin::pin, time::Duration};

use axum::{Router, extract::Request};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::{silence, write_deadline::WriteDeadline};
use crate::carrier::Liveness;

/// A request's head must be there within this.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// After a failed accept (the process has too many open files): wait, or it fails at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts until told to stop, then sees the HTTP connections to their end.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    liveness: Liveness,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    tracing::debug!(%address, "accepted");
                    let (router, stopping) = (router.clone(), stopping.clone());
                    connections.spawn(serve(stream, address, router, liveness, stopping));
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

/// Where a request comes from: an extension of every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoteAddress(pub(super) SocketAddr);

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    liveness: Liveness,
    mut stopping: watch::Receiver<bool>,
) {
    // Signaling is small messages; none should wait for the next.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    if let Err(error) = silence::probe(&stream, liveness) {
        tracing::debug!(%error, "no TCP keep-alive");
    }
    let stream = WriteDeadline::new(stream, liveness.write_within);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(RemoteAddress(address));
        TowerToHyperService::new(router.clone()).call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
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
