//! Several servers that are one, over a real Redis.
#![allow(clippy::unwrap_used)] // Helpers of tests.
#![cfg(unix)]

mod common;
#[path = "common/redis.rs"]
mod redis_server;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use common::{LIMIT, Running, Wire, kind};
use redis_server::Redis;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use visavis_signaling::{
    Client, ClientHandle, ClientOptions, ClientUpdate, Limits, ServerOptions, Trust,
    cluster::{Cluster, ClusterOptions, ClusterTimes, lease::LeaseTimes, link::LinkTimes},
    protocol::ServerEvent,
};

/// Longer than any test here.
const LONG: Duration = Duration::from_secs(600);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Everything sooner than usual, in about the usual proportions.
fn soon() -> ClusterTimes {
    ClusterTimes {
        lease: LeaseTimes { lifetime: ms(3_000), renew_every: ms(400) },
        link: LinkTimes { resend_after: ms(200), ping_every: ms(300), silence: ms(1_500) },
        retry_after: ms(100),
        patience: LIMIT,
    }
}

async fn node_with(redis: &Redis, times: ClusterTimes, hold: Duration) -> Running {
    let options = ClusterOptions { times, ..ClusterOptions::new(redis.url()) };
    let cluster = Some(Cluster::connect(options).await.unwrap());
    let limits = Limits { message_rate: 0, ..Limits::default() };
    let node =
        Running::with(ServerOptions { cluster, hold, limits, ..ServerOptions::default() }).await;
    is_healthy(&node, true).await;
    node
}

async fn node(redis: &Redis) -> Running {
    node_with(redis, soon(), LONG).await
}

async fn is_healthy(node: &Running, healthy: bool) {
    let mut watch = node.handle.healthy();
    timeout(LIMIT, watch.wait_for(|now| *now == healthy)).await.expect("in time").unwrap();
}

/// The next event of that kind; everything else is an error.
async fn token(wire: &mut Wire, expected: &str) -> String {
    wire.expect(expected).await["resume"].as_str().expect("a token").to_owned()
}

/// The first at `a`, which then owns the room, the second at `b`; with their tokens.
async fn pair(a: &Running, b: &Running, room: &str) -> (Wire, String, Wire, String) {
    let mut first = a.guest(room).await;
    let mut second = b.client().await;
    second.join(room).await;
    let second_token = token(&mut second, "joined").await;
    let first_token = token(&mut first, "join").await;
    first.expect("ready").await;
    second.expect("ready").await;
    (first, first_token, second, second_token)
}

async fn resume(at: &Running, room: &str, token: &str, last_seq: u64) -> Wire {
    let mut wire = at.client().await;
    let join =
        json!({"type": "create or join", "room": room, "resume": token, "last_seq": last_seq});
    wire.say(join).await;
    wire
}

async fn counted(wire: &mut Wire, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        wire.say(json!({"type": "message", "message": {"n": seq}, "seq": seq})).await;
    }
}

