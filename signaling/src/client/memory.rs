//! What a client remembers of its seat, so that it can take it back. Pure.

use crate::{
    outbox::Outbox,
    protocol::{ByeReason, ClientEvent, Payload, PeerId, Role, RoomName, ServerEvent},
};

#[derive(Debug)]
pub(super) struct Memory {
    room: RoomName,
    /// Takes the seat back; only ever kept here.
    token: Option<String>,
    /// The server knows this connection to have the seat.
    seated: bool,
    peer: Option<PeerId>,
    /// The newest message from this peer.
    received: u64,
    /// Messages sent, ever.
    sent: u64,
    outbox: Outbox,
    /// More was sent than could be kept: the seat cannot be taken back without a gap.
    gap: bool,
}

/// What follows from an event of the server's.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// For whoever uses the client.
    pub(super) tell: Vec<ServerEvent>,
    /// For the server.
    pub(super) say: Vec<ClientEvent>,
}

impl Memory {
    pub(super) fn new(room: RoomName) -> Self {
        Self {
            room,
            token: None,
            seated: false,
            peer: None,
            received: 0,
            sent: 0,
            outbox: Outbox::default(),
            gap: false,
        }
    }

    /// Whether there may be a seat to come back to.
    pub(super) fn has_seat(&self) -> bool {
        self.token.is_some()
    }

    /// Whether that seat has not been taken back yet.
    pub(super) fn is_away(&self) -> bool {
        self.has_seat() && !self.seated
    }

    /// Asks for the own seat, or any.
    pub(super) fn join(&self) -> ClientEvent {
        let resume = self.token.clone();
        let last_seq = resume.is_some().then_some(self.received);
        ClientEvent::CreateOrJoin { room: self.room.clone(), resume, last_seq }
    }

    /// Numbers a message that goes out right behind [`join`](Self::join); `None` for who comes back, and
    /// has been heard.
    pub(super) fn greet(&mut self, message: Payload) -> Option<ClientEvent> {
        if self.has_seat() {
            return None;
        }
        self.sent += 1;
        Some(ClientEvent::Message { message, seq: Some(self.sent) })
    }

    /// The line is down: what is sent from now on waits for the seat.
    pub(super) fn lose(&mut self) {
        self.seated = false;
        self.outbox.hold();
    }

    /// Numbers a message; `None` while it must wait, or has no seat to go out from.
    pub(super) fn send(&mut self, message: Payload) -> Option<ClientEvent> {
        if !self.seated && self.token.is_none() {
            return None;
        }
        self.sent += 1;
        // Without a token nothing will ever be sent again.
        if self.token.is_some() {
            self.gap |= self.outbox.push(self.sent, &message).is_err();
        }
        self.seated.then_some(ClientEvent::Message { message, seq: Some(self.sent) })
    }

    pub(super) fn hear(&mut self, event: ServerEvent) -> Heard {
        match &event {
            ServerEvent::Created { resume, .. } => self.meet(None, resume.clone()),
            ServerEvent::Joined { peer, resume, .. } => {
                self.meet(Some(peer.clone()), resume.clone());
            }
            ServerEvent::Join { id, resume, .. } => {
                let token = resume.clone().or(self.token.take());
                self.meet(Some(id.clone()), token);
            }
            ServerEvent::Full { .. } => self.forget(),
            ServerEvent::Bye { reason: ByeReason::Replaced, .. } => self.forget(),
            ServerEvent::Bye { .. } => self.peer = None,
            // It was sent again, but it had arrived.
            ServerEvent::Message { from, seq, .. }
                if self.peer.as_ref() == Some(from) && *seq <= self.received =>
            {
                return Heard::default();
            }
            ServerEvent::Message { seq, .. } => self.received = *seq,
            ServerEvent::Resumed { .. } => return self.resume(event),
            _ => {}
        }
        Heard { tell: vec![event], say: Vec::new() }
    }

