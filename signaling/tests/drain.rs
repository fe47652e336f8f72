//! How a server ends.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{LIMIT, Running, kind};
use serde_json::{Value, json};
use tokio::time::timeout;
use visavis_signaling::{Limits, ServerOptions};

async fn server() -> Running {
    let limits = Limits { message_rate: 0, ..Limits::default() };
    Running::with(ServerOptions { limits, ..ServerOptions::default() }).await
}

#[tokio::test]
async fn everyone_is_told_and_closed_with_1012() {
    let server = server().await;
    let (mut first, mut second) = server.pair("tea").await;
    let mut unseated = server.client().await;
    unseated.expect_nothing().await;
    let told = async {
        for wire in [&mut first, &mut second, &mut unseated] {
            assert_eq!(wire.expect("log").await["message"], "server restarting");
            let frame = wire.next().await.expect_err("the end").expect("a close frame");
            assert_eq!(u16::from(frame.code), 1012);
        }
    };
    tokio::join!(server.stop(), told);
}

#[tokio::test]
async fn what_was_accepted_is_delivered_before_the_end() {
    let server = server().await;
    let (mut sender, mut receiver) = server.pair("tea").await;
    const COUNT: u64 = 100;
    // More than the network's buffers hold, so that much still waits in the server.
    let text = "x".repeat(50_000);
    let send = async {
        for number in 0..COUNT {
            sender.message(json!([number, text])).await;
        }
        // Answered after all of it: so the server has accepted it.
        sender.say(json!({"type": "ping"})).await;
        sender
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let receive = async {
        let mut heard = 0;
        let mut stop = Some(stop);
        loop {
            match receiver.next().await {
                Ok(event) if kind(&event) == "message" => {
                    assert_eq!(event["message"][0], Value::from(heard));
                    heard += 1;
                    if heard == COUNT - 20 {
                        let _ = stop.take().unwrap().send(());
                    }
                }
                Ok(event) => assert_eq!(kind(&event), "log", "{event}"),
                Err(frame) => return (heard, frame),
            }
        }
    };
    let end = async {
        let mut sender = send.await;
        stopped.await.unwrap();
        // The answer to the ping may be behind it; what matters is that it was asked before.
        sender.expect("pong").await;
        let read = async { while sender.next().await.is_ok() {} };
        tokio::join!(server.stop(), read);
    };
    let ((), (heard, frame)) = tokio::join!(end, receive);
    assert_eq!(heard, COUNT, "none was lost");
    assert_eq!(u16::from(frame.expect("a close frame").code), 1012);
}

#[tokio::test]
async fn one_who_does_not_read_does_not_hold_up_the_end() {
    let server = server().await;
    let (mut sender, deaf) = server.pair("tea").await;
    let text = "x".repeat(60_000);
    // As much as it takes until the server has more than the deaf one's buffers hold.
    let flood = async {
        for _ in 0..400 {
            sender.message(text.as_str().into()).await;
        }
        while sender.next().await.is_ok() {}
    };
    let stop = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Six seconds by themselves, and as many again for a busy machine.
        timeout(LIMIT, server.stop()).await.expect("the end in time");
    };
    let _ = timeout(LIMIT, async { tokio::join!(stop, flood) }).await.expect("the end in time");
    drop(deaf);
}

#[tokio::test]
async fn nobody_is_taken_in_any_more() {
    let server = server().await;
    let address = server.address;
    let mut first = server.guest("tea").await;
    let read = async { while first.next().await.is_ok() {} };
    tokio::join!(server.stop(), read);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
