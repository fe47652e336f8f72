//! Who offers when, and what happens to what arrives: pure, so that every order of events can be
//! tested. The page's twin is `signaling/web/negotiation.js`.
//!
//! The initiator (who was first in the room) offers once, at the first `hello` or
//! `'got user media'` of the other end after its own sources are settled: the tutorial's page
//! ignores an offer that comes before its camera. Afterwards either end may offer by the
//! perfect-negotiation pattern (W3C WebRTC, section 10.7), the initiator being the impolite one.

use visavis_media::peer::Candidate;

use crate::peer_message::PeerMessage;

/// More candidates than an honest end sends on one connection, or before its description.
const MAX_CANDIDATES: usize = 200;

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
    /// Candidates of the other end taken since.
    candidates: usize,
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
        });
        vec![Act::Open, Act::Offer]
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
            self.connection =
                Some(Connection { call, offered: false, described: false, candidates: 0 });
            acts.push(Act::Open);
        } else if let Some(connection) = &mut self.connection
            && connection.offered
        {
            if self.initiator {
                return vec![]; // glare, and we are impolite
            }
            connection.offered = false;
            acts.push(Act::Rollback);
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

    /// The other end's first description was unusable: the connection it began is none.
    pub fn handle_refused(&mut self) -> Vec<Act> {
        match &self.connection {
            Some(connection) if !connection.described => {
                self.connection = None;
                vec![Act::Close]
            }
            _ => vec![],
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
mod tests {
    use super::*;

    fn greeting() -> [PeerMessage; 2] {
        [
            PeerMessage::Hello { name: "Lei".to_owned() },
            PeerMessage::State { audio: true, video: true, screen: false },
        ]
    }

    fn hello() -> PeerMessage {
        PeerMessage::Hello { name: String::new() }
    }

    fn offer(call: Option<&str>) -> PeerMessage {
        PeerMessage::Offer { sdp: "offer".to_owned(), call: call.map(str::to_owned) }
    }

    fn answer(call: &str) -> PeerMessage {
        PeerMessage::Answer { sdp: "answer".to_owned(), call: Some(call.to_owned()) }
    }

    fn candidate(text: &str, call: Option<&str>) -> PeerMessage {
        PeerMessage::Candidate {
            candidate: text.to_owned(),
            id: None,
            label: Some(0),
            call: call.map(str::to_owned),
        }
    }

    fn met(initiator: bool) -> Negotiation {
        let mut negotiation = Negotiation::default();
        negotiation.handle_settled("-");
        negotiation.handle_met(initiator, greeting());
        negotiation
    }

    fn added(acts: &[Act]) -> Vec<&str> {
        acts.iter()
            .filter_map(|act| match act {
                Act::AddCandidate(candidate) => Some(candidate.candidate.as_str()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_initiator_offers_at_the_first_word_and_only_once() {
        let mut first = met(true);
        assert_eq!(first.handle_message(hello(), "c1"), [Act::Open, Act::Offer]);
        assert_eq!(first.handle_message(PeerMessage::GotUserMedia, "c2"), []);
        assert_eq!(
            first.handle_offer_made("sdp".to_owned()),
            [Act::Send(PeerMessage::Offer { sdp: "sdp".to_owned(), call: Some("c1".to_owned()) })]
        );
    }

    #[test]
    fn nobody_offers_before_the_own_sources_are_settled() {
        let mut first = Negotiation::default();
        first.handle_met(true, greeting());
        assert_eq!(first.handle_message(hello(), "c1"), []);
        assert_eq!(
            first.handle_settled("c1"),
            [Act::Send(PeerMessage::GotUserMedia), Act::Open, Act::Offer]
        );
    }

    #[test]
    fn the_second_one_never_offers_first() {
        let mut second = met(false);
        assert_eq!(second.handle_message(hello(), "c1"), []);
        assert_eq!(
            second.handle_message(offer(Some("c9")), "c1"),
            [Act::Open, Act::Answer("offer".to_owned())]
        );
        assert_eq!(
            second.handle_answer_made("a".to_owned()),
            [Act::Send(PeerMessage::Answer { sdp: "a".to_owned(), call: Some("c9".to_owned()) })]
        );
    }

    #[test]
    fn candidates_that_overtake_the_description_wait_for_it() {
        let mut second = met(false);
        assert_eq!(second.handle_message(candidate("one", Some("c9")), "-"), []);
        assert_eq!(second.handle_message(candidate("stale", Some("c8")), "-"), []);
        second.handle_message(offer(Some("c9")), "-");
        let acts = second.handle_answer_made("a".to_owned());
        assert_eq!(added(&acts), ["one"]);
        assert_eq!(added(&second.handle_message(candidate("two", Some("c9")), "-")), ["two"]);
        assert_eq!(added(&second.handle_message(candidate("three", None), "-")), ["three"]);
        assert!(second.handle_message(candidate("old", Some("c8")), "-").is_empty());
    }

    #[test]
    fn a_flood_of_candidates_before_a_description_is_bounded() {
        let mut second = met(false);
        for index in 0..10_000 {
            second.handle_message(candidate(&index.to_string(), None), "-");
        }
        second.handle_message(offer(None), "-");
        assert_eq!(added(&second.handle_answer_made("a".to_owned())).len(), MAX_CANDIDATES);
    }

    #[test]
    fn a_flood_of_candidates_after_the_description_is_bounded_too() {
        let mut second = met(false);
        second.handle_message(offer(None), "-");
        second.handle_answer_made("a".to_owned());
        let taken: usize = (0..10_000)
            .map(|index| second.handle_message(candidate(&index.to_string(), None), "-").len())
            .sum();
        assert_eq!(taken, MAX_CANDIDATES);
    }

    #[test]
    fn a_flood_of_calls_is_bounded() {
        let mut second = met(false);
        let opened = (0..1000)
            .filter(|call| !second.handle_message(offer(Some(&call.to_string())), "-").is_empty())
            .count();
        assert_eq!(opened, MAX_CONNECTIONS as usize);
    }

    #[test]
    fn an_answer_to_another_connection_is_dropped() {
        let mut first = met(true);
        first.handle_message(hello(), "c1");
        first.handle_offer_made("o".to_owned());
        assert_eq!(first.handle_message(candidate("early", Some("c1")), "-"), []);
        assert_eq!(first.handle_message(answer("c0"), "-"), []);
        assert_eq!(
            first.handle_message(answer("c1"), "-"),
            [Act::AcceptAnswer("answer".to_owned())]
        );
        assert_eq!(first.handle_message(answer("c1"), "-"), [], "answered once is enough");
        assert_eq!(added(&first.handle_answer_accepted()), ["early"]);
    }

    #[test]
    fn when_offers_cross_the_polite_end_yields() {
        let mut first = met(true);
        first.handle_message(hello(), "c1");
        first.handle_offer_made("o".to_owned());
        assert_eq!(first.handle_message(offer(Some("c1")), "-"), [], "the impolite one ignores");

        let mut second = met(false);
        second.handle_message(offer(Some("c1")), "-");
        second.handle_answer_made("a".to_owned());
        second.connection.as_mut().expect("open").offered = true;
        assert_eq!(
            second.handle_message(offer(Some("c1")), "-"),
            [Act::Rollback, Act::Answer("offer".to_owned())]
        );
    }

    #[test]
    fn a_tutorials_page_needs_no_marks() {
        let mut second = met(false);
        assert_eq!(
            second.handle_message(offer(None), "-"),
            [Act::Open, Act::Answer("offer".to_owned())]
        );
        assert_eq!(
            second.handle_answer_made("a".to_owned()),
            [Act::Send(PeerMessage::Answer { sdp: "a".to_owned(), call: None })]
        );
        assert!(!second.peer_is_ours());
    }

    #[test]
    fn a_tutorials_page_gets_no_marks() {
        let mut first = met(true);
        assert_eq!(
            first.handle_message(PeerMessage::GotUserMedia, "c1"),
            [Act::Open, Act::Offer],
            "not before its camera is there"
        );
        assert_eq!(
            first.handle_offer_made("o".to_owned()),
            [Act::Send(PeerMessage::Offer { sdp: "o".to_owned(), call: None })]
        );
        let answer = PeerMessage::Answer { sdp: "answer".to_owned(), call: None };
        assert_eq!(first.handle_message(answer, "-"), [Act::AcceptAnswer("answer".to_owned())]);
        let told = first.handle_local_candidate(Candidate {
            candidate: "one".to_owned(),
            mid: None,
            mline_index: Some(0),
        });
        assert!(matches!(&told[..], [Act::Send(PeerMessage::Candidate { call: None, .. })]));
    }

    #[test]
    fn a_new_peer_is_a_new_connection() {
        let mut first = met(true);
        first.handle_message(hello(), "c1");
        let acts = first.handle_met(true, greeting());
        assert_eq!(acts[0], Act::Close);
        assert_eq!(acts.last(), Some(&Act::Send(PeerMessage::GotUserMedia)));
        assert_eq!(first.handle_message(hello(), "c2"), [Act::Open, Act::Offer]);
    }

    #[test]
    fn a_garbage_first_offer_leaves_no_connection_behind() {
        let mut second = met(false);
        second.handle_message(offer(Some("c1")), "-");
        assert_eq!(second.handle_refused(), [Act::Close]);
        assert_eq!(second.handle_message(offer(Some("c2")), "-")[0], Act::Open);
    }

    #[test]
    fn a_dead_connection_is_made_anew_by_the_initiator() {
        let mut first = met(true);
        first.handle_message(hello(), "c1");
        assert_eq!(first.handle_failed("c2"), [Act::Open, Act::Offer]);
        let mut second = met(false);
        second.handle_message(offer(Some("c1")), "-");
        second.handle_answer_made("a".to_owned());
        assert_eq!(second.handle_failed("c2"), []);
        assert_eq!(second.handle_message(offer(Some("c2")), "-")[0], Act::Open);
    }
}
