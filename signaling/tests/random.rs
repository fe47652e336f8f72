//! The fuzzer's checks with seeded chance, so that every run covers them.

use rand::{Rng, SeedableRng, rngs::StdRng};
use visavis_signaling::RoomName;

#[path = "../fuzz/cluster.rs"]
mod cluster;
#[path = "../fuzz/proxies.rs"]
mod proxies;
#[path = "../fuzz/rooms.rs"]
mod rooms;
#[path = "../fuzz/token.rs"]
mod token;
#[path = "../fuzz/wire.rs"]
mod wire;

const FRAMES: [&str; 10] = [
    r#"{"type":"create or join","room":"Tea","resume":"abc","last_seq":12}"#,
    r#"{"type":"message","message":{"type":"offer","sdp":"v=0\r\n"},"seq":3}"#,
    r#"{"type":"message","message":"bye"}"#,
    r#"{"type":"bye"}"#,
    r#"{"type":"created","room":"tea","id":"p"}"#,
    r#"{"type":"ready","ice_servers":[{"urls":["turn:h"],"username":"u","credential":"c"}]}"#,
    r#"{"type":"error","code":"bad-field","message":"m"}"#,
    "http://[::1]:8080/room/%E8%8C%B6?join",
    "Stra\u{df}e-\u{130}stanbul_\u{3a3}.\u{8336}",
    "e\u{301}\u{345}\u{1fb3}\u{390}\u{fb01}",
];

const BEFORE_REQUESTS: [&[u8]; 8] = [
    b"PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n",
    b"PROXY UNKNOWN\r\nGET /",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x01\x0a\0\0\x01\x12\x67\0\x50",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8",
    b"for=\"[2001:db8::1]:_x\";proto=https;host=\"a\\\"b\", for=192.0.2.1:80",
    b"https://tea.example:8443\ntea.example:8443",
    b"https://friend.example",
];

#[test]
fn whatever_passes_for_a_proxy_breaks_nothing() {
    let mut rng = StdRng::seed_from_u64(0x9ab);
    for round in 0..20_000 {
        let mut data = BEFORE_REQUESTS[round % BEFORE_REQUESTS.len()].to_vec();
        for _ in 0..rng.random_range(0..6) {
            mutate(&mut data, &mut rng);
        }
        proxies::check(&data);
    }
    for _ in 0..3_000 {
        let mut data = vec![0; rng.random_range(0..300)];
        rng.fill(data.as_mut_slice());
        proxies::check(&data);
    }
}

#[test]
fn any_bytes_are_a_text_frame_or_a_clear_error() {
    let mut rng = StdRng::seed_from_u64(0x7ea);
    for round in 0..20_000 {
        let mut data = FRAMES[round % FRAMES.len()].as_bytes().to_vec();
        for _ in 0..rng.random_range(0..6) {
            mutate(&mut data, &mut rng);
        }
        wire::check(&data);
    }
    for _ in 0..3_000 {
        let mut data = vec![0; rng.random_range(0..200)];
        rng.fill(data.as_mut_slice());
        wire::check(&data);
    }
}

#[test]
fn any_bytes_but_its_own_are_no_token() {
    let genuine = token::genuine();
    token::check(genuine.as_bytes());
    let mut rng = StdRng::seed_from_u64(0x7ea);
    for _ in 0..20_000 {
        let mut data = genuine.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            mutate(&mut data, &mut rng);
        }
        token::check(&data);
    }
    for _ in 0..3_000 {
        let mut data = vec![0; rng.random_range(0..1200)];
        rng.fill(data.as_mut_slice());
        token::check(&data);
    }
}

fn mutate(data: &mut Vec<u8>, rng: &mut StdRng) {
    if data.is_empty() {
        return data.push(rng.random());
    }
    let at = rng.random_range(0..data.len());
    match rng.random_range(0..5) {
        0 => data[at] = rng.random(),
        1 => data[at] ^= 1 << rng.random_range(0..8),
        2 => data.insert(at, rng.random()),
        3 => drop(data.remove(at)),
        _ => {
            let end = rng.random_range(at..=data.len());
            let piece = data[at..end].to_vec();
            data.splice(at..at, piece);
        }
    }
}

#[test]
fn a_name_of_any_letter_stays_what_it_is_when_parsed_again() {
    for c in ('\0'..=char::MAX).filter(|c| c.is_alphanumeric()) {
        let room = RoomName::parse(c.encode_utf8(&mut [0; 4])).expect("a letter is a name");
        assert_eq!(RoomName::parse(room.as_str()), Ok(room), "{c:?}");
    }
}

#[test]
fn no_history_gives_a_third_seat_a_stranger_s_message_or_a_missing_created() {
    let mut rng = StdRng::seed_from_u64(0x7ea);
    for _ in 0..1_000 {
        let mut data = vec![0; rng.random_range(0..600)];
        rng.fill(data.as_mut_slice());
        rooms::check(&data);
    }
}

#[test]
fn any_bytes_from_another_node_are_a_message_or_refused() {
    let mut rng = StdRng::seed_from_u64(0x7ea);
    let connection = 5_u64.to_be_bytes();
    let opening = br#"{"room":"tea","fence":3,"address":"::1","carrier":"web-socket"}"#;
    let told = FRAMES[4].as_bytes();
    let messages: [(u8, &[u8]); 10] = [
        (0, opening),
        (1, FRAMES[0].as_bytes()),
        (1, FRAMES[1].as_bytes()),
        (2, FRAMES[6].as_bytes()),
        (3, &[1]),
        (4, &[]),
        (5, &[0, 0, 0, 9]),
        (6, told),
        (7, &[2]),
        (9, &[]),
    ];
    for round in 0..20_000 {
        let (kind, body) = messages[round % messages.len()];
        let mut message = [&[kind], &connection[..], body].concat();
        if round % 3 > 0 {
            mutate(&mut message, &mut rng);
        }
        let mut data = cluster::genuine(&message);
        if round % 2 > 0 {
            mutate(&mut data, &mut rng);
        }
        cluster::check(&message);
        cluster::check(&data);
    }
}
