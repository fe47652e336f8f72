//! Clients that do not read, do not answer, or do not finish.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{LIMIT, Running};
use futures_util::SinkExt;
use serde_json::json;
use tokio::{io::AsyncReadExt, time::timeout};
use tokio_tungstenite::tungstenite::Message;
use visavis_signaling::{Limits, Liveness, ServerOptions};

async fn strict_server() -> Running {
    let liveness = Liveness {
        ping_every: Duration::from_millis(200),
        answer_within: Duration::from_secs(1),
        write_within: Duration::from_secs(1),
    };
    let limits = Limits { message_rate: 0, ..Limits::default() };
    let hold = Duration::ZERO;
    Running::with(ServerOptions { liveness, limits, hold, ..ServerOptions::default() }).await
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_seat() {
    let server = strict_server().await;
    let (mut stayer, frozen) = server.pair("tea").await;
    assert_eq!(stayer.expect("bye").await["reason"], "lost");
    stayer.expect("created").await;
    // It was there all the time, only it never answered.
    drop(frozen);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_floods_but_never_reads_loses_its_seat() {
    let server = strict_server().await;
    let (mut stayer, mut deaf) = server.pair("tea").await;
    let flood = tokio::spawn(async move {
        let ping = Message::Text(json!({"type": "ping"}).to_string().into());
        while deaf.socket.send(ping.clone()).await.is_ok() {}
    });
    assert_eq!(stayer.expect("bye").await["reason"], "lost");
    timeout(LIMIT, flood).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let server = strict_server().await;
    let (mut first, mut second) = server.pair("tea").await;
    // Longer than an unanswered client lasts: both only read.
    let quiet = Duration::from_millis(2500);
    let (first_hears, second_hears) =
        tokio::join!(timeout(quiet, first.next()), timeout(quiet, second.next()));
    assert!(first_hears.is_err() && second_hears.is_err());
    first.message(json!(1)).await;
    second.expect("message").await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_its_peer_nothing_but_a_while() {
    let server = strict_server().await;
    let (mut sender, frozen) = server.pair("tea").await;
    let big = json!({"type": "message", "message": "x".repeat(60_000)}).to_string();
    // More than all buffers on the way hold.
    for _ in 0..400 {
        sender.text(&big).await;
    }
    let mut heard = Vec::new();
    loop {
        let event = sender.event().await;
        heard.push(common::kind(&event).to_owned());
        if heard.last().is_some_and(|kind| kind == "created") {
            break;
        }
    }
    assert_eq!(heard, ["bye", "created"]);
    sender.expect_nothing().await;
    drop(frozen);
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_does_not_wait_for_half_a_request() {
    let server = Running::start().await;
    let mut half = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut half, b"GET / HT").await.unwrap();
    server.stop().await;
    let mut rest = Vec::new();
    // Ended or reset, but over.
    let _ = timeout(LIMIT, half.read_to_end(&mut rest)).await.unwrap();
}
