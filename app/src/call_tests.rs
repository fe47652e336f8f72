//! Stories of calls, told to the pure machine.

use super::*;
use serde_json::{Value, json};
use visavis_signaling::protocol::{PeerId, RoomName};

fn room() -> RoomName {
    RoomName::parse("tea").unwrap()
}

fn id(text: &str) -> PeerId {
    PeerId::from(text)
}

struct Story {
    call: Call,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        let mut call = Call::new(1);
        let now = Instant::now();
        call.handle(Input::SourcesSettled, now);
        call.handle(Input::Name("Lei".to_owned()), now);
        call.handle(Input::LocalState { audio: true, video: true, screen: false }, now);
        Self { call, now }
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.call.handle(input, self.now)
    }

    fn timeout(&mut self, now: Instant) -> Vec<Effect> {
        self.call.handle(Input::Timeout, now)
    }

    fn server(&mut self, event: ServerEvent) -> Vec<Effect> {
        self.handle(Input::Server(event))
    }

    fn says(&mut self, message: Value) -> Vec<Effect> {
        self.server(ServerEvent::Message { from: id("b"), seq: 1, message: message.into() })
    }

    fn join(&mut self) {
        self.handle(Input::Join {
            server: "http://host".to_owned(),
            room: "tea".to_owned(),
            invite: None,
        });
    }

    fn created(&mut self) -> Vec<Effect> {
        self.server(ServerEvent::Created { room: room(), id: id("a"), resume: None })
    }

    fn resumed(&mut self, role: Role, peer: Option<&str>) -> Vec<Effect> {
        self.server(ServerEvent::Resumed {
            room: room(),
            id: id("a"),
            role,
            peer: peer.map(id),
            last_seq: 0,
            resume: "t".to_owned(),
            ice_servers: vec![visavis_signaling::protocol::IceServer {
                urls: vec!["turn:fresh".to_owned()],
                username: None,
                credential: None,
            }],
        })
    }

    fn first_and_met(&mut self) -> Vec<Effect> {
        self.join();
        self.created();
        let effects = self.server(ServerEvent::Join { room: room(), id: id("b"), resume: None });
        self.server(ServerEvent::Ready { ice_servers: vec![] });
        effects
    }

    fn second_and_met(&mut self) {
        self.join();
        let joined = ServerEvent::Joined { room: room(), id: id("a"), peer: id("b"), resume: None };
        self.server(joined);
        self.server(ServerEvent::Ready { ice_servers: vec![] });
    }
}

