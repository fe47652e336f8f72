mod limits;
mod resume;

use serde_json::Value;

use super::*;
use crate::{carrier::CarrierKind, protocol::Role};

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const C: ConnectionId = ConnectionId(3);

const GUEST: Guest = Guest {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    carrier: CarrierKind::WebSocket,
};

struct Table {
    registry: Registry,
    now: Moment,
}

impl Table {
    fn new(policy: RoomPolicy) -> Self {
        Self::with(RoomOptions { policy, ..RoomOptions::default() })
    }

    fn with(options: RoomOptions) -> Self {
        let registry = Registry::with(options, [7; 32]);
        let mut table = Self { registry, now: Moment::now() };
        table.opens();
        table
    }

    fn opens(&mut self) {
        for connection in [A, B, C] {
            self.registry.handle_open(connection, GUEST, self.now);
        }
    }

    fn says(&mut self, who: ConnectionId, event: ClientEvent) -> Vec<String> {
        words(&self.registry.handle_event(who, event, self.now))
    }

    fn joins(&mut self, who: ConnectionId, room: &str) -> Vec<String> {
        self.says(who, join(room))
    }

    fn waits(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        words(&self.registry.handle_timeout(self.now))
    }

    fn closes(&mut self, who: ConnectionId, reason: ByeReason) -> Vec<String> {
        words(&self.registry.handle_closed(who, reason, self.now))
    }
}

fn name(room: &str) -> RoomName {
    RoomName::parse(room).unwrap()
}

fn join(room: &str) -> ClientEvent {
    ClientEvent::CreateOrJoin { room: name(room), resume: None, last_seq: None }
}

fn message(value: Value) -> ClientEvent {
    ClientEvent::Message { message: value.into(), seq: None }
}

/// Deliveries as `1 created`, `2 message 1`, `1 bye lost`.
fn words(deliveries: &[Delivery]) -> Vec<String> {
    let word = |delivery: &Delivery| match delivery {
        Delivery::Close { connection, .. } => format!("{} closed", connection.0),
        Delivery::Event { to, event } => {
            let to = to.0;
            let wire: Value = serde_json::from_str(&event.to_text()).unwrap();
            let kind = wire["type"].as_str().unwrap();
            match event {
                ServerEvent::Message { seq, .. } => format!("{to} {kind} {seq}"),
                ServerEvent::Bye { .. } => {
                    format!("{to} {kind} {}", wire["reason"].as_str().unwrap())
                }
                ServerEvent::Error { .. } => {
                    format!("{to} {kind} {}", wire["code"].as_str().unwrap())
                }
                _ => format!("{to} {kind}"),
            }
        }
    };
    deliveries.iter().map(word).collect()
}

#[test]
fn the_first_creates_the_second_joins_the_third_is_told_full() {
    let mut table = Table::new(RoomPolicy::Any);
    assert_eq!(table.joins(A, "tea"), ["1 created"]);
    assert_eq!(table.joins(B, "TEA"), ["1 join", "2 joined", "1 ready", "2 ready"]);
    assert_eq!(table.joins(C, "tea"), ["3 full"]);
    assert_eq!(table.registry.counts(), Counts { connections: 3, rooms: 1, seats: 2, held: 0 });
}

#[test]
fn whoever_stays_is_told_bye_and_made_initiator() {
    for (leaver, stayer) in [(A, B), (B, A)] {
        for goodbye in [ClientEvent::Bye, message("bye".into())] {
            let mut table = Table::new(RoomPolicy::Any);
            table.joins(A, "tea");
            table.joins(B, "tea");
            let stayer = stayer.0;
            let expected = [format!("{stayer} bye left"), format!("{stayer} created")];
            assert_eq!(table.says(leaver, goodbye), expected);
            let arrival = table.joins(C, "tea");
            assert_eq!(arrival[0], format!("{stayer} join"));
        }
    }
}

