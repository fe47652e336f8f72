//! TURN over TCP and TLS, which the `webrtc` crate skips: a UDP socket on loopback that looks
//! like a TURN server to the crate, and a connection to the real one for each of the crate's
//! sockets. The messages are the same on both sides (RFC 8656 section 3.1); on the stream they
//! follow one another, ChannelData padded.

pub(super) mod frame;
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rtc::ice::url::{ProtoType, SchemeType, Url};
use rtc::shared::ifaces::ifaces;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::IceServer;

/// A relay over UDP gets so much of a start: where it works it is better, and wins.
const HEAD_START: Duration = Duration::from_millis(300);

/// To connect, with TLS, and then to get a first answer; after that the next way is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A write that takes longer means that the connection is dead.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Packets that may wait to be written; more is late anyway and is dropped.
const OUTBOX: usize = 128;

/// The crate has one socket an interface and family.
const MAX_FLOWS: usize = 32;

/// The largest UDP packet that passes.
const LARGEST: usize = 4096;

/// SHA-256 of a certificate's SubjectPublicKeyInfo.
pub type KeyPin = [u8; 32];

/// The bridges of a connection; they end when this is dropped.
#[derive(Default)]
pub(super) struct Bridges {
    pin: Option<KeyPin>,
    /// By the ways that a bridge has, so that renewed credentials keep it.
    open: HashMap<Vec<Way>, Bridge>,
}

struct Bridge {
    port: u16,
    ipv6: bool,
    task: AbortHandle,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How to reach a TURN server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    tls: bool,
    host: String,
    port: u16,
}

impl Bridges {
    /// `pin`: a key to accept over TLS, besides what the system trusts.
    pub(super) fn new(pin: Option<KeyPin>) -> Self {
        Self { pin, open: HashMap::new() }
    }

    /// Opens a bridge for each server with URLs that the crate skips, and returns servers whose
    /// URLs it takes: it would give up all of them for one that it cannot read.
    pub(super) async fn translate(&mut self, servers: Vec<IceServer>) -> Vec<IceServer> {
        let mut translated = Vec::with_capacity(servers.len());
        for mut server in servers {
            let (urls, ways) = sort(&server);
            server.urls = urls;
            if !ways.is_empty() {
                let over_udp = server.urls.iter().any(|url| url.starts_with("turn:"));
                match self.bridge(ways, over_udp).await {
                    Ok(url) => server.urls.push(url),
                    Err(error) => tracing::warn!(%error, "no way to a relay over TCP"),
                }
            }
            if !server.urls.is_empty() {
                translated.push(server);
            }
        }
        translated
    }

    async fn bridge(&mut self, ways: Vec<Way>, over_udp: bool) -> io::Result<String> {
        if let Some(bridge) = self.open.get(&ways) {
            return Ok(bridge.url());
        }
        let ipv6 = !has_ipv4();
        let ip: IpAddr = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let socket = UdpSocket::bind((ip, 0)).await?;
        let port = socket.local_addr()?.port();
        let server = Server {
            ways: ways.clone(),
            pin: self.pin,
            head_start: if over_udp { HEAD_START } else { Duration::ZERO },
        };
        let task = tokio::spawn(serve(Arc::new(socket), Arc::new(server))).abort_handle();
        let bridge = Bridge { port, ipv6, task };
        let url = bridge.url();
        self.open.insert(ways, bridge);
        Ok(url)
    }
}

impl Bridge {
    fn url(&self) -> String {
        // By name where the address is IPv6: the crate loses its brackets.
        let host = if self.ipv6 { "localhost" } else { "127.0.0.1" };
        format!("turn:{host}:{}?transport=udp", self.port)
    }
}

