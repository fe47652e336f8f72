//! What one client may ask for, over a real server's `/ws`.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::{Running, Wire, kind};
use serde_json::json;
use visavis_signaling::{Limits, ServerOptions};

async fn limited(limits: Limits) -> Running {
    Running::with(ServerOptions { limits, ..ServerOptions::default() }).await
}

async fn expect_end(wire: &mut Wire, code: &str) {
    wire.expect_error(code).await;
    let frame = wire.next().await.expect_err("the end").expect("a close frame");
    assert_eq!(u16::from(frame.code), 1008);
}

#[tokio::test]
async fn a_flood_is_ended_and_its_peer_told_at_once() {
    let limits = Limits { message_rate: 1, message_burst: 20, ..Limits::default() };
    let server = limited(limits).await;
    let (mut flooder, mut peer) = server.pair("tea").await;
    let (mut a, mut b) = server.pair("coffee").await;
    for number in 0..100 {
        flooder.message(number.into()).await;
    }
    expect_end(&mut flooder, "rate-limited").await;
    let mut relayed = 0;
    let bye = loop {
        let event = peer.event().await;
        match kind(&event) {
            "message" => relayed += 1,
            _ => break event,
        }
    };
    assert_eq!((&bye["type"], &bye["reason"]), (&json!("bye"), &json!("lost")));
    peer.expect("created").await;
    // One of the burst was the join; a second or so may have passed.
    assert!((19..40).contains(&relayed), "{relayed}");
    a.message(json!("undisturbed")).await;
    b.expect("message").await;
    server.stop().await;
}

#[tokio::test]
async fn a_burst_within_the_limit_passes() {
    let server = Running::start().await;
    let (mut first, mut second) = server.pair("tea").await;
    for number in 0..190 {
        first.message(number.into()).await;
    }
    for number in 0..190 {
        assert_eq!(second.expect("message").await["message"], number);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_limit_on_messages_is_the_operator_s() {
    let server = limited(Limits { message_bytes: 5000, ..Limits::default() }).await;
    let (mut first, mut second) = server.pair("tea").await;
    first.message("x".repeat(4900).into()).await;
    second.expect("message").await;
    first.message("x".repeat(5000).into()).await;
    let event = first.expect("error").await;
    assert_eq!(event["code"], "too-large");
    assert!(event["message"].as_str().unwrap().contains("5000"), "{event}");
    first.message("x".repeat(25_000).into()).await;
    first.expect_error("too-large").await;
    first.next().await.expect_err("the end");
    server.stop().await;
}

#[tokio::test]
async fn there_are_so_many_rooms_and_no_more() {
    let server = limited(Limits { max_rooms: 1, ..Limits::default() }).await;
    let (first, mut second) = server.pair("tea").await;
    let mut third = server.client().await;
    third.join("coffee").await;
    expect_end(&mut third, "too-many-rooms").await;
    first.close(1000).await;
    second.expect("bye").await;
    second.close(1000).await;
    server.guest("coffee").await;
    server.stop().await;
}
