use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;

const OURS: Cookie = [7; 20];
const THEIRS: Cookie = [9; 20];

/// A ClientHello of DTLS 1.2 with a session id of two bytes, as the `number`th message and record.
fn client_hello(number: u8, cookie: &[u8]) -> Vec<u8> {
    let body = [
        &DTLS_1_2[..],
        &[3; 32],
        &[2, 5, 5],
        &[cookie.len() as u8],
        cookie,
        &[0, 2, 0xc0, 0x2b, 1, 0, 0, 4, 0, 23, 0, 0],
    ]
    .concat();
    let mut datagram = record(CLIENT_HELLO, &body);
    datagram[10] = number; // the record
    datagram[RECORD + 5] = number; // the message
    datagram
}

fn in_channel(datagram: &[u8]) -> Vec<u8> {
    [&[0x40, 1, 0, datagram.len() as u8], datagram].concat()
}

/// As a relay tells of it, from a peer of IPv4.
fn indicated_by_a_relay(datagram: &[u8]) -> Vec<u8> {
    let mut attributes = vec![0, 0x12, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7];
    attributes.extend([0, 0x13, 0, datagram.len() as u8]);
    attributes.extend(datagram);
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    let mut message = vec![0, 0x17, 0, attributes.len() as u8, 0x21, 0x12, 0xa4, 0x42];
    message.extend([8; 12]);
    message.extend(attributes);
    message
}

fn ends() -> (Hello, Hello) {
    let (mut client, server) = (Hello::new(OURS), Hello::new(THEIRS));
    client.set_theirs(Some(THEIRS));
    (client, server)
}

#[test]
fn a_client_that_knows_the_cookie_is_asked_for_it_at_home() {
    let (mut client, _) = ends();
    let Leaving::Answered(request) = client.leaving(&client_hello(0, &[])) else {
        panic!("it left");
    };
    assert_eq!(request, verify_request(&THEIRS));
    assert_eq!(request[..RECORD], [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 35]);
    assert_eq!(request[RECORD..][..MESSAGE], [3, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 23]);
    assert_eq!(request[RECORD + MESSAGE..][..3], [254, 253, 20]);
    assert_eq!(client.leaving(&client_hello(1, &THEIRS)), Leaving::Passes);
    // And one that knows none asks the server.
    assert_eq!(Hello::new(OURS).leaving(&client_hello(0, &[])), Leaving::Passes);
}

#[test]
fn a_server_is_told_of_the_first_hello_and_asks_nobody() {
    let (_, mut server) = ends();
    assert_eq!(server.arrived(&client_hello(1, &THEIRS)), Some(client_hello(0, &[])));
    // Once more where the server was not there yet.
    assert_eq!(server.arrived(&client_hello(1, &THEIRS)), Some(client_hello(0, &[])));
    assert_eq!(server.leaving(&verify_request(&THEIRS)), Leaving::Kept);
    assert_eq!(server.arrived(&client_hello(1, &THEIRS)), None, "it has been told");
}

#[test]
fn the_same_in_a_channel_of_a_relay() {
    let (mut client, mut server) = ends();
    let leaving = client.leaving(&in_channel(&client_hello(0, &[])));
    assert_eq!(leaving, Leaving::Answered(in_channel(&verify_request(&THEIRS))));
    let second = in_channel(&client_hello(1, &THEIRS));
    assert_eq!(server.arrived(&second), Some(in_channel(&client_hello(0, &[]))));
    assert_eq!(server.leaving(&in_channel(&verify_request(&THEIRS))), Leaving::Kept);
}

#[test]
fn a_relay_that_has_no_channel_yet_tells_a_server_of_both_hellos_too() {
    let (mut client, mut server) = ends();
    let second = indicated_by_a_relay(&client_hello(1, &THEIRS));
    let first = server.arrived(&second).expect("the first");
    assert_eq!(first, indicated_by_a_relay(&client_hello(0, &[])));
    // What a client sends through one leaves as ever: its server asks.
    let mut sending = indicated_by_a_relay(&client_hello(0, &[]));
    sending[1] = 0x16;
    assert_eq!(client.leaving(&sending), Leaving::Passes);
}

#[test]
fn other_clients_are_asked_by_the_server() {
    let (_, mut server) = ends();
    assert_eq!(server.arrived(&client_hello(0, &[])), None);
    assert_eq!(server.leaving(&verify_request(&THEIRS)), Leaving::Passes);
    assert_eq!(server.arrived(&client_hello(1, &THEIRS)), None);
    // A server that asks for something else than was told has to ask.
    let (_, mut server) = ends();
    assert_eq!(server.arrived(&client_hello(1, &OURS)), None);
    assert!(server.arrived(&client_hello(1, &THEIRS)).is_some());
    assert_eq!(server.leaving(&verify_request(&OURS)), Leaving::Passes);
}

#[test]
fn all_else_passes() {
    let (mut client, mut server) = ends();
    let mut encrypted = client_hello(0, &[]);
    encrypted[4] = 1; // epoch
    let mut fragment = client_hello(0, &[]);
    fragment[RECORD + 3] += 1;
    let mut two = client_hello(0, &[]);
    two.extend(client_hello(1, &[]));
    let server_hello = record(2, &[0; 40]);
    let short = client_hello(0, &[])[..30].to_vec();
    for other in [encrypted, fragment, two, server_hello, short, vec![], vec![0x40, 1, 0, 9, 22]] {
        assert_eq!(client.leaving(&other), Leaving::Passes, "{other:?}");
        assert_eq!(server.arrived(&other), None, "{other:?}");
    }
}

#[test]
fn any_bytes_are_taken() {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..20_000 {
        let (mut client, mut server) = ends();
        let mut bytes = client_hello(random.random_range(0..2), &THEIRS);
        match random.random_range(0..4) {
            0 => bytes = in_channel(&bytes),
            1 => bytes = indicated_by_a_relay(&bytes),
            _ => {}
        }
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        bytes.truncate(random.random_range(0..=bytes.len()));
        if random.random_bool(0.1) {
            random.fill_bytes(&mut bytes);
        }
        client.leaving(&bytes);
        server.leaving(&bytes);
        if let Some(first) = server.arrived(&bytes) {
            assert!(first.len() < bytes.len());
        }
    }
}
