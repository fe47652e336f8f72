//! The relay of a running server, as a TURN client sees it: over UDP, TCP and TLS.
#![allow(clippy::unwrap_used)] // A failure here fails the test.

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::BytesMut;
use common::{LIMIT, Running};
use rand::random;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls};
use visavis_signaling::{
    ServerOptions,
    turn::{
        Authority, Limits, Transport, TurnOptions, TurnServer, TurnStats,
        credentials::Credential,
        frame::{next_frame, pad},
        stun::{Builder, Class, Message, Method, attribute, long_term_key},
    },
};

const SECRET: &[u8] = b"north";

/// What a client reads and writes: bytes of a stream, or packets.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Wire {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>, BytesMut),
}

struct Relay {
    address: SocketAddr,
    stats: Arc<TurnStats>,
    connector: TlsConnector,
    _stop: watch::Sender<bool>,
}

impl Relay {
    async fn start() -> Self {
        Self::with(TurnOptions::default()).await
    }

    /// On loopback, where all of 127.0.0.8/29 stands for other machines.
    #[allow(clippy::unused_async)] // It needs the runtime.
    async fn with(options: TurnOptions) -> Self {
        let (acceptor, connector) = tls();
        let server = TurnServer::bind(TurnOptions {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            secret: SECRET.to_vec(),
            allow: vec!["127.0.0.8/29".parse().unwrap()],
            tls: Some(acceptor),
            ..options
        })
        .unwrap();
        let (address, stats) = (server.local_addrs()[0], server.stats());
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(server.run(stopping));
        Self { address, stats, connector, _stop: stop }
    }

    async fn client(&self, transport: Transport, user: &str) -> Client {
        let expiry = std::time::SystemTime::now() + Duration::from_secs(600);
        let credential = Authority::new(SECRET).mint(user, expiry);
        let wire = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(self.address).await.unwrap();
                Wire::Udp(socket)
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(self.address).await.unwrap();
                Wire::Stream(Box::new(stream), BytesMut::new())
            }
            Transport::Tls => {
                let stream = TcpStream::connect(self.address).await.unwrap();
                let name = "turn.example".try_into().unwrap();
                let stream = self.connector.connect(name, stream).await.unwrap();
                Wire::Stream(Box::new(stream), BytesMut::new())
            }
        };
        Client { wire, credential, nonce: Vec::new() }
    }

    /// A client with a relayed address.
    async fn allocated(&self, transport: Transport, user: &str) -> (Client, SocketAddr) {
        let mut client = self.client(transport, user).await;
        let answer = client.allocate().await;
        assert_eq!(answer.code, 0, "{answer:?}");
        (client, answer.relayed.unwrap())
    }
}

struct Client {
    wire: Wire,
    credential: Credential,
    nonce: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    code: u16,
    relayed: Option<SocketAddr>,
    mapped: Option<SocketAddr>,
    lifetime: Option<u32>,
    nonce: Vec<u8>,
}

