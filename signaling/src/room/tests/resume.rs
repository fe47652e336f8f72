use super::*;
use crate::token::TOKEN_LIFETIME;

const D: ConnectionId = ConnectionId(4);

fn key() -> TokenKey {
    TokenKey::new(&[3; TokenKey::LENGTH])
}

impl Table {
    /// A server that was just started again, with the key it had.
    fn restarted(now: Moment) -> Self {
        let recover_until = Some(now.instant + HOLD);
        let options = RoomOptions { key: Some(key()), recover_until, ..RoomOptions::default() };
        // Another run has other random numbers.
        let registry = Registry::with(options, [8; 32]);
        let mut table = Self { registry, now };
        table.opens();
        table
    }

    fn pair() -> (Self, String, String) {
        let mut table = Self::with(RoomOptions { key: Some(key()), ..RoomOptions::default() });
        table.registry.handle_open(D, GUEST, table.now);
        table.joins(A, "tea");
        let told = table.registry.handle_event(B, join("tea"), table.now);
        let (a, b) = (token_for(A, &told), token_for(B, &told));
        (table, a, b)
    }

    fn returns(&mut self, who: ConnectionId, token: &str, last_seq: u64) -> Vec<Delivery> {
        self.registry.handle_event(who, resume("tea", token, last_seq), self.now)
    }
}

fn resume(room: &str, token: &str, last_seq: u64) -> ClientEvent {
    let (resume, last_seq) = (Some(token.to_owned()), Some(last_seq));
    ClientEvent::CreateOrJoin { room: name(room), resume, last_seq }
}

/// The newest token that `who` is told.
fn token_for(who: ConnectionId, told: &[Delivery]) -> String {
    let mut tokens = told.iter().filter_map(|delivery| match delivery {
        Delivery::Event { to, event } if *to == who => match event {
            ServerEvent::Created { resume, .. }
            | ServerEvent::Join { resume, .. }
            | ServerEvent::Joined { resume, .. } => resume.clone(),
            ServerEvent::Resumed { resume, .. } => Some(resume.clone()),
            _ => None,
        },
        _ => None,
    });
    tokens.next_back().expect("a token")
}

/// What `resumed` says: the role, whether there is a peer, `last_seq`.
fn resumed(told: &[Delivery]) -> (Role, bool, u64) {
    let event = told.iter().find_map(|delivery| match delivery {
        Delivery::Event { event: ServerEvent::Resumed { role, peer, last_seq, .. }, .. } => {
            Some((*role, peer.is_some(), *last_seq))
        }
        _ => None,
    });
    event.expect("resumed")
}

fn counted(number: u64) -> ClientEvent {
    ClientEvent::Message { message: number.into(), seq: Some(number) }
}

#[test]
fn a_seat_is_held_for_thirty_seconds_and_its_owner_gets_what_it_missed() {
    let (mut table, a, _) = Table::pair();
    assert_eq!(table.says(B, counted(1)), ["1 message 1"]);
    assert_eq!(table.says(B, counted(2)), ["1 message 2"], "but it is lost on the way");
    assert_eq!(table.closes(A, ByeReason::Lost), [""; 0], "the other end sees nothing");
    assert_eq!(table.joins(C, "tea"), ["3 full"]);
    assert_eq!(table.registry.counts(), Counts { connections: 3, rooms: 1, seats: 2, held: 1 });
    assert_eq!(table.says(B, counted(3)), [""; 0]);
    assert_eq!(table.waits(HOLD - Duration::from_millis(1)), [""; 0]);
    let told = table.returns(D, &a, 1);
    assert_eq!(words(&told), ["4 resumed", "4 message 2", "4 message 3"]);
    assert_eq!(resumed(&told), (Role::Initiator, true, 0));
    assert_eq!(table.says(D, counted(1)), ["2 message 1"]);
    assert_eq!(table.waits(HOLD), [""; 0], "it is held no more");
}