    fn resume(&mut self, event: ServerEvent) -> Heard {
        let ServerEvent::Resumed { room, id, role, peer, last_seq, resume, ice_servers } = &event
        else {
            return Heard::default();
        };
        // A server that was restarted does not know what had arrived, and says 0: then all that
        // is kept goes again.
        if self.gap || *last_seq > 0 && !self.outbox.reaches(*last_seq) {
            tracing::info!("more was sent than could be kept: the seat is given up");
            self.forget();
            return Heard { tell: Vec::new(), say: vec![ClientEvent::Bye, self.join()] };
        }
        if *peer == self.peer {
            self.token = Some(resume.clone());
            self.seated = true;
            let again = self.outbox.resume(*last_seq).map(|(seq, message)| ClientEvent::Message {
                message: message.clone(),
                seq: Some(seq),
            });
            let say = again.collect();
            return Heard { tell: vec![event], say };
        }
        // Who sits opposite changed meanwhile: that is a new call.
        self.meet(peer.clone(), Some(resume.clone()));
        let (room, id, resume) = (room.clone(), id.clone(), Some(resume.clone()));
        let ready = ServerEvent::Ready { ice_servers: ice_servers.clone() };
        let tell = match (role, peer.clone()) {
            (_, None) => vec![ServerEvent::Created { room, id, resume }],
            (Role::Responder, Some(peer)) => {
                vec![ServerEvent::Joined { room, id, peer, resume }, ready]
            }
            (Role::Initiator, Some(peer)) => {
                let created = ServerEvent::Created { room: room.clone(), id, resume: None };
                vec![created, ServerEvent::Join { room, id: peer, resume }, ready]
            }
        };
        Heard { tell, say: Vec::new() }
    }

    /// Seated, opposite another one than before, or nobody.
    fn meet(&mut self, peer: Option<PeerId>, token: Option<String>) {
        *self = Self { token, seated: true, peer, sent: self.sent, ..Self::new(self.room.clone()) };
    }

