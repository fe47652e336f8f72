//! A server for those who have its token.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::{
    Running,
    http::{get, handshake, send},
};
use tokio::sync::mpsc::Receiver;
use visavis_signaling::{
    Client, ClientHandle, ClientOptions, ClientUpdate, ServerOptions, Trust, access::AccessToken,
    client::Trouble, protocol::ServerEvent,
};

const TOKEN: &str = "open-sesame";

async fn closed() -> Running {
    let access_token = Some(AccessToken::parse(TOKEN).unwrap());
    Running::with(ServerOptions { access_token, ..ServerOptions::default() }).await
}

fn client(server: &Running, token: Option<&str>) -> (ClientHandle, Receiver<ClientUpdate>) {
    Client::start(ClientOptions {
        server: server.address.into(),
        room: "tea".parse().unwrap(),
        give_up_after: None,
        trust: Trust::default(),
        access_token: token.map(str::to_owned),
        greeting: vec![],
    })
}

#[tokio::test]
async fn the_rooms_open_to_the_token_only() {
    let server = closed().await;
    for (path, authorization, status) in [
        ("/ws", None, 401),
        ("/ws", Some("Bearer wrong-sesame"), 401),
        ("/ws", Some("Bearer open-sesame"), 101),
        ("/ws?token=open-sesame", None, 101),
        ("/ws?token=open-sesam", None, 401),
        ("/ws?token=", Some("Basic b3Blbi1zZXNhbWU="), 401),
    ] {
        let headers: Vec<_> =
            authorization.into_iter().map(|value| ("Authorization", value)).collect();
        let answer = send(server.address, handshake(path, &headers)).await;
        assert_eq!(answer.status, status, "{path} {authorization:?}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    let (status, text) = get(server.address, "/socket.io/?EIO=4&transport=polling", &[]).await;
    assert_eq!(status, 401);
    assert!(text.contains("asks for an access token"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn the_page_and_what_the_server_is_are_open_to_all() {
    let server = closed().await;
    for path in ["/", "/room/tea", "/access.js", "/visavis", "/healthz"] {
        assert_eq!(get(server.address, path, &[]).await.0, 200, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_with_the_token_gets_its_seat() {
    let server = closed().await;
    let (client, mut updates) = client(&server, Some(TOKEN));
    loop {
        match updates.recv().await.expect("a seat") {
            ClientUpdate::Event(ServerEvent::Created { .. }) => break,
            ClientUpdate::Connecting { .. } | ClientUpdate::Connected => {}
            other => panic!("{other:?}"),
        }
    }
    client.close().await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_it_gives_up_and_says_what_is_missing() {
    let server = closed().await;
    for token in [None, Some("wrong-sesame"), Some("not\na header")] {
        let (client, mut updates) = client(&server, token);
        let mut last = None;
        while let Some(update) = updates.recv().await {
            last = Some(update);
        }
        let Some(ClientUpdate::Refused { reason }) = last else { panic!("{last:?}") };
        if token != Some("not\na header") {
            assert!(matches!(reason, Trouble::AccessDenied(_)), "{reason:?}");
            assert!(reason.to_string().contains("use the whole link"), "{reason}");
        }
        client.close().await;
    }
    server.stop().await;
}