#[test]
fn an_owner_who_comes_too_late_is_a_newcomer() {
    let (mut table, a, _) = Table::pair();
    table.closes(A, ByeReason::Lost);
    assert_eq!(table.registry.poll_timeout(), Some(table.now.instant + HOLD));
    assert_eq!(table.waits(HOLD), ["2 bye lost", "2 created"]);
    let told = words(&table.returns(D, &a, 0));
    assert_eq!(told, ["2 join", "4 joined", "2 ready", "4 ready"]);
}

#[test]
fn two_who_are_both_lost_both_come_back() {
    let (mut table, a, b) = Table::pair();
    table.closes(A, ByeReason::Lost);
    table.waits(HOLD / 2);
    table.closes(B, ByeReason::Lost);
    assert_eq!(table.registry.counts(), Counts { connections: 2, rooms: 1, seats: 2, held: 2 });
    assert_eq!(resumed(&table.returns(C, &b, 0)), (Role::Responder, true, 0));
    assert_eq!(resumed(&table.returns(D, &a, 0)), (Role::Initiator, true, 0));
    assert_eq!(table.says(D, counted(1)), ["3 message 1"]);
}

#[test]
fn a_room_whose_owners_both_stay_away_ends() {
    let (mut table, a, b) = Table::pair();
    table.closes(A, ByeReason::Lost);
    table.waits(HOLD / 2);
    table.closes(B, ByeReason::Lost);
    table.waits(HOLD / 2);
    let told = table.returns(D, &b, 0);
    assert_eq!(resumed(&told), (Role::Initiator, false, 0), "the first is gone meanwhile");
    table.closes(D, ByeReason::Lost);
    table.waits(HOLD);
    assert_eq!(table.registry.counts().rooms, 0);
    assert_eq!(words(&table.returns(C, &a, 0)), ["3 created"]);
}

#[test]
fn a_ghost_of_the_same_seat_is_replaced() {
    let (mut table, a, _) = Table::pair();
    let told = table.returns(D, &a, 0);
    assert_eq!(words(&told), ["1 bye replaced", "1 closed", "4 resumed"]);
    assert_eq!(table.says(A, counted(1)), [""; 0], "it is not heard any more");
    assert_eq!(table.closes(A, ByeReason::Lost), [""; 0]);
    assert_eq!(table.says(B, counted(1)), ["4 message 1"]);
    assert_eq!(table.registry.counts(), Counts { connections: 3, rooms: 1, seats: 2, held: 0 });
}

#[test]
fn a_token_is_good_until_its_successor_is_known_to_have_arrived() {
    let (mut table, first, _) = Table::pair();
    table.closes(A, ByeReason::Lost);
    // The answer is lost on the way, twice.
    table.returns(C, &first, 0);
    table.closes(C, ByeReason::Lost);
    let second = token_for(D, &table.returns(D, &first, 0));
    assert_ne!(first, second);
    assert_eq!(table.says(D, ClientEvent::Ping), ["4 pong"]);
    table.closes(D, ByeReason::Lost);
    table.opens();
    assert_eq!(words(&table.returns(A, &first, 0)), ["1 full"], "it was used");
    assert_eq!(words(&table.returns(C, &second, 0)), ["3 resumed"]);
}

#[test]
fn a_worthless_token_is_a_newcomer_s() {
    let (mut table, a, b) = Table::pair();
    table.closes(A, ByeReason::Lost);
    for token in ["", "forged", &format!("{a}A"), &a[1..]] {
        assert_eq!(words(&table.returns(C, token, 0)), ["3 full"], "{token}");
    }
    let told = table.registry.handle_event(C, resume("coffee", &a, 0), table.now);
    assert_eq!(words(&told), ["3 created"], "a token opens its own room only");
    table.now += TOKEN_LIFETIME;
    assert_eq!(words(&table.returns(D, &b, 0)), ["4 full"], "it has expired");
}

