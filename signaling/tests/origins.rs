//! Which pages may speak to the server.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::{
    Running,
    http::{handshake, send},
};
use visavis_signaling::{ServerOptions, proxy::TrustedProxies};

async fn allowing(origins: &[&str]) -> Running {
    let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
    Running::with(ServerOptions { origins, ..ServerOptions::default() }).await
}

async fn status(server: &Running, headers: &[(&str, &str)]) -> u16 {
    send(server.address, handshake("/ws", headers)).await.status
}

#[tokio::test]
async fn a_program_and_a_page_of_ones_own_get_in() {
    let server = Running::start().await;
    assert_eq!(status(&server, &[]).await, 101);
    let host = server.address.to_string();
    let origin = format!("http://{host}");
    assert_eq!(status(&server, &[("Host", &host), ("Origin", &origin)]).await, 101);
    let named = [("Host", "tea.example:8080"), ("Origin", "http://tea.example:8080")];
    assert_eq!(status(&server, &named).await, 101);
    server.stop().await;
}

#[tokio::test]
async fn a_foreign_page_is_turned_away_with_a_sentence() {
    let server = Running::start().await;
    for origin in [
        "http://evil.example",
        "http://tea.example:81",
        "http://tea.example.evil.example",
        "null",
        "nonsense",
        "\u{fc}",
    ] {
        let headers = [("Host", "tea.example"), ("Origin", origin)];
        let answer = send(server.address, handshake("/ws", &headers)).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let length = answer.header("content-length").unwrap().parse::<usize>().unwrap();
        assert!(length > 20);
        let request = format!(
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.0\r\nHost: tea.example\r\n\
             Origin: {origin}\r\n\r\n"
        );
        let answer = send(server.address, request).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert!(answer.rest().await.contains("--allow-origin"));
    }
    // The page itself is for everybody: it says where it comes from once it is loaded.
    let request = "GET / HTTP/1.0\r\nHost: tea.example\r\nOrigin: http://evil.example\r\n\r\n";
    assert_eq!(send(server.address, request).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_foreign_page_on_the_list_gets_in_and_its_browser_is_told() {
    let server = allowing(&["https://friend.example"]).await;
    let friend = [("Host", "tea.example"), ("Origin", "https://friend.example")];
    assert_eq!(status(&server, &friend).await, 101);
    assert_eq!(status(&server, &[("Origin", "https://other.example")]).await, 403);
    let request = |method: &str, more: &str| {
        format!(
            "{method} /socket.io/?EIO=4 HTTP/1.0\r\nHost: tea.example\r\n\
             Origin: https://friend.example\r\n{more}\r\n"
        )
    };
    let polled = send(server.address, request("GET", "")).await;
    assert_ne!(polled.status, 403);
    assert_eq!(polled.header("access-control-allow-origin"), Some("https://friend.example"));
    assert_eq!(polled.header("access-control-allow-credentials"), Some("true"));
    assert!(polled.header("vary").is_some_and(|vary| vary.contains("Origin")));
    let preflight = request("OPTIONS", "Access-Control-Request-Method: POST\r\n");
    let preflight = send(server.address, preflight).await;
    assert_eq!(preflight.status, 204, "{}", preflight.text);
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, POST"));
    server.stop().await;
}

#[tokio::test]
async fn a_star_lets_every_page_in() {
    let server = allowing(&["*"]).await;
    for origin in ["http://anywhere.example", "null"] {
        assert_eq!(status(&server, &[("Origin", origin)]).await, 101, "{origin}");
    }
    server.stop().await;
}

#[tokio::test]
async fn behind_a_proxy_the_name_the_proxy_was_asked_for_counts() {
    let proxies = TrustedProxies {
        networks: vec!["127.0.0.1".parse().unwrap()],
        ..TrustedProxies::default()
    };
    let trusting = Running::with(ServerOptions { proxies, ..ServerOptions::default() }).await;
    let distrusting = Running::start().await;
    let headers = [
        ("Host", "backend:8080"),
        ("Origin", "https://tea.example"),
        ("X-Forwarded-For", "198.51.100.1"),
        ("X-Forwarded-Host", "tea.example"),
        ("X-Forwarded-Proto", "https"),
    ];
    assert_eq!(status(&trusting, &headers).await, 101);
    assert_eq!(status(&distrusting, &headers).await, 403);
    // Over plain HTTP the proxy was asked, so the HTTPS page is another one.
    let plain = [&headers[..4], &[("X-Forwarded-Proto", "http")]].concat();
    assert_eq!(status(&trusting, &plain).await, 403);
    trusting.stop().await;
    distrusting.stop().await;
}
