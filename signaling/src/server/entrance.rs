//! What happens to a connection before its first request: it is admitted or refused, and a
//! trusted proxy says whose it is.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use super::{gate::Gate, stream::Admitted, write_deadline::WriteDeadline};
use crate::{
    admission::{ConnectionLimits, Refusal},
    carrier::Liveness,
    metrics::Metrics,
    proxy::{Preamble, TrustedProxies, read_preamble},
};

/// Refused clients that are given the time to read why. Beyond these the socket is closed at
/// once, and the reason may be lost with it.
const LINGERING: usize = 64;
const LINGER: Duration = Duration::from_secs(1);

/// Connections to a port of the operator's own.
const OPERATORS: usize = 64;

/// A client's connection, as all carriers and TLS have it.
pub(super) type Socket = Admitted<WriteDeadline<TcpStream>>;

/// Shared by all listeners.
#[derive(Debug)]
pub(super) struct Entrance {
    gate: Arc<Gate>,
    proxies: Arc<TrustedProxies>,
    metrics: Arc<Metrics>,
    lingering: Arc<Semaphore>,
    /// For what comes before the first request, and again for its head.
    pub(super) handshake: Duration,
    pub(super) liveness: Liveness,
}

impl Entrance {
    pub(super) fn new(
        gate: Arc<Gate>,
        proxies: Arc<TrustedProxies>,
        metrics: Arc<Metrics>,
        handshake: Duration,
        liveness: Liveness,
    ) -> Arc<Self> {
        let lingering = Arc::new(Semaphore::new(LINGERING));
        Arc::new(Self { gate, proxies, metrics, lingering, handshake, liveness })
    }

    /// For a port of the operator's own: its clients are few and not the server's.
    pub(super) fn for_operators(handshake: Duration) -> Arc<Self> {
        let limits =
            ConnectionLimits { total: OPERATORS, per_address: OPERATORS, rate: 0, handshake };
        let metrics = Arc::new(Metrics::new());
        let gate = Gate::new(limits, Arc::clone(&metrics));
        Self::new(gate, Arc::default(), metrics, handshake, Liveness::default())
    }

    /// The connection with its pass, or nothing: then it is answered why and closed. Never waits.
    pub(super) fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Socket> {
        let admitted = self.gate.admit(peer.ip()).and_then(|pass| {
            // Whom a proxy's connection is for is not known yet.
            if !self.proxies.trust(peer.ip()) {
                pass.charge(peer.ip(), true)?;
            }
            Ok(pass)
        });
        match admitted {
            Ok(pass) => {
                let stream = WriteDeadline::new(stream, self.liveness.write_within);
                Some(Admitted::new(stream, pass))
            }
            Err(refusal) => {
                tracing::debug!(address = %peer, %refusal, "refused");
                self.refuse(stream, refusal);
                None
            }
        }
    }

    /// Whose connection it is. `None`: it is over.
    pub(super) async fn identify(
        &self,
        stream: &mut Socket,
        peer: SocketAddr,
    ) -> Option<SocketAddr> {
        if !(self.proxies.preamble && self.proxies.trust(peer.ip())) {
            return Some(peer);
        }
        let client = match timeout(self.handshake, read_client(stream)).await {
            Ok(Ok(client)) => client.unwrap_or(peer),
            Ok(Err(error)) => {
                self.metrics.count_refused("preamble");
                tracing::warn!(tcp = stream.pass().id(), %error, "a trusted proxy's connection was dropped");
                return None;
            }
            Err(_) => {
                self.metrics.count_refused("preamble");
                return None;
            }
        };
        if self.proxies.trust(client.ip()) {
            return Some(client);
        }
        if let Err(refusal) = stream.pass().charge(client.ip(), true) {
            tracing::debug!(tcp = stream.pass().id(), address = %client, %refusal, "refused");
            // Its limit is the socket buffer's: it is written at once or not at all.
            let _ = timeout(LINGER, stream.write_all(answer(refusal).as_bytes())).await;
            let _ = timeout(LINGER, linger(stream)).await;
            return None;
        }
        Some(client)
    }

    fn refuse(&self, stream: TcpStream, refusal: Refusal) {
        // A fresh socket's buffer takes it whole. (Under TLS it is no answer, only an end.)
        let _ = stream.try_write(answer(refusal).as_bytes());
        if let Ok(permit) = Arc::clone(&self.lingering).try_acquire_owned() {
            tokio::spawn(async move {
                let mut stream = stream;
                let _ = timeout(LINGER, linger(&mut stream)).await;
                drop(permit);
            });
        }
    }
}

/// Closing a socket with unread bytes resets it, and the answer is lost with it; so what the
/// client still sends is read, and forgotten.
async fn linger<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S) {
    let mut buffer = [0; 1024];
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
    }
}

/// A whole HTTP answer.
fn answer(refusal: Refusal) -> String {
    let reason = match refusal.status() {
        429 => "429 Too Many Requests",
        _ => "503 Service Unavailable",
    };
    let after = refusal.retry_after().as_secs();
    let text = format!("{refusal}\n");
    format!(
        "HTTP/1.1 {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Retry-After: {after}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

async fn read_client(stream: &mut Socket) -> std::io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::with_capacity(128);
    loop {
        match read_preamble(&bytes).map_err(std::io::Error::other)? {
            Preamble::Done(client) => return Ok(client),
            Preamble::More(more) => {
                let known = bytes.len();
                bytes.resize(known + more, 0);
                stream.read_exact(&mut bytes[known..]).await?;
            }
        }
    }
}