impl Client {
    async fn write(&mut self, mut bytes: Vec<u8>) {
        match &mut self.wire {
            Wire::Udp(socket) => drop(socket.send(&bytes).await.unwrap()),
            Wire::Stream(stream, _) => {
                pad(&mut bytes);
                stream.write_all(&bytes).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }

    async fn read(&mut self) -> Vec<u8> {
        let read = async {
            match &mut self.wire {
                Wire::Udp(socket) => {
                    let mut buffer = vec![0; 2000];
                    let length = socket.recv(&mut buffer).await.unwrap();
                    buffer.truncate(length);
                    buffer
                }
                Wire::Stream(stream, buffer) => loop {
                    if let Some(frame) = next_frame(buffer).unwrap() {
                        return frame;
                    }
                    assert_ne!(stream.read_buf(buffer).await.unwrap(), 0, "closed");
                },
            }
        };
        timeout(LIMIT, read).await.expect("something in time")
    }

    /// Nothing was sent to this client before the answer to its binding request.
    async fn hears_nothing(&mut self) {
        assert_eq!(self.binding().await.code, 0);
    }

    async fn binding(&mut self) -> Answer {
        self.write(Builder::new(Method::Binding, Class::Request, random()).finish()).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Answer {
        let bytes = self.read().await;
        let message = Message::parse(&bytes).unwrap();
        assert!(matches!(message.class, Class::Success | Class::Error), "{message:?}");
        let code = message.get(attribute::ERROR_CODE);
        Answer {
            code: code.map_or(0, |value| u16::from(value[2]) * 100 + u16::from(value[3])),
            relayed: message.xor_addresses(attribute::XOR_RELAYED_ADDRESS).next().flatten(),
            mapped: message.xor_addresses(attribute::XOR_MAPPED_ADDRESS).next().flatten(),
            lifetime: message.number(attribute::LIFETIME),
            nonce: message.get(attribute::NONCE).unwrap_or_default().to_vec(),
        }
    }

    /// As a client does: once without knowing a nonce, then with.
    async fn ask(&mut self, method: Method, make: impl Fn(Builder) -> Builder) -> Answer {
        loop {
            let Credential { username, password } = &self.credential;
            let key = long_term_key(username, "visavis", password);
            let request = make(Builder::new(method, Class::Request, random()))
                .attribute(attribute::USERNAME, username.as_bytes())
                .attribute(attribute::REALM, b"visavis")
                .attribute(attribute::NONCE, &self.nonce)
                .integrity(&key)
                .fingerprint()
                .finish();
            self.write(request).await;
            let answer = self.answer().await;
            if answer.code != 438 {
                return answer;
            }
            assert_ne!(self.nonce, answer.nonce, "a nonce that helps");
            self.nonce.clone_from(&answer.nonce);
        }
    }

    async fn allocate(&mut self) -> Answer {
        self.ask(Method::Allocate, |request| {
            request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        })
        .await
    }

    async fn permit(&mut self, peer: SocketAddr) -> u16 {
        let with = |request: Builder| request.xor_address(attribute::XOR_PEER_ADDRESS, peer);
        self.ask(Method::CreatePermission, with).await.code
    }

    async fn bind(&mut self, channel: u16, peer: SocketAddr) -> u16 {
        let number = (u32::from(channel) << 16).to_be_bytes();
        self.ask(Method::ChannelBind, |request| {
            request
                .attribute(attribute::CHANNEL_NUMBER, &number)
                .xor_address(attribute::XOR_PEER_ADDRESS, peer)
        })
        .await
        .code
    }

    async fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let indication = Builder::new(Method::Send, Class::Indication, random())
            .xor_address(attribute::XOR_PEER_ADDRESS, peer)
            .attribute(attribute::DATA, data)
            .finish();
        self.write(indication).await;
    }

    async fn send_channel(&mut self, channel: u16, data: &[u8]) {
        let mut bytes = channel.to_be_bytes().to_vec();
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
        self.write(bytes).await;
    }

    /// What a Data indication brings, and from whom.
    async fn data(&mut self) -> (SocketAddr, Vec<u8>) {
        let bytes = self.read().await;
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.method, Method::Data);
        let from = message.xor_addresses(attribute::XOR_PEER_ADDRESS).next();
        (from.unwrap().unwrap(), message.get(attribute::DATA).unwrap().to_vec())
    }
}

async fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn packet(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2000];
    let receiving = timeout(LIMIT, socket.recv_from(&mut buffer));
    let (length, from) = receiving.await.expect("a packet in time").unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// A certificate that only the connector beside it trusts.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["turn.example".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    // As for HTTPS; the client names TURN (RFC 7443).
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"stun.turn".to_vec()];
    (Arc::new(server).into(), Arc::new(client).into())
}

