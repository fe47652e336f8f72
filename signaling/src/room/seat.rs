//! A room's two seats, and who has which.

use std::time::{Instant, SystemTime};

use super::ConnectionId;
use crate::{
    outbox::Outbox,
    protocol::{PeerId, Role, RoomName},
    token::{Claim, TOKEN_LIFETIME, TokenKey},
};

/// A room exists while one of its seats is taken; whoever sits there alone is the initiator.
pub(super) struct Room {
    pub(super) initiator: Seat,
    pub(super) responder: Option<Seat>,
    /// When the ICE servers are handed out anew.
    pub(super) renew_at: Option<Instant>,
}

pub(super) struct Seat {
    pub(super) id: PeerId,
    pub(super) presence: Presence,
    /// The newest message that came from this seat, by the sender's count.
    pub(super) received: u64,
    /// What this seat was sent, as far as it may be needed again; `None` if its wire cannot
    /// resume.
    pub(super) outbox: Option<Outbox>,
    /// Set up from a token, after a restart: what was before is not known.
    pub(super) rebuilt: bool,
    epochs: Epochs,
}

/// Whether the seat's owner is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here(ConnectionId),
    Held { until: Instant },
}

/// Which of a seat's tokens are good.
struct Epochs {
    /// Older ones were used, and their successor was received.
    oldest: u32,
    newest: u32,
}

impl Seat {
    pub(super) fn new(id: PeerId, connection: ConnectionId, resumes: bool) -> Self {
        Self {
            id,
            presence: Presence::Here(connection),
            received: 0,
            outbox: resumes.then(Outbox::default),
            rebuilt: false,
            epochs: Epochs { oldest: 1, newest: 0 },
        }
    }

    /// The seat of someone known only from the token of the one opposite: any of its tokens is
    /// good.
    pub(super) fn awaited(id: PeerId, until: Instant) -> Self {
        let mut outbox = Outbox::default();
        outbox.hold_all();
        Self {
            id,
            presence: Presence::Held { until },
            received: 0,
            outbox: Some(outbox),
            rebuilt: true,
            epochs: Epochs { oldest: 0, newest: u32::MAX },
        }
    }

    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self.presence {
            Presence::Here(connection) => Some(connection),
            Presence::Held { .. } => None,
        }
    }

    /// Whether its token number `epoch` is good.
    pub(super) fn honours(&self, epoch: u32) -> bool {
        (self.epochs.oldest..=self.epochs.newest).contains(&epoch)
    }

    /// Its token number `epoch` was used: those before are good no more. It stays good itself
    /// until its successor is known to have arrived, for the answer may be lost on the way.
    pub(super) fn used(&mut self, epoch: u32) {
        self.epochs.oldest = epoch;
        if self.epochs.newest == u32::MAX {
            self.epochs.newest = epoch;
        }
    }

    /// Its client has its newest token, and has done with the ones before.
    pub(super) fn confirmed(&mut self, epoch: u32) {
        self.epochs.oldest = self.epochs.oldest.max(epoch);
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epochs.newest
    }
}

impl Room {
    pub(super) fn new(initiator: Seat) -> Self {
        Self { initiator, responder: None, renew_at: None }
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = &Seat> {
        std::iter::once(&self.initiator).chain(&self.responder)
    }

    /// The seat of `role`, and the one opposite.
    pub(super) fn pair(&mut self, role: Role) -> Option<(&mut Seat, Option<&mut Seat>)> {
        match role {
            Role::Initiator => Some((&mut self.initiator, self.responder.as_mut())),
            Role::Responder => self.responder.as_mut().map(|own| (own, Some(&mut self.initiator))),
        }
    }

    pub(super) fn role_of(&self, connection: ConnectionId) -> Option<Role> {
        self.role_where(|seat| seat.connection() == Some(connection))
    }

    pub(super) fn role_of_id(&self, id: &PeerId) -> Option<Role> {
        self.role_where(|seat| seat.id == *id)
    }

    pub(super) fn role_where(&self, is_it: impl Fn(&Seat) -> bool) -> Option<Role> {
        if is_it(&self.initiator) {
            Some(Role::Initiator)
        } else {
            self.responder.as_ref().is_some_and(is_it).then_some(Role::Responder)
        }
    }

    /// Takes the room apart: the seat of `role`, and the other one.
    pub(super) fn without(self, role: Role) -> (Option<Seat>, Option<Seat>) {
        match role {
            Role::Initiator => (Some(self.initiator), self.responder),
            Role::Responder => (self.responder, Some(self.initiator)),
        }
    }
}

/// Makes the tokens of one run of a server.
pub(super) struct Minter {
    pub(super) key: TokenKey,
    pub(super) run: u32,
}

impl Minter {
    /// The next token of the seat `role`; none if its wire cannot resume.
    pub(super) fn mint(
        &self,
        name: &RoomName,
        room: &mut Room,
        role: Role,
        now: SystemTime,
    ) -> Option<String> {
        let (seat, opposite) = room.pair(role)?;
        seat.outbox.as_ref()?;
        seat.epochs.newest = seat.epochs.newest.saturating_add(1);
        Some(self.key.seal(&Claim {
            room: name.clone(),
            id: seat.id.clone(),
            role,
            peer: opposite.map(|seat| seat.id.clone()),
            epoch: seat.epochs.newest,
            run: self.run,
            expires: now + TOKEN_LIFETIME,
        }))
    }
}
