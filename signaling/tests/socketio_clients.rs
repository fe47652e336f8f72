//! The real socket.io-client packages, old and new, run by Node.js against the server.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::{process::Stdio, time::Duration};

use common::{
    Running,
    npm::{CLIENTS, packages},
};
use serde_json::json;
use tokio::{task::spawn_blocking, time::timeout};

const TRANSPORTS: [&str; 3] = ["polling", "upgrade", "websocket"];

/// One story, on a busy machine.
const STORY: Duration = Duration::from_secs(120);

/// Runs the story; it must end well.
async fn node(server: &Running, arguments: &[&str]) {
    let place = spawn_blocking(packages).await.unwrap();
    let mut command = tokio::process::Command::new("node");
    command.arg(place.join("story.js")).arg(format!("http://{}", server.address));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(STORY, command.output()).await.expect("the story's end").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

async fn plays_with_itself(client: &str) {
    let server = Running::plain().await;
    for transport in TRANSPORTS {
        node(&server, &[transport, client, client]).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn client_1_4_plays_the_story() {
    plays_with_itself(CLIENTS[0]).await;
}

#[tokio::test]
async fn client_1_7_plays_the_story() {
    plays_with_itself(CLIENTS[1]).await;
}

#[tokio::test]
async fn client_2_5_plays_the_story() {
    plays_with_itself(CLIENTS[2]).await;
}

#[tokio::test]
async fn client_3_1_plays_the_story() {
    plays_with_itself(CLIENTS[3]).await;
}

#[tokio::test]
async fn client_4_8_plays_the_story() {
    plays_with_itself(CLIENTS[4]).await;
}

#[tokio::test]
async fn old_clients_play_with_new_ones() {
    let server = Running::plain().await;
    for (first, second) in [(0, 4), (4, 1), (2, 3)] {
        node(&server, &["upgrade", CLIENTS[first], CLIENTS[second]]).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn every_client_meets_a_guest_of_ours() {
    let server = Running::plain().await;
    for client in CLIENTS {
        for transport in TRANSPORTS {
            let room = format!("{client}-{transport}");
            let mut wire = server.client().await;
            wire.join(&room).await;
            wire.expect("created").await;
            let story = async {
                wire.expect("join").await;
                wire.expect("ready").await;
                for number in 0..100 {
                    wire.message(json!(number)).await;
                }
                for number in 0..100 {
                    let heard = wire.expect("message").await;
                    assert_eq!(heard["message"], json!({"echo": number}), "{client}");
                }
                wire.close(1001).await;
            };
            let arguments = [transport, "echo", client, &room];
            tokio::join!(node(&server, &arguments), story);
        }
    }
    server.stop().await;
}
