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
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    entrance::{Entrance, Socket},
    gate::Pass,
    silence,
};
use crate::{carrier::Liveness, tls::ACME_ALPN};

/// The longest request line and headers together; browsers send one or two KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What HTTP may keep in memory of a connection's incoming bytes.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// After a failed accept (the process has too many open files): wait, or it fails at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How connections of one listener begin.
#[derive(Clone)]
pub(super) enum Security {
    /// With HTTP at once.
    Plain,
    /// With a TLS handshake, which must be over within the time.
    Tls(TlsAcceptor, Duration),
}

/// Accepts until told to stop, then sees the HTTP connections to their end.
pub(super) async fn accept(
    listener: TcpListener,
    security: Security,
    router: Router,
    entrance: Arc<Entrance>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    prepare(&stream, entrance.liveness);
                    let Some(stream) = entrance.admit(stream, peer) else { continue };
                    tracing::debug!(tcp = stream.pass().id(), %peer, "accepted");
                    let visit = Visit {
                        router: router.clone(),
                        entrance: Arc::clone(&entrance),
                        stopping: stopping.clone(),
                    };
                    // Two kinds of tasks: a plain connection pays nothing for TLS.
                    match security.clone() {
                        Security::Plain => connections.spawn(visit.plain(stream, peer)),
                        Security::Tls(acceptor, limit) => {
                            connections.spawn(visit.over_tls(stream, peer, acceptor, limit))
                        }
                    };
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

fn prepare(stream: &TcpStream, liveness: Liveness) {
    // Signaling is small messages; none should wait for the next.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    if let Err(error) = silence::probe(stream, liveness) {
        tracing::debug!(%error, "no TCP keep-alive");
    }
}

/// Where a request comes from: an extension of every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoteAddress(pub(super) SocketAddr);

/// One connection from its first byte to its last.
struct Visit {
    router: Router,
    entrance: Arc<Entrance>,
    stopping: watch::Receiver<bool>,
}

impl Visit {
    async fn plain(mut self, mut stream: Socket, peer: SocketAddr) {
        if let Some(address) = self.identify(&mut stream, peer).await {
            let pass = Arc::clone(stream.pass());
            self.serve(stream, pass, address).await;
        }
    }

    async fn over_tls(
        mut self,
        mut stream: Socket,
        peer: SocketAddr,
        acceptor: TlsAcceptor,
        limit: Duration,
    ) {
        let Some(address) = self.identify(&mut stream, peer).await else { return };
        let pass = Arc::clone(stream.pass());
        if let Some(stream) = shake_hands(stream, acceptor, limit).await {
            self.serve(stream, pass, address).await;
        }
    }

    /// Whose connection it is, where a proxy says so before anything else.
    async fn identify(&mut self, stream: &mut Socket, peer: SocketAddr) -> Option<SocketAddr> {
        tokio::select! {
            address = self.entrance.identify(stream, peer) => address,
            _ = self.stopping.changed() => None,
        }
    }

    async fn serve<S>(self, stream: S, pass: Arc<Pass>, address: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, entrance, mut stopping } = self;
        let tcp = pass.id();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(RemoteAddress(address));
            extensions.insert(Arc::clone(&pass));
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
}

/// `None` where no TLS came of it in time, or none was wanted but the handshake itself.
async fn shake_hands<S>(
    stream: S,
    acceptor: TlsAcceptor,
    limit: Duration,
) -> Option<tokio_rustls::server::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let challenge = stream.get_ref().1.alpn_protocol() == Some(ACME_ALPN);
            (!challenge).then_some(stream)
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
    }
}