    /// The seat is gone.
    fn forget(&mut self) {
        *self = Self { sent: self.sent, ..Self::new(self.room.clone()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::MAX_KEPT;

    fn room() -> RoomName {
        RoomName::parse("tea").unwrap()
    }

    fn id(text: &str) -> PeerId {
        PeerId::from(text)
    }

    fn message(seq: u64) -> ServerEvent {
        ServerEvent::Message { from: id("b"), seq, message: seq.into() }
    }

    fn resumed(peer: Option<&str>, last_seq: u64) -> ServerEvent {
        ServerEvent::Resumed {
            room: room(),
            id: id("a"),
            role: Role::Initiator,
            peer: peer.map(PeerId::from),
            last_seq,
            resume: "next".into(),
            ice_servers: Vec::new(),
        }
    }

    /// Seated opposite `b`, to whom `count` messages were sent.
    fn seated(count: u64) -> Memory {
        let mut memory = Memory::new(room());
        let resume = Some("token".to_owned());
        memory.hear(ServerEvent::Created { room: room(), id: id("a"), resume: resume.clone() });
        memory.hear(ServerEvent::Join { room: room(), id: id("b"), resume });
        for _ in 0..count {
            assert!(memory.send(0.into()).is_some());
        }
        memory
    }

    fn numbers(say: &[ClientEvent]) -> Vec<u64> {
        let number = |event: &ClientEvent| match event {
            ClientEvent::Message { seq, .. } => seq.expect("a number"),
            other => panic!("{other:?}"),
        };
        say.iter().map(number).collect()
    }

    fn kinds(tell: &[ServerEvent]) -> Vec<String> {
        let kind = |event: &ServerEvent| {
            serde_json::to_value(event).unwrap()["type"].as_str().unwrap().to_owned()
        };
        tell.iter().map(kind).collect()
    }

    #[test]
    fn it_asks_for_its_own_seat_and_sends_what_had_not_arrived() {
        let mut memory = seated(3);
        memory.hear(message(1));
        memory.hear(message(2));
        memory.lose();
        assert_eq!(memory.send("waits".into()), None);
        let resume = Some("token".into());
        let join = ClientEvent::CreateOrJoin { room: room(), resume, last_seq: Some(2) };
        assert_eq!(memory.join(), join);
        let heard = memory.hear(resumed(Some("b"), 2));
        assert_eq!(kinds(&heard.tell), ["resumed"]);
        assert_eq!(numbers(&heard.say), [3, 4]);
        assert_eq!(memory.hear(message(2)), Heard::default(), "it had arrived");
        assert_eq!(memory.hear(message(3)).tell, [message(3)]);
        assert!(memory.send(0.into()).is_some());
    }

    #[test]
    fn a_server_that_forgot_everything_is_sent_everything() {
        let mut memory = seated(1000);
        memory.lose();
        let heard = memory.hear(resumed(Some("b"), 0));
        assert_eq!(numbers(&heard.say).len(), MAX_KEPT);
        assert_eq!(numbers(&heard.say).last(), Some(&1000));
    }

    #[test]
    fn a_seat_lost_is_a_new_call() {
        let mut memory = seated(3);
        memory.lose();
        memory.send(0.into());
        memory.hear(ServerEvent::Created { room: room(), id: id("c"), resume: Some("t".into()) });
        assert_eq!(
            memory.send(0.into()),
            Some(ClientEvent::Message { message: 0.into(), seq: Some(5) })
        );
        memory.lose();
        assert_eq!(numbers(&memory.hear(resumed(None, 0)).say), [5]);
    }

    #[test]
    fn another_one_opposite_is_a_new_call() {
        let mut memory = seated(3);
        memory.hear(message(9));
        memory.lose();
        let heard = memory.hear(resumed(Some("c"), 1));
        assert_eq!(kinds(&heard.tell), ["created", "join", "ready"]);
        assert_eq!(heard.say, []);
        let first = ServerEvent::Message { from: id("c"), seq: 1, message: 1.into() };
        assert_eq!(memory.hear(first.clone()).tell, [first]);
        memory.lose();
        let heard = memory.hear(resumed(None, 1));
        assert_eq!(kinds(&heard.tell), ["created"]);
        assert!(matches!(memory.join(), ClientEvent::CreateOrJoin { resume: Some(token), .. }
            if token == "next"));
    }

    #[test]
    fn a_seat_with_a_gap_is_given_up() {
        let gives_up = |mut memory: Memory, last_seq| {
            let heard = memory.hear(resumed(Some("b"), last_seq));
            let plain = ClientEvent::CreateOrJoin { room: room(), resume: None, last_seq: None };
            heard == Heard { tell: Vec::new(), say: vec![ClientEvent::Bye, plain] }
        };
        let mut waited = seated(0);
        waited.lose();
        for _ in 0..=MAX_KEPT {
            waited.send(0.into());
        }
        assert!(gives_up(waited, 0));
        let under_way = || {
            let mut memory = seated(200);
            memory.lose();
            memory
        };
        assert!(gives_up(under_way(), 100));
        assert!(!gives_up(under_way(), 150));
    }

    #[test]
    fn without_a_seat_there_is_nothing_to_keep() {
        let mut memory = Memory::new(room());
        assert_eq!(memory.send(0.into()), None);
        let mut memory = seated(1);
        memory.hear(ServerEvent::Full { room: room(), retry_ms: 1, held: false });
        assert!(!memory.has_seat());
        assert_eq!(memory.send(0.into()), None);
        let plain = ClientEvent::CreateOrJoin { room: room(), resume: None, last_seq: None };
        assert_eq!(memory.join(), plain);
    }

    #[test]
    fn a_greeting_goes_ahead_of_the_seat_once() {
        let mut memory = Memory::new(room());
        let greeting = memory.greet("hello".into());
        assert_eq!(numbers(&Vec::from_iter(greeting)), [1]);
        let resume = Some("token".to_owned());
        memory.hear(ServerEvent::Created { room: room(), id: id("a"), resume: resume.clone() });
        memory.hear(ServerEvent::Join { room: room(), id: id("b"), resume });
        assert_eq!(numbers(&Vec::from_iter(memory.send(0.into()))), [2]);
        memory.lose();
        assert_eq!(memory.greet("hello".into()), None, "it comes back");
        assert_eq!(numbers(&memory.hear(resumed(Some("b"), 1)).say), [2]);
    }

    #[test]
    fn an_old_server_that_gives_no_token_is_served_as_ever() {
        let mut memory = Memory::new(room());
        memory.hear(ServerEvent::Created { room: room(), id: id("a"), resume: None });
        assert!(memory.send(0.into()).is_some());
        memory.lose();
        assert_eq!(memory.send(0.into()), None);
        assert!(!memory.has_seat());
    }
}
