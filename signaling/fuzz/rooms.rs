//! The room registry against a model of it that is too simple to be wrong: each room is the
//! list of those who sit in it, the first one first. Run by the fuzzer and by `tests/random.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use visavis_signaling::{
    CarrierKind, Guest, RoomName, RoomPolicy,
    protocol::{ByeReason, ClientEvent, ServerEvent},
    room::{ConnectionId, Delivery, Registry, UNSEATED_LIMIT},
};

const ROOMS: [&str; 3] = ["tea", "coffee", "__proto__"];
const CONNECTIONS: u8 = 6;
const GUEST: Guest = Guest {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    carrier: CarrierKind::WebSocket,
};

#[derive(Default)]
struct Model {
    rooms: BTreeMap<&'static str, Vec<u64>>,
    /// Open connections; since when without a seat.
    open: BTreeMap<u64, Option<Instant>>,
}

/// Whom, what.
type Told = (u64, &'static str);

impl Model {
    fn room_of(&self, who: u64) -> Option<&'static str> {
        self.rooms.iter().find(|(_, seats)| seats.contains(&who)).map(|(room, _)| *room)
    }

    fn join(&mut self, who: u64, room: &'static str, now: Instant) -> Vec<Told> {
        if self.room_of(who) == Some(room) {
            return Vec::new();
        }
        let mut told = self.leave(who, now);
        let seats = self.rooms.entry(room).or_default();
        match seats.as_slice() {
            [] => told.push((who, "created")),
            [first] => {
                told.extend([(*first, "join"), (who, "joined"), (*first, "ready"), (who, "ready")]);
            }
            _ => {
                self.open.insert(who, Some(now));
                told.push((who, "full"));
                return told;
            }
        }
        seats.push(who);
        self.open.insert(who, None);
        told
    }

    fn leave(&mut self, who: u64, now: Instant) -> Vec<Told> {
        let Some(room) = self.room_of(who) else {
            return Vec::new();
        };
        self.open.insert(who, Some(now));
        let seats = self.rooms.entry(room).or_default();
        seats.retain(|seat| *seat != who);
        seats.iter().flat_map(|stays| [(*stays, "bye"), (*stays, "created")]).collect()
    }

    fn message(&self, who: u64) -> Vec<Told> {
        match self.room_of(who) {
            None => vec![(who, "error")],
            Some(room) => {
                let others = self.rooms[room].iter().filter(|seat| **seat != who);
                others.map(|other| (*other, "message")).collect()
            }
        }
    }

    fn time_out(&mut self, now: Instant) -> Vec<Told> {
        let mut due: Vec<(Instant, u64)> = self
            .open
            .iter()
            .filter_map(|(who, since)| since.map(|since| (since, *who)))
            .filter(|(since, _)| *since + UNSEATED_LIMIT <= now)
            .collect();
        due.sort_unstable();
        for (_, who) in &due {
            self.open.remove(who);
        }
        due.into_iter().map(|(_, who)| (who, "closed")).collect()
    }
}

/// Panics if the history that `data` describes, two bytes a step, breaks the rules of rooms.
pub fn check(data: &[u8]) {
    let mut registry = Registry::new(RoomPolicy::Any, [data.len() as u8; 32]);
    let mut model = Model::default();
    let mut now = Instant::now();
    let (steps, _) = data.as_chunks::<2>();
    for [action, argument] in steps {
        let who = u64::from(argument % CONNECTIONS);
        let connection = ConnectionId(who);
        let room = ROOMS[usize::from(argument / CONNECTIONS) % ROOMS.len()];
        let is_open = model.open.contains_key(&who);
        let (deliveries, expected) = match action % 8 {
            0 if !is_open => {
                registry.handle_open(connection, GUEST, now);
                model.open.insert(who, Some(now));
                (Vec::new(), Vec::new())
            }
            4 => {
                now += Duration::from_secs(u64::from(*argument));
                (registry.handle_timeout(now), model.time_out(now))
            }
            5 => {
                let reason = if *action > 127 { ByeReason::Left } else { ByeReason::Lost };
                let told = model.leave(who, now);
                model.open.remove(&who);
                (registry.handle_closed(connection, reason, now), told)
            }
            action => {
                let (event, told) = match action {
                    0..=2 => {
                        let name = RoomName::parse(room).expect("a room's name");
                        let event =
                            ClientEvent::CreateOrJoin { room: name, resume: None, last_seq: None };
                        (event, if is_open { model.join(who, room, now) } else { Vec::new() })
                    }
                    3 | 6 if argument % 5 > 0 => {
                        let event = ClientEvent::Message { message: who.into(), seq: None };
                        (event, if is_open { model.message(who) } else { Vec::new() })
                    }
                    3 => {
                        let event = ClientEvent::Message { message: "bye".into(), seq: None };
                        (event, model.leave(who, now))
                    }
                    6 => (ClientEvent::Bye, model.leave(who, now)),
                    _ => {
                        let told = if is_open { vec![(who, "pong")] } else { Vec::new() };
                        (ClientEvent::Ping, told)
                    }
                };
                (registry.handle_event(connection, event, now), told)
            }
        };
        assert_eq!(deliveries.iter().map(told).collect::<Vec<_>>(), expected);
        let seats: usize = model.rooms.values().map(Vec::len).sum();
        let counts = registry.counts();
        assert_eq!((counts.connections, counts.seats), (model.open.len(), seats));
        assert_eq!(counts.rooms, model.rooms.values().filter(|seats| !seats.is_empty()).count());
        assert!(model.rooms.values().all(|seats| seats.len() <= 2));
    }
}

fn told(delivery: &Delivery) -> Told {
    let (to, event) = match delivery {
        Delivery::Close { connection } => return (connection.0, "closed"),
        Delivery::Event { to, event } => (to.0, event),
    };
    let kind = match event {
        ServerEvent::Created { .. } => "created",
        ServerEvent::Join { .. } => "join",
        ServerEvent::Joined { .. } => "joined",
        ServerEvent::Ready { .. } => "ready",
        ServerEvent::Full { .. } => "full",
        ServerEvent::Message { .. } => "message",
        ServerEvent::Bye { .. } => "bye",
        ServerEvent::Error { .. } => "error",
        ServerEvent::Pong => "pong",
        _ => "something else",
    };
    (to, kind)
}
