//! TLS as clients see it: the page and rooms over it, who is recognised, who is refused, and who
//! is sent there.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::{net::SocketAddr, path::Path, time::Duration};

use common::{LIMIT, Running};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use visavis_signaling::{
    BindError, Client, ClientHandle, ClientOptions, ClientUpdate, Fingerprint, Probe, Scheme,
    Server, ServerOptions, ServerUrl, StateDir, TlsError, TlsMode, TlsOptions, Trust,
    client::Trouble, invite, probe, probe_server, protocol::ServerEvent,
};

/// A server that speaks TLS, as the tests use it.
struct Secure {
    running: Running,
    address: SocketAddr,
    fingerprint: Option<Fingerprint>,
}

impl Secure {
    async fn with(tls: TlsOptions) -> Self {
        Self::listening("127.0.0.1:0", tls, None).await
    }

    /// Its key in a folder.
    async fn kept_in(folder: &Path) -> Self {
        let state = StateDir::open(folder.join("state")).unwrap();
        let tls = TlsOptions { mode: TlsMode::Auto, ..TlsOptions::default() };
        Self::listening("127.0.0.1:0", tls, Some(state)).await
    }

    async fn listening(listen: &str, tls: TlsOptions, state_dir: Option<StateDir>) -> Self {
        let listen: Vec<SocketAddr> = vec![listen.parse().unwrap()];
        let tls_listen = if tls.listen.is_empty() { listen.clone() } else { tls.listen.clone() };
        let tls = TlsOptions { listen: tls_listen, ..tls };
        let (running, address, fingerprint) =
            Running::secure(ServerOptions { listen, tls, state_dir, ..ServerOptions::default() })
                .await;
        Self { running, address, fingerprint }
    }

    async fn auto() -> Self {
        Self::with(TlsOptions { mode: TlsMode::Auto, ..TlsOptions::default() }).await
    }

    fn url(&self) -> ServerUrl {
        ServerUrl::at(Scheme::Https, self.address)
    }

    fn pinned(&self) -> Trust {
        Trust { pinned: self.fingerprint, remembered: None }
    }
}

fn another_key() -> Fingerprint {
    Fingerprint::of_public_key(b"another key")
}

struct App {
    handle: ClientHandle,
    updates: mpsc::Receiver<ClientUpdate>,
}

impl App {
    fn start(server: ServerUrl, trust: Trust) -> Self {
        let room = "tea".parse().unwrap();
        let options = ClientOptions {
            server,
            trust,
            room,
            give_up_after: Some(2),
            access_token: None,
            greeting: vec![],
        };
        let (handle, updates) = Client::start(options);
        Self { handle, updates }
    }

    async fn update(&mut self) -> ClientUpdate {
        timeout(LIMIT, self.updates.recv()).await.expect("an update in time").unwrap()
    }

