//! What an operator sees: health, metrics, logs.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{LIMIT, Running, Wire, http::get};
use serde_json::{Value, json};
use tokio::time::timeout;
use visavis_signaling::ServerOptions;

const SDP: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 198.51.100.77\r\ns=-\r\n";
const CANDIDATE: &str = "candidate:1 1 udp 2122260223 198.51.100.77 54321 typ host";

/// The value of a metric, labels and all; 0 where it is not there yet.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

async fn metrics(server: &Running) -> String {
    let (status, text) = get(server.address, "/metrics", &[]).await;
    assert_eq!(status, 200, "{text}");
    text
}

/// Asks until `name` is `wanted`.
async fn becomes(server: &Running, name: &str, wanted: f64) {
    let mut last = String::new();
    let wait = async {
        loop {
            last = metrics(server).await;
            if (value(&last, name) - wanted).abs() < f64::EPSILON {
                return;
            }
        }
    };
    if timeout(LIMIT, wait).await.is_err() {
        panic!("{name} never became {wanted}: {last}");
    }
}

#[tokio::test]
async fn the_metrics_follow_a_call() {
    let server = Running::start().await;
    becomes(&server, "visavis_connections{carrier=\"websocket\"}", 0.0).await;
    let (mut first, mut second) = server.pair("tea").await;
    let mut third = server.client().await;
    third.join("tea").await;
    third.expect("full").await;
    third.message(json!("nobody hears")).await;
    third.expect_error("not-in-room").await;
    third.join("a/b").await;
    third.expect_error("bad-room-name").await;
    for number in 0..10 {
        first.message(json!({"type": "offer", "sdp": SDP, "number": number})).await;
        second.expect("message").await;
    }
    becomes(&server, "visavis_messages_total", 10.0).await;
    let text = metrics(&server).await;
    for (name, wanted) in [
        ("visavis_connections{carrier=\"websocket\"}", 3.0),
        ("visavis_rooms", 1.0),
        ("visavis_seats", 2.0),
        ("visavis_joins_total{outcome=\"created\"}", 1.0),
        ("visavis_joins_total{outcome=\"joined\"}", 1.0),
        ("visavis_joins_total{outcome=\"full\"}", 1.0),
        ("visavis_errors_total{code=\"not-in-room\"}", 1.0),
        ("visavis_errors_total{code=\"bad-room-name\"}", 1.0),
        ("visavis_relay_seconds_count", 10.0),
        ("visavis_relay_seconds_bucket{le=\"+Inf\"}", 10.0),
    ] {
        assert!((value(&text, name) - wanted).abs() < f64::EPSILON, "{name}: {text}");
    }
    assert!(value(&text, "visavis_message_bytes_total") > 10.0 * SDP.len() as f64);
    assert!(value(&text, "visavis_tcp_connections") >= 3.0);
    assert!(text.ends_with("# EOF\n"));
    second.close(1000).await;
    first.close(1000).await;
    drop(third);
    becomes(&server, "visavis_connections{carrier=\"websocket\"}", 0.0).await;
    becomes(&server, "visavis_endings_total{reason=\"left\"}", 2.0).await;
    becomes(&server, "visavis_seats", 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_counted_by_reason() {
    let options = ServerOptions {
        access_token: Some("open-sesame".to_owned().try_into().unwrap()),
        ..ServerOptions::default()
    };
    let server = Running::with(options).await;
    assert_eq!(get(server.address, "/ws", &[("Origin", "http://evil.example")]).await.0, 403);
    assert_eq!(get(server.address, "/ws", &[]).await.0, 401);
    let text = metrics(&server).await;
    for reason in ["origin", "token"] {
        let name = format!("visavis_refusals_total{{reason=\"{reason}\"}}");
        assert!((value(&text, &name) - 1.0).abs() < f64::EPSILON, "{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn strangers_do_not_read_the_metrics() {
    let server = Running::start().await;
    for headers in [
        [("Host", "localhost"), ("X-Forwarded-For", "198.51.100.1")],
        [("Host", "localhost"), ("Via", "1.1 proxy")],
        [("Host", "tea.example"), ("Accept", "*/*")],
    ] {
        let (status, text) = get(server.address, "/metrics", &headers).await;
        assert_eq!(status, 404, "{headers:?} {text}");
    }
    server.stop().await;

    let metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    let options = ServerOptions { metrics_listen, ..ServerOptions::default() };
    let server = Running::with(options).await;
    assert_eq!(get(server.address, "/metrics", &[]).await.0, 404);
    let own = server.metrics.expect("a port of its own");
    for (path, status) in
        [("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/", 404), ("/ws", 404)]
    {
        assert_eq!(get(own, path, &[("Host", "tea.example")]).await.0, status, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_drains_is_alive_but_not_ready() {
    let metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    let options = ServerOptions { metrics_listen, ..ServerOptions::default() };
    let server = Running::with(options).await;
    let ports = [server.address, server.metrics.unwrap()];
    for port in ports {
        assert_eq!(get(port, "/readyz", &[]).await, (200, "ready\n".into()));
        assert_eq!(get(port, "/healthz", &[]).await, (200, "ok\n".into()));
    }
    let readiness = server.handle.readiness();
    readiness.set_dependency("redis", Err("does not answer".into()));
    assert_eq!(get(server.address, "/readyz", &[]).await, (503, "redis: does not answer\n".into()));
    readiness.set_dependency("redis", Ok(()));
    assert_eq!(get(server.address, "/readyz", &[]).await.0, 200);
    readiness.drain();
    for port in ports {
        let (status, text) = get(port, "/readyz", &[]).await;
        assert!(status == 503 && text.contains("draining"), "{status} {text}");
        assert_eq!(get(port, "/healthz", &[]).await.0, 200);
    }
    server.stop().await;
}

struct Process {
    child: Child,
    address: std::net::SocketAddr,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("Serving on http://").unwrap().parse().unwrap();
        Self { child, address }
    }

    /// Stops it and returns what it logged.
    fn logged(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        text
    }
}

/// A whole call, with a mistake, a stranger at the door, and ends of all kinds.
async fn call(server: &Process) {
    let mut first = Wire::connect(server.address).await;
    first.join("secret-room-name").await;
    first.expect("created").await;
    let mut second = Wire::connect(server.address).await;
    second.join("secret-room-name").await;
    second.expect("joined").await;
    first.expect("join").await;
    first.expect("ready").await;
    second.expect("ready").await;
    first.message(json!({"type": "offer", "sdp": SDP})).await;
    second.expect("message").await;
    second.message(json!({"type": "answer", "sdp": SDP})).await;
    first.expect("message").await;
    first.message(json!({"type": "candidate", "label": 0, "candidate": CANDIDATE})).await;
    second.expect("message").await;
    first.text(&format!("{{\"sdp\":\"{CANDIDATE}")).await;
    first.expect_error("malformed-json").await;
    let mut third = Wire::connect(server.address).await;
    third.join("secret-room-name").await;
    third.expect("full").await;
    get(server.address, "/ws", &[("Origin", "http://evil.example")]).await;
    second.close(1000).await;
    first.expect("bye").await;
    first.text(&"x".repeat(300_000)).await;
    first.expect("created").await;
    first.expect_error("too-large").await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_log_of_a_call_holds_neither_descriptions_nor_addresses_nor_rooms() {
    for level in ["info", "debug"] {
        let server = Process::start(&["--log-format", "json", "--log-level", level]);
        let port = server.address.port().to_string();
        call(&server).await;
        let text = server.logged();
        for secret in ["v=0", "candidate", "198.51.100.77", "secret-room-name", "evil.example"] {
            assert!(!text.contains(secret), "{secret} at {level}: {text}");
        }
        // Addresses are for whoever hunts an error.
        assert_eq!(text.contains("127.0.0.1"), level == "debug", "{text}");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said = |what: &str| lines.iter().filter(|line| line["message"] == what).count();
        assert!(said("opened") >= 3 && said("ended") >= 3, "{text}");
        for line in &lines {
            if ["opened", "ended"].contains(&line["message"].as_str().unwrap()) {
                assert!(line["connection"].is_u64(), "{line}");
            }
            if level == "info" {
                assert!(!line.to_string().contains(&port), "{line}");
            }
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_quiet_server_logs_nothing_of_a_call() {
    let server = Process::start(&["--log-level", "warn"]);
    call(&server).await;
    assert_eq!(server.logged(), "");
}

#[cfg(unix)]
#[test]
fn the_program_itself_can_ask_whether_a_server_is_well() {
    let server = Process::start(&[]);
    let check = |url: &str| {
        let program = env!("CARGO_BIN_EXE_visavis-signaling");
        let output = Command::new(program).args(["--check", url]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let url = |path: &str| format!("http://{}{path}", server.address);
    assert_eq!(check(&url("/readyz")), (Some(0), String::new()));
    let (code, text) = check(&url("/nothing"));
    assert!(code == Some(1) && text.contains("answers 404"), "{text}");
    let ready = url("/readyz");
    server.logged();
    let (code, text) = check(&ready);
    assert!(code == Some(1) && text.contains("does not answer"), "{text}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_service_manager_is_told_when_the_server_is_up_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
        .args(["--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = async || {
        let mut buffer = [0; 256];
        let length = timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert!(told().await.contains("READY=1"));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(told().await.contains("STOPPING=1"));
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    assert!(timeout(LIMIT + Duration::from_secs(1), ended).await.unwrap().unwrap().success());
}
