//! Broken connections and restarted servers, over a real server's `/ws`.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{Running, Wire, kind};
use serde_json::{Value, json};
use visavis_signaling::{Liveness, ServerOptions, StateDir};

/// Longer than any test here; so that a seat that is free was freed for another reason.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);

async fn holding(hold: Duration) -> Running {
    Running::with(ServerOptions { hold, ..ServerOptions::default() }).await
}

/// A server with a folder of its own at `address`.
async fn keeping(state: &StateDir, address: Option<SocketAddr>, hold: Duration) -> Running {
    let state_dir = Some(state.clone());
    let listen = address.into_iter().collect();
    Running::with(ServerOptions { listen, state_dir, hold, ..ServerOptions::default() }).await
}

fn state_dir() -> (tempfile::TempDir, StateDir) {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    (folder, state)
}

/// Two in a room, and the token of each.
async fn pair(server: &Running) -> (Wire, String, Wire, String) {
    let mut first = server.client().await;
    first.join("tea").await;
    first.expect("created").await;
    let mut second = server.client().await;
    second.join("tea").await;
    let second_token = token(&second.expect("joined").await);
    // It names the one who came, so it is another one.
    let first_token = token(&first.expect("join").await);
    first.expect("ready").await;
    second.expect("ready").await;
    (first, first_token, second, second_token)
}

fn token(event: &Value) -> String {
    event["resume"].as_str().unwrap_or_else(|| panic!("a token in {event}")).to_owned()
}

async fn returns(server: &Running, token: &str, last_seq: u64) -> Wire {
    let mut wire = server.client().await;
    let room = "tea";
    wire.say(
        json!({"type": "create or join", "room": room, "resume": token, "last_seq": last_seq}),
    )
    .await;
    wire
}

async fn counted(wire: &mut Wire, seq: u64) {
    wire.say(json!({"type": "message", "message": format!("number {seq}"), "seq": seq})).await;
}

async fn expect_counted(wire: &mut Wire, seq: u64) {
    let event = wire.expect("message").await;
    assert_eq!((&event["seq"], &event["message"]), (&json!(seq), &json!(format!("number {seq}"))));
}