fn in_call() -> Story {
    let mut story = Story::new();
    story.first_and_met();
    story.says(hello());
    let effects = story.handle(Input::OfferMade(1, "o".to_owned()));
    let [Effect::Send(PeerMessage::Offer { call: Some(mark), .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    story.says(json!({ "type": "answer", "sdp": "a", "call": mark }));
    story.handle(Input::AnswerAccepted(1));
    story.handle(Input::Peer(1, PeerEvent::Connected));
    story
}

fn in_call_as_second() -> Story {
    let mut story = Story::new();
    story.second_and_met();
    story.says(hello());
    story.says(json!({ "type": "offer", "sdp": "o", "call": "c" }));
    story.handle(Input::AnswerMade(1, "a".to_owned()));
    story.handle(Input::Peer(1, PeerEvent::Connected));
    story
}

/// Lets time pass until something is to be done, and does it.
fn next(story: &mut Story) -> Vec<Effect> {
    story.now = story.call.poll_timeout().expect("something to be done");
    story.timeout(story.now)
}

fn hello() -> Value {
    json!({ "type": "hello", "name": "韩梅梅" })
}

fn told(effects: &[Effect]) -> Vec<&News> {
    effects
        .iter()
        .filter_map(|effect| if let Effect::Tell(news) = effect { Some(news) } else { None })
        .collect()
}

#[test]
fn who_joins_greets_with_the_request_for_a_seat() {
    let mut story = Story::new();
    story.handle(Input::Name("李雷".to_owned()));
    let (server, room) = ("https://example.org".to_owned(), "tea".to_owned());
    let join = Input::Join { server: server.clone(), room: room.clone(), invite: None };
    let greeting = vec![PeerMessage::Hello { name: "李雷".to_owned() }];
    assert_eq!(story.handle(join), [Effect::Dial { server, room, greeting }]);
}

#[test]
fn hosting_starts_the_server_then_waits_with_an_invite() {
    let mut story = Story::new();
    let effects = story.handle(Input::Host { room: "tea".to_owned() });
    assert_eq!(effects, [Effect::StartServer("tea".to_owned())]);
    let effects = story.handle(Input::Hosted {
        server: "http://127.0.0.1:8080".to_owned(),
        invite: Some("http://192.168.1.7:8080/room/tea".to_owned()),
    });
    let server = "http://127.0.0.1:8080".to_owned();
    assert_eq!(effects, [Effect::Dial { server, room: "tea".to_owned(), greeting: vec![] }]);
    story.created();
    assert!(matches!(story.call.phase(), Phase::Waiting { invite: Some(_), .. }));
    let effects = story.handle(Input::HangUp);
    assert_eq!(effects, [Effect::HangUpLine, Effect::Ended(End::HungUp)]);
    assert_eq!(*story.call.phase(), Phase::Lobby);
}

#[test]
fn the_first_one_greets_offers_and_is_in_the_call() {
    let mut story = Story::new();
    let effects = story.first_and_met();
    assert!(matches!(&effects[0], Effect::Send(PeerMessage::Hello { name }) if name == "Lei"));
    assert_eq!(effects[2], Effect::Send(PeerMessage::GotUserMedia));
    let effects = story.says(hello());
    assert_eq!(effects, [Effect::Open(1, vec![]), Effect::Offer(1)]);
    assert_eq!(story.call.peer().expect("met").name, "韩梅梅");
    let effects = story.handle(Input::OfferMade(1, "o".to_owned()));
    let [Effect::Send(PeerMessage::Offer { call: Some(mark), .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    let answer = json!({ "type": "answer", "sdp": "a", "call": mark });
    assert_eq!(story.says(answer), [Effect::AcceptAnswer(1, "a".to_owned())]);
    let effects = story.handle(Input::Peer(1, PeerEvent::Connected));
    assert_eq!(effects[0], Effect::StartSending(1));
    assert!(matches!(story.call.phase(), Phase::InCall { .. }));
}

#[test]
fn the_second_one_answers() {
    let mut story = Story::new();
    story.second_and_met();
    assert_eq!(story.says(hello()), []);
    let effects = story.says(json!({ "type": "offer", "sdp": "o", "call": "c" }));
    assert_eq!(effects, [Effect::Open(1, vec![]), Effect::Answer(1, "o".to_owned())]);
}

#[test]
fn a_reloaded_tab_is_a_new_peer_and_a_new_connection() {
    let mut story = Story::new();
    story.first_and_met();
    story.says(hello());
    story.handle(Input::Peer(1, PeerEvent::Connected));
    let effects = story.server(ServerEvent::Bye { id: id("b"), reason: ByeReason::Left });
    assert_eq!(effects[0], Effect::Close(1));
    assert_eq!(told(&effects), [&News::PeerLeft("韩梅梅".to_owned())]);
    story.created();
    assert!(matches!(story.call.phase(), Phase::Waiting { .. }));
    story.server(ServerEvent::Join { room: room(), id: id("c"), resume: None });
    assert_eq!(story.says(hello()), [Effect::Open(2, vec![]), Effect::Offer(2)]);
    assert_eq!(story.handle(Input::Peer(1, PeerEvent::Failed)), [], "of the old connection");
}

#[test]
fn who_stays_becomes_the_initiator() {
    let mut story = Story::new();
    story.second_and_met();
    story.says(json!({ "type": "offer", "sdp": "o", "call": "c" }));
    story.server(ServerEvent::Bye { id: id("b"), reason: ByeReason::Lost });
    story.created();
    story.server(ServerEvent::Join { room: room(), id: id("c"), resume: None });
    assert_eq!(story.call.initiator(), Some(true));
    assert_eq!(story.says(hello()), [Effect::Open(2, vec![]), Effect::Offer(2)]);
}

#[test]
fn a_full_room_leads_back_to_the_lobby() {
    let mut story = Story::new();
    story.join();
    let effects = story.server(ServerEvent::Full { room: room(), retry_ms: 5000, held: false });
    assert_eq!(told(&effects), [&News::RoomFull("tea".to_owned())]);
    assert_eq!(effects.last(), Some(&Effect::Ended(End::RoomFull)));
    assert_eq!(*story.call.phase(), Phase::Lobby);
}

#[test]
fn a_lost_server_is_said_once_and_the_call_stays() {
    let mut story = Story::new();
    story.first_and_met();
    story.says(hello());
    story.handle(Input::Peer(1, PeerEvent::Connected));
    let effects = story.handle(Input::ServerLost("refused".to_owned()));
    assert_eq!(told(&effects).len(), 1);
    assert!(story.handle(Input::ServerLost("refused".to_owned())).is_empty());
    assert!(matches!(story.call.phase(), Phase::InCall { server_lost: true, .. }));
    story.created();
    assert!(matches!(story.call.phase(), Phase::Waiting { .. }));
}

/// The relays are told anew, and nothing else happens.
fn only_renewed(effects: &[Effect]) -> bool {
    matches!(effects, [Effect::UseIceServers(_, servers)] if servers[0].urls == ["turn:fresh"])
}

#[test]
fn a_resumed_seat_leaves_the_call_as_it_was() {
    let mut story = in_call();
    story.handle(Input::ServerLost("restarts".to_owned()));
    assert!(only_renewed(&story.resumed(Role::Initiator, Some("b"))));
    assert!(matches!(story.call.phase(), Phase::InCall { server_lost: false, .. }));
    assert_eq!(story.call.initiator(), Some(true));
}

#[test]
fn a_path_that_died_with_the_server_is_restarted_with_fresh_relays() {
    let mut story = in_call();
    story.handle(Input::ServerLost("restarts".to_owned()));
    let effects = story.handle(Input::Peer(1, PeerEvent::Disconnected));
    assert_eq!(effects, [Effect::Tell(News::PathFailed)]);
    assert!(matches!(story.call.phase(), Phase::Reconnecting { .. }));
    let effects = story.resumed(Role::Initiator, Some("b"));
    assert!(only_renewed(&effects[..1]));
    assert_eq!(effects[1..], [Effect::Restart(1)]);
    // Once is enough.
    story.handle(Input::ServerLost("restarts".to_owned()));
    assert!(only_renewed(&story.resumed(Role::Initiator, Some("b"))));
}

#[test]
fn a_silent_path_is_restarted_then_begun_anew_then_given_up() {
    let mut story = in_call();
    let effects = story.handle(Input::Peer(1, PeerEvent::Disconnected));
    assert_eq!(effects, [Effect::Tell(News::PathFailed), Effect::Restart(1)]);
    assert!(matches!(story.call.phase(), Phase::Reconnecting { .. }));
    let [Effect::Close(1), Effect::Open(2, _), Effect::Offer(2)] = &next(&mut story)[..] else {
        panic!("no new connection")
    };
    let effects = loop {
        let effects = next(&mut story);
        if matches!(story.call.phase(), Phase::Waiting { .. }) {
            break effects;
        }
    };
    assert!(matches!(effects[0], Effect::Close(_)));
    assert_eq!(told(&effects), [&News::PeerGivenUp("韩梅梅".to_owned())]);
    // Whoever comes back says so, or is asked.
    let hail = next(&mut story);
    assert_eq!(hail, [Effect::Send(PeerMessage::Hello { name: "Lei".to_owned() })]);
    let effects = story.says(hello());
    assert!(matches!(&effects[0], Effect::Send(PeerMessage::Hello { .. })), "{effects:?}");
    assert!(matches!(effects[effects.len() - 1], Effect::Offer(_)), "{effects:?}");
    assert!(matches!(story.call.phase(), Phase::Connecting { .. }));
}

#[test]
fn whoever_left_after_being_given_up_is_not_hailed() {
    let mut story = in_call();
    story.handle(Input::Peer(1, PeerEvent::Disconnected));
    while !matches!(story.call.phase(), Phase::Waiting { .. }) {
        next(&mut story);
    }
    story.server(ServerEvent::Bye { id: id("b"), reason: ByeReason::Lost });
    assert_eq!(story.call.poll_timeout(), None);
    assert_eq!(story.says(hello()), []);
}

#[test]
fn a_new_network_is_restarted_on_by_either_end_and_nobody_notices() {
    for mut story in [in_call(), in_call_as_second()] {
        assert_eq!(story.handle(Input::NetworkChanged), [Effect::Restart(1)]);
        assert!(matches!(story.call.phase(), Phase::InCall { .. }));
        let effects = story.handle(Input::OfferMade(1, "o".to_owned()));
        assert!(matches!(&effects[..], [Effect::Send(PeerMessage::Offer { .. })]), "{effects:?}");
        story.handle(Input::Peer(1, PeerEvent::Connected));
        assert_eq!(story.call.poll_timeout(), None);
    }
}

#[test]
fn without_a_line_to_the_server_a_new_network_waits_for_it() {
    let mut story = in_call();
    story.handle(Input::ServerLost("redials".to_owned()));
    assert_eq!(story.handle(Input::NetworkChanged), []);
    let effects = story.resumed(Role::Initiator, Some("b"));
    assert_eq!(effects[1..], [Effect::Restart(1)]);
}

#[test]
fn a_connection_that_cannot_be_restarted_is_begun_anew() {
    let mut story = in_call();
    story.handle(Input::NetworkChanged);
    let effects = story.handle(Input::SetupFailed(1, "another network".to_owned()));
    assert!(
        matches!(effects[..3], [Effect::Close(1), Effect::Open(2, _), Effect::Offer(2)]),
        "{effects:?}"
    );
    assert_eq!(effects[3..], [Effect::Tell(News::PathFailed)]);
    let mut story = in_call_as_second();
    story.handle(Input::NetworkChanged);
    assert_eq!(story.handle(Input::SetupFailed(1, "another network".to_owned())), []);
    // The initiator's new one is taken.
    let effects = story.says(json!({ "type": "offer", "sdp": "o", "call": "d" }));
    assert_eq!(
        effects,
        [Effect::Close(1), Effect::Open(2, vec![]), Effect::Answer(2, "o".to_owned())]
    );
}

#[test]
fn a_path_that_came_back_by_itself_is_left_alone() {
    let mut story = in_call();
    story.handle(Input::ServerLost("restarts".to_owned()));
    story.handle(Input::Peer(1, PeerEvent::Disconnected));
    story.handle(Input::Peer(1, PeerEvent::Connected));
    assert!(matches!(story.call.phase(), Phase::InCall { server_lost: true, .. }));
    assert!(only_renewed(&story.resumed(Role::Initiator, Some("b"))));
}

#[test]
fn whoever_left_or_came_meanwhile_is_noticed_at_the_return() {
    let mut story = in_call();
    story.handle(Input::ServerLost("restarts".to_owned()));
    let effects = story.resumed(Role::Initiator, None);
    assert_eq!(effects[0], Effect::Close(1));
    assert_eq!(told(&effects).len(), 1);
    assert!(matches!(story.call.phase(), Phase::Waiting { .. }));
    story.handle(Input::ServerLost("restarts".to_owned()));
    assert!(matches!(story.call.phase(), Phase::Reconnecting { .. }));
    let effects = story.resumed(Role::Initiator, Some("c"));
    assert!(matches!(&effects[0], Effect::Send(PeerMessage::Hello { .. })));
    assert!(matches!(story.call.phase(), Phase::Connecting { .. }));
}

#[test]
fn a_dead_path_is_tried_anew_by_the_initiator_only() {
    let mut first = Story::new();
    first.first_and_met();
    first.says(hello());
    let effects = first.handle(Input::Peer(1, PeerEvent::Failed));
    assert!(effects.contains(&Effect::Open(2, vec![])));
    let mut second = Story::new();
    second.second_and_met();
    second.says(json!({ "type": "offer", "sdp": "o", "call": "c" }));
    assert_eq!(second.handle(Input::Peer(1, PeerEvent::Failed)), []);
}

#[test]
fn a_garbage_offer_is_named_and_the_next_good_one_taken() {
    let mut story = Story::new();
    story.second_and_met();
    story.says(json!({ "type": "offer", "sdp": "garbage", "call": "c" }));
    let effects = story.handle(Input::ConnectionRefused(1, "no SDP".to_owned()));
    assert_eq!(effects[0], Effect::Close(1));
    assert_eq!(told(&effects), [&News::PeerRefused("no SDP".to_owned())]);
    let effects = story.says(json!({ "type": "offer", "sdp": "o", "call": "d" }));
    assert_eq!(effects, [Effect::Open(2, vec![]), Effect::Answer(2, "o".to_owned())]);
}

#[test]
fn a_camera_switched_off_is_told() {
    let mut story = Story::new();
    assert_eq!(story.handle(Input::LocalState { audio: true, video: true, screen: false }), []);
    story.first_and_met();
    assert_eq!(
        story.handle(Input::LocalState { audio: true, video: false, screen: false }),
        [Effect::Send(PeerMessage::State { audio: true, video: false, screen: false })]
    );
    story.says(json!({ "type": "state", "audio": false, "video": false }));
    assert_eq!(story.call.peer().map(|peer| (peer.audio, peer.video)), Some((false, false)));
}

#[test]
fn pictures_that_pause_are_told_at_both_ends_until_the_connection_is_another() {
    let mut story = Story::new();
    story.second_and_met();
    story.says(json!({ "type": "offer", "sdp": "o", "call": "c" }));
    story.handle(Input::Peer(1, PeerEvent::Connected));
    let effects = story.handle(Input::Peer(1, PeerEvent::PicturesPaused(true)));
    let said = Effect::Send(PeerMessage::Pictures { paused: true });
    assert_eq!(effects, [said, Effect::Tell(News::PicturesPaused)]);
    assert!(story.call.pictures_paused());
    story.handle(Input::Peer(1, PeerEvent::PicturesPaused(false)));
    assert!(!story.call.pictures_paused());

    let effects = story.says(json!({ "type": "pictures", "paused": true }));
    assert_eq!(effects, [Effect::PeerSendsVideo(1, false)]);
    assert_eq!(story.call.peer().map(|peer| (peer.video, peer.paused)), Some((true, true)));
    let effects = story.says(json!({ "type": "pictures", "paused": false }));
    assert_eq!(effects, [Effect::PeerSendsVideo(1, true)]);

    story.handle(Input::Peer(1, PeerEvent::PicturesPaused(true)));
    let another = story.says(json!({ "type": "offer", "sdp": "o", "call": "d" }));
    assert!(another.contains(&Effect::Open(2, vec![])), "{another:?}");
    assert!(!story.call.pictures_paused(), "another connection is not paused yet");
}

#[test]
fn a_shared_screen_is_told_and_seen_as_one() {
    let mut story = Story::new();
    story.first_and_met();
    assert_eq!(
        story.handle(Input::LocalState { audio: true, video: false, screen: true }),
        [Effect::Send(PeerMessage::State { audio: true, video: false, screen: true })]
    );
    story.says(json!({ "type": "state", "audio": true, "video": false, "screen": true }));
    assert_eq!(story.call.peer().map(|peer| (peer.video, peer.screen)), Some((true, true)));
    story.says(json!({ "type": "state", "audio": true, "video": true, "screen": false }));
    assert_eq!(story.call.peer().map(|peer| (peer.video, peer.screen)), Some((true, false)));
}

#[test]
fn a_refusal_at_the_door_ends_and_a_later_one_does_not() {
    let error = |code: &str| -> ServerEvent {
        serde_json::from_value(json!({ "type": "error", "code": code, "message": "no" }))
            .expect("an error event")
    };
    let mut story = Story::new();
    story.join();
    let effects = story.server(error("room-not-hosted"));
    assert_eq!(effects.last(), Some(&Effect::Ended(End::ServerRefused)));
    let mut story = Story::new();
    story.first_and_met();
    assert_eq!(told(&story.server(error("too-large"))), [&News::Server("no".to_owned())]);
    assert!(matches!(story.call.phase(), Phase::Connecting { .. }));
}

#[test]
fn nonsense_from_the_peer_changes_nothing() {
    let mut story = Story::new();
    story.first_and_met();
    for nonsense in [json!(7), json!({ "type": "offer" }), json!({ "type": [] }), json!("x")] {
        assert_eq!(story.says(nonsense), []);
    }
    assert!(matches!(story.call.phase(), Phase::Connecting { .. }));
}

#[test]
fn an_offer_that_nobody_answers_is_made_anew() {
    let mut story = Story::new();
    story.first_and_met();
    story.says(hello());
    story.handle(Input::OfferMade(1, "o".to_owned()));
    let due = story.call.poll_timeout().expect("a limit");
    assert_eq!(story.timeout(due - Duration::from_millis(1)), []);
    assert_eq!(story.timeout(due), [Effect::Close(1), Effect::Open(2, vec![]), Effect::Offer(2)]);
    story.handle(Input::Peer(2, PeerEvent::Connected));
    assert_eq!(story.call.poll_timeout(), None);
}

#[test]
fn what_fails_at_our_end_is_tried_again() {
    let mut story = Story::new();
    story.first_and_met();
    story.says(hello());
    let effects = story.handle(Input::SetupFailed(1, "no socket".to_owned()));
    assert_eq!(effects[0], Effect::Close(1));
    assert_eq!(told(&effects), [&News::SetupFailed("no socket".to_owned())]);
    let due = story.call.poll_timeout().expect("another try");
    assert_eq!(story.timeout(due), [Effect::Open(2, vec![]), Effect::Offer(2)]);
}

#[test]
fn an_unusable_answer_does_not_leave_the_call_connecting_for_ever() {
    let mut story = Story::new();
    story.first_and_met();
    story.says(hello());
    let effects = story.handle(Input::OfferMade(1, "o".to_owned()));
    let [Effect::Send(PeerMessage::Offer { call: Some(mark), .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    story.says(json!({ "type": "answer", "sdp": "garbage", "call": mark }));
    let effects = story.handle(Input::ConnectionRefused(1, "no SDP".to_owned()));
    assert_eq!(effects[0], Effect::Close(1));
    let due = story.call.poll_timeout().expect("another try");
    assert_eq!(story.timeout(due), [Effect::Open(2, vec![]), Effect::Offer(2)]);
}

#[test]
fn our_own_ghost_in_the_room_is_waited_for() {
    let mut story = Story::new();
    story.first_and_met();
    story.handle(Input::ServerLost("broken".to_owned()));
    let full = || ServerEvent::Full { room: room(), retry_ms: 3000, held: false };
    assert_eq!(story.server(full()), [Effect::Knock(Duration::from_secs(3))]);
    story.now += GHOSTS_STAY;
    assert_eq!(story.server(full()).last(), Some(&Effect::Ended(End::RoomFull)));
}

#[test]
fn a_seat_held_for_somebody_is_waited_for_at_the_door() {
    let mut story = Story::new();
    story.join();
    let full = |held| ServerEvent::Full { room: room(), retry_ms: 3000, held };
    assert_eq!(story.server(full(true)), [Effect::Knock(Duration::from_secs(3))]);
    assert!(matches!(story.call.phase(), Phase::Joining { held: true, .. }));
    story.created();
    assert!(matches!(story.call.phase(), Phase::Waiting { .. }));
    // Whom it was held for may come back.
    let mut story = Story::new();
    story.join();
    story.server(full(true));
    assert_eq!(story.server(full(false)).last(), Some(&Effect::Ended(End::RoomFull)));
    // And it is not held for ever.
    let mut story = Story::new();
    story.join();
    story.server(full(true));
    story.now += GHOSTS_STAY;
    assert_eq!(story.server(full(true)).last(), Some(&Effect::Ended(End::RoomFull)));
}
