//! Ten thousand numbered messages.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::Running;
use serde_json::{Value, json};
use visavis_signaling::{Limits, ServerOptions};

const COUNT: u64 = 10_000;

#[tokio::test]
async fn ten_thousand_numbered_messages_each_way_none_lost_none_swapped() {
    let limits = Limits { message_rate: 1_000_000, message_burst: 20_000, ..Limits::default() };
    let server = Running::with(ServerOptions { limits, ..ServerOptions::default() }).await;
    let (first, second) = server.pair("tea").await;
    let both_ways = |mut wire: common::Wire| async move {
        // Half a window at a time, so that neither end has to read and write at once.
        let (mut sent, mut heard) = (0, 0);
        while heard < COUNT {
            while sent < COUNT && sent < heard + 50 {
                sent += 1;
                wire.say(json!({"type": "message", "message": sent, "seq": sent})).await;
            }
            let event = wire.expect("message").await;
            heard += 1;
            assert_eq!(
                (&event["message"], &event["seq"]),
                (&Value::from(heard), &Value::from(heard))
            );
        }
        wire
    };
    let (mut first, mut second) = tokio::join!(both_ways(first), both_ways(second));
    first.expect_nothing().await;
    second.expect_nothing().await;
    server.stop().await;
}
