//! What bad input gets: a clear error; everybody else goes on.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::{Running, Wire, kind};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

#[tokio::test]
async fn nonsense_is_named_and_the_connection_lives() {
    let server = Running::start().await;
    let (mut first, mut second) = server.pair("tea").await;
    for (text, code) in [
        ("{", "malformed-json"),
        ("", "malformed-json"),
        ("42[{\"toString\":\"x\"}]", "malformed-json"),
        ("[]", "malformed-event"),
        ("{\"type\":{\"toString\":\"x\"}}", "malformed-event"),
        ("{\"type\":\"launch\"}", "unknown-event"),
        ("{\"type\":\"__proto__\"}", "unknown-event"),
        ("{\"type\":\"message\"}", "bad-field"),
        ("{\"type\":\"create or join\",\"room\":[\"tea\"]}", "bad-field"),
        ("{\"type\":\"create or join\",\"room\":\"a/b\"}", "bad-room-name"),
        ("{\"type\":\"create or join\",\"room\":\"\"}", "bad-room-name"),
        ("{\"type\":\"ipaddr\"}", "addresses-not-told"),
    ] {
        first.text(text).await;
        first.expect_error(code).await;
    }
    first.message(json!("still here")).await;
    assert_eq!(second.expect("message").await["message"], "still here");
    server.stop().await;
}

#[tokio::test]
async fn a_binary_frame_is_refused_and_the_connection_lives() {
    let server = Running::start().await;
    let mut wire = server.client().await;
    wire.raw(Message::Binary(vec![1, 2, 3].into())).await;
    wire.expect_error("binary-frame").await;
    wire.expect_nothing().await;
    server.stop().await;
}

fn message_of(bytes: usize) -> String {
    let empty = json!({"type": "message", "message": ""}).to_string().len();
    let text = json!({"type": "message", "message": "x".repeat(bytes - empty)}).to_string();
    assert_eq!(text.len(), bytes);
    text
}

#[tokio::test]
async fn a_message_of_64_kib_passes_and_one_byte_more_does_not() {
    let server = Running::start().await;
    let (mut first, mut second) = server.pair("tea").await;
    first.text(&message_of(64 * 1024)).await;
    second.expect("message").await;
    first.text(&message_of(64 * 1024 + 1)).await;
    first.expect_error("too-large").await;
    first.message(json!("still here")).await;
    assert_eq!(second.expect("message").await["message"], "still here");
    server.stop().await;
}

/// The error and the close frame arrive although the whole frame is still on its way.
async fn expect_too_large(mut wire: Wire) {
    wire.expect_error("too-large").await;
    let frame = wire.next().await.expect_err("the end").expect("a close frame");
    assert_eq!(u16::from(frame.code), 1009);
}

#[tokio::test]
async fn a_frame_of_a_mebibyte_ends_its_connection_with_the_reason() {
    let server = Running::start().await;
    let (mut first, second) = server.pair("tea").await;
    for bytes in [1 << 20, 4 << 20] {
        let mut wire = server.client().await;
        wire.text(&message_of(bytes)).await;
        expect_too_large(wire).await;
    }
    let mut second = second;
    second.text(&message_of(1 << 20)).await;
    expect_too_large(second).await;
    assert_eq!(first.expect("bye").await["reason"], "lost");
    first.expect("created").await;
    server.stop().await;
}

#[tokio::test]
async fn many_fragments_do_not_get_round_the_limit() {
    let server = Running::start().await;
    let mut wire = server.client().await;
    let piece = "x".repeat(60_000);
    for number in 0..6 {
        let kind = if number == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(piece.clone(), OpCode::Data(kind), false);
        wire.raw(Message::Frame(frame)).await;
    }
    expect_too_large(wire).await;
    server.stop().await;
}

#[tokio::test]
async fn a_frame_that_is_not_utf8_ends_its_connection_with_the_reason() {
    let server = Running::start().await;
    let mut wire = server.client().await;
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    wire.raw(Message::Frame(frame)).await;
    wire.expect_error("bad-frame").await;
    let frame = wire.next().await.expect_err("the end").expect("a close frame");
    assert_eq!(u16::from(frame.code), 1007);
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_websocket_end_their_connection_only() {
    let server = Running::start().await;
    let (mut first, mut second) = server.pair("tea").await;
    let handshake = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(handshake.as_bytes()).await.unwrap();
    stream.write_all(&[0xff; 64]).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(common::LIMIT, read).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    first.message(json!("still here")).await;
    let event = second.event().await;
    assert_eq!(kind(&event), "message");
    server.stop().await;
}
