//! One client of this node: where its words go, and what it takes to seat it again when the
//! room's owner is gone. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    carrier::Guest,
    cluster::wire::NodeId,
    hub::{Credit, Outbound},
    protocol::{ByeReason, ClientEvent, EventError, PeerId, RoomName, ServerEvent},
    room::ConnectionId,
};

/// After `resumed` a client sends again what was lost. One that does not, within this, will not.
const RESEND_WITHIN: Duration = Duration::from_secs(5);

/// Something a client said, or what cannot be read.
pub(super) struct Said {
    pub(super) event: Result<ClientEvent, EventError>,
    pub(super) credit: Option<Credit>,
}

/// How a client's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Closed(ByeReason),
    Expelled,
}

/// Which registry knows the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Here(ConnectionId),
    /// Under this number of ours, at that node.
    There(NodeId, u64),
    Nowhere,
}

pub(super) struct Client {
    pub(super) guest: Guest,
    /// `None` when only its ending is still to be told.
    pub(super) outbox: Option<mpsc::Sender<Outbound>>,
    pub(super) at: At,
    /// The room for which it is where it is.
    pub(super) room: Option<RoomName>,
    /// The room whose owner is looked for, and since when.
    pub(super) resolving: Option<(RoomName, Instant)>,
    /// What it said meanwhile; its credits bound it.
    pub(super) waiting: VecDeque<Said>,
    /// Of what was forwarded and is not done with, the oldest first.
    pub(super) in_flight: VecDeque<Option<Credit>>,
    pub(super) ending: Option<Ending>,
    pub(super) trace: Trace,
}

impl Client {
    pub(super) fn new(guest: Guest, outbox: mpsc::Sender<Outbound>) -> Self {
        Self {
            guest,
            outbox: Some(outbox),
            at: At::Nowhere,
            room: None,
            resolving: None,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            ending: None,
            trace: Trace::default(),
        }
    }
}

/// What passed between a client and a room.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// A wish for a seat that was not answered.
    asked: Option<ClientEvent>,
    seat: Option<Seat>,
    /// The newest of the client's messages, by its own count.
    said: u64,
    gate: Gate,
}

#[derive(Debug)]
struct Seat {
    room: RoomName,
    token: Option<String>,
    peer: Option<PeerId>,
    /// The newest message it was sent.
    heard: u64,
}

/// Keeps out messages that the client is going to send again, so that none of them overtakes
/// those that were lost before.
#[derive(Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// The seat is being taken up again.
    Shut,
    /// The client was told what had arrived, and sends the rest from there: a number that was
    /// heard before.
    UntilBack(Instant),
}

impl Trace {
    pub(super) fn is_seated(&self) -> bool {
        self.seat.is_some()
    }

    /// What the client says passes on its way to the owner. Whether it is to be forwarded.
    pub(super) fn passes(&mut self, event: &ClientEvent, now: Instant) -> bool {
        match event {
            ClientEvent::CreateOrJoin { room, .. } => {
                let is_there = self.seat.as_ref().is_some_and(|seat| seat.room == *room);
                // Our own wish on its behalf is asked for, too.
                if !is_there || self.gate == Gate::Shut {
                    self.asked = Some(event.clone());
                }
                true
            }
            ClientEvent::Message { message, .. } if message.is_bye() => {
                self.left();
                true
            }
            ClientEvent::Bye => {
                self.left();
                true
            }
            ClientEvent::Message { seq: Some(seq), .. } => self.admits(*seq, now),
            ClientEvent::Message { .. } | ClientEvent::IpAddr | ClientEvent::Ping => true,
        }
    }

    fn admits(&mut self, seq: u64, now: Instant) -> bool {
        match self.gate {
            Gate::UntilBack(until) if seq <= self.said || until <= now => self.gate = Gate::Open,
            Gate::Open | Gate::Shut | Gate::UntilBack(_) => {}
        }
        self.said = self.said.max(seq);
        self.gate == Gate::Open
    }

