//! Accepts connections and speaks HTTP on them.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

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

use super::{entrance::Entrance, stream::Admitted};

/// The longest request line and headers together; browsers send one or two KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What HTTP may keep in memory of a connection's incoming bytes.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// After a failed accept (the process has too many open files): wait, or it fails at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts until told to stop, then sees the HTTP connections to their end.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    entrance: Arc<Entrance>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let Some(stream) = entrance.admit(stream, address) else { continue };
                    tracing::debug!(tcp = stream.pass().id(), %address, "accepted");
                    let (router, entrance) = (router.clone(), Arc::clone(&entrance));
                    connections.spawn(serve(stream, address, router, entrance, stopping.clone()));
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
    mut stream: Admitted<TcpStream>,
    peer: SocketAddr,
    router: Router,
    entrance: Arc<Entrance>,
    mut stopping: watch::Receiver<bool>,
) {
    let tcp = stream.pass().id();
    // Signaling is small messages; none should wait for the next.
    if let Err(error) = stream.get_ref().set_nodelay(true) {
        tracing::debug!(tcp, %error, "no TCP_NODELAY");
    }
    let address = tokio::select! {
        address = entrance.identify(&mut stream, peer) => address,
        _ = stopping.changed() => None,
    };
    let Some(address) = address else { return };
    let pass = Arc::clone(stream.pass());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(RemoteAddress(address));
        request.extensions_mut().insert(Arc::clone(&pass));
        TowerToHyperService::new(router.clone()).call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(entrance.handshake)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
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
        tracing::debug!(tcp, %error, "an HTTP connection failed");
    }
}