#[tokio::test]
async fn a_peer_is_reached_over_every_transport_by_indications_and_by_a_channel() {
    let relay = Relay::start().await;
    for transport in Transport::ALL {
        let (mut client, relayed) = relay.allocated(transport, "me").await;
        let (socket, peer) = peer().await;
        assert_eq!(client.permit(peer).await, 0);
        client.send(peer, b"there").await;
        assert_eq!(packet(&socket).await, (b"there".to_vec(), relayed));
        socket.send_to(b"back", relayed).await.unwrap();
        assert_eq!(client.data().await, (peer, b"back".to_vec()));
        assert_eq!(client.bind(0x4000, peer).await, 0);
        client.send_channel(0x4000, b"odd").await;
        assert_eq!(packet(&socket).await, (b"odd".to_vec(), relayed));
        socket.send_to(b"x", relayed).await.unwrap();
        assert_eq!(client.read().await, b"\x40\x00\x00\x01x");
        // Somebody else is not heard.
        let stranger = UdpSocket::bind("127.0.0.10:0").await.unwrap();
        stranger.send_to(b"spam", relayed).await.unwrap();
        client.hears_nothing().await;
    }
    assert_eq!(relay.stats.bytes_to_peers.load(Relaxed), 3 * 8);
    assert_eq!(relay.stats.bytes_to_clients.load(Relaxed), 3 * 5);
}

#[tokio::test]
async fn anyone_learns_its_own_address() {
    let relay = Relay::start().await;
    for transport in Transport::ALL {
        let mut client = relay.client(transport, "me").await;
        let mapped = client.binding().await.mapped.unwrap();
        if let Wire::Udp(socket) = &client.wire {
            assert_eq!(mapped, socket.local_addr().unwrap());
        }
        assert_ne!(mapped, relay.address);
    }
}

#[tokio::test]
async fn two_relayed_ends_meet_whatever_they_come_over() {
    let relay = Relay::start().await;
    let (mut tcp, at_tcp) = relay.allocated(Transport::Tcp, "a").await;
    let (mut tls, at_tls) = relay.allocated(Transport::Tls, "b").await;
    assert_eq!(tcp.permit(at_tls).await, 0);
    assert_eq!(tls.bind(0x4001, at_tcp).await, 0);
    tcp.send(at_tls, b"hi").await;
    assert_eq!(tls.read().await, b"\x40\x01\x00\x02hi");
    tls.send_channel(0x4001, b"yo").await;
    assert_eq!(tcp.data().await, (at_tls, b"yo".to_vec()));
}

#[tokio::test]
async fn credentials_that_are_forged_or_too_old_get_nothing() {
    let relay = Relay::start().await;
    let mut forged = relay.client(Transport::Udp, "me").await;
    forged.credential.password = Authority::new(b"south").password(&forged.credential.username);
    assert_eq!(forged.allocate().await.code, 401);
    let mut expired = relay.client(Transport::Tcp, "me").await;
    expired.credential = Authority::new(SECRET).mint("me", std::time::SystemTime::UNIX_EPOCH);
    assert_eq!(expired.allocate().await.code, 401);
    let mut none = relay.client(Transport::Udp, "me").await;
    none.write(Builder::new(Method::Allocate, Class::Request, random()).finish()).await;
    assert_eq!(none.answer().await.code, 401);
    assert_eq!(relay.stats.refused_forged.load(Relaxed), 1);
    assert_eq!(relay.stats.refused_expired.load(Relaxed), 1);
    assert_eq!(relay.stats.allocations_made.load(Relaxed), 0);
}

#[tokio::test]
async fn the_machine_itself_and_its_links_are_not_reached() {
    let relay = Relay::start().await;
    let (mut client, _) = relay.allocated(Transport::Udp, "me").await;
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut forbidden = vec![service.local_addr().unwrap(), relay.address];
    for text in ["127.0.0.1:22", "169.254.169.254:80", "224.0.0.251:5353", "0.0.0.0:1"] {
        forbidden.push(text.parse().unwrap());
    }
    // Addresses of the machine that are not loopback, if it has any.
    for interface in if_addrs::get_if_addrs().unwrap() {
        if interface.ip().is_ipv4() {
            forbidden.push(SocketAddr::new(interface.ip(), 22));
        }
    }
    for peer in forbidden {
        assert_eq!(client.permit(peer).await, 403, "{peer}");
        assert_eq!(client.bind(0x4000, peer).await, 403, "{peer}");
        client.send(peer, b"x").await;
    }
    client.hears_nothing().await;
    assert_eq!(relay.stats.bytes_to_peers.load(Relaxed), 0);
}

