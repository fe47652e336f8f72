//! Who offers when, and what happens to what arrives: pure, so that every order of events can be
//! tested. The page's twin is `signaling/web/negotiation.js`.
//!
//! The initiator (who was first in the room) offers once, at the first `hello` or
//! `'got user media'` of the other end after its own sources are settled: the tutorial's page
//! ignores an offer that comes before its camera. Afterwards either end may offer by the
//! perfect-negotiation pattern (W3C WebRTC, section 10.7), the initiator being the impolite one.

use visavis_media::peer::Candidate;

use crate::peer_message::PeerMessage;

/// More candidates than an honest end sends on one connection, or before its description. Each is
/// tried from every address of ours 40 times a second, whosever it is.
const MAX_CANDIDATES: usize = 40;

/// More offers than an honest end makes on one connection: each has candidates of its own.
const MAX_OFFERS: u32 = 500;

/// More connections than an honest end begins anew in one stay.
const MAX_CONNECTIONS: u32 = 50;

/// What the shell does next, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Tell the other end.
    Send(PeerMessage),
    /// Make a fresh connection, closing the one before.
    Open,
    /// Close the connection, if there is one.
    Close,
    /// Make an offer; answer with [`Negotiation::handle_offer_made`].
    Offer,
    /// Make an offer that looks for a new path (ICE restart, RFC 8445 section 9); answer with
    /// [`Negotiation::handle_offer_made`].
    Restart,
    /// Take back our own offer.
    Rollback,
    /// Answer this offer; answer with [`Negotiation::handle_answer_made`] or
    /// [`Negotiation::handle_refused`].
    Answer(String),
    /// Apply this answer.
    AcceptAnswer(String),
    /// Add this candidate.
    AddCandidate(Candidate),
}

/// One call's negotiation. The shell performs each [`Act`] before the next input.
#[derive(Debug, Default)]
pub struct Negotiation {
    initiator: bool,
    /// Someone sits opposite.
    met: bool,
    /// Our sources are ready, or known to be absent.
    settled: bool,
    /// The other end said `hello` or `'got user media'`.
    peer_spoke: bool,
    /// The other end said `hello`.
    peer_is_ours: bool,
    connection: Option<Connection>,
    /// Connections that the other end began in this stay.
    begun: u32,
    queued: Vec<(Option<String>, Candidate)>,
}

#[derive(Debug)]
struct Connection {
    /// Marks what belongs to it. None: with a tutorial's page that offered without.
    call: Option<String>,
    /// An offer of ours is unanswered.
    offered: bool,
    /// The other end's description was applied.
    described: bool,
    /// Candidates of the other end taken since its last description.
    candidates: usize,
    /// Offers of the other end taken.
    offers: u32,
}

impl Negotiation {
    /// Whether the other end is one of ours.
    pub fn peer_is_ours(&self) -> bool {
        self.peer_is_ours
    }

    /// Whether we make the first offer.
    pub fn initiator(&self) -> bool {
        self.initiator
    }

    /// Someone new sits opposite: whatever was before is over. `hello` and `state` are ours.
    pub fn handle_met(&mut self, initiator: bool, greeting: [PeerMessage; 2]) -> Vec<Act> {
        let mut acts = self.handle_parted();
        self.initiator = initiator;
        self.met = true;
        acts.extend(greeting.map(Act::Send));
        if self.settled {
            acts.push(Act::Send(PeerMessage::GotUserMedia));
        }
        acts
    }

    /// Nobody sits opposite any more.
    pub fn handle_parted(&mut self) -> Vec<Act> {
        let settled = self.settled;
        let had_connection = self.connection.is_some();
        *self = Self { settled, ..Self::default() };
        if had_connection { vec![Act::Close] } else { vec![] }
    }

    /// Our sources are ready, or known to be absent. `call` marks a connection we may open.
    pub fn handle_settled(&mut self, call: &str) -> Vec<Act> {
        if self.settled {
            return vec![];
        }
        self.settled = true;
        let mut acts = Vec::new();
        if self.met {
            acts.push(Act::Send(PeerMessage::GotUserMedia));
        }
        acts.extend(self.first_offer(call));
        acts
    }

    /// The other end speaks. `call` marks a connection we may open. What is not about
    /// negotiating (`state`, `bye`) changes nothing here.
    pub fn handle_message(&mut self, message: PeerMessage, call: &str) -> Vec<Act> {
        if !self.met {
            return vec![];
        }
        match message {
            PeerMessage::Hello { .. } => {
                self.peer_is_ours = true;
                self.peer_spoke = true;
                self.first_offer(call)
            }
            PeerMessage::GotUserMedia => {
                self.peer_spoke = true;
                self.first_offer(call)
            }
            PeerMessage::Offer { sdp, call } => self.handle_offer(sdp, call),
            PeerMessage::Answer { sdp, call } => self.handle_answer(sdp, call.as_ref()),
            PeerMessage::Candidate { candidate, id, label, call } => {
                let candidate = Candidate { candidate, mid: id, mline_index: label };
                self.handle_candidate(call, candidate)
            }
            PeerMessage::State { .. } | PeerMessage::Pictures { .. } | PeerMessage::Bye => vec![],
        }
    }

