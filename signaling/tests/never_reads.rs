//! A client that never reads is gone within its limit, whoever talks to it, whatever its seat.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{LIMIT, Running};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::{sleep, timeout};
use visavis_signaling::{Limits, Liveness, ServerOptions};

async fn strict_server() -> Running {
    let liveness = Liveness {
        ping_every: Duration::from_millis(200),
        answer_within: Duration::from_secs(1),
        write_within: Duration::from_secs(1),
    };
    // A talkative peer is no abuser here.
    let limits = Limits { message_rate: 0, ..Limits::default() };
    Running::with(ServerOptions { liveness, limits, ..ServerOptions::default() }).await
}

/// Waits until the server has so many connections, which the limits above make soon.
async fn expect_connections(server: &Running, expected: usize) {
    let reached = async {
        while server.handle.counts().connections != expected {
            // Counts change without a notice to await.
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, reached).await.expect("the connection to end in time");
}

#[tokio::test]
async fn one_that_nobody_talks_to_is_gone() {
    let server = strict_server().await;
    let never_reads = server.client().await;
    expect_connections(&server, 1).await;
    expect_connections(&server, 0).await;
    drop(never_reads);
    server.stop().await;
}

#[tokio::test]
async fn one_whose_peer_keeps_talking_is_gone_and_the_peer_stays() {
    let server = strict_server().await;
    let (talker, never_reads) = server.pair("tea").await;
    let (mut sink, mut stream) = talker.socket.split();
    // The talker reads all the while, so that it answers pings.
    let listen = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    let text = json!({"type": "message", "message": "x".repeat(20_000)}).to_string();
    let talk = tokio::spawn(async move {
        while futures_util::SinkExt::send(&mut sink, text.as_str().into()).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    expect_connections(&server, 1).await;
    assert!(!listen.is_finished() && !talk.is_finished());
    drop(never_reads);
    listen.abort();
    talk.abort();
    expect_connections(&server, 0).await;
    server.stop().await;
}

#[tokio::test]
async fn fifty_that_never_read_leave_nothing_behind() {
    let server = strict_server().await;
    let mut never_read = Vec::new();
    for number in 0..25 {
        never_read.push(server.pair(&format!("tea-{number}")).await);
    }
    expect_connections(&server, 0).await;
    let mut guest = server.guest("tea-26").await;
    guest.expect_nothing().await;
    drop(never_read);
    server.stop().await;
}
