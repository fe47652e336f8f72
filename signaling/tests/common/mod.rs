//! A server on a port of its own, and a bare WebSocket client to speak to it with.
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses a part; a failure here fails the test.

pub mod http;
pub mod npm;
pub mod socketio;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};
use visavis_signaling::{Fingerprint, Limits, RoomPolicy, Server, ServerHandle, ServerOptions};

/// Nothing here takes so long.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Running {
    pub address: SocketAddr,
    pub handle: ServerHandle,
    /// Where it serves metrics, if on a port of its own.
    pub metrics: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start() -> Self {
        Self::with(ServerOptions::default()).await
    }

    /// Without limits on what a client says, and holding no seat for one that is gone.
    pub async fn plain() -> Self {
        let limits = Limits { message_rate: 0, ..Limits::default() };
        Self::with(ServerOptions { limits, hold: Duration::ZERO, ..ServerOptions::default() }).await
    }

    pub async fn hosting(rooms: &[&str]) -> Self {
        let rooms = rooms.iter().map(|room| room.parse().unwrap()).collect();
        Self::with(ServerOptions { rooms: RoomPolicy::Only(rooms), ..ServerOptions::default() })
            .await
    }

    pub async fn with(mut options: ServerOptions) -> Self {
        if options.listen.is_empty() {
            options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        }
        Self::run(Server::bind(options).await.unwrap())
    }

    /// One with TLS, and where that is.
    pub async fn secure(options: ServerOptions) -> (Self, SocketAddr, Option<Fingerprint>) {
        let server = Server::bind(options).await.unwrap();
        let (address, fingerprint) = (server.tls_addrs()[0], server.fingerprint());
        (Self::run(server), address, fingerprint)
    }

    fn run(server: Server) -> Self {
        let address = server.local_addrs()[0];
        let handle = server.handle();
        let metrics = server.metrics_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { address, handle, metrics, stop, task }
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(LIMIT, self.task).await.unwrap().unwrap();
    }

    /// As a crash would.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn client(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// A client that has entered `room`.
    pub async fn guest(&self, room: &str) -> Wire {
        let mut wire = self.client().await;
        wire.join(room).await;
        let event = wire.event().await;
        assert!(matches!(kind(&event), "created" | "joined"), "{event}");
        wire
    }

    /// Two clients in `room`, past `ready`.
    pub async fn pair(&self, room: &str) -> (Wire, Wire) {
        let mut first = self.guest(room).await;
        let mut second = self.guest(room).await;
        first.expect("join").await;
        first.expect("ready").await;
        second.expect("ready").await;
        (first, second)
    }

    /// Sends a request as it stands and returns the whole answer.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Gets `path` over TLS, whoever answers there.
    pub async fn secure_request(&self, address: SocketAddr, path: &str) -> String {
        let (verifier, name) = (Arc::new(AnyServer), "localhost".try_into().unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: tea.example\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn request(&self, method: &str, path: &str) -> String {
        self.raw(&format!("{method} {path} HTTP/1.0\r\nHost: tea.example\r\n\r\n")).await
    }
}

/// Looks at no certificate: what is served is the question, not by whom.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

pub fn kind(event: &Value) -> &str {
    event["type"].as_str().unwrap()
}

pub struct Wire {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}/ws")).await.unwrap();
        Self { socket }
    }

    pub async fn raw(&mut self, message: Message) {
        timeout(LIMIT, self.socket.send(message)).await.unwrap().unwrap();
    }

    pub async fn text(&mut self, text: &str) {
        self.raw(Message::Text(text.into())).await;
    }

    pub async fn say(&mut self, event: Value) {
        self.text(&event.to_string()).await;
    }

    pub async fn join(&mut self, room: &str) {
        self.say(json!({"type": "create or join", "room": room})).await;
    }

    pub async fn message(&mut self, message: Value) {
        self.say(json!({"type": "message", "message": message})).await;
    }

    /// The next event, or why there is none.
    pub async fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        // Around the whole loop: the server's pings must not prolong the wait.
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Ok(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Close(frame))) => return Err(frame),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        timeout(LIMIT, next).await.expect("an event in time")
    }

    pub async fn event(&mut self) -> Value {
        self.next().await.expect("an event, not the end")
    }

    pub async fn expect(&mut self, expected: &str) -> Value {
        let event = self.event().await;
        assert_eq!(kind(&event), expected, "{event}");
        event
    }

    pub async fn expect_error(&mut self, code: &str) {
        let event = self.expect("error").await;
        assert_eq!(event["code"], code, "{event}");
        assert!(!event["message"].as_str().unwrap().is_empty());
    }

    /// Nothing was said to this client before the answer to its ping.
    pub async fn expect_nothing(&mut self) {
        self.say(json!({"type": "ping"})).await;
        self.expect("pong").await;
    }

    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
        let rest = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(LIMIT, rest).await.expect("the server's goodbye in time");
    }
}