/// What the crate takes, and what a bridge is needed for.
fn sort(server: &IceServer) -> (Vec<String>, Vec<Way>) {
    let (mut urls, mut ways) = (Vec::new(), Vec::new());
    for text in &server.urls {
        let Ok(url) = Url::parse_url(text) else {
            tracing::debug!("a STUN or TURN server's URL is not understood");
            continue;
        };
        let with_credential = !server.username.is_empty() && !server.credential.is_empty();
        match url.scheme {
            SchemeType::Stun => urls.push(text.clone()),
            SchemeType::Turn if with_credential && url.proto == ProtoType::Udp => {
                urls.push(text.clone());
            }
            SchemeType::Turn | SchemeType::Turns
                if with_credential && url.proto == ProtoType::Tcp =>
            {
                let tls = url.scheme == SchemeType::Turns;
                ways.push(Way { tls, host: url.host, port: url.port });
            }
            _ => tracing::debug!(%url, "a STUN or TURN server that is of no use here"),
        }
    }
    (urls, ways)
}

/// Whether the crate has a socket of IPv4: it speaks to servers of its sockets' family only.
fn has_ipv4() -> bool {
    ifaces().map_or(true, |list| {
        list.iter()
            .filter_map(|iface| iface.addr)
            .any(|addr| addr.is_ipv4() && !addr.ip().is_loopback())
            || list.iter().all(|iface| iface.addr.is_none_or(|addr| addr.ip().is_loopback()))
    })
}

/// What a bridge leads to.
struct Server {
    ways: Vec<Way>,
    pin: Option<KeyPin>,
    head_start: Duration,
}

/// Passes packets on until dropped; what the crate's sockets send comes in here.
async fn serve(socket: Arc<UdpSocket>, server: Arc<Server>) {
    let mut flows: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(_) = tasks.join_next() => continue,
        };
        let Ok((length, from)) = received else {
            // Of an earlier packet to a socket that is closed.
            continue;
        };
        flows.retain(|_, outbox| !outbox.is_closed());
        if !flows.contains_key(&from) {
            // The socket is on loopback: only this machine's addresses get here at all.
            if flows.len() >= MAX_FLOWS || !frame::is_message(&buffer[..length]) {
                continue;
            }
            let (outbox, outgoing) = mpsc::channel(OUTBOX);
            flows.insert(from, outbox);
            tasks.spawn(flow(Arc::clone(&server), Arc::clone(&socket), from, outgoing));
        }
        if let Some(outbox) = flows.get(&from) {
            // Full: dropped, as a router would.
            let _ = outbox.try_send(buffer[..length].to_vec());
        }
    }
}

