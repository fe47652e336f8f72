//! The rules of rooms over Socket.IO, in the tutorial's own words, and what abuse gets.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{
    LIMIT, Running,
    socketio::{Guest, Poller},
};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use visavis_signaling::{Limits, Liveness, ServerOptions};

#[tokio::test]
async fn two_meet_with_the_tutorials_own_words() {
    let server = Running::plain().await;
    for (one, other) in [(3, 3), (4, 4), (3, 4)] {
        let mut first = server.guest_of(one).await;
        first.join("foo").await;
        let created = first.expect("created").await;
        let id = created[2].as_str().unwrap().to_owned();
        assert_eq!(created, json!(["created", "foo", id]));
        let mut second = server.guest_of(other).await;
        second.join("foo").await;
        assert_eq!(first.expect("join").await, json!(["join", "foo"]));
        let joined = second.expect("joined").await;
        let id = joined[2].as_str().unwrap().to_owned();
        assert_eq!(joined, json!(["joined", "foo", id]));
        assert_eq!(first.expect("ready").await, json!(["ready"]));
        assert_eq!(second.expect("ready").await, json!(["ready"]));

        second.message(json!("got user media")).await;
        first.expect_message(json!("got user media")).await;
        let offer = json!({"type": "offer", "sdp": "v=0\r\n"});
        first.message(offer.clone()).await;
        second.expect_message(offer).await;
        let candidate =
            json!({"type": "candidate", "label": 0, "id": "0", "candidate": "candidate:1"});
        second.message(candidate.clone()).await;
        first.expect_message(candidate).await;
        // Not echoed, not logged: row 15 of what was wrong with the tutorial's server.
        first.expect_nothing().await;
        second.expect_nothing().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn guests_of_both_carriers_meet() {
    let server = Running::plain().await;
    // The tutorial's page first, then one of ours.
    let mut guest = server.seated("tea").await;
    let mut wire = server.client().await;
    wire.join("tea").await;
    wire.expect("joined").await;
    guest.expect("join").await;
    guest.expect("ready").await;
    wire.expect("ready").await;
    // As it is: the order of fields, an array in one piece.
    for text in [r#"{"z":1,"a":{"y":2,"b":3}}"#, "[1,[2]]", "null", r#""“茶” \u0001""#] {
        guest.text(&format!(r#"42["message",{text}]"#)).await;
        let heard = wire.expect("message").await;
        assert_eq!(heard["message"], serde_json::from_str::<Value>(text).unwrap());
        wire.text(&format!(r#"{{"type":"message","message":{text}}}"#)).await;
        assert_eq!(guest.packet().await.unwrap(), format!(r#"42["message",{text}]"#));
    }
    wire.close(1001).await;
    guest.expect_message(json!("bye")).await;
    guest.expect("created").await;
    // And the other way about.
    let mut wire = server.client().await;
    wire.join("coffee").await;
    wire.expect("created").await;
    let mut guest = server.seated("coffee").await;
    wire.expect("join").await;
    wire.expect("ready").await;
    guest.expect("ready").await;
    guest.message(json!("bye")).await;
    assert_eq!(wire.expect("bye").await["reason"], "left");
    wire.expect("created").await;
    server.stop().await;
}

async fn leaves(mut guest: Guest, how: &str) -> Option<Guest> {
    match how {
        "bye" => guest.emit(json!(["bye"])).await,
        "message bye" => guest.message(json!("bye")).await,
        "another room" => guest.join("elsewhere").await,
        "disconnect" => guest.text("41").await,
        "close packet" => guest.text("1").await,
        "reload" => {
            guest.message(json!("bye")).await;
            guest.socket.close(None).await.unwrap();
        }
        "close" => guest.socket.close(None).await.unwrap(),
        "vanish" => {
            drop(guest);
            return None;
        }
        other => panic!("{other}"),
    }
    Some(guest)
}

#[tokio::test]
async fn whoever_stays_hears_bye_once_and_takes_the_next_caller() {
    let server = Running::plain().await;
    for how in [
        "bye",
        "message bye",
        "another room",
        "disconnect",
        "close packet",
        "reload",
        "close",
        "vanish",
    ] {
        for first_leaves in [true, false] {
            let (first, second) = server.couple("foo").await;
            let (leaver, mut stayer) = if first_leaves { (first, second) } else { (second, first) };
            let left = leaves(leaver, how).await;
            stayer.expect_message(json!("bye")).await;
            assert_eq!(stayer.expect("created").await[1], "foo", "{how}");
            stayer.expect_nothing().await;
            let mut next = server.seated("foo").await;
            stayer.expect("join").await;
            stayer.expect("ready").await;
            next.expect("ready").await;
            next.message(json!([how])).await;
            stayer.expect_message(json!([how])).await;
            drop((left, next));
            stayer.expect_message(json!("bye")).await;
            stayer.text("1").await;
            stayer.expect_end().await;
            server.until_connections(0).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn five_reloads_in_turn_bring_both_together_again() {
    let server = Running::plain().await;
    let (mut stayer, mut leaver) = server.couple("foo").await;
    for _ in 0..5 {
        leaver.message(json!("bye")).await;
        leaver.socket.close(None).await.unwrap();
        leaver = server.seated("foo").await;
        leaver.expect("ready").await;
        stayer.expect_message(json!("bye")).await;
        for expected in ["created", "join", "ready"] {
            stayer.expect(expected).await;
        }
        std::mem::swap(&mut stayer, &mut leaver);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_third_is_told_full_and_its_bye_disturbs_nobody() {
    let server = Running::plain().await;
    let (mut first, mut second) = server.couple("foo").await;
    let mut third = server.guest_of(3).await;
    third.join("foo").await;
    assert_eq!(third.expect("full").await, json!(["full", "foo"]));
    third.message(json!({"type": "offer", "sdp": ""})).await;
    third.expect_log("enter a room").await;
    // A reload of the tutorial's page.
    third.message(json!("bye")).await;
    third.socket.close(None).await.unwrap();
    first.expect_nothing().await;
    second.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn messages_stay_in_their_room() {
    let server = Running::plain().await;
    let (mut one, mut other) = server.couple("foo").await;
    let (mut far, mut away) = server.couple("bar").await;
    let mut outsider = server.guest_of(4).await;
    outsider.message(json!("to everybody")).await;
    outsider.expect_log("enter a room").await;
    one.message(json!(1)).await;
    other.expect_message(json!(1)).await;
    for guest in [&mut one, &mut other, &mut far, &mut away, &mut outsider] {
        guest.expect_nothing().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn joining_twice_is_ignored_and_many_rooms_are_one() {
    let server = Running::plain().await;
    let (mut first, mut second) = server.couple("foo").await;
    first.join("foo").await;
    first.expect_nothing().await;
    second.expect_nothing().await;
    for number in 0..5000 {
        first.join(&format!("room{number}")).await;
        first.expect("created").await;
    }
    second.expect_message(json!("bye")).await;
    second.expect("created").await;
    assert_eq!(server.handle.counts().rooms, 2);
    server.stop().await;
}

#[tokio::test]
async fn names_of_other_worlds_are_ordinary_rooms() {
    let server = Running::plain().await;
    for room in ["__proto__", "constructor", "hasOwnProperty", "茶室"] {
        let (mut first, mut second) = server.couple(room).await;
        first.message(json!(room)).await;
        second.expect_message(json!(room)).await;
    }
    let mut lone = server.guest_of(4).await;
    lone.join("tea").await;
    let id = lone.expect("created").await[2].as_str().unwrap().to_owned();
    let mut curious = server.guest_of(4).await;
    curious.join(&id).await;
    assert_eq!(curious.expect("created").await[1], json!(id));
    lone.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn what_crashed_the_tutorials_server_ends_its_own_socket_at_most() {
    let server = Running::plain().await;
    let (mut first, mut second) = server.couple("foo").await;
    for engine in [3, 4] {
        let mut bad = server.guest_of(engine).await;
        bad.text(r#"42[{"toString":"x"}]"#).await;
        bad.expect_end().await;
        for frame in [
            "42",
            "42[",
            "42[]",
            "42[null]",
            "42[5,\"x\"]",
            "42{}",
            "42\"message\"",
            "4",
            "",
            "9",
            "5",
            "6",
            "45",
            "45-[]",
            "451-",
            "45999999999999999999-[\"message\"]",
            "4220000000000000000000[\"message\",1]",
            "420[\"message\",1]",
            "43",
            "43[]",
            "431[]",
            "46",
            "44",
            "44{}",
            "40/admin,",
            "42/admin,[\"message\",1]",
            "4\u{1e}4",
            "bla",
            "0{}",
            "3",
            "2probe",
            "5",
            "42[\"__proto__\",{\"__proto__\":1}]",
        ] {
            let mut bad = server.guest_of(engine).await;
            bad.text(frame).await;
            // Whether it is closed or ignored: that is its own affair.
            drop(bad);
        }
        let mut bad = server.guest_of(engine).await;
        bad.raw(Message::Binary(vec![4, 0xff, 0].into())).await;
        bad.expect_end().await;
        let deep = format!("42[\"message\",{}1{}]", "[".repeat(100_000), "]".repeat(100_000));
        let mut bad = server.guest_of(engine).await;
        bad.text(&deep).await;
        drop(bad);
    }
    for answer in [
        server.request("GET", "/%00").await,
        server.request("GET", "//evil.example/%2e%2e").await,
        server.request("GET", "/package.json").await,
        server.request("GET", "/node_modules/").await,
    ] {
        assert!(answer.starts_with("HTTP/1.0 404"), "{answer}");
    }
    assert!(server.request("POST", "/").await.starts_with("HTTP/1.0 405"));
    first.message(json!("still here")).await;
    second.expect_message(json!("still here")).await;
    server.stop().await;
}

#[tokio::test]
async fn requests_that_are_no_engine_io_are_refused() {
    let server = Running::plain().await;
    for query in [
        "",
        "?",
        "?EIO=4",
        "?EIO=2&transport=polling",
        "?EIO=4&transport=pigeon",
        "?EIO=4&transport=polling&sid=",
        "?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA",
        "?EIO=3&transport=websocket",
        "?EIO=4&transport=websocket&sid=%00",
        "?EIO=%ff",
    ] {
        let answer = server.request("GET", &format!("/socket.io/{query}")).await;
        assert!(answer.starts_with("HTTP/1.0 400"), "{query}: {answer}");
    }
    let opening = "/socket.io/?EIO=4&transport=polling";
    assert!(server.request("POST", opening).await.starts_with("HTTP/1.0 400"));
    for method in ["PUT", "DELETE", "OPTIONS", "BREW"] {
        assert!(server.request(method, opening).await.starts_with("HTTP/1.0 405"), "{method}");
    }
    for path in ["/socket.io/x", "/socket.io/socket.io.js.map", "/socket.iox"] {
        assert!(server.request("GET", path).await.starts_with("HTTP/1.0 404"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn wrong_arguments_are_named_and_the_socket_lives() {
    let server = Running::plain().await;
    let (mut first, mut second) = server.couple("foo").await;
    for (list, words) in [
        (json!(["create or join"]), "room's name"),
        (json!(["create or join", 5]), "room's name"),
        (json!(["create or join", {"toString": "x"}]), "room's name"),
        (json!(["create or join", ""]), "empty"),
        (json!(["create or join", "a/b"]), "cannot contain"),
        (json!(["message"]), "one argument, not 0"),
        (json!(["message", 1, 2]), "one argument, not 2"),
        (json!(["launch", 1]), "no event “launch”"),
        (json!(["toString"]), "no event “toString”"),
        (json!(["ipaddr"]), "addresses"),
    ] {
        first.emit(list).await;
        first.expect_log(words).await;
    }
    first.text(r#"451-["message",{"_placeholder":true,"num":0}]"#).await;
    first.raw(Message::Binary(vec![1, 2, 3].into())).await;
    first.expect_log("no binary data").await;
    // An acknowledgement is asked for, as `emit(.., callback)` does: the rest is as ever.
    first.text(r#"427["message","still here"]"#).await;
    second.expect_message(json!("still here")).await;
    second.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn a_message_of_64_kib_passes_and_a_longer_one_does_not() {
    let server = Running::plain().await;
    let (mut first, mut second) = server.couple("foo").await;
    let of = |bytes: usize| json!("x".repeat(bytes - r#"[""]"#.len()));
    first.message(of(64 * 1024)).await;
    second.expect("message").await;
    for bytes in [64 * 1024 + 1, 250_000] {
        first.message(of(bytes)).await;
        first.expect_log("too long").await;
    }
    for bytes in [300_000, 50_000_000] {
        let mut bad = server.seated("elsewhere").await;
        let text = format!("42{}", json!(["message", of(bytes)]));
        // It may be cut off in the midst of it.
        let _ = timeout(LIMIT, bad.socket.send(Message::Text(text.into()))).await.unwrap();
        bad.expect_end().await;
    }
    let poller = Poller::connect(server.address).await;
    let answer = poller.post(&format!("4{}", "x".repeat(300_000))).await;
    assert!(answer.starts_with("HTTP/1.0 413"), "{answer}");
    first.message(json!("still here")).await;
    second.expect_message(json!("still here")).await;
    server.stop().await;
}

/// Numbers from one to the other, none lost, none swapped.
macro_rules! count {
    ($sender:expr, $receiver:expr, $number:ident, $expect:expr) => {{
        let send = async {
            for $number in 0..COUNT {
                $sender.message(json!($number)).await;
            }
        };
        let receive = async {
            for $number in 0..COUNT {
                $expect;
            }
        };
        tokio::join!(send, receive);
    }};
}

#[tokio::test]
async fn ten_thousand_messages_arrive_in_order_over_both_carriers() {
    const COUNT: u64 = 10_000;
    let server = Running::plain().await;
    let (mut first, mut second) = server.couple("foo").await;
    count!(first, second, number, second.expect_message(json!(number)).await);
    let mut old = server.guest_of(3).await;
    drop(first);
    second.expect_message(json!("bye")).await;
    old.join("foo").await;
    for expected in ["created", "join", "ready"] {
        second.expect(expected).await;
    }
    old.expect("joined").await;
    old.expect("ready").await;
    count!(old, second, number, second.expect_message(json!(number)).await);

    let mut guest = server.seated("bar").await;
    let mut wire = server.client().await;
    wire.join("bar").await;
    wire.expect("joined").await;
    wire.expect("ready").await;
    guest.expect("join").await;
    guest.expect("ready").await;
    count!(wire, guest, number, guest.expect_message(json!(number)).await);
    count!(guest, wire, number, {
        let heard = wire.expect("message").await;
        assert_eq!((&heard["message"], &heard["seq"]), (&json!(number), &json!(number + 1)));
    });
    server.stop().await;
}

#[tokio::test]
async fn a_poller_calls_a_websocket_and_back() {
    const COUNT: u64 = 2_000;
    let server = Running::plain().await;
    let mut poller = Poller::connect(server.address).await;
    poller.emit(json!(["create or join", "foo"])).await;
    poller.expect("created").await;
    let mut guest = server.seated("foo").await;
    guest.expect("ready").await;
    poller.expect("join").await;
    poller.expect("ready").await;
    let send = async {
        for number in 0..COUNT {
            guest.message(json!(number)).await;
        }
    };
    let receive = async {
        for number in 0..COUNT {
            assert_eq!(poller.expect("message").await, json!(["message", number]));
        }
    };
    tokio::join!(send, receive);
    let burst: Vec<String> =
        (0..COUNT).map(|number| format!("42{}", json!(["message", number]))).collect();
    poller.post(&burst.join("\u{1e}")).await;
    for number in 0..COUNT {
        guest.expect_message(json!(number)).await;
    }
    poller.post("1").await;
    guest.expect_message(json!("bye")).await;
    guest.expect("created").await;
    server.stop().await;
}

fn strict() -> ServerOptions {
    let liveness = Liveness {
        ping_every: Duration::from_millis(200),
        answer_within: Duration::from_secs(1),
        write_within: Duration::from_secs(1),
    };
    let limits = Limits { message_rate: 0, ..Limits::default() };
    ServerOptions { liveness, limits, ..ServerOptions::default() }
}

#[tokio::test]
async fn a_socket_that_does_not_answer_pings_loses_its_seat() {
    let server = Running::with(strict()).await;
    let (mut stayer, frozen) = server.couple("foo").await;
    stayer.expect_message(json!("bye")).await;
    stayer.expect("created").await;
    // It was there all the time, only it never answered.
    drop(frozen);
    let poller = Poller::connect(server.address).await;
    poller.emit(json!(["create or join", "foo"])).await;
    stayer.expect("join").await;
    stayer.expect("ready").await;
    // It never polls again.
    stayer.expect_message(json!("bye")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_socket_that_answers_stays() {
    let server = Running::with(strict()).await;
    let (mut first, mut second) = server.couple("foo").await;
    // Longer than an unanswered one lasts: both only read.
    let quiet = Duration::from_millis(2500);
    let (first_hears, second_hears) =
        tokio::join!(timeout(quiet, first.packet()), timeout(quiet, second.packet()));
    assert!(first_hears.is_err() && second_hears.is_err());
    first.message(json!(1)).await;
    second.expect_message(json!(1)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_socket_that_never_reads_costs_its_peer_nothing_but_a_while() {
    // Its peer only writes for a while, which is no fault here.
    let mut options = strict();
    options.liveness.answer_within = Duration::from_secs(10);
    let server = Running::with(options).await;
    // An old client: its heartbeat alone would keep it for longer.
    let mut frozen = server.guest_of(3).await;
    frozen.join("foo").await;
    frozen.expect("created").await;
    let mut sender = server.client().await;
    sender.join("foo").await;
    sender.expect("joined").await;
    sender.expect("ready").await;
    let big = json!({"type": "message", "message": "x".repeat(60_000)}).to_string();
    // More than all buffers on the way hold.
    for _ in 0..800 {
        sender.text(&big).await;
    }
    sender.expect("bye").await;
    sender.expect("created").await;
    sender.expect_nothing().await;
    drop(frozen);
    server.stop().await;
}

#[tokio::test]
async fn who_floods_faster_than_is_delivered_is_dropped_with_the_reason() {
    let server = Running::plain().await;
    let (mut flooder, frozen) = server.couple("foo").await;
    let (mut one, mut other) = server.couple("bar").await;
    let big = format!("42{}", json!(["message", "x".repeat(60_000)]));
    let flood = async {
        for _ in 0..800 {
            // Its end may come before the last of them.
            if flooder.socket.feed(Message::Text(big.clone().into())).await.is_err() {
                break;
            }
        }
        let _ = flooder.socket.flush().await;
    };
    let others = async {
        for number in 0..200 {
            one.message(json!(number)).await;
            other.expect_message(json!(number)).await;
        }
    };
    tokio::join!(async { timeout(LIMIT, flood).await.unwrap() }, others);
    flooder.expect_log("You were disconnected: you send faster").await;
    assert_eq!(flooder.packet().await.as_deref(), Some("41"));
    // One that does not go by itself is cut off at its next word.
    flooder.message(json!("more")).await;
    flooder.expect_end().await;
    drop(frozen);
    server.stop().await;
}

#[tokio::test]
async fn who_says_more_than_the_limit_is_told_and_disconnected() {
    let server = Running::start().await;
    let (mut flooder, mut peer) = server.couple("foo").await;
    for number in 0..5000 {
        // Its end may come before the last of them.
        let text = format!("42{}", json!(["message", number]));
        if flooder.socket.feed(Message::Text(text.into())).await.is_err() {
            break;
        }
    }
    let _ = flooder.socket.flush().await;
    let log = flooder.expect("log").await;
    assert!(log[1][1].as_str().unwrap().len() > 20, "{log}");
    let mut heard = 0;
    while let Some(event) = peer.event().await
        && event != json!(["message", "bye"])
    {
        assert_eq!(event, json!(["message", heard]));
        heard += 1;
    }
    assert!((100..5000).contains(&heard), "{heard} messages");
    peer.expect("created").await;
    server.stop().await;
}

#[tokio::test]
async fn half_a_request_and_a_session_without_a_socket_are_given_up() {
    let server = Running::plain().await;
    let poller = Poller::connect(server.address).await;
    let mut silent = Guest::open(server.address, 4).await;
    let (answer, ()) = tokio::join!(poller.post_half(), silent.expect_end());
    assert!(answer.starts_with("HTTP/1.0 408"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_says_so_to_everyone() {
    let server = Running::plain().await;
    let mut guest = server.seated("foo").await;
    let mut old = server.guest_of(3).await;
    let mut poller = Poller::connect(server.address).await;
    let silent = Guest::open(server.address, 4).await;
    // The poll that is to hear of it is not there yet when the server stops.
    let (log, ()) = tokio::join!(poller.expect("log"), server.stop());
    guest.expect_log("server restarting").await;
    old.expect_log("server restarting").await;
    assert_eq!(log[1][1], "server restarting");
    guest.expect_end().await;
    drop((old, silent));
}

#[tokio::test]
async fn the_tutorials_client_is_served() {
    let server = Running::plain().await;
    let answer = server.request("GET", "/socket.io/socket.io.js").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.contains("content-type: text/javascript; charset=utf-8\r\n"));
    assert!(answer.len() > 60_000 && answer.contains("t.io=e()"));
    assert!(server.request("POST", "/socket.io/socket.io.js").await.starts_with("HTTP/1.0 405"));
    server.stop().await;
}