#[test]
fn taking_a_seat_back_leaves_another_room() {
    let (mut table, a, _) = Table::pair();
    table.closes(A, ByeReason::Lost);
    table.joins(C, "coffee");
    table.joins(D, "coffee");
    assert_eq!(words(&table.returns(C, &a, 0)), ["4 bye left", "4 created", "3 resumed"]);
    assert_eq!(words(&table.returns(C, &a, 0)), [""; 0], "whoever sits is not seated again");
}

#[test]
fn goodbyes_free_a_seat_at_once() {
    for goodbye in [ClientEvent::Bye, message("bye".into())] {
        let (mut table, a, _) = Table::pair();
        assert_eq!(table.says(A, goodbye), ["2 bye left", "2 created"]);
        assert_eq!(words(&table.returns(D, &a, 0))[1], "4 joined");
    }
    let (mut table, ..) = Table::pair();
    assert_eq!(table.closes(A, ByeReason::Left), ["2 bye left", "2 created"]);
}

#[test]
fn a_server_that_holds_no_seats_gives_out_no_tokens() {
    let mut table = Table::with(RoomOptions { hold: Duration::ZERO, ..RoomOptions::default() });
    let told = table.registry.handle_event(A, join("tea"), table.now);
    assert!(matches!(
        &told[..],
        [Delivery::Event { event: ServerEvent::Created { resume: None, .. }, .. }]
    ));
    table.joins(B, "tea");
    assert_eq!(table.closes(A, ByeReason::Lost), ["2 bye lost", "2 created"]);
}

#[test]
fn too_much_for_someone_away_loses_the_seat() {
    let (mut table, a, _) = Table::pair();
    for number in 1..=100 {
        table.says(B, counted(number));
    }
    table.closes(A, ByeReason::Lost);
    for number in 101..=164 {
        assert_eq!(table.says(B, counted(number)), [""; 0]);
    }
    assert_eq!(table.says(B, counted(165)), ["2 bye lost", "2 created"]);
    assert_eq!(words(&table.returns(D, &a, 100))[1], "4 joined");
}

#[test]
fn an_owner_who_missed_too_much_is_a_newcomer() {
    let (mut table, a, _) = Table::pair();
    for number in 1..=100 {
        table.says(B, counted(number));
    }
    table.closes(A, ByeReason::Lost);
    let told = words(&table.returns(D, &a, 10));
    assert_eq!(told[..3], ["2 bye lost", "2 created", "2 join"]);
    assert_eq!(told[3..], ["4 joined", "2 ready", "4 ready"]);
}

#[test]
fn what_was_sent_twice_is_relayed_once() {
    let (mut table, ..) = Table::pair();
    assert_eq!(table.says(A, counted(5)), ["2 message 5"]);
    assert_eq!(table.says(A, counted(5)), [""; 0]);
    assert_eq!(table.says(A, counted(4)), [""; 0]);
    assert_eq!(table.says(A, counted(6)), ["2 message 6"]);
    assert_eq!(table.says(A, message(1.into())), ["2 message 7"], "who does not count is heard");
    assert_eq!(table.says(A, message(1.into())), ["2 message 8"]);
}

#[test]
fn someone_who_comes_while_the_first_is_away_is_announced_when_it_is_back() {
    let mut table = Table::with(RoomOptions::default());
    let a = token_for(A, &table.registry.handle_event(A, join("tea"), table.now));
    table.closes(A, ByeReason::Lost);
    assert_eq!(table.joins(B, "tea"), ["2 joined", "2 ready"]);
    assert_eq!(table.says(B, counted(1)), [""; 0]);
    // It never heard of the other one, so nothing counts as received.
    let told = table.returns(C, &a, 7);
    assert_eq!(words(&told), ["3 resumed", "3 message 1"]);
    assert_eq!(resumed(&told), (Role::Initiator, true, 0));
}