/// One socket of the crate, by the first way that answers.
async fn flow(
    server: Arc<Server>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
) {
    sleep(server.head_start).await;
    // Its first packet, a request; the crate asks again while it is not answered.
    let Some(mut first) = outgoing.recv().await else {
        return;
    };
    for way in &server.ways {
        while let Ok(newer) = outgoing.try_recv() {
            first = newer;
        }
        let result = match connect(way, server.pin).await {
            Ok(stream) => exchange(stream, &first, &mut outgoing, &socket, client).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, ?way, "a relay over TCP does not answer"),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(way: &Way, pin: Option<KeyPin>) -> io::Result<Box<dyn Stream>> {
    let connecting = async {
        let stream = TcpStream::connect((way.host.as_str(), way.port)).await?;
        stream.set_nodelay(true)?;
        if !way.tls {
            return Ok(Box::new(stream) as Box<dyn Stream>);
        }
        let name = rustls::pki_types::ServerName::try_from(way.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(Arc::new(tls::config(pin)?));
        Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Stream>)
    };
    timeout(CONNECT_WITHIN, connecting).await?
}

/// Passes packets both ways until either side ends; an error only if nothing was ever answered.
async fn exchange(
    stream: Box<dyn Stream>,
    first: &[u8],
    outgoing: &mut mpsc::Receiver<Vec<u8>>,
    socket: &UdpSocket,
    client: SocketAddr,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    write(&mut writer, first.to_vec()).await?;
    let mut buffer = Vec::new();
    let mut piece = vec![0; LARGEST];
    let read = timeout(ANSWER_WITHIN, reader.read(&mut piece)).await??;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.extend_from_slice(&piece[..read]);
    let reading = async {
        loop {
            while let Some(frame) = frame::next(&mut buffer).map_err(io::Error::other)? {
                // A packet the crate does not take is lost, as packets are.
                let _ = socket.send_to(&frame, client).await;
            }
            let read = reader.read(&mut piece).await?;
            if read == 0 {
                return Ok::<(), io::Error>(());
            }
            buffer.extend_from_slice(&piece[..read]);
        }
    };
    let writing = async {
        while let Some(packet) = outgoing.recv().await {
            write(&mut writer, packet).await?;
        }
        Ok::<(), io::Error>(())
    };
    let ended = tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a relay over TCP is lost");
    }
    Ok(())
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), mut packet: Vec<u8>) -> io::Result<()> {
    frame::pad(&mut packet);
    timeout(WRITE_WITHIN, async {
        writer.write_all(&packet).await?;
        writer.flush().await
    })
    .await?
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const REQUEST: &[u8] = b"\x00\x03\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    const LIMIT: Duration = Duration::from_secs(20);

    fn server(urls: &[&str]) -> IceServer {
        IceServer {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            username: "u".into(),
            credential: "c".into(),
        }
    }

    #[tokio::test]
    async fn what_the_crate_reads_is_kept_and_the_rest_bridged_once() {
        let mut bridges = Bridges::new(None);
        let urls = [
            "stun:192.0.2.1:3478",
            "turn:192.0.2.1:3478?transport=udp",
            "turn:192.0.2.1:3478?transport=tcp",
            "turns:192.0.2.1:3478?transport=tcp",
            "nonsense",
            "turn://192.0.2.1",
            "turns:192.0.2.1:5349?transport=udp",
        ];
        let once = bridges.translate(vec![server(&urls)]).await;
        assert_eq!(once.len(), 1);
        assert_eq!(once[0].urls[..2], urls[..2]);
        assert_eq!(once[0].urls.len(), 3);
        assert!(once[0].urls[2].starts_with("turn:127.0.0.1:"), "{once:?}");
        // Renewed: other credentials, the same bridge.
        let renewed = IceServer { username: "v".into(), ..server(&urls) };
        assert_eq!(bridges.translate(vec![renewed]).await[0].urls, once[0].urls);
        assert!(bridges.translate(vec![IceServer::default()]).await.is_empty());
    }

    #[tokio::test]
    async fn packets_pass_both_ways_by_the_second_way_if_the_first_is_silent() {
        let (silent, speaks) = tokio::join!(listener(), listener());
        let urls = [&silent, &speaks].map(|listener| {
            format!("turn:{}?transport=tcp", listener.local_addr().expect("an address"))
        });
        let mut bridges = Bridges::new(None);
        let told = bridges.translate(vec![server(&[&urls[0], &urls[1]])]).await;
        let port = told[0].urls[0].trim_start_matches("turn:127.0.0.1:");
        let port: u16 = port.trim_end_matches("?transport=udp").parse().expect("a port");
        let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        client.send_to(REQUEST, ("127.0.0.1", port)).await.expect("sent");
        let (kept, _) = timeout(LIMIT, silent.accept()).await.expect("in time").expect("asked");
        let (mut stream, _) =
            timeout(LIMIT, speaks.accept()).await.expect("in time").expect("asked");
        let mut read = vec![0; REQUEST.len()];
        stream.read_exact(&mut read).await.expect("the request");
        assert_eq!(read, REQUEST);
        stream.write_all(b"\x40\x00\x00\x02hi\0\0\x40\x01\x00\x01!").await.expect("written");
        let mut buffer = [0; 100];
        let heard = timeout(LIMIT, client.recv(&mut buffer)).await.expect("in time").expect("hi");
        assert_eq!(&buffer[..heard], b"\x40\x00\x00\x02hi");
        client.send_to(b"\x40\x00\x00\x03yes", ("127.0.0.1", port)).await.expect("sent");
        let mut read = vec![0; 8];
        stream.read_exact(&mut read).await.expect("padded");
        assert_eq!(read, b"\x40\x00\x00\x03yes\0");
        drop(kept);
    }

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.expect("a listener")
    }
}