#[tokio::test]
async fn quotas_hold_and_a_released_allocation_makes_room() {
    let limits = Limits { user: 1, total: 2, ..Limits::default() };
    let relay = Relay::with(TurnOptions { limits, ..TurnOptions::default() }).await;
    let (mut first, _) = relay.allocated(Transport::Udp, "a").await;
    let mut second = relay.client(Transport::Tcp, "a").await;
    assert_eq!(second.allocate().await.code, 486);
    let (other, _) = relay.allocated(Transport::Tcp, "b").await;
    let mut third = relay.client(Transport::Udp, "c").await;
    assert_eq!(third.allocate().await.code, 508);
    let end = |request: Builder| request.attribute(attribute::LIFETIME, &[0; 4]);
    assert_eq!(first.ask(Method::Refresh, end).await.lifetime, Some(0));
    assert_eq!(third.allocate().await.code, 0);
    // A closed connection makes room too.
    drop(other);
    let all_gone = async {
        while second.allocate().await.code != 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, all_gone).await.expect("room in time");
}

#[tokio::test]
async fn an_allocation_lives_by_refreshes_and_ends_without() {
    let limits = Limits { lifetime: Duration::from_secs(2), ..Limits::default() };
    let relay = Relay::with(TurnOptions { limits, ..TurnOptions::default() }).await;
    let (mut client, relayed) = relay.allocated(Transport::Udp, "me").await;
    let refresh = |request: Builder| request;
    assert_eq!(client.ask(Method::Refresh, refresh).await.lifetime, Some(2));
    let ended = async {
        while relay.stats.allocations.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, ended).await.expect("ended in time");
    assert_eq!(client.ask(Method::Refresh, refresh).await.code, 437);
    // Its port is free again.
    UdpSocket::bind(relayed).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_something_else_is_closed_and_the_others_notice_nothing() {
    let relay = Relay::start().await;
    let (mut client, _) = relay.allocated(Transport::Tcp, "me").await;
    for bytes in
        [&b"POST / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x00\x05hello", b"\x40\x00\xff\xff"]
    {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("closed in time");
    }
    client.hears_nothing().await;
}

#[tokio::test]
async fn a_transport_that_is_off_is_not_served() {
    let options = TurnOptions { transports: vec![Transport::Tcp], ..TurnOptions::default() };
    let relay = Relay::with(options).await;
    relay.allocated(Transport::Tcp, "me").await;
    let tls = TcpStream::connect(relay.address).await.unwrap();
    let name = "turn.example".try_into().unwrap();
    assert!(relay.connector.connect(name, tls).await.is_err());
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(relay.address).await.unwrap();
    udp.send(&Builder::new(Method::Binding, Class::Request, random()).finish()).await.unwrap();
    // Nobody listens there: the system says so.
    assert!(timeout(LIMIT, udp.recv(&mut [0; 100])).await.expect("in time").is_err());
}

#[tokio::test]
async fn a_pair_in_a_room_is_told_of_the_relay_with_credentials_that_work() {
    let turn =
        TurnOptions { listen: vec!["127.0.0.1:0".parse().unwrap()], ..TurnOptions::default() };
    let server =
        Running::with(ServerOptions { turn: Some(turn), ..ServerOptions::default() }).await;
    let mut first = server.guest("tea").await;
    let mut second = server.guest("tea").await;
    first.expect("join").await;
    let ready = first.expect("ready").await;
    second.expect("ready").await;
    let [stun, turn] = ready["ice_servers"].as_array().unwrap().as_slice() else {
        panic!("{ready}");
    };
    let address = stun["urls"][0].as_str().unwrap().strip_prefix("stun:").unwrap();
    assert_eq!(turn["urls"][0], format!("turn:{address}?transport=udp"));
    assert_eq!(turn["urls"][1], format!("turn:{address}?transport=tcp"));
    assert_eq!(turn["urls"].as_array().unwrap().len(), 2, "no TLS without a certificate");
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    let text = |field: &str| turn[field].as_str().unwrap().to_owned();
    let credential = Credential { username: text("username"), password: text("credential") };
    let mut client = Client { wire: Wire::Udp(socket), credential, nonce: Vec::new() };
    assert_eq!(client.allocate().await.code, 0);
    server.stop().await;
}