#[test]
fn a_connection_ended_for_bad_behaviour_frees_its_seat() {
    let mut table = Table::new(RoomPolicy::Any);
    table.joins(A, "tea");
    table.joins(B, "tea");
    let told = words(&table.registry.handle_expelled(A, table.now));
    assert_eq!(told, ["2 bye lost", "2 created"]);
    assert_eq!(table.closes(A, ByeReason::Lost), [""; 0]);
    assert_eq!(table.says(B, ClientEvent::Bye), [""; 0]);
    assert_eq!(table.registry.counts(), Counts { connections: 2, rooms: 0, seats: 0, held: 0 });
}

#[test]
fn messages_reach_the_other_seat_and_are_counted() {
    let mut table = Table::new(RoomPolicy::Any);
    table.joins(A, "tea");
    assert_eq!(table.says(A, message(1.into())), [""; 0]);
    table.joins(B, "tea");
    assert_eq!(table.says(A, message(2.into())), ["2 message 1"]);
    assert_eq!(table.says(B, message(3.into())), ["1 message 1"]);
    assert_eq!(table.says(A, message(4.into())), ["2 message 2"]);
    assert_eq!(table.says(C, message(5.into())), ["3 error not-in-room"]);
}

#[test]
fn joining_twice_is_ignored_and_another_room_leaves_the_first() {
    let mut table = Table::new(RoomPolicy::Any);
    table.joins(A, "tea");
    table.joins(B, "tea");
    assert_eq!(table.joins(A, "tea"), [""; 0]);
    assert_eq!(table.joins(A, "coffee"), ["2 bye left", "2 created", "1 created"]);
    assert_eq!(table.joins(C, "tea")[0], "2 join");
}

#[test]
fn a_host_serves_its_own_rooms_only() {
    let mut table = Table::new(RoomPolicy::Only([name("tea")].into()));
    assert_eq!(table.joins(A, "coffee"), ["1 error room-not-hosted"]);
    assert_eq!(table.joins(A, "tea"), ["1 created"]);
    // A refused room does not cost the seat.
    assert_eq!(table.joins(A, "coffee"), ["1 error room-not-hosted"]);
    assert_eq!(table.joins(B, "tea")[1], "2 joined");
    table.registry.allow(name("coffee"));
    assert_eq!(table.joins(C, "coffee"), ["3 created"]);
    let told = words(&table.registry.disallow(&name("tea"), table.now));
    assert_eq!(told, ["1 error room-not-hosted", "2 error room-not-hosted"]);
    assert_eq!(table.says(A, message(1.into())), ["1 error not-in-room"]);
    assert_eq!(table.registry.counts(), Counts { connections: 3, rooms: 1, seats: 1, held: 0 });
}

#[test]
fn a_server_for_any_room_cannot_disallow_one() {
    let mut table = Table::new(RoomPolicy::Any);
    table.joins(A, "tea");
    assert!(table.registry.disallow(&name("tea"), table.now).is_empty());
    assert_eq!(table.joins(B, "tea")[1], "2 joined");
}

#[test]
fn a_connection_that_takes_no_seat_is_ended_after_a_while() {
    let mut table = Table::new(RoomPolicy::Any);
    table.joins(A, "tea");
    table.joins(B, "tea");
    table.now += UNSEATED_LIMIT / 2;
    table.joins(C, "tea");
    let due = table.registry.poll_timeout().unwrap();
    assert_eq!(due, table.now.instant + UNSEATED_LIMIT, "asking for a full room counts");
    assert!(table.waits(UNSEATED_LIMIT - Duration::from_millis(1)).is_empty());
    assert_eq!(table.waits(Duration::from_millis(1)), ["3 closed"]);
    assert_eq!(table.registry.poll_timeout(), None);
    assert_eq!(table.joins(C, "coffee"), [""; 0], "a closed connection is not heard");
}

#[test]
fn ping_is_answered_and_addresses_are_not_told() {
    let mut table = Table::new(RoomPolicy::Any);
    assert_eq!(table.says(A, ClientEvent::Ping), ["1 pong"]);
    assert_eq!(table.says(A, ClientEvent::IpAddr), ["1 error addresses-not-told"]);
}
