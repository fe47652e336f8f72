//! How many may come, how fast, and how long they may take before they say something.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{
    LIMIT, Running,
    http::{Head, handshake, head, send},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use visavis_signaling::{
    Client, ClientOptions, ClientUpdate, ConnectionLimits, ServerOptions, Trust, client::Trouble,
};

async fn server(limits: ConnectionLimits) -> Running {
    Running::with(ServerOptions { connections: limits, ..ServerOptions::default() }).await
}

fn limits() -> ConnectionLimits {
    ConnectionLimits::default()
}

/// This machine itself gets so many places beyond the limit.
const RESERVED: usize = 16;

async fn is_over(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("an end in time");
    answer
}

#[tokio::test]
async fn a_client_that_says_nothing_is_gone_soon() {
    let server = server(ConnectionLimits { handshake: Duration::from_secs(1), ..limits() }).await;
    let (mut first, mut second) = server.pair("tea").await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    is_over(silent).await;
    // One who has taken a seat may be silent for longer.
    first.message(json!("still here")).await;
    second.expect("message").await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_drips_is_cut_off() {
    let server = server(ConnectionLimits { handshake: Duration::from_secs(1), ..limits() }).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let drip = async move {
        // A minute's worth; it never gets there.
        for byte in b"GET / HTTP/1.1\r\nA: ".iter().chain([b'b'; 600].iter()) {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let drip = tokio::spawn(drip);
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, read.read_to_end(&mut answer)).await.expect("an end in time");
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    drip.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = Running::start().await;
    for head in [
        format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "x".repeat(20_000)),
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(20_000)),
        format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(1000)),
    ] {
        let answer = send(server.address, head).await;
        assert!(matches!(answer.status, 414 | 431), "{}", answer.text);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_full_server_says_so_and_when_to_come_back() {
    let server = server(ConnectionLimits { total: 4, ..limits() }).await;
    let (mut first, mut second) = server.pair("tea").await;
    let mut others = Vec::new();
    for _ in 0..(2 + RESERVED) {
        let answer = send(server.address, handshake("/ws", &[])).await;
        assert_eq!(answer.status, 101, "{}", answer.text);
        others.push(answer);
    }
    let refused = send(server.address, handshake("/ws", &[])).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert!(refused.rest().await.contains("as many connections as it can take"));
    first.message(json!("still here")).await;
    second.expect("message").await;
    others.pop();
    let admitted =
        async { while send(server.address, handshake("/ws", &[])).await.status != 101 {} };
    timeout(LIMIT, admitted).await.expect("a place when one has left");
    server.stop().await;
}

#[tokio::test]
async fn five_thousand_connections_cost_those_inside_nothing() {
    const TOTAL: usize = 200;
    let limits = ConnectionLimits { total: TOTAL, rate: 0, ..limits() };
    let server = server(limits).await;
    let (mut first, mut second) = server.pair("tea").await;
    let mut kept = Vec::new();
    let mut refused = 0;
    for number in 0..5_000_u32 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        if kept.len() < TOTAL + RESERVED - 2 {
            // Says nothing.
            kept.push(stream);
        } else {
            let answer = is_over(stream).await;
            // Beyond some, the reason may be lost with the connection.
            refused += u32::from(answer.starts_with(b"HTTP/1.1 503"));
        }
        if number % 500 == 0 {
            first.message(json!(number)).await;
            assert_eq!(second.expect("message").await["message"], number);
        }
    }
    assert!(refused > 1_000, "{refused} were told why");
    assert_eq!(server.handle.counts().connections, 2);
    server.stop().await;
}

#[tokio::test]
async fn one_address_gets_its_share_and_no_more() {
    let options = ServerOptions {
        connections: ConnectionLimits { per_address: 2, rate: 0, ..limits() },
        proxies: visavis_signaling::proxy::TrustedProxies {
            networks: vec!["127.0.0.1".parse().unwrap()],
            preamble: true,
            ..Default::default()
        },
        ..ServerOptions::default()
    };
    let server = Running::with(options).await;
    let from = async |address: &str| -> Head {
        let line = format!("PROXY TCP6 {address} ::1 4711 80\r\n");
        send(server.address, line + &handshake("/ws", &[])).await
    };
    let first = from("2001:db8::1").await;
    let second = from("2001:db8::2").await;
    assert_eq!((first.status, second.status), (101, 101));
    let third = from("2001:db8::3").await;
    assert_eq!(third.status, 429);
    assert!(third.header("retry-after").is_some());
    assert!(third.rest().await.contains("from your address"));
    let neighbour = from("2001:db8:0:1::1").await;
    assert_eq!(neighbour.status, 101);
    drop(first);
    let admitted = async { while from("2001:db8::3").await.status != 101 {} };
    timeout(LIMIT, admitted).await.expect("a share when one has left");
    drop((second, neighbour));
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_storms_is_told_to_wait() {
    let options = ServerOptions {
        connections: ConnectionLimits { rate: 1, ..limits() },
        proxies: visavis_signaling::proxy::TrustedProxies {
            networks: vec!["127.0.0.1".parse().unwrap()],
            preamble: true,
            ..Default::default()
        },
        ..ServerOptions::default()
    };
    let server = Running::with(options).await;
    let mut stormed = None;
    for _ in 0..100 {
        let request = format!("PROXY TCP4 192.0.2.1 1.1.1.1 1 80\r\n{}", handshake("/ws", &[]));
        let answer = send(server.address, request).await;
        if answer.status == 429 {
            stormed = Some(answer);
            break;
        }
    }
    let answer = stormed.expect("a limit");
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert!(answer.rest().await.contains("too fast"));
    server.stop().await;
}

#[tokio::test]
async fn a_client_of_ours_that_is_told_to_wait_says_so_and_tries_again() {
    let busy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = busy.local_addr().unwrap();
    let answer = tokio::spawn(async move {
        let (stream, _) = busy.accept().await.unwrap();
        let mut stream = head_of_request(stream).await;
        let text = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(text.as_bytes()).await.unwrap();
    });
    let options = ClientOptions {
        server: server.into(),
        room: "tea".parse().unwrap(),
        give_up_after: None,
        trust: Trust::default(),
        access_token: None,
        greeting: vec![],
    };
    let (client, mut updates) = Client::start(options);
    assert!(matches!(updates.recv().await, Some(ClientUpdate::Connecting { attempt: 1 })));
    match updates.recv().await {
        Some(ClientUpdate::Lost { reason: reason @ Trouble::TooMany(_), .. }) => {
            assert!(reason.to_string().contains("wait a while"));
        }
        other => panic!("{other:?}"),
    }
    answer.await.unwrap();
    client.close().await;
}

/// Reads a request's head and gives the connection back.
async fn head_of_request(mut stream: TcpStream) -> TcpStream {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    stream
}

#[tokio::test]
async fn a_stopping_server_waits_for_no_preamble() {
    let options = ServerOptions {
        proxies: visavis_signaling::proxy::TrustedProxies {
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            preamble: true,
            ..Default::default()
        },
        ..ServerOptions::default()
    };
    let server = Running::with(options).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"PROXY TCP4").await.unwrap();
    server.stop().await;
    assert!(head(half).await.is_none());
}
