//! Orders of events, told to the pure machine.

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
    assert_eq!(first.handle_message(answer("c1"), "-"), [Act::AcceptAnswer("answer".to_owned())]);
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

/// Both have a connection that stands.
fn connected() -> (Negotiation, Negotiation) {
    let (mut first, mut second) = (met(true), met(false));
    first.handle_message(hello(), "c1");
    first.handle_offer_made("o".to_owned());
    second.handle_message(hello(), "-");
    second.handle_message(offer(Some("c1")), "-");
    second.handle_answer_made("a".to_owned());
    first.handle_message(answer("c1"), "-");
    first.handle_answer_accepted();
    (first, second)
}

#[test]
fn either_end_may_look_for_a_new_path_once_at_a_time() {
    let (first, second) = connected();
    for (mut one, mut other) in [(first, second), connected()] {
        std::mem::swap(&mut one, &mut other);
        assert_eq!(one.handle_restart(), [Act::Restart]);
        assert_eq!(one.handle_restart(), [], "one offer is under way");
        one.handle_offer_made("o".to_owned());
        assert_eq!(
            other.handle_message(offer(Some("c1")), "-"),
            [Act::Answer("offer".to_owned())],
            "on the same connection"
        );
        other.handle_answer_made("a".to_owned());
        assert_eq!(one.handle_message(answer("c1"), "-"), [Act::AcceptAnswer("answer".to_owned())]);
        assert_eq!(one.handle_restart(), [Act::Restart], "and again");
    }
}

#[test]
fn when_both_look_for_a_new_path_the_initiators_offer_counts() {
    let (mut first, mut second) = connected();
    assert_eq!(first.handle_restart(), [Act::Restart]);
    assert_eq!(second.handle_restart(), [Act::Restart]);
    assert_eq!(first.handle_message(offer(Some("c1")), "-"), []);
    assert_eq!(
        second.handle_message(offer(Some("c1")), "-"),
        [Act::Rollback, Act::Answer("offer".to_owned())]
    );
}

#[test]
fn an_offer_that_cannot_be_made_does_not_bar_the_next() {
    let (mut first, _) = connected();
    assert_eq!(first.handle_restart(), [Act::Restart]);
    assert_eq!(first.handle_refused(), [], "the connection stands");
    assert_eq!(first.handle_restart(), [Act::Restart]);
}

#[test]
fn a_tutorials_page_gets_no_second_offer() {
    let mut second = met(false);
    second.handle_message(offer(None), "-");
    second.handle_answer_made("a".to_owned());
    assert_eq!(second.handle_restart(), []);
}

#[test]
fn a_new_path_has_room_for_candidates_and_a_flood_of_offers_is_bounded() {
    let (_, mut second) = connected();
    let mut taken = 0;
    for _ in 0..10_000 {
        taken += usize::from(!second.handle_message(offer(Some("c1")), "-").is_empty());
        second.handle_answer_made("a".to_owned());
    }
    assert_eq!(taken, MAX_OFFERS as usize - 1);
    let (_, mut second) = connected();
    for index in 0..MAX_CANDIDATES {
        second.handle_message(candidate(&index.to_string(), Some("c1")), "-");
    }
    assert_eq!(added(&second.handle_message(candidate("more", Some("c1")), "-")).len(), 0);
    second.handle_message(offer(Some("c1")), "-");
    second.handle_answer_made("a".to_owned());
    assert_eq!(added(&second.handle_message(candidate("fresh", Some("c1")), "-")), ["fresh"]);
}