    fn first_offer(&mut self, call: &str) -> Vec<Act> {
        if !(self.initiator && self.met && self.settled && self.peer_spoke)
            || self.connection.is_some()
        {
            return vec![];
        }
        self.connection = Some(Connection {
            // The tutorial's shapes for whoever does not say `hello`.
            call: self.peer_is_ours.then(|| call.to_owned()),
            offered: true,
            described: false,
            candidates: 0,
            offers: 0,
        });
        vec![Act::Open, Act::Offer]
    }

    /// A new path for the same connection; either end may look for one. Nothing while an offer
    /// of ours is unanswered, and nothing with a tutorial's page, which takes no second offer.
    pub fn handle_restart(&mut self) -> Vec<Act> {
        match &mut self.connection {
            Some(connection)
                if self.peer_is_ours && connection.described && !connection.offered =>
            {
                connection.offered = true;
                vec![Act::Restart]
            }
            _ => vec![],
        }
    }

    /// A fresh connection in the same call, after the one before died or never came to be; only
    /// the initiator may.
    pub fn handle_failed(&mut self, call: &str) -> Vec<Act> {
        if !self.initiator {
            return vec![];
        }
        self.connection = None;
        self.queued.clear();
        self.first_offer(call)
    }

    fn handle_offer(&mut self, sdp: String, call: Option<String>) -> Vec<Act> {
        let known = self.connection.as_ref().is_some_and(|connection| !connection.foreign(&call));
        let mut acts = Vec::new();
        if !known {
            // Only the initiator may begin a call, or begin it anew; all else is of one past.
            if self.initiator || self.begun >= MAX_CONNECTIONS {
                return vec![];
            }
            self.begun += 1;
            self.connection = Some(Connection {
                call,
                offered: false,
                described: false,
                candidates: 0,
                offers: 1,
            });
            acts.push(Act::Open);
        } else if let Some(connection) = &mut self.connection {
            if connection.offered && self.initiator {
                return vec![]; // glare, and we are impolite
            }
            if connection.offers >= MAX_OFFERS {
                return vec![];
            }
            if std::mem::take(&mut connection.offered) {
                acts.push(Act::Rollback);
            }
            connection.offers += 1;
            connection.candidates = 0;
        }
        acts.push(Act::Answer(sdp));
        acts
    }

    fn handle_answer(&mut self, sdp: String, call: Option<&String>) -> Vec<Act> {
        let Some(connection) = &mut self.connection else {
            return vec![];
        };
        if !connection.offered || connection.foreign(&call.cloned()) {
            return vec![];
        }
        connection.offered = false;
        connection.candidates = 0;
        vec![Act::AcceptAnswer(sdp)]
    }

    fn handle_candidate(&mut self, call: Option<String>, candidate: Candidate) -> Vec<Act> {
        match &mut self.connection {
            Some(connection) if connection.described => {
                if connection.foreign(&call) || connection.candidates >= MAX_CANDIDATES {
                    return vec![];
                }
                connection.candidates += 1;
                vec![Act::AddCandidate(candidate)]
            }
            _ => {
                if self.queued.len() < MAX_CANDIDATES {
                    self.queued.push((call, candidate));
                }
                vec![]
            }
        }
    }

    fn queued_candidates(&mut self) -> Vec<Act> {
        let Some(connection) = &self.connection else {
            return vec![];
        };
        std::mem::take(&mut self.queued)
            .into_iter()
            .filter(|(call, _)| !connection.foreign(call))
            .map(|(_, candidate)| Act::AddCandidate(candidate))
            .collect()
    }

    /// [`Act::AcceptAnswer`] was done: add what waited for the answer.
    pub fn handle_answer_accepted(&mut self) -> Vec<Act> {
        if let Some(connection) = &mut self.connection {
            connection.described = true;
        }
        self.queued_candidates()
    }

    /// [`Act::Offer`] was done: tell it.
    pub fn handle_offer_made(&mut self, sdp: String) -> Vec<Act> {
        let Some(connection) = &self.connection else {
            return vec![];
        };
        vec![Act::Send(PeerMessage::Offer { sdp, call: connection.call.clone() })]
    }

    /// [`Act::Answer`] was done: tell it, and add what waited for the offer.
    pub fn handle_answer_made(&mut self, sdp: String) -> Vec<Act> {
        let Some(connection) = &mut self.connection else {
            return vec![];
        };
        connection.described = true;
        let mut acts = vec![Act::Send(PeerMessage::Answer { sdp, call: connection.call.clone() })];
        acts.extend(self.queued_candidates());
        acts
    }

    /// A description was unusable or could not be made: a connection that never had one is
    /// none, one that stands goes on without.
    pub fn handle_refused(&mut self) -> Vec<Act> {
        match &mut self.connection {
            Some(connection) if !connection.described => {
                self.connection = None;
                vec![Act::Close]
            }
            Some(connection) => {
                connection.offered = false;
                vec![]
            }
            None => vec![],
        }
    }

    /// A candidate of ours, to be told.
    pub fn handle_local_candidate(&mut self, candidate: Candidate) -> Vec<Act> {
        let Some(connection) = &self.connection else {
            return vec![];
        };
        vec![Act::Send(PeerMessage::Candidate {
            candidate: candidate.candidate,
            id: candidate.mid,
            label: candidate.mline_index,
            call: connection.call.clone(),
        })]
    }
}

impl Connection {
    /// Belongs to another connection. The tutorial's page marks nothing: that fits any.
    fn foreign(&self, call: &Option<String>) -> bool {
        call.is_some() && *call != self.call
    }
}

#[cfg(test)]
#[path = "negotiation_tests.rs"]
mod tests;
