//! The room registry against a model of it that is too simple to be wrong: each room is the
//! list of its seats, the initiator's first. Run by the fuzzer and by `tests/random.rs`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use visavis_signaling::{
    CarrierKind, Guest, Limits, RoomName,
    moment::Moment,
    protocol::{ByeReason, ClientEvent, PeerId, ServerEvent},
    room::{ConnectionId, Delivery, HOLD, Registry, RoomOptions, UNSEATED_LIMIT},
};

const ROOMS: [&str; 3] = ["tea", "coffee", "__proto__"];
const MAX_ROOMS: usize = 2;
const CONNECTIONS: u8 = 6;
const BURST: u32 = 120;
const KEPT: usize = 64;
const GUEST: Guest = Guest {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    carrier: CarrierKind::WebSocket,
};

struct Model {
    rooms: BTreeMap<&'static str, VecDeque<Seat>>,
    open: BTreeMap<u64, Client>,
    /// What clients remember of seats: theirs, or no longer.
    memories: Vec<Memory>,
    seats: u64,
    now: Moment,
}

struct Client {
    unseated: Option<Moment>,
    events: u32,
    /// Its place in the seat's list of tokens, until it says something.
    unconfirmed: Option<usize>,
}

struct Seat {
    number: u64,
    who: Option<u64>,
    until: Moment,
    id: Option<PeerId>,
    tokens: Vec<(String, Option<PeerId>)>,
    oldest: usize,
    received: u64,
    /// What it was sent and may be sent again.
    kept: VecDeque<(u64, String)>,
    forgotten: u64,
    waiting: usize,
}

#[derive(Clone)]
struct Memory {
    room: &'static str,
    seat: u64,
    token: usize,
    text: String,
    peer: Option<PeerId>,
    last_seq: u64,
}

/// Whom, what.
type Told = (u64, String);

impl Model {
    fn place_of(&self, who: u64) -> Option<(&'static str, usize)> {
        self.rooms.iter().find_map(|(room, seats)| {
            seats.iter().position(|seat| seat.who == Some(who)).map(|index| (*room, index))
        })
    }

    /// The other seat of a room.
    fn opposite(&mut self, room: &str, index: usize) -> Option<&mut Seat> {
        self.rooms.get_mut(room)?.get_mut(1 - index)
    }

    fn join(&mut self, who: u64, room: &'static str, memory: Option<&Memory>) -> Vec<Told> {
        if self.place_of(who).is_some_and(|(sits, _)| sits == room) {
            return Vec::new();
        }
        let mut told = Vec::new();
        if let Some(memory) = memory.filter(|memory| memory.room == room)
            && self.resume(who, memory, &mut told)
        {
            return told;
        }
        told.extend(self.leave(who));
        let rooms = self.rooms.values().filter(|seats| !seats.is_empty()).count();
        let number = self.seats;
        let seats = self.rooms.entry(room).or_default();
        let first = seats.front().map(|seat| seat.who);
        match (seats.len(), first.flatten()) {
            (0, _) if rooms >= MAX_ROOMS => {
                self.open.remove(&who);
                return told.into_iter().chain(expelled(who)).collect();
            }
            (0, _) => told.push((who, "created".into())),
            (1, first) => {
                told.extend(first.map(|first| (first, "join".into())));
                told.push((who, "joined".into()));
                told.extend(first.map(|first| (first, "ready".into())));
                told.push((who, "ready".into()));
            }
            _ => {
                let client = self.open.get_mut(&who).expect("an open connection");
                client.unseated = Some(self.now);
                told.push((who, "full".into()));
                return told;
            }
        }
        self.seats += 1;
        seats.push_back(Seat {
            number,
            who: Some(who),
            until: self.now,
            id: None,
            tokens: Vec::new(),
            oldest: 0,
            received: 0,
            kept: VecDeque::new(),
            forgotten: 0,
            waiting: 0,
        });
        self.open.get_mut(&who).expect("an open connection").unseated = None;
        told
    }

