//! Clients over TCP and TLS: the same messages as over UDP, one after the other.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    allocations::Client,
    frame::{next_frame, pad},
    quota::subnet,
    service::{Service, canonical},
    stats::count,
};

/// The first byte, and the end of the TLS handshake, must be there within this.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// A connection without an allocation may be silent for so long.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// What is written must leave within this, or the client is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Frames that may wait to be written: a fifth of a second of a good call.
const OUTBOX: usize = 128;

/// After a failed accept (the process has too many open files): wait, or it fails at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The first byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Connections of each address.
type PerAddress = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Accepts until dropped.
pub(super) async fn accept(
    service: Arc<Service>,
    listener: TcpListener,
    plain: bool,
    tls: Option<TlsAcceptor>,
) {
    let per_address = PerAddress::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    let remote = canonical(remote);
                    if connections.len() >= service.max_streams {
                        count(&service.stats.refused_capacity);
                        continue;
                    }
                    let limit = service.max_streams_per_address;
                    let Some(place) = Place::take(&per_address, remote.ip(), limit) else {
                        count(&service.stats.refused_address_quota);
                        continue;
                    };
                    let (service, tls) = (Arc::clone(&service), tls.clone());
                    connections.spawn(async move {
                        if let Err(error) = serve(service, stream, remote, plain, tls).await {
                            tracing::debug!(%error, "a TURN connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a TURN connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection's share of what its address may have.
struct Place {
    all: PerAddress,
    address: IpAddr,
}

impl Place {
    fn take(all: &PerAddress, address: IpAddr, limit: usize) -> Option<Self> {
        let address = subnet(address);
        let mut counts = all.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Self { all: Arc::clone(all), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

async fn serve(
    service: Arc<Service>,
    stream: TcpStream,
    remote: SocketAddr,
    plain: bool,
    tls: Option<TlsAcceptor>,
) -> io::Result<()> {
    // Media: nothing should wait for the next packet.
    stream.set_nodelay(true)?;
    // An allocation may be silent; a client that is gone must be noticed even so.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30));
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let mut first = [0];
    let read = timeout(HANDSHAKE_WITHIN, stream.peek(&mut first)).await??;
    if read == 0 {
        return Ok(());
    }
    if first[0] != TLS_HANDSHAKE {
        return if plain { exchange(service, stream, remote).await } else { Ok(()) };
    }
    let Some(tls) = tls else {
        return Ok(());
    };
    let stream = timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await??;
    exchange(service, stream, remote).await
}

/// A connection in the service's books, and out of them when dropped.
struct Registered {
    service: Arc<Service>,
    client: Client,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.service.close_stream(&self.client);
        self.service.stats.streams.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

async fn exchange<S>(service: Arc<Service>, stream: S, remote: SocketAddr) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    count(&service.stats.streams);
    let client = Client { path: service.open_stream(outbox), remote };
    let registered = Registered { service, client };
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        result = read(&registered, reader) => result,
        result = write(outgoing, writer) => result,
    }
}

async fn read(registered: &Registered, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
    let Registered { service, client } = registered;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(4096);
        match timeout(IDLE_LIMIT, reader.read_buf(&mut buffer)).await {
            Err(_) if service.has_allocation(client) => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(read) => {
                if read? == 0 {
                    return Ok(());
                }
            }
        }
        while let Some(frame) = next_frame(&mut buffer).map_err(io::Error::other)? {
            service.from_client(*client, &frame).await;
        }
    }
}

async fn write(
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    mut writer: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(mut batch) = outgoing.recv().await {
        pad(&mut batch);
        // What waits goes out together: one write, one TLS record.
        while batch.len() < 8 * 1024
            && let Ok(mut frame) = outgoing.try_recv()
        {
            pad(&mut frame);
            batch.append(&mut frame);
        }
        timeout(WRITE_WITHIN, async {
            writer.write_all(&batch).await?;
            writer.flush().await
        })
        .await??;
    }
    Ok(())
}