    async fn event(&mut self) -> ServerEvent {
        loop {
            match self.update().await {
                ClientUpdate::Event(event) => return event,
                ClientUpdate::Connecting { .. } | ClientUpdate::Connected => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn refused(server: ServerUrl, trust: Trust) -> Trouble {
        let mut app = Self::start(server, trust);
        loop {
            match app.update().await {
                ClientUpdate::Connecting { attempt } => assert_eq!(attempt, 1, "tried again"),
                ClientUpdate::Refused { reason } => return reason,
                other => panic!("not refused: {other:?}"),
            }
        }
    }
}

/// This machine's own address in some network, from which it looks like another machine.
fn from_outside() -> Option<std::net::IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap();
    let mut addresses = interfaces.into_iter().filter(if_addrs::Interface::is_oper_up);
    addresses.find(|interface| interface.ip().is_ipv4() && !interface.is_loopback()).map(|i| i.ip())
}

#[tokio::test]
async fn two_meet_over_tls_by_a_link_with_the_fingerprint() {
    let server = Secure::auto().await;
    let mut first = App::start(server.url(), server.pinned());
    assert!(matches!(first.event().await, ServerEvent::Created { .. }));
    let mut second = App::start(server.url(), server.pinned());
    assert!(matches!(second.event().await, ServerEvent::Joined { .. }));
    assert!(matches!(first.event().await, ServerEvent::Join { .. }));
    assert!(matches!(first.event().await, ServerEvent::Ready { .. }));
    second.handle.send(serde_json::json!({"type": "offer"})).unwrap();
    assert!(matches!(first.event().await, ServerEvent::Message { seq: 1, .. }));
    server.running.stop().await;
}

#[tokio::test]
async fn one_with_tls_and_one_on_this_machine_without_meet_in_a_room() {
    let server = Secure::auto().await;
    let mut plain = App::start(server.running.address.into(), Trust::default());
    assert!(matches!(plain.event().await, ServerEvent::Created { .. }));
    let mut secure = App::start(server.url(), server.pinned());
    assert!(matches!(secure.event().await, ServerEvent::Joined { .. }));
    server.running.stop().await;
}

#[tokio::test]
async fn a_server_with_another_key_than_the_links_is_refused_at_once() {
    let server = Secure::auto().await;
    let trust = Trust { pinned: Some(another_key()), remembered: server.fingerprint };
    let reason = App::refused(server.url(), trust).await;
    assert_eq!(reason, Trouble::WrongCertificate(server.url()));
    assert!(reason.to_string().contains("not the server that the link names"), "{reason}");
    server.running.stop().await;
}

#[tokio::test]
async fn an_unknown_certificate_is_told_with_its_fingerprint_and_trusted_once_remembered() {
    let server = Secure::auto().await;
    let fingerprint = server.fingerprint.unwrap();
    let reason = App::refused(server.url(), Trust::default()).await;
    assert_eq!(reason, Trouble::UnknownCertificate { server: server.url(), fingerprint });
    assert!(reason.to_string().contains(&fingerprint.grouped()), "{reason}");
    let remembered = Trust { remembered: Some(fingerprint), pinned: None };
    let mut app = App::start(server.url(), remembered);
    assert!(matches!(app.event().await, ServerEvent::Created { .. }));
    let changed = Trust { remembered: Some(another_key()), pinned: None };
    let reason = App::refused(server.url(), changed).await;
    assert_eq!(reason, Trouble::ChangedCertificate { server: server.url(), fingerprint });
    server.running.stop().await;
}

#[tokio::test]
async fn a_server_that_must_prove_itself_is_not_taken_without_tls() {
    let server = Secure::auto().await;
    let plain = ServerUrl::from(server.running.address);
    let remembered = Trust { pinned: None, remembered: server.fingerprint };
    for trust in [server.pinned(), remembered] {
        assert_eq!(App::refused(plain.clone(), trust).await, Trouble::NotSecure(plain.clone()));
    }
    server.running.stop().await;
}

#[tokio::test]
async fn something_else_than_tls_at_an_https_address_is_told() {
    let server = Secure::auto().await;
    let plain = ServerUrl::at(Scheme::Https, server.running.address);
    assert_eq!(App::refused(plain.clone(), Trust::default()).await, Trouble::NotVisavis(plain));
    server.running.stop().await;
}

#[tokio::test]
async fn a_probe_speaks_tls_too() {
    let server = Secure::auto().await;
    let port = Some(server.address.port());
    let here = |found: Probe| matches!(found, Probe::Visavis { tls_port, .. } if tls_port == port);
    assert!(here(probe(server.running.address).await));
    assert!(here(probe_server(&server.url(), server.pinned()).await));
    let unknown = probe_server(&server.url(), Trust::default()).await;
    assert_eq!(unknown, Probe::Unknown(server.fingerprint.unwrap()));
    let wrong = Trust { pinned: Some(another_key()), remembered: None };
    assert_eq!(probe_server(&server.url(), wrong).await, Probe::SomethingElse);
    let url = server.url();
    server.running.stop().await;
    assert_eq!(probe_server(&url, Trust::default()).await, Probe::Nothing);
}

#[tokio::test]
async fn the_page_is_served_over_tls_without_telling_browsers_to_insist_on_it() {
    let server = Secure::auto().await;
    let answer = server.running.secure_request(server.address, "/room/tea").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.contains("<html"), "{answer}");
    // A browser that was told so would no longer let its user pass a self-signed certificate.
    assert!(!answer.to_lowercase().contains("strict-transport-security"), "{answer}");
    server.running.stop().await;
}

#[tokio::test]
async fn a_restarted_server_is_recognised() {
    let temp = tempfile::tempdir().unwrap();
    let first = Secure::kept_in(temp.path()).await;
    let trust = first.pinned();
    first.running.stop().await;
    let second = Secure::kept_in(temp.path()).await;
    assert_eq!(second.pinned(), trust);
    let mut app = App::start(second.url(), trust);
    assert!(matches!(app.event().await, ServerEvent::Created { .. }));
    #[cfg(unix)]
    for file in ["key.pem", "certificate.pem"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(temp.path().join("state").join(file)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o077, 0, "{file}");
    }
    second.running.stop().await;
}

/// A new pair in the two files.
fn write_pair(certificate: &Path, key: &Path) -> Fingerprint {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    Fingerprint::of_certificate(made.cert.der()).unwrap()
}

#[tokio::test]
async fn changed_files_are_used_and_broken_ones_are_not() {
    let temp = tempfile::tempdir().unwrap();
    let (certificate, key) = (temp.path().join("c.pem"), temp.path().join("k.pem"));
    let first = write_pair(&certificate, &key);
    let mode = TlsMode::Files { certificate: certificate.clone(), key: key.clone() };
    let look_every = Duration::from_millis(20);
    let server = Secure::with(TlsOptions { mode, look_every, ..TlsOptions::default() }).await;
    assert_eq!(server.fingerprint, Some(first), "self-signed: links have to tell it");
    let shown = async || match probe_server(&server.url(), Trust::default()).await {
        Probe::Unknown(fingerprint) => fingerprint,
        other => panic!("{other:?}"),
    };
    assert_eq!(shown().await, first);
    std::fs::write(&certificate, "nonsense").unwrap();
    tokio::time::sleep(10 * look_every).await;
    assert_eq!(shown().await, first, "the old one stays");
    let second = write_pair(&certificate, &key);
    let changed = async {
        while shown().await != second {
            tokio::time::sleep(look_every).await;
        }
    };
    timeout(LIMIT, changed).await.expect("the new one is shown");
    server.running.stop().await;
}

#[tokio::test]
async fn missing_files_are_named_before_any_port_is_taken() {
    let mode =
        TlsMode::Files { certificate: "/nowhere/c.pem".into(), key: "/nowhere/k.pem".into() };
    let listen: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap()];
    let tls = TlsOptions { mode, listen: listen.clone(), ..TlsOptions::default() };
    let options = ServerOptions { listen, tls, ..ServerOptions::default() };
    let error = Server::bind(options).await.err().expect("no files");
    assert!(matches!(error, BindError::Tls(TlsError::Unreadable { .. })), "{error}");
    assert!(error.to_string().contains("/nowhere/c.pem"), "{error}");
}

