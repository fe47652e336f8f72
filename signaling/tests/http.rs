//! What the server answers over HTTP: the page, its identification, and nothing else.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::Running;
use visavis_signaling::{BindError, Probe, Server, ServerOptions, all_interfaces, probe};

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, v)| v)
}

#[tokio::test]
async fn the_page_is_at_the_root_and_in_every_room() {
    let server = Running::start().await;
    let root = server.request("GET", "/").await;
    assert_eq!(status(&root), "200");
    assert_eq!(header(&root, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(header(&root, "cache-control"), Some("no-cache"));
    assert_eq!(header(&root, "referrer-policy"), Some("no-referrer"));
    assert_eq!(header(&root, "x-content-type-options"), Some("nosniff"));
    let policy = header(&root, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"));
    assert!(policy.contains("connect-src 'self' ws://tea.example wss://tea.example"));
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    for path in ["/room/tea", "/room/%E8%8C%B6", "/room/__proto__", "/room/tea?join"] {
        let room = server.request("GET", path).await;
        assert_eq!(status(&room), "200", "{path}");
        assert_eq!(body(&room), body(&root));
    }
    let head = server.request("HEAD", "/").await;
    assert_eq!((status(&head), body(&head)), ("200", String::new()));
    server.stop().await;
}

#[tokio::test]
async fn nothing_else_is_served() {
    let server = Running::start().await;
    for path in [
        "/index.js",
        "/package.json",
        "/node_modules/",
        "/Cargo.toml",
        "/.git/config",
        "/%00",
        "/room/%00",
        "/room/",
        "/room",
        "/room/a%20b",
        "/room/%FF",
        "/room/a/b",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/..%2fCargo.toml",
        "/room/../../Cargo.toml",
        "//evil.example/%2e%2e",
        "/room/%2e%2e",
        "/web/",
        "/INDEX.HTML",
    ] {
        let answer = server.request("GET", path).await;
        assert_eq!(status(&answer), "404", "{path}: {answer}");
        assert_eq!(header(&answer, "location"), None, "{path}");
        assert!(header(&answer, "content-security-policy").is_some());
    }
    assert_eq!(status(&server.request("GET", "/").await), "200");
    server.stop().await;
}

#[tokio::test]
async fn other_methods_are_refused() {
    let server = Running::start().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        for path in ["/", "/room/tea", "/ws", "/visavis", "/index.html"] {
            let answer = server.request(method, path).await;
            assert_eq!(status(&answer), "405", "{method} {path}: {answer}");
        }
        assert_eq!(status(&server.request(method, "/nothing").await), "404");
    }
    assert_eq!(status(&server.request("GET", "/ws").await), "426");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_http_is_answered_and_ended() {
    let server = Running::start().await;
    for nonsense in ["\0\0\0\r\n\r\n", "SSH-2.0-x\r\n\r\n", "GET\r\n\r\n"] {
        let answer = server.raw(nonsense).await;
        assert!(answer.is_empty() || status(&answer) == "400", "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let answer = server.raw(&long).await;
    assert!(matches!(status(&answer), "404" | "414" | "431"), "{answer}");
    assert_eq!(status(&server.request("GET", "/").await), "200");
    server.stop().await;
}

#[tokio::test]
async fn a_probe_tells_a_server_from_something_else_and_from_nothing() {
    let server = Running::start().await;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(
        probe(server.address).await,
        Probe::Visavis { version, protocol: 1, tls_port: None }
    );
    let address = server.address;
    server.stop().await;
    assert_eq!(probe(address).await, Probe::Nothing);

    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let silent = tokio::spawn(async move { other.accept().await.map(|(stream, _)| stream) });
    assert_eq!(probe(address).await, Probe::SomethingElse);
    drop(silent.await.unwrap());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let server = Running::start().await;
    let options = ServerOptions { listen: vec![server.address], ..ServerOptions::default() };
    let error = Server::bind(options).await.err().expect("in use");
    assert!(matches!(error, BindError::InUse(address) if address == server.address));
    let text = error.to_string();
    assert!(text.contains(&server.address.port().to_string()) && text.contains("choose another"));
    server.stop().await;
}

#[tokio::test]
async fn all_interfaces_are_one_server() {
    let options = ServerOptions { listen: all_interfaces(0), ..ServerOptions::default() };
    let server = Running::with(options).await;
    let port = server.address.port();
    assert!(matches!(probe(([127, 0, 0, 1], port).into()).await, Probe::Visavis { .. }));
    // As far as this machine has IPv6.
    if tokio::net::TcpListener::bind("[::1]:0").await.is_ok() {
        let address = (std::net::Ipv6Addr::LOCALHOST, port).into();
        assert!(matches!(probe(address).await, Probe::Visavis { .. }));
    }
    server.stop().await;
}