    /// What the client is told.
    pub(super) fn told(&mut self, event: &ServerEvent, now: Instant) {
        match event {
            ServerEvent::Created { room, resume, .. } => {
                self.sit(room, None, resume.clone(), 0);
            }
            ServerEvent::Joined { room, peer, resume, .. } => {
                self.sit(room, Some(peer.clone()), resume.clone(), 0);
            }
            ServerEvent::Join { id, resume, .. } => {
                if let Some(seat) = &mut self.seat {
                    seat.peer = Some(id.clone());
                    seat.heard = 0;
                    if resume.is_some() {
                        seat.token.clone_from(resume);
                    }
                }
            }
            ServerEvent::Resumed { room, peer, last_seq, resume, .. } => {
                let heard = match (&self.seat, &self.asked) {
                    (Some(seat), _) => {
                        if seat.peer == *peer {
                            seat.heard
                        } else {
                            0
                        }
                    }
                    (None, Some(ClientEvent::CreateOrJoin { last_seq, .. })) => {
                        last_seq.unwrap_or(0)
                    }
                    (None, _) => 0,
                };
                // To another one opposite nothing is sent again.
                let goes_on = self.seat.as_ref().is_some_and(|seat| seat.peer == *peer);
                self.sit(room, peer.clone(), Some(resume.clone()), heard);
                if goes_on && *last_seq < self.said {
                    self.gate = Gate::UntilBack(now + RESEND_WITHIN);
                }
            }
            ServerEvent::Full { .. } | ServerEvent::Bye { reason: ByeReason::Replaced, .. } => {
                self.left();
            }
            ServerEvent::Message { seq, .. } => {
                if let Some(seat) = &mut self.seat {
                    seat.heard = *seq;
                }
            }
            _ => {}
        }
    }

    fn sit(&mut self, room: &RoomName, peer: Option<PeerId>, token: Option<String>, heard: u64) {
        self.asked = None;
        self.gate = Gate::Open;
        self.seat = Some(Seat { room: room.clone(), token, peer, heard });
    }

    /// It has no seat, and wants none.
    pub(super) fn left(&mut self) {
        self.asked = None;
        self.seat = None;
        self.gate = Gate::Open;
    }

