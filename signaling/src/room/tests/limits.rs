use std::{net::IpAddr, time::SystemTime};

use super::*;
use crate::{carrier::CarrierKind, ice_servers::IceServerProvider, protocol::IceServer};

fn limited(limits: Limits) -> Table {
    Table::with(RoomOptions { limits, ..RoomOptions::default() })
}

#[test]
fn who_says_too_much_is_told_and_ended() {
    let mut table = limited(Limits::default());
    table.joins(A, "tea");
    table.joins(B, "tea");
    for number in 1..200 {
        assert_eq!(table.says(A, message(number.into())).len(), 1, "{number}");
    }
    let told = table.says(A, message(200.into()));
    assert_eq!(told, ["1 error rate-limited", "1 closed", "2 bye lost", "2 created"]);
    assert_eq!(table.says(A, ClientEvent::Ping), [""; 0]);
    assert_eq!(table.closes(A, ByeReason::Lost), [""; 0]);
    assert_eq!(table.registry.counts().held, 0, "nobody waits for it");
}

#[test]
fn fifty_messages_a_second_never_end() {
    let mut table = limited(Limits::default());
    table.joins(A, "tea");
    table.joins(B, "tea");
    for _ in 0..100 {
        table.now += Duration::from_secs(1);
        for _ in 0..50 {
            assert_eq!(table.says(A, message(1.into())).len(), 1);
        }
    }
}

#[test]
fn nonsense_counts_too() {
    let mut table = limited(Limits { message_burst: 3, ..Limits::default() });
    let nonsense = || EventError::new(ErrorCode::MalformedJson, "no");
    for _ in 0..3 {
        let told = table.registry.handle_bad_event(A, nonsense(), table.now);
        assert_eq!(words(&told), ["1 error malformed-json"]);
    }
    let told = table.registry.handle_bad_event(A, nonsense(), table.now);
    assert_eq!(words(&told), ["1 error rate-limited", "1 closed"]);
}

#[test]
fn an_address_that_asks_for_too_many_seats_is_ended() {
    let mut table = limited(Limits { message_rate: 0, joins_per_minute: 2, ..Limits::default() });
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    for number in 10..14 {
        let guest = Guest { address, carrier: CarrierKind::WebSocket };
        table.registry.handle_open(ConnectionId(number), guest, table.now);
    }
    assert_eq!(table.joins(ConnectionId(10), "tea"), ["10 created"]);
    assert_eq!(table.joins(ConnectionId(10), "tea"), [""; 0], "no second seat was asked for");
    assert_eq!(table.joins(ConnectionId(11), "coffee"), ["11 created"]);
    let told = table.joins(ConnectionId(12), "milk");
    assert_eq!(told, ["12 error rate-limited", "12 closed"]);
    table.waits(Duration::from_secs(30));
    assert_eq!(table.joins(ConnectionId(13), "milk"), ["13 created"]);
    for _ in 0..100 {
        assert_eq!(table.joins(A, "milk").len(), 4, "this machine's own are not counted");
        assert_eq!(table.says(A, ClientEvent::Bye).len(), 2);
    }
}

#[test]
fn there_are_so_many_rooms_and_no_more() {
    let mut table = limited(Limits { max_rooms: 1, ..Limits::default() });
    table.joins(A, "tea");
    assert_eq!(table.joins(B, "coffee"), ["2 error too-many-rooms", "2 closed"]);
    assert_eq!(table.joins(C, "tea")[1], "3 joined");
    table.says(C, ClientEvent::Bye);
    assert_eq!(table.joins(A, "coffee"), ["1 created"], "its old room is gone");
}

/// Gives credentials that last eight minutes, and tells for whom.
struct Minutes;

impl IceServerProvider for Minutes {
    fn servers(&self, id: &PeerId, address: IpAddr, _: SystemTime) -> Vec<IceServer> {
        let username = Some(format!("{id}@{address}"));
        vec![IceServer { urls: vec!["turn:h".into()], username, credential: None }]
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(Duration::from_secs(8 * 60))
    }
}

#[test]
fn credentials_are_each_seat_s_own_and_handed_out_anew_in_time() {
    let ice: Arc<dyn IceServerProvider> = Arc::new(Minutes);
    let mut table = Table::with(RoomOptions { ice, ..RoomOptions::default() });
    table.joins(A, "tea");
    let told = table.registry.handle_event(B, join("tea"), table.now);
    let users: Vec<_> = told
        .iter()
        .filter_map(|delivery| match delivery {
            Delivery::Event { event: ServerEvent::Ready { ice_servers }, .. } => {
                ice_servers[0].username.clone()
            }
            _ => None,
        })
        .collect();
    assert!(users.len() == 2 && users[0] != users[1], "{users:?}");
    table.closes(C, ByeReason::Left);
    for _ in 0..3 {
        assert_eq!(
            table.registry.poll_timeout(),
            Some(table.now.instant + Duration::from_secs(360))
        );
        assert_eq!(table.waits(Duration::from_secs(360)), ["1 ready", "2 ready"]);
    }
    table.says(B, ClientEvent::Bye);
    assert_eq!(table.waits(Duration::from_secs(360)), [""; 0], "one alone needs none");
}