#[tokio::test]
async fn whoever_never_ends_the_handshake_is_dropped_and_others_notice_nothing() {
    let handshake_within = Duration::from_millis(200);
    let tls = TlsOptions { mode: TlsMode::Auto, handshake_within, ..TlsOptions::default() };
    let server = Secure::with(tls).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    // The head of a handshake record of 512 bytes that never come.
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut app = App::start(server.url(), server.pinned());
    assert!(matches!(app.event().await, ServerEvent::Created { .. }));
    let mut rest = Vec::new();
    for stream in [&mut silent, &mut half] {
        // Closed or reset: dropped in any case.
        let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("dropped");
    }
    let mut nonsense = TcpStream::connect(server.address).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = timeout(LIMIT, nonsense.read_to_end(&mut rest)).await.expect("dropped");
    server.running.stop().await;
}

#[tokio::test]
async fn who_comes_from_elsewhere_in_the_open_is_sent_to_tls() {
    let Some(outside) = from_outside() else {
        return eprintln!("not tested: this machine has no address but loopback");
    };
    let tls = TlsOptions { mode: TlsMode::Auto, ..TlsOptions::default() };
    let mut server = Secure::listening("0.0.0.0:0", tls, None).await;
    let (plain, secure) = (server.running.address.port(), server.address.port());
    let local = server.running.request("GET", "/room/tea?join").await;
    assert!(local.starts_with("HTTP/1.0 200"), "{local}");
    server.running.address.set_ip(outside);
    for path in ["/room/tea?join", "/ws", "/socket.io/?EIO=4"] {
        let answer = server.running.request("GET", path).await;
        assert!(answer.starts_with("HTTP/1.0 308"), "{answer}");
        let location = format!("location: https://tea.example:{secure}{path}\r\n");
        assert!(answer.contains(&location), "{answer}");
        assert!(answer.contains("cache-control: no-cache"), "{answer}");
    }
    let open = probe((outside, plain).into()).await;
    assert!(matches!(open, Probe::Visavis { tls_port, .. } if tls_port == Some(secure)));

    // A client follows, under the same rules as with an https address.
    let http = ServerUrl::from(SocketAddr::from((outside, plain)));
    let https = ServerUrl::at(Scheme::Https, (outside, secure).into());
    let reason = App::refused(http.clone(), Trust::default()).await;
    let fingerprint = server.fingerprint.unwrap();
    assert_eq!(reason, Trouble::UnknownCertificate { server: https, fingerprint });
    let mut app = App::start(http, Trust { remembered: Some(fingerprint), pinned: None });
    assert!(matches!(app.event().await, ServerEvent::Created { .. }));
    server.running.stop().await;
}

#[tokio::test]
async fn a_server_that_sends_clients_in_circles_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // To the open, and to nowhere: neither is followed.
    for location in ["http://127.0.0.1:1/ws", "/elsewhere", "ftp://x/"] {
        let answer = format!("HTTP/1.1 308 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let (stream, reason) = tokio::join!(serve, App::refused(address.into(), Trust::default()));
        assert_eq!(reason, Trouble::NotVisavis(address.into()), "{location}");
        drop(stream);
    }
}

#[tokio::test]
async fn the_invite_names_the_tls_port_and_the_fingerprint() {
    let server = Secure::auto().await;
    let public = "tea.example".parse().unwrap();
    let found =
        invite::Invite::find(Scheme::Https, &[server.address], Some(&public), server.fingerprint);
    let link = found.unwrap().link("tea".parse().unwrap()).to_string();
    let (port, fingerprint) = (server.address.port(), server.fingerprint.unwrap());
    assert_eq!(link, format!("https://tea.example:{port}/room/tea#fp={fingerprint}"));
    server.running.stop().await;
}