    fn resume(&mut self, who: u64, memory: &Memory, told: &mut Vec<Told>) -> bool {
        let seats = self.rooms.entry(memory.room).or_default();
        let Some(index) = seats.iter().position(|seat| seat.number == memory.seat) else {
            return false;
        };
        if memory.token < seats[index].oldest {
            return false;
        }
        let peer = seats.get(1 - index).map(|seat| seat.id.clone().expect("an id"));
        let last_seq = if peer == memory.peer { memory.last_seq } else { 0 };
        let reaches = seats[index].forgotten <= last_seq;
        if let Some(ghost) = seats[index].who {
            told.extend([(ghost, "bye".into()), (ghost, "closed".into())]);
            self.open.remove(&ghost);
        }
        if !reaches {
            told.extend(self.free(memory.room, index));
            return false;
        }
        told.extend(self.leave(who));
        told.push((who, "resumed".into()));
        let seats = self.rooms.get_mut(memory.room).expect("a room");
        let seat = &mut seats[index];
        seat.who = Some(who);
        seat.oldest = memory.token;
        seat.waiting = 0;
        let missed = seat.kept.iter().filter(|(seq, _)| *seq > last_seq);
        told.extend(missed.map(|(_, message)| (who, message.clone())));
        let unconfirmed = Some(seat.tokens.len());
        let client = self.open.get_mut(&who).expect("an open connection");
        (client.unseated, client.unconfirmed) = (None, unconfirmed);
        true
    }

    fn leave(&mut self, who: u64) -> Vec<Told> {
        let Some((room, index)) = self.place_of(who) else {
            return Vec::new();
        };
        let client = self.open.get_mut(&who).expect("an open connection");
        (client.unseated, client.unconfirmed) = (Some(self.now), None);
        self.free(room, index)
    }

    fn free(&mut self, room: &str, index: usize) -> Vec<Told> {
        let seats = self.rooms.get_mut(room).expect("a room");
        seats.remove(index);
        let Some(stays) = seats.front_mut() else {
            return Vec::new();
        };
        stays.kept.clear();
        (stays.forgotten, stays.waiting) = (0, 0);
        let stays = stays.who.into_iter();
        stays.flat_map(|stays| [(stays, "bye".into()), (stays, "created".into())]).collect()
    }

    fn message(&mut self, who: u64, seq: Option<u64>, message: String) -> Vec<Told> {
        let Some((room, index)) = self.place_of(who) else {
            return vec![(who, "error".into())];
        };
        let alone = self.opposite(room, index).is_none();
        let own = &mut self.rooms.get_mut(room).expect("a room")[index];
        if seq.is_some_and(|seq| seq <= own.received) {
            return Vec::new();
        }
        let seq = seq.unwrap_or(if alone { own.received } else { own.received + 1 });
        own.received = seq;
        let Some(other) = self.opposite(room, index) else {
            return Vec::new();
        };
        other.kept.push_back((seq, message.clone()));
        match other.who {
            Some(other_who) => {
                while other.kept.len() > KEPT {
                    other.forgotten = other.kept.pop_front().expect("a message").0;
                }
                vec![(other_who, message)]
            }
            None => {
                other.waiting += 1;
                if other.waiting > KEPT { self.free(room, 1 - index) } else { Vec::new() }
            }
        }
    }

    /// The line of `who` breaks.
    fn lose(&mut self, who: u64) {
        if let Some((room, index)) = self.place_of(who) {
            let seat = &mut self.rooms.get_mut(room).expect("a room")[index];
            (seat.who, seat.until) = (None, self.now + HOLD);
        }
        self.open.remove(&who);
    }

    /// What the client of `who` would bring to take its seat back, had it missed the last
    /// `missed` messages.
    fn remember(&mut self, who: u64, missed: usize) {
        let Some((room, index)) = self.place_of(who) else {
            return;
        };
        let seat = &self.rooms[room][index];
        let heard = seat.kept.len().saturating_sub(missed).checked_sub(1);
        let last_seq = heard.map_or(seat.forgotten, |newest| seat.kept[newest].0);
        let token = seat.tokens.len() - 1;
        let (text, peer) = seat.tokens[token].clone();
        let memory = Memory { room, seat: seat.number, token, text, peer, last_seq };
        self.memories.push(memory);
    }

    fn time_out(&mut self) -> Vec<Told> {
        let mut due: Vec<_> = self
            .open
            .iter()
            .filter_map(|(who, client)| client.unseated.map(|since| (since.instant, *who)))
            .filter(|(since, _)| *since + UNSEATED_LIMIT <= self.now.instant)
            .collect();
        due.sort_unstable();
        for (_, who) in &due {
            self.open.remove(who);
        }
        let mut told: Vec<Told> = due.into_iter().map(|(_, who)| (who, "closed".into())).collect();
        // Who is told does not depend on the order: nobody there is told of both seats.
        let mut freed = Vec::new();
        for room in ROOMS {
            while let Some(index) = self.rooms.get(room).and_then(|seats| {
                let is_due =
                    |seat: &Seat| seat.who.is_none() && seat.until.instant <= self.now.instant;
                seats.iter().position(is_due)
            }) {
                let until = self.rooms[room][index].until.instant;
                freed.push((until, RoomName::parse(room).expect("a name"), self.free(room, index)));
            }
        }
        freed.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        told.extend(freed.into_iter().flat_map(|(.., told)| told));
        told
    }