async fn expect_counted(wire: &mut Wire, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        let event = wire.expect("message").await;
        assert_eq!((&event["seq"], &event["message"]["n"]), (&json!(seq), &json!(seq)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_different_nodes_exchange_a_thousand_messages_in_order() {
    let redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    let (mut first, _, mut second, _) = pair(&a, &b, "tea").await;
    // Each says all it has to say while the other one does so too.
    let (mut first_says, mut second_says) = (Vec::new(), Vec::new());
    for n in 1..=10 {
        first_says.push((n - 1) * 100 + 1..=n * 100);
        second_says.push((n - 1) * 100 + 1..=n * 100);
    }
    for (mine, yours) in first_says.into_iter().zip(second_says) {
        let (to_second, to_first) = (mine.clone(), yours.clone());
        tokio::join!(counted(&mut first, mine), counted(&mut second, yours));
        tokio::join!(expect_counted(&mut second, to_second), expect_counted(&mut first, to_first));
    }
    for node in [&a, &b] {
        let mut third = node.client().await;
        third.join("tea").await;
        assert!(third.expect("full").await["retry_ms"].as_u64().unwrap() > 0);
        // Asked again, the answer is the same, and a message is nobody's.
        third.join("tea").await;
        third.expect("full").await;
        third.message(json!("hello")).await;
        third.expect_error("not-in-room").await;
    }
    second.close(1000).await;
    assert_eq!(first.expect("bye").await["reason"], "left");
    first.expect("created").await;
    let mut next = b.guest("tea").await;
    next.expect("ready").await;
    first.expect("join").await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_at_one_node_does_not_reach_the_memory_of_another() {
    let redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    let (mut first, _, mut second, _) = pair(&a, &b, "tea").await;
    let big = "x".repeat(30_000);
    let flood = async {
        for n in 0..1_000 {
            second.message(json!({"n": n, "x": big})).await;
        }
    };
    let read = async {
        for n in 0..1_000 {
            assert_eq!(first.expect("message").await["message"]["n"], n);
        }
    };
    timeout(3 * LIMIT, async { tokio::join!(flood, read) }).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_race_for_a_room_make_one() {
    let redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    for round in 0..30 {
        let room = format!("room-{round}");
        let (mut first, mut second) = (a.client().await, b.client().await);
        tokio::join!(first.join(&room), second.join(&room));
        let (first_told, second_told) = tokio::join!(first.event(), second.event());
        let told: BTreeSet<&str> = [kind(&first_told), kind(&second_told)].into();
        assert_eq!(told, BTreeSet::from(["created", "joined"]), "{room}");
        tokio::join!(first.message(json!(1)), second.message(json!(2)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_goes_from_room_to_room_across_nodes() {
    let redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    let mut tea = a.guest("tea").await;
    let mut coffee = b.guest("coffee").await;
    let mut wanderer = a.client().await;
    for _ in 0..5 {
        wanderer.join("coffee").await;
        wanderer.expect("joined").await;
        wanderer.expect("ready").await;
        assert_eq!(kind(&coffee.event().await), "join");
        coffee.expect("ready").await;
        wanderer.join("tea").await;
        wanderer.expect("joined").await;
        wanderer.expect("ready").await;
        assert_eq!(coffee.expect("bye").await["reason"], "left");
        coffee.expect("created").await;
        tea.expect("join").await;
        tea.expect("ready").await;
        wanderer.say(json!({"type": "bye"})).await;
        tea.expect("bye").await;
        tea.expect("created").await;
        wanderer.expect_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_over_is_nobody_s() {
    let redis = Redis::start().await;
    let a = node(&redis).await;
    let first = a.guest("tea").await;
    assert_eq!(redis.command::<u32>(&["EXISTS", "visavis:lease:tea"]).await, 1);
    first.close(1000).await;
    let gone = async {
        while redis.command::<u32>(&["EXISTS", "visavis:lease:tea"]).await == 1 {
            tokio::time::sleep(ms(20)).await;
        }
    };
    timeout(LIMIT, gone).await.expect("released in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_owner_is_killed_the_call_goes_on_at_another_node() {
    let redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    let (mut first, first_token, mut second, _) = pair(&a, &b, "tea").await;
    counted(&mut first, 1..=3).await;
    expect_counted(&mut second, 1..=3).await;
    counted(&mut second, 1..=2).await;
    expect_counted(&mut first, 1..=2).await;
    a.kill().await;
    // Said into the void: it is going to be said again.
    counted(&mut second, 3..=4).await;
    let (mut first, mut stranger) = (resume(&b, "tea", &first_token, 2).await, b.client().await);
    let resumed = first.expect("resumed").await;
    assert_eq!(resumed["role"], "initiator");
    let resumed = second.expect("resumed").await;
    assert_eq!((&resumed["role"], &resumed["room"]), (&json!("responder"), &json!("tea")));
    // The seats are the same two, and there is no third.
    stranger.join("tea").await;
    stranger.expect("full").await;
    // As a client does that learns what had arrived: the rest again, in order.
    let from = resumed["last_seq"].as_u64().unwrap() + 1;
    counted(&mut second, from..=5).await;
    expect_news(&mut first, 3..=5).await;
    counted(&mut first, 4..=5).await;
    expect_counted(&mut second, 4..=5).await;
}

/// The same, where what was heard before may come once more, as clients expect.
async fn expect_news(wire: &mut Wire, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs.clone() {
        loop {
            let event = wire.expect("message").await;
            let heard = event["seq"].as_u64().unwrap();
            assert!(heard <= seq, "{heard} before {seq}");
            if heard == seq {
                break;
            }
            assert!(heard < *seqs.start());
        }
    }
}

/// Sends each connection to the first of `nodes` that takes it.
async fn balance(nodes: Vec<SocketAddr>, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let nodes = nodes.clone();
            connections.spawn(async move {
                for node in nodes {
                    if let Ok(mut server) = TcpStream::connect(node).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Waits for the events of one kind and for messages, in order; nothing else may come.
async fn app_hears(updates: &mut mpsc::Receiver<ClientUpdate>, numbers: &[u64], resumes: bool) {
    let (mut numbers, mut resumed) = (numbers.iter(), false);
    while !numbers.as_slice().is_empty() || resumed != resumes {
        match timeout(LIMIT, updates.recv()).await.expect("an update in time").unwrap() {
            ClientUpdate::Event(ServerEvent::Message { message, .. }) => {
                assert_eq!(Some(message), numbers.next().map(|n| json!(n).into()));
            }
            ClientUpdate::Event(ServerEvent::Resumed { .. }) => resumed = true,
            ClientUpdate::Event(event) => panic!("a new call: {event:?}"),
            ClientUpdate::Refused { reason } => panic!("refused: {reason}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_apps_behind_a_load_balancer_outlive_the_owner_of_their_room() {
    let redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    let mut tasks = JoinSet::new();
    let through_a = balance(vec![a.address, b.address], &mut tasks).await;
    let through_b = balance(vec![b.address], &mut tasks).await;
    let app = |server: SocketAddr| {
        let room = "tea".parse().unwrap();
        Client::start(ClientOptions {
            server: server.into(),
            room,
            give_up_after: None,
            access_token: None,
            greeting: vec![],
            trust: Trust::default(),
        })
    };
    let ready = async |updates: &mut mpsc::Receiver<ClientUpdate>| {
        while !matches!(
            timeout(LIMIT, updates.recv()).await.expect("in time").unwrap(),
            ClientUpdate::Event(ServerEvent::Created { .. } | ServerEvent::Ready { .. })
        ) {}
    };
    let (first, mut first_updates) = app(through_a);
    ready(&mut first_updates).await;
    let (second, mut second_updates) = app(through_b);
    ready(&mut second_updates).await;
    ready(&mut first_updates).await;
    let says = |app: &ClientHandle, numbers: std::ops::Range<u64>| {
        for n in numbers {
            app.send(json!(n)).unwrap();
        }
    };
    says(&first, 0..5);
    says(&second, 0..5);
    a.kill().await;
    // Some of it into the void, some while the seats are being taken up again.
    for n in 1..5 {
        says(&first, n * 5..n * 5 + 5);
        says(&second, n * 5..n * 5 + 5);
        tokio::time::sleep(soon().link.silence / 2).await;
    }
    let all: Vec<u64> = (0..25).collect();
    tokio::join!(
        app_hears(&mut first_updates, &all, true),
        app_hears(&mut second_updates, &all, true)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_node_was_killed_comes_back_at_another_and_nobody_notices() {
    let redis = Redis::start().await;
    let (a, b, c) = (node(&redis).await, node(&redis).await, node(&redis).await);
    let (mut first, _, second, second_token) = pair(&a, &b, "tea").await;
    b.kill().await;
    drop(second);
    counted(&mut first, 1..=3).await;
    let mut second = resume(&c, "tea", &second_token, 0).await;
    assert_eq!(second.expect("resumed").await["role"], "responder");
    expect_counted(&mut second, 1..=3).await;
    counted(&mut second, 1..=3).await;
    expect_counted(&mut first, 1..=3).await;
    // The silence of the killed node, once it is noticed, ends nothing.
    tokio::time::sleep(2 * soon().link.silence).await;
    first.expect_nothing().await;
    second.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seat_of_one_whose_node_was_killed_is_held_and_then_free() {
    let redis = Redis::start().await;
    let a = node_with(&redis, soon(), ms(700)).await;
    let b = node(&redis).await;
    let (mut first, _, _second, _) = pair(&a, &b, "tea").await;
    b.kill().await;
    assert_eq!(first.expect("bye").await["reason"], "lost");
    first.expect("created").await;
    let mut next = a.client().await;
    next.join("tea").await;
    next.expect("joined").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_stopped_hands_its_rooms_over_at_once() {
    let redis = Redis::start().await;
    // Nothing here waits for a lease to run out, or for silence.
    let lease = LeaseTimes { lifetime: LONG, renew_every: ms(400) };
    let link = LinkTimes { silence: LONG, ..soon().link };
    let times = ClusterTimes { lease, link, ..soon() };
    let (a, b) = (node_with(&redis, times, LONG).await, node_with(&redis, times, LONG).await);
    let (mut first, first_token, mut second, _) = pair(&a, &b, "tea").await;
    let (stopped, ()) = tokio::join!(
        async {
            let mut told = first.next().await;
            while told.is_ok() {
                told = first.next().await;
            }
            told.unwrap_err().expect("a close frame").code
        },
        a.stop()
    );
    assert_eq!(u16::from(stopped), 1012);
    assert_eq!(second.expect("resumed").await["role"], "responder");
    let mut first = resume(&b, "tea", &first_token, 0).await;
    first.expect("resumed").await;
    counted(&mut first, 1..=3).await;
    expect_counted(&mut second, 1..=3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_seconds_without_redis_lose_no_seat_and_no_message() {
    let redis = Redis::start().await;
    let times = ClusterTimes::default();
    let (a, b) = (node_with(&redis, times, LONG).await, node_with(&redis, times, LONG).await);
    let (mut first, _, mut second, _) = pair(&a, &b, "tea").await;
    let (mut here, _, mut there, _) = pair(&a, &a, "coffee").await;
    counted(&mut first, 1..=10).await;
    redis.freeze();
    counted(&mut first, 11..=20).await;
    counted(&mut second, 1..=10).await;
    // It takes them four seconds or five.
    is_healthy(&a, false).await;
    is_healthy(&b, false).await;
    // Rooms of this node alone do not notice.
    counted(&mut here, 1..=3).await;
    expect_counted(&mut there, 1..=3).await;
    counted(&mut first, 21..=30).await;
    let mut newcomer = b.client().await;
    newcomer.join("tea").await;
    redis.thaw();
    expect_counted(&mut second, 1..=30).await;
    expect_counted(&mut first, 1..=10).await;
    newcomer.expect("full").await;
    is_healthy(&a, true).await;
    is_healthy(&b, true).await;
    first.expect_nothing().await;
    second.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_everything_loses_no_seat_and_no_message() {
    let mut redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    let (mut first, _, mut second, second_token) = pair(&a, &b, "tea").await;
    redis.kill();
    is_healthy(&a, false).await;
    is_healthy(&b, false).await;
    counted(&mut first, 1..=20).await;
    counted(&mut second, 1..=20).await;
    assert!(redis.run().await);
    expect_counted(&mut first, 1..=20).await;
    expect_counted(&mut second, 1..=20).await;
    is_healthy(&a, true).await;
    is_healthy(&b, true).await;
    // The old key is everybody's again, a new node's too.
    let c = node(&redis).await;
    drop(second);
    let mut second = resume(&c, "tea", &second_token, 20).await;
    second.expect("resumed").await;
    counted(&mut second, 21..=22).await;
    expect_counted(&mut first, 21..=22).await;
    first.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_cut_off_for_longer_than_its_lease_lets_nobody_in_until_redis_is_back() {
    let redis = Redis::start().await;
    let lease = LeaseTimes { lifetime: ms(1_500), renew_every: ms(400) };
    let times = ClusterTimes { lease, ..soon() };
    let (a, b) = (node_with(&redis, times, LONG).await, node_with(&redis, times, LONG).await);
    let (mut first, _, mut second, _) = pair(&a, &b, "tea").await;
    let mut alone = a.guest("coffee").await;
    redis.freeze();
    is_healthy(&a, false).await;
    // The lease runs out: someone else might own the room.
    tokio::time::sleep(lease.lifetime).await;
    let mut newcomer = a.client().await;
    newcomer.join("coffee").await;
    alone.expect_nothing().await;
    redis.thaw();
    newcomer.expect("joined").await;
    alone.expect("join").await;
    // Nobody took the other room over: everything is as it was.
    counted(&mut first, 1..=3).await;
    expect_counted(&mut second, 1..=3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_owner_steps_down_and_its_clients_take_their_seats_elsewhere() {
    let redis = Redis::start().await;
    let (a, b) = (node(&redis).await, node(&redis).await);
    let (mut first, _, mut second, _) = pair(&a, &a, "tea").await;
    let (mut here, _, mut abroad, _) = pair(&a, &b, "coffee").await;
    counted(&mut first, 1..=3).await;
    expect_counted(&mut second, 1..=3).await;
    for room in ["tea", "coffee"] {
        let lease = format!("visavis:lease:{room}");
        // As if another node had taken it, and died.
        let other = ["HSET", &lease, "node", &"f".repeat(32), "fence", "1", "until", "0"];
        redis.command::<()>(&other).await;
    }
    for wire in [&mut first, &mut second, &mut here, &mut abroad] {
        wire.expect("resumed").await;
    }
    let mut stranger = b.client().await;
    stranger.join("tea").await;
    stranger.expect("full").await;
    counted(&mut first, 1..=5).await;
    expect_news(&mut second, 4..=5).await;
    counted(&mut here, 1..=2).await;
    expect_counted(&mut abroad, 1..=2).await;
    counted(&mut abroad, 1..=2).await;
    expect_counted(&mut here, 1..=2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_was_faster_gives_way_to_the_call_that_was_there_first() {
    let redis = Redis::start().await;
    // This one learns late that it was deposed.
    let lease = LeaseTimes { lifetime: LONG, renew_every: ms(2_000) };
    let a = node_with(&redis, ClusterTimes { lease, ..soon() }, LONG).await;
    let b = node(&redis).await;
    let (mut first, _, mut second, _) = pair(&a, &a, "tea").await;
    let other = ["HSET", "visavis:lease:tea", "node", &"f".repeat(32), "fence", "1", "until", "0"];
    redis.command::<()>(&other).await;
    let mut stranger = b.client().await;
    stranger.join("tea").await;
    // Or at once, if the call was faster after all.
    if kind(&stranger.event().await) == "created" {
        stranger.expect("full").await;
    }
    first.expect("resumed").await;
    second.expect("resumed").await;
    counted(&mut first, 1..=3).await;
    expect_counted(&mut second, 1..=3).await;
}

#[tokio::test]
async fn a_key_from_a_file_must_be_the_same_everywhere() {
    let redis = Redis::start().await;
    let keyed = |byte: u8| {
        let options = ClusterOptions::new(redis.url());
        Cluster::connect(ClusterOptions { secret: Some([byte; 32]), ..options })
    };
    keyed(1).await.unwrap();
    keyed(1).await.unwrap();
    let error = keyed(2).await.expect_err("another key").to_string();
    assert!(error.contains("same file"), "{error}");
    assert_eq!(redis.command::<u32>(&["EXISTS", "visavis:token-key"]).await, 0, "it stays secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_is_missed_and_its_seat_is_free_again() {
    let redis = Redis::start().await;
    let a = node_with(&redis, soon(), ms(700)).await;
    let mut first = a.guest("tea").await;
    let mut program = Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
        .args(["--listen", "127.0.0.1:0", "--rooms", redis.url().as_str()])
        .env("RUST_LOG", "off")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("Serving on http://").unwrap().parse().unwrap();
    let mut second = Wire::connect(address).await;
    second.join("tea").await;
    second.expect("joined").await;
    first.expect("join").await;
    first.expect("ready").await;
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(first.expect("bye").await["reason"], "lost");
    first.expect("created").await;
}

#[test]
fn an_address_where_no_redis_is_is_one_sentence_and_a_failure() {
    let started = |rooms: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
            .args(["--listen", "127.0.0.1:0", "--rooms", rooms])
            .env("RUST_LOG", "off")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = started("redis://127.0.0.1:1");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Redis at 127.0.0.1:1 cannot be used"), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    let (code, text) = started("tea");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("redis://HOST:PORT"), "{text}");
}