/// Until the server knows that a connection broke.
async fn held(server: &Running, seats: usize) {
    let wait = async {
        while server.handle.counts().held != seats {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(common::LIMIT, wait).await.expect("held in time");
}

#[tokio::test]
async fn a_broken_connection_keeps_its_seat_and_misses_nothing() {
    let server = holding(LONG).await;
    let (first, token, mut second, _) = pair(&server).await;
    drop(first);
    held(&server, 1).await;
    let mut stranger = server.client().await;
    stranger.join("tea").await;
    assert!(stranger.expect("full").await["retry_ms"].as_u64().unwrap() > 0);
    for seq in 1..=3 {
        counted(&mut second, seq).await;
    }
    second.expect_nothing().await;
    let mut first = returns(&server, &token, 0).await;
    let resumed = first.expect("resumed").await;
    assert_eq!((&resumed["role"], &resumed["last_seq"]), (&json!("initiator"), &json!(0)));
    assert_eq!(resumed["ice_servers"], json!([]));
    for seq in 1..=3 {
        expect_counted(&mut first, seq).await;
    }
    counted(&mut first, 1).await;
    expect_counted(&mut second, 1).await;
    second.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn silence_holds_the_seat_too() {
    let liveness = Liveness {
        ping_every: Duration::from_millis(100),
        answer_within: Duration::from_millis(500),
        ..Liveness::default()
    };
    let server =
        Running::with(ServerOptions { liveness, hold: LONG, ..ServerOptions::default() }).await;
    let (_silent, token, mut second, _) = pair(&server).await;
    let told = async {
        held(&server, 1).await;
        let mut first = returns(&server, &token, 0).await;
        first.expect("resumed").await;
        first
    };
    // Whoever reads answers the pings.
    let reading = async {
        let _ = second.next().await;
    };
    tokio::select! {
        _ = told => {}
        () = reading => panic!("the other end saw something"),
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_does_not_come_back_in_time_loses_the_seat() {
    let server = holding(SHORT).await;
    let (first, token, mut second, _) = pair(&server).await;
    drop(first);
    assert_eq!(second.expect("bye").await["reason"], "lost");
    second.expect("created").await;
    let mut late = returns(&server, &token, 0).await;
    late.expect("joined").await;
    second.expect("join").await;
    server.stop().await;
}

#[tokio::test]
async fn a_clean_close_frees_the_seat_at_once() {
    let server = holding(LONG).await;
    let (first, token, mut second, _) = pair(&server).await;
    first.close(1001).await;
    assert_eq!(second.expect("bye").await["reason"], "left");
    second.expect("created").await;
    let mut again = returns(&server, &token, 0).await;
    again.expect("joined").await;
    server.stop().await;
}

#[tokio::test]
async fn a_ghost_of_the_same_seat_is_sent_away() {
    let server = holding(LONG).await;
    let (mut ghost, token, mut second, _) = pair(&server).await;
    let mut first = returns(&server, &token, 0).await;
    first.expect("resumed").await;
    assert_eq!(ghost.expect("bye").await["reason"], "replaced");
    let frame = ghost.next().await.expect_err("the end").expect("a close frame");
    assert_eq!(u16::from(frame.code), 1000);
    counted(&mut second, 1).await;
    expect_counted(&mut first, 1).await;
    second.expect_nothing().await;
    assert_eq!(server.handle.counts().seats, 2);
    server.stop().await;
}

#[tokio::test]
async fn forged_foreign_and_used_tokens_open_nothing() {
    let server = holding(LONG).await;
    let (first, token, mut second, _) = pair(&server).await;
    drop(first);
    held(&server, 1).await;
    let (_folder, state) = state_dir();
    let other = keeping(&state, None, LONG).await;
    let (_a, foreign, _b, _) = pair(&other).await;
    let long = "A".repeat(5000);
    for worthless in ["", "forged", &foreign, &long, &token[1..]] {
        let mut thief = returns(&server, worthless, 0).await;
        thief.expect("full").await;
    }
    let mut elsewhere = server.client().await;
    elsewhere.say(json!({"type": "create or join", "room": "milk", "resume": token})).await;
    elsewhere.expect("created").await;

    let mut first = returns(&server, &token, 0).await;
    first.expect("resumed").await;
    // It speaks, so it has its new token.
    first.expect_nothing().await;
    let mut thief = returns(&server, &token, 0).await;
    thief.expect("full").await;
    first.expect_nothing().await;
    second.expect_nothing().await;
    server.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_lost_answer_does_not_lose_the_seat() {
    let server = holding(LONG).await;
    let (first, token, mut second, _) = pair(&server).await;
    drop(first);
    for _ in 0..3 {
        // Gone again before it has read the answer.
        drop(returns(&server, &token, 0).await);
    }
    let mut first = returns(&server, &token, 0).await;
    first.expect("resumed").await;
    counted(&mut second, 1).await;
    expect_counted(&mut first, 1).await;
    server.stop().await;
}

#[tokio::test]
async fn too_much_for_someone_away_ends_the_pair() {
    let server = holding(LONG).await;
    let (first, token, mut second, _) = pair(&server).await;
    drop(first);
    held(&server, 1).await;
    let big = "x".repeat(60_000);
    for seq in 1..=5 {
        second.say(json!({"type": "message", "message": big, "seq": seq})).await;
    }
    assert_eq!(second.expect("bye").await["reason"], "lost");
    second.expect("created").await;
    let mut first = returns(&server, &token, 0).await;
    first.expect("joined").await;
    server.stop().await;
}

/// A server is stopped or (its task aborted) killed, and another one started in its place.
async fn after_a_restart(killed: bool) {
    let (_folder, state) = state_dir();
    let server = keeping(&state, None, LONG).await;
    let address = server.address;
    let (mut first, first_token, mut second, second_token) = pair(&server).await;
    for seq in 1..=3 {
        counted(&mut first, seq).await;
        expect_counted(&mut second, seq).await;
    }
    counted(&mut second, 1).await;
    // Never read, as far as the server's end is concerned.
    if killed {
        drop((first, second));
        server.kill().await;
    } else {
        let read = async {
            while first.next().await.is_ok() {}
            while second.next().await.is_ok() {}
        };
        tokio::join!(server.stop(), read);
    }

    let server = keeping(&state, Some(address), LONG).await;
    let mut first = returns(&server, &first_token, 0).await;
    let resumed = first.expect("resumed").await;
    assert_eq!((&resumed["role"], &resumed["last_seq"]), (&json!("initiator"), &json!(0)));
    let mut third = server.client().await;
    third.join("tea").await;
    third.expect("full").await;
    // It cannot know what arrived, so it sends all it has again, and something new.
    for seq in 1..=4 {
        counted(&mut first, seq).await;
    }
    first.expect_nothing().await;
    let mut second = returns(&server, &second_token, 3).await;
    let resumed = second.expect("resumed").await;
    assert_eq!((&resumed["role"], &resumed["last_seq"]), (&json!("responder"), &json!(0)));
    expect_counted(&mut second, 4).await;
    counted(&mut second, 1).await;
    expect_counted(&mut first, 1).await;
    third.join("tea").await;
    third.expect("full").await;
    second.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn a_pair_finds_itself_again_after_a_restart() {
    after_a_restart(false).await;
}

#[tokio::test]
async fn a_pair_finds_itself_again_after_a_crash() {
    after_a_restart(true).await;
}

#[tokio::test]
async fn one_who_never_returns_after_a_restart_is_lost() {
    let (_folder, state) = state_dir();
    let server = keeping(&state, None, LONG).await;
    let (first, _, second, token) = pair(&server).await;
    drop((first, second));
    server.kill().await;
    let server = keeping(&state, None, Duration::from_secs(4)).await;
    let mut second = returns(&server, &token, 0).await;
    second.expect("resumed").await;
    assert_eq!(second.expect("bye").await["reason"], "lost");
    assert_eq!(second.expect("created").await["room"], "tea");
    server.stop().await;
}

#[tokio::test]
async fn without_a_folder_a_restart_ends_the_call() {
    let server = holding(LONG).await;
    let (first, token, second, _) = pair(&server).await;
    drop((first, second));
    server.kill().await;
    let server = holding(LONG).await;
    let mut first = returns(&server, &token, 0).await;
    let event = first.event().await;
    assert_eq!(kind(&event), "created");
    server.stop().await;
}