    /// Whether `who` may say something; what it is told if not.
    fn may_speak(&mut self, who: u64) -> Result<(), Vec<Told>> {
        let Some(client) = self.open.get_mut(&who) else {
            return Err(Vec::new());
        };
        if client.events == 0 {
            let mut told: Vec<Told> = expelled(who).into();
            told.extend(self.leave(who));
            self.open.remove(&who);
            return Err(told);
        }
        client.events -= 1;
        if let Some(token) = client.unconfirmed.take()
            && let Some((room, index)) = self.place_of(who)
        {
            let seat = &mut self.rooms.get_mut(room).expect("a room")[index];
            seat.oldest = seat.oldest.max(token);
        }
        Ok(())
    }

    /// Learns the ids and tokens that only the registry can make.
    fn learn(&mut self, to: u64, event: &ServerEvent) {
        let (id, token, peer) = match event {
            ServerEvent::Created { id, resume, .. } => (Some(id), resume.as_ref(), None),
            ServerEvent::Joined { id, resume, peer, .. } => (Some(id), resume.as_ref(), Some(peer)),
            ServerEvent::Join { id, resume, .. } => (None, resume.as_ref(), Some(id)),
            ServerEvent::Resumed { id, resume, peer, .. } => {
                (Some(id), Some(resume), peer.as_ref())
            }
            _ => return,
        };
        let Some((room, index)) = self.place_of(to) else {
            return;
        };
        let seat = &mut self.rooms.get_mut(room).expect("a room")[index];
        if let (Some(known), Some(id)) = (&seat.id, id) {
            assert_eq!(known, id, "a seat keeps its id");
        }
        seat.id = id.cloned().or(seat.id.take());
        seat.tokens.push((token.expect("a token").clone(), peer.cloned()));
        let opposite = self.opposite(room, index).and_then(|seat| seat.id.clone());
        assert!(opposite.is_none() || peer.is_none() || opposite.as_ref() == peer);
    }
}

fn expelled(who: u64) -> [Told; 2] {
    [(who, "error".into()), (who, "closed".into())]
}