    /// The owner is gone: what is to be said to the next one in the client's name, and first to
    /// the client, if it cannot have its seat back.
    pub(super) fn again(&mut self) -> Option<(RoomName, ClientEvent, Option<ServerEvent>)> {
        if let Some(ClientEvent::CreateOrJoin { room, .. }) = &self.asked {
            let room = room.clone();
            return self.asked.clone().map(|event| (room, event, None));
        }
        let Seat { room, token, peer, heard } = self.seat.as_ref()?;
        let (room, resume, last_seq) = (room.clone(), token.clone(), Some(*heard));
        let farewell = match (&resume, peer) {
            (None, Some(peer)) => {
                Some(ServerEvent::Bye { id: peer.clone(), reason: ByeReason::Lost })
            }
            _ => None,
        };
        if resume.is_some() {
            self.gate = Gate::Shut;
        } else {
            self.left();
        }
        let event = ClientEvent::CreateOrJoin { room: room.clone(), resume, last_seq };
        Some((room, event, farewell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Role;

    fn tea() -> RoomName {
        RoomName::parse("tea").unwrap()
    }

    fn join() -> ClientEvent {
        ClientEvent::CreateOrJoin { room: tea(), resume: None, last_seq: None }
    }

    fn message(seq: u64) -> ClientEvent {
        ClientEvent::Message { message: seq.into(), seq: Some(seq) }
    }

    fn resumed(last_seq: u64) -> ServerEvent {
        ServerEvent::Resumed {
            room: tea(),
            id: PeerId::from("a"),
            role: Role::Responder,
            peer: Some(PeerId::from("b")),
            last_seq,
            resume: "second".into(),
            ice_servers: Vec::new(),
        }
    }

    /// Seated opposite `b`, has said messages 1 to 9 and heard 1 to 5.
    fn seated(resume: Option<&str>, now: Instant) -> Trace {
        let mut trace = Trace::default();
        assert!(trace.passes(&join(), now));
        let (id, peer) = (PeerId::from("a"), PeerId::from("b"));
        let resume = resume.map(Into::into);
        trace.told(&ServerEvent::Joined { room: tea(), id, peer: peer.clone(), resume }, now);
        for seq in 1..=9 {
            assert!(trace.passes(&message(seq), now));
        }
        for seq in 1..=5 {
            let message = ServerEvent::Message { from: peer.clone(), seq, message: 0.into() };
            trace.told(&message, now);
        }
        trace
    }

    #[test]
    fn the_seat_is_asked_back_with_the_last_token_and_the_last_number() {
        let now = Instant::now();
        let mut trace = seated(Some("first"), now);
        let (_, event, farewell) = trace.again().unwrap();
        let resume = Some("first".into());
        let expected = ClientEvent::CreateOrJoin { room: tea(), resume, last_seq: Some(5) };
        assert_eq!((event.clone(), farewell), (expected, None));
        assert!(trace.passes(&event, now));
        trace.told(&resumed(9), now);
        let (_, event, _) = trace.again().unwrap();
        let resume = Some("second".into());
        assert_eq!(event, ClientEvent::CreateOrJoin { room: tea(), resume, last_seq: Some(5) });
    }

    #[test]
    fn no_message_overtakes_those_that_are_to_be_sent_again() {
        let now = Instant::now();
        let mut trace = seated(Some("first"), now);
        let (_, event, _) = trace.again().unwrap();
        assert!(trace.passes(&event, now));
        assert!(!trace.passes(&message(10), now), "said before it knew");
        assert!(trace.passes(&ClientEvent::Ping, now));
        trace.told(&resumed(7), now);
        assert!(!trace.passes(&message(11), now), "under way meanwhile");
        for seq in 8..=12 {
            assert!(trace.passes(&message(seq), now), "{seq}");
        }
    }

    #[test]
    fn where_nothing_was_lost_nothing_is_kept_out() {
        let now = Instant::now();
        let mut trace = seated(Some("first"), now);
        trace.again().unwrap();
        trace.told(&resumed(9), now);
        assert!(trace.passes(&message(10), now));
    }

    #[test]
    fn what_is_said_to_another_one_opposite_is_not_kept_out() {
        let now = Instant::now();
        let mut trace = seated(Some("first"), now);
        trace.again().unwrap();
        let ServerEvent::Resumed { room, id, role, last_seq, resume, ice_servers, .. } = resumed(0)
        else {
            panic!("resumed");
        };
        let peer = Some(PeerId::from("c"));
        let event = ServerEvent::Resumed { room, id, role, peer, last_seq, resume, ice_servers };
        trace.told(&event, now);
        assert!(trace.passes(&message(10), now));
        assert!(matches!(
            trace.again().unwrap().1,
            ClientEvent::CreateOrJoin { last_seq: Some(0), .. }
        ));
    }

    #[test]
    fn a_client_that_does_not_send_again_is_not_shut_out_for_ever() {
        let now = Instant::now();
        let mut trace = seated(Some("first"), now);
        trace.again().unwrap();
        trace.told(&resumed(3), now);
        assert!(!trace.passes(&message(10), now));
        assert!(trace.passes(&message(11), now + RESEND_WITHIN));
    }

    #[test]
    fn one_without_a_token_is_told_that_the_other_is_gone_and_asks_anew() {
        let mut trace = seated(None, Instant::now());
        let (_, event, farewell) = trace.again().unwrap();
        assert!(matches!(farewell, Some(ServerEvent::Bye { reason: ByeReason::Lost, .. })));
        assert!(matches!(event, ClientEvent::CreateOrJoin { resume: None, .. }));
    }

    #[test]
    fn an_unanswered_wish_is_repeated_and_one_who_left_wants_nothing() {
        let now = Instant::now();
        let mut trace = Trace::default();
        assert!(trace.passes(&join(), now));
        assert_eq!(trace.again().unwrap().1, join());
        trace.told(&ServerEvent::Full { room: tea(), retry_ms: 1, held: false }, now);
        assert!(trace.again().is_none());
        let mut trace = seated(Some("first"), now);
        assert!(trace.passes(&ClientEvent::Bye, now));
        assert!(trace.again().is_none());
    }
}
