//! Whose connection it is behind a proxy: shown by whose share it takes.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{
    LIMIT, Running,
    http::{Head, handshake, head, send},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use visavis_signaling::{
    ConnectionLimits, ServerOptions,
    proxy::{ForwardedHeader, TrustedProxies},
};

/// One connection an address.
async fn server(network: &str, header: ForwardedHeader, preamble: bool) -> Running {
    let networks = vec![network.parse().unwrap()];
    let handshake = Duration::from_secs(2);
    Running::with(ServerOptions {
        connections: ConnectionLimits { per_address: 1, rate: 0, handshake, ..Default::default() },
        proxies: TrustedProxies { networks, header, preamble },
        ..ServerOptions::default()
    })
    .await
}

async fn open(server: &Running, headers: &[(&str, &str)]) -> Head {
    send(server.address, handshake("/ws", headers)).await
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let server = server("127.0.0.1", ForwardedHeader::XForwardedFor, false).await;
    let name = "X-Forwarded-For";
    let first = open(&server, &[(name, "198.51.100.1")]).await;
    assert_eq!(first.status, 101);
    for same in ["198.51.100.1", "10.0.0.9, 198.51.100.1", "198.51.100.1:99"] {
        assert_eq!(open(&server, &[(name, same)]).await.status, 429, "{same}");
    }
    let other = open(&server, &[(name, "198.51.100.2")]).await;
    assert_eq!(other.status, 101);
    // What the client itself adds stands further left and counts for nothing.
    let forged = open(&server, &[(name, "192.0.2.77, 198.51.100.2")]).await;
    assert_eq!(forged.status, 429);
    drop(first);
    let again = async { while open(&server, &[(name, "198.51.100.1")]).await.status != 101 {} };
    timeout(LIMIT, again).await.expect("the share is free again");
    server.stop().await;
}

#[tokio::test]
async fn forwarded_is_understood_where_it_is_asked_for() {
    let server = server("127.0.0.0/8", ForwardedHeader::Forwarded, false).await;
    let first = open(&server, &[("Forwarded", "for=\"[2001:db8::1]:1\";proto=http")]).await;
    assert_eq!(first.status, 101);
    let neighbour = [("Forwarded", "for=\"[2001:db8::2]\""), ("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(open(&server, &neighbour).await.status, 429);
    server.stop().await;
}

#[tokio::test]
async fn a_stranger_names_nobody() {
    // Only an address that is not ours is trusted.
    let server = server("192.0.2.1", ForwardedHeader::XForwardedFor, true).await;
    let mut open_ones = Vec::new();
    for _ in 0..3 {
        // Loopback itself has no limit; the address it names would have.
        let answer = open(&server, &[("X-Forwarded-For", "198.51.100.1")]).await;
        assert_eq!(answer.status, 101);
        open_ones.push(answer);
    }
    // A preamble from a stranger is a malformed request.
    let line = format!("PROXY TCP4 198.51.100.1 1.1.1.1 1 80\r\n{}", handshake("/ws", &[]));
    assert_eq!(send(server.address, line).await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn requests_of_many_clients_over_one_connection_are_told_apart() {
    let server = server("127.0.0.1", ForwardedHeader::XForwardedFor, false).await;
    let held = open(&server, &[("X-Forwarded-For", "198.51.100.1")]).await;
    assert_eq!(held.status, 101);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for (client, status) in
        [("198.51.100.2", 200), ("198.51.100.1", 429), ("198.51.100.3", 200), ("198.51.100.2", 200)]
    {
        let request =
            format!("GET /visavis HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = head(stream).await.expect("an answer");
        assert_eq!(answer.status, status, "{client}");
        let length = answer.header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        tokio::io::AsyncReadExt::read_exact(&mut answer.stream, &mut body).await.unwrap();
        stream = answer.stream;
    }
    server.stop().await;
}

fn version_2(address: [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend(address);
    bytes.extend([10, 0, 0, 1, 0x12, 0x67, 0, 80]);
    bytes
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client_in_both_versions() {
    let server = server("127.0.0.1", ForwardedHeader::XForwardedFor, true).await;
    let request = handshake("/ws", &[]);
    let line = "PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\r\n";
    let first = send(server.address, format!("{line}{request}")).await;
    assert_eq!(first.status, 101);
    let same = [version_2([198, 51, 100, 1]), request.clone().into()].concat();
    assert_eq!(send(server.address, same).await.status, 429);
    let other = [version_2([198, 51, 100, 2]), request.clone().into()].concat();
    let other = send(server.address, other).await;
    assert_eq!(other.status, 101);
    // A header behind the preamble comes from the client, who is no proxy.
    let forged = format!(
        "PROXY TCP4 198.51.100.1 10.0.0.1 1 80\r\n{}",
        handshake("/ws", &[("X-Forwarded-For", "192.0.2.9")])
    );
    assert_eq!(send(server.address, forged).await.status, 429);
    // The proxy's own look at our health.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /healthz HTTP/1.0\r\n\r\n";
    assert_eq!(send(server.address, local).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_without_its_preamble_is_ended() {
    let server = server("127.0.0.1", ForwardedHeader::XForwardedFor, true).await;
    for bytes in [
        b"GET / HTTP/1.0\r\n\r\n".as_slice(),
        b"PROXY TCP4 nonsense\r\n........",
        // Half of one, and nothing more.
        b"PROXY TCP4 198.51.100.1",
        b"",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert!(head(stream).await.is_none(), "{}", String::from_utf8_lossy(bytes));
    }
    server.stop().await;
}