/// Panics if the history that `data` describes, two bytes a step, breaks the rules of rooms.
pub fn check(data: &[u8]) {
    let limits =
        Limits { message_rate: 1, message_burst: BURST, max_rooms: MAX_ROOMS, ..Limits::default() };
    let options = RoomOptions { limits, ..RoomOptions::default() };
    let mut registry = Registry::with(options, [data.len() as u8; 32]);
    let mut model = Model {
        rooms: BTreeMap::new(),
        open: BTreeMap::new(),
        memories: Vec::new(),
        seats: 0,
        now: Moment::now(),
    };
    let (steps, _) = data.as_chunks::<2>();
    for (step, [action, argument]) in steps.iter().enumerate() {
        let who = u64::from(argument % CONNECTIONS);
        let connection = ConnectionId(who);
        let room = ROOMS[usize::from(argument / CONNECTIONS) % ROOMS.len()];
        let name = RoomName::parse(room).expect("a room's name");
        let is_open = model.open.contains_key(&who);
        let missed = usize::from(action / 16 % 4);
        let (deliveries, expected) = match action % 12 {
            0 | 1 if !is_open => {
                registry.handle_open(connection, GUEST, model.now);
                let unseated = Some(model.now);
                model.open.insert(who, Client { unseated, events: BURST, unconfirmed: None });
                (Vec::new(), Vec::new())
            }
            2 => {
                // Mostly a few seconds, now and then many.
                let seconds = u64::from(if argument % 8 == 0 { *argument } else { argument % 16 });
                model.now += Duration::from_secs(seconds);
                let gained = u32::try_from(seconds).expect("a byte");
                for client in model.open.values_mut() {
                    client.events = (client.events + gained).min(BURST);
                }
                (registry.handle_timeout(model.now), model.time_out())
            }
            3 => {
                model.remember(who, missed);
                model.lose(who);
                (registry.handle_closed(connection, ByeReason::Lost, model.now), Vec::new())
            }
            4 if action > &200 => {
                let told = model.leave(who);
                model.open.remove(&who);
                (registry.handle_closed(connection, ByeReason::Left, model.now), told)
            }
            5 if is_open => {
                // The client is about to dial again, though its connection lives.
                model.remember(who, missed);
                (Vec::new(), Vec::new())
            }
            8..=9 => {
                // Mostly one, now and then a flood.
                let times = if argument / 16 == 7 { 45 } else { 1 };
                let (mut deliveries, mut told) = (Vec::new(), Vec::new());
                for _ in 0..times {
                    // Some count, some do not, and some send again what had arrived.
                    let before =
                        model.place_of(who).map(|(room, index)| model.rooms[room][index].received);
                    let seq =
                        (who % 2 == 0).then_some(before.unwrap_or(0) + u64::from(argument % 5 > 0));
                    let event = ClientEvent::Message { message: (step as u64).into(), seq };
                    told.extend(
                        model.may_speak(who).map_or_else(
                            |told| told,
                            |()| model.message(who, seq, step.to_string()),
                        ),
                    );
                    deliveries.extend(registry.handle_event(connection, event, model.now));
                }
                (deliveries, told)
            }
            action => {
                let (event, told) = match action {
                    6..=7 if !model.memories.is_empty() => {
                        let newest = model.memories.len() - 1;
                        let memory = model.memories[newest - missed.min(newest)].clone();
                        let event = ClientEvent::CreateOrJoin {
                            room: RoomName::parse(memory.room).expect("a room's name"),
                            resume: Some(memory.text.clone()),
                            last_seq: Some(memory.last_seq),
                        };
                        let told = model.may_speak(who).map_or_else(
                            |told| told,
                            |()| model.join(who, memory.room, Some(&memory)),
                        );
                        (event, told)
                    }
                    0..=1 | 6..=7 => {
                        let event =
                            ClientEvent::CreateOrJoin { room: name, resume: None, last_seq: None };
                        let told = model
                            .may_speak(who)
                            .map_or_else(|told| told, |()| model.join(who, room, None));
                        (event, told)
                    }
                    4 | 10 => {
                        let event = match argument % 3 {
                            0 => ClientEvent::Bye,
                            1 => ClientEvent::Message { message: "bye".into(), seq: None },
                            _ => ClientEvent::Ping,
                        };
                        let is_ping = event == ClientEvent::Ping;
                        let told = model.may_speak(who).map_or_else(
                            |told| told,
                            |()| {
                                if is_ping { vec![(who, "pong".into())] } else { model.leave(who) }
                            },
                        );
                        (event, told)
                    }
                    _ => {
                        let told = model
                            .may_speak(who)
                            .map_or_else(|told| told, |()| vec![(who, "pong".into())]);
                        (ClientEvent::Ping, told)
                    }
                };
                (registry.handle_event(connection, event, model.now), told)
            }
        };
        assert_eq!(deliveries.iter().map(told).collect::<Vec<_>>(), expected, "step {step}");
        for delivery in &deliveries {
            if let Delivery::Event { to, event } = delivery {
                model.learn(to.0, event);
            }
        }
        let seats = || model.rooms.values().flatten();
        let counts = registry.counts();
        let held = seats().filter(|seat| seat.who.is_none()).count();
        let expected = (model.open.len(), seats().count(), held);
        assert_eq!((counts.connections, counts.seats, counts.held), expected);
        assert_eq!(counts.rooms, model.rooms.values().filter(|seats| !seats.is_empty()).count());
        assert!(counts.rooms <= MAX_ROOMS);
        assert!(model.rooms.values().all(|seats| seats.len() <= 2));
        assert!(registry.poll_timeout().is_none_or(|due| due > model.now.instant));
    }
}

fn told(delivery: &Delivery) -> Told {
    let (to, event) = match delivery {
        Delivery::Close { connection, .. } => return (connection.0, "closed".into()),
        Delivery::Event { to, event } => (to.0, event),
    };
    let kind = match event {
        ServerEvent::Created { .. } => "created",
        ServerEvent::Join { .. } => "join",
        ServerEvent::Joined { .. } => "joined",
        ServerEvent::Ready { .. } => "ready",
        ServerEvent::Resumed { .. } => "resumed",
        ServerEvent::Full { .. } => "full",
        // A message is the number of the step that sent it.
        ServerEvent::Message { message, .. } => return (to, message.to_string()),
        ServerEvent::Bye { .. } => "bye",
        ServerEvent::Error { .. } => "error",
        ServerEvent::Pong => "pong",
        _ => "something else",
    };
    (to, kind.into())
}
