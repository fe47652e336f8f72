//! The rules of rooms, over a real server's `/ws`.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::{Running, Wire};
use serde_json::{Value, json};

#[tokio::test]
async fn two_meet_and_speak() {
    let server = Running::start().await;
    let mut first = server.client().await;
    first.join("Tea").await;
    let created = first.expect("created").await;
    assert_eq!(created["room"], "tea");
    let mut second = server.client().await;
    second.join("tea").await;
    let joined = second.expect("joined").await;
    let join = first.expect("join").await;
    assert_eq!(join["id"], joined["id"]);
    assert_eq!(joined["peer"], created["id"]);
    assert_eq!(first.expect("ready").await["ice_servers"], json!([]));
    second.expect("ready").await;

    let offer = json!({"type": "offer", "sdp": "v=0\r\n"});
    first.message(offer.clone()).await;
    let heard = second.expect("message").await;
    let expected = json!({"type": "message", "from": created["id"], "seq": 1, "message": offer});
    assert_eq!(heard, expected);
    second.message(json!("got user media")).await;
    assert_eq!(first.expect("message").await["from"], joined["id"]);
    assert_eq!(server.handle.counts().seats, 2);
    server.stop().await;
}

#[tokio::test]
async fn a_full_room_tells_the_third_who_disturbs_nobody() {
    let server = Running::start().await;
    let (mut first, mut second) = server.pair("tea").await;
    let mut third = server.client().await;
    third.join("tea").await;
    let full = third.expect("full").await;
    assert_eq!(full["room"], "tea");
    assert!(full["retry_ms"].as_u64().unwrap() > 0);
    third.message(json!("bye")).await;
    third.say(json!({"type": "bye"})).await;
    third.message(json!({"type": "offer"})).await;
    third.expect_error("not-in-room").await;
    third.close(1001).await;
    first.expect_nothing().await;
    second.expect_nothing().await;
    server.stop().await;
}

async fn leaves(mut wire: Wire, how: &str) {
    match how {
        "bye" => {
            wire.say(json!({"type": "bye"})).await;
            // The connection lives.
            wire.expect_nothing().await;
        }
        "message bye" => wire.message(json!("bye")).await,
        "reload" => wire.close(1001).await,
        "close" => wire.close(1000).await,
        "no status" => wire.socket.close(None).await.unwrap(),
        "vanish" => drop(wire),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn whoever_stays_can_take_the_next_caller() {
    let server = Running::plain().await;
    for (how, reason) in [
        ("bye", "left"),
        ("message bye", "left"),
        ("reload", "left"),
        ("close", "left"),
        ("no status", "left"),
        ("vanish", "lost"),
    ] {
        for first_leaves in [true, false] {
            let (first, second) = server.pair("tea").await;
            let (leaver, mut stayer) = if first_leaves { (first, second) } else { (second, first) };
            leaves(leaver, how).await;
            assert_eq!(stayer.expect("bye").await["reason"], reason, "{how}");
            stayer.expect("created").await;
            let mut next = server.guest("tea").await;
            stayer.expect("join").await;
            next.expect("ready").await;
            next.close(1000).await;
            stayer.close(1000).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn five_reloads_in_turn_bring_both_together_again() {
    let server = Running::start().await;
    let (mut stayer, mut leaver) = server.pair("tea").await;
    for _ in 0..5 {
        leaver.close(1001).await;
        leaver = server.guest("tea").await;
        for expected in ["ready", "bye", "created", "join"] {
            if expected != "ready" {
                stayer.expect(expected).await;
            }
        }
        stayer.expect("ready").await;
        leaver.expect("ready").await;
        std::mem::swap(&mut stayer, &mut leaver);
    }
    server.stop().await;
}

#[tokio::test]
async fn messages_stay_in_their_room() {
    let server = Running::start().await;
    let (mut tea_first, mut tea_second) = server.pair("tea").await;
    let (mut coffee_first, mut coffee_second) = server.pair("coffee").await;
    let mut outsider = server.client().await;
    outsider.message(json!("to everybody")).await;
    outsider.expect_error("not-in-room").await;
    tea_first.message(json!("tea")).await;
    assert_eq!(tea_second.expect("message").await["message"], "tea");
    for wire in [&mut tea_first, &mut tea_second, &mut coffee_first, &mut coffee_second] {
        wire.expect_nothing().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn joining_twice_is_ignored_and_another_room_leaves_the_first() {
    let server = Running::start().await;
    let (mut first, mut second) = server.pair("tea").await;
    first.join("tea").await;
    first.expect_nothing().await;
    second.expect_nothing().await;
    first.join("coffee").await;
    first.expect("created").await;
    assert_eq!(second.expect("bye").await["reason"], "left");
    second.expect("created").await;
    assert_eq!(server.handle.counts().rooms, 2);
    server.stop().await;
}

#[tokio::test]
async fn one_socket_sits_in_one_room_however_often_it_joins() {
    let server = Running::plain().await;
    let mut wire = server.client().await;
    for number in 0..500 {
        wire.join(&format!("room{number}")).await;
        wire.expect("created").await;
    }
    wire.expect_nothing().await;
    assert_eq!(server.handle.counts().rooms, 1);
    server.stop().await;
}

#[tokio::test]
async fn names_of_other_worlds_are_ordinary_rooms() {
    let server = Running::start().await;
    for room in ["__proto__", "constructor", "hasOwnProperty", "茶室"] {
        let (mut first, mut second) = server.pair(room).await;
        first.message(json!(room)).await;
        assert_eq!(second.expect("message").await["message"], room);
    }
    let (mut first, _second) = server.pair("tea").await;
    // A room named like someone's id is not that someone.
    let mut third = server.client().await;
    third.join("coffee").await;
    let id = third.expect("created").await["id"].as_str().unwrap().to_owned();
    first.join(&id).await;
    assert_eq!(first.expect("created").await["room"], id);
    third.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_messages_arrive_in_order() {
    const COUNT: u64 = 10_000;
    let server = Running::plain().await;
    let (mut first, mut second) = server.pair("tea").await;
    let send = async {
        for number in 0..COUNT {
            first.message(number.into()).await;
        }
        first
    };
    let receive = async {
        for number in 0..COUNT {
            let event = second.expect("message").await;
            assert_eq!(event["message"], Value::from(number));
            assert_eq!(event["seq"], Value::from(number + 1));
        }
    };
    let (mut first, ()) = tokio::join!(send, receive);
    first.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn a_host_serves_its_own_rooms_only() {
    let server = Running::hosting(&["tea"]).await;
    let mut stranger = server.client().await;
    stranger.join("coffee").await;
    stranger.expect_error("room-not-hosted").await;
    let (mut first, _second) = server.pair("tea").await;
    server.handle.allow_room("coffee".parse().unwrap()).await.unwrap();
    stranger.join("coffee").await;
    stranger.expect("created").await;
    server.handle.disallow_room("tea".parse().unwrap()).await.unwrap();
    first.expect_error("room-not-hosted").await;
    stranger.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_says_so() {
    let server = Running::start().await;
    let (mut first, second) = server.pair("tea").await;
    let handle = server.handle.clone();
    let read = async {
        assert_eq!(first.expect("log").await["message"], "server restarting");
        first.next().await.expect_err("the end")
    };
    // A client that does not read does not hold the server up for long.
    let ((), frame) = tokio::join!(server.stop(), read);
    assert_eq!(u16::from(frame.expect("a close frame").code), 1012);
    drop(second);
    assert!(handle.allow_room("tea".parse().unwrap()).await.is_err());
}