#[test]
fn a_pair_finds_itself_again_after_a_crash() {
    for a_is_first in [true, false] {
        let (mut before, a, b) = Table::pair();
        for number in 1..=3 {
            before.says(A, counted(number));
            before.says(B, counted(number));
        }
        let mut table = Table::restarted(before.now);
        let ((first, second), first_is) =
            if a_is_first { ((&a, &b), Role::Initiator) } else { ((&b, &a), Role::Responder) };
        // Either had received two of three.
        let told = table.returns(A, first, 2);
        assert_eq!(words(&told), ["1 resumed"]);
        assert_eq!(resumed(&told), (first_is, true, 0), "what arrived is not known");
        assert_eq!(table.joins(C, "tea"), ["3 full"], "the other seat waits for its owner");
        for number in 1..=4 {
            assert_eq!(table.says(A, counted(number)), [""; 0], "all is sent again");
        }
        let told = table.returns(B, second, 2);
        assert_eq!(words(&told), ["2 resumed", "2 message 3", "2 message 4"]);
        assert_eq!(resumed(&told), (first_is.opposite(), true, 2));
        assert_eq!(table.says(B, counted(3)), ["1 message 3"]);
        assert_eq!(table.says(A, counted(4)), [""; 0], "it had arrived");
        assert_eq!(table.registry.counts(), Counts { connections: 3, rooms: 1, seats: 2, held: 0 });
    }
}

#[test]
fn an_owner_who_never_returns_after_a_crash_is_lost() {
    let (before, _, b) = Table::pair();
    let mut table = Table::restarted(before.now);
    table.returns(B, &b, 0);
    assert_eq!(table.waits(HOLD), ["2 bye lost", "2 created"]);
    assert_eq!(table.joins(C, "tea")[0], "2 join");
}

#[test]
fn a_stranger_who_was_faster_after_a_crash_makes_way() {
    let (before, a, b) = Table::pair();
    let mut table = Table::restarted(before.now);
    assert_eq!(table.joins(C, "tea"), ["3 created"]);
    assert_eq!(words(&table.returns(A, &a, 0)), ["3 full", "1 resumed"]);
    assert_eq!(words(&table.returns(B, &b, 0)), ["2 resumed"]);
    assert_eq!(table.joins(C, "tea"), ["3 full"]);
}

#[test]
fn rooms_are_set_up_again_only_soon_after_a_start_and_only_from_older_tokens() {
    let (before, a, _) = Table::pair();
    let mut table = Table::restarted(before.now);
    table.now += HOLD;
    assert_eq!(words(&table.returns(A, &a, 0)), ["1 created"], "too late");
    let mut table = Table::restarted(before.now);
    let token = token_for(A, &table.registry.handle_event(A, join("tea"), table.now));
    table.says(A, ClientEvent::Bye);
    table.joins(B, "tea");
    assert_eq!(words(&table.returns(A, &token, 0))[1], "1 joined", "it had left");
}

#[test]
fn one_who_had_not_heard_of_the_other_before_a_crash_hears_of_it_after() {
    for a_is_first in [true, false] {
        let mut before = Table::with(RoomOptions { key: Some(key()), ..RoomOptions::default() });
        let a = token_for(A, &before.registry.handle_event(A, join("tea"), before.now));
        let b = token_for(B, &before.registry.handle_event(B, join("tea"), before.now));
        let mut table = Table::restarted(before.now);
        if a_is_first {
            assert_eq!(resumed(&table.returns(A, &a, 0)), (Role::Initiator, false, 0));
            let told = table.returns(B, &b, 0);
            assert_eq!(words(&told), ["1 join", "1 ready", "2 resumed"]);
            assert_eq!(resumed(&told), (Role::Responder, true, 0));
        } else {
            assert_eq!(resumed(&table.returns(B, &b, 0)), (Role::Responder, true, 0));
            assert_eq!(resumed(&table.returns(A, &a, 0)), (Role::Initiator, true, 0));
        }
    }
}
