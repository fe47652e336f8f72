//! The window's flows, driven through its accessibility tree: no display, no OpenGL.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use eframe::egui::{self, Key, Vec2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use visavis_media::devices::{Device, DeviceList};
use visavis_media::frame::FramePool;
use visavis_signaling::Fingerprint;

use super::{Window, WindowInit};
use crate::settings::{RecentRoom, Settings};
use crate::snapshot::{
    Command, DeviceState, Notice, Peer, Phase, Pictures, Shared, Snapshot, Stranger,
};
use crate::text::{Language, Words};

/// A window without a screen, what it was told, and what it asked for.
struct Stage {
    harness: Harness<'static, Option<Window>>,
    shared: Shared,
    pictures: Pictures,
    asked: Arc<Mutex<Vec<Command>>>,
    shown: Arc<Mutex<Vec<Option<u32>>>>,
}

impl Stage {
    fn new(snapshot: Snapshot) -> Self {
        Self::sized(snapshot, vec2(1280.0, 760.0))
    }

    fn sized(snapshot: Snapshot, size: Vec2) -> Self {
        let (shared, pictures) = (Shared::new(snapshot), Pictures::default());
        let asked: Arc<Mutex<Vec<Command>>> = Arc::default();
        let shown: Arc<Mutex<Vec<Option<u32>>>> = Arc::default();
        let (log, frames) = (Arc::clone(&asked), Arc::clone(&shown));
        let mut init = Some(WindowInit {
            snapshot: shared.clone(),
            commands: Box::new(move |command| log.lock().unwrap().push(command)),
            pictures: pictures.clone(),
            on_shown: Some(Arc::new(move |frame| {
                frames.lock().unwrap().push(frame.strip);
            })),
        });
        let harness = Harness::builder().with_size(size).allow_missing_glyphs().build_ui_state(
            move |ui, window: &mut Option<Window>| {
                if let Some(init) = init.take() {
                    // Fonts are in force from the next frame on.
                    *window = Some(Window::new(ui.ctx(), None, init));
                } else if let Some(window) = window {
                    window.show(ui);
                }
            },
            None,
        );
        let mut stage = Self { harness, shared, pictures, asked, shown };
        stage.settle();
        stage
    }

    /// Lets layout and animations come to rest (spinners never do).
    fn settle(&mut self) {
        self.harness.run_steps(6);
        self.harness.check_accessibility();
    }

    fn publish(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = (*self.shared.latest()).clone();
        change(&mut snapshot);
        self.shared.publish(snapshot);
        self.settle();
    }

    fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.settle();
    }

    fn type_into(&mut self, label: &str, text: &str) {
        self.harness.get_by_label(label).focus();
        self.harness.run_steps(2);
        self.harness.key_press_modifiers(egui::Modifiers::COMMAND, Key::A);
        self.harness.run_steps(2);
        self.harness.get_by_label(label).type_text(text);
        self.settle();
    }

    fn press(&mut self, key: Key) {
        self.harness.key_press(key);
        self.settle();
    }

    fn sees(&self, label: &str) -> bool {
        self.harness.query_all_by_label_contains(label).next().is_some()
    }

    /// What was asked for since the last time.
    fn asked(&self) -> Vec<Command> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn show_remote(&mut self, strip: u32) {
        let mut frame = FramePool::new().black(64, 36);
        frame.strip = Some(strip);
        self.pictures.remote.put(Arc::new(frame));
        self.settle();
    }
}

fn words(language: Language) -> &'static Words {
    language.words()
}

fn english() -> &'static Words {
    words(Language::English)
}

fn in_lobby() -> Snapshot {
    let settings = Settings { language: Some(Language::English), ..Settings::default() };
    let device =
        |name: &str| Device { id: format!("id of {name}"), name: name.into(), default: false };
    Snapshot {
        settings: Arc::new(settings),
        devices: Arc::new(DeviceList {
            cameras: vec![device("Front"), device("Back")],
            microphones: vec![device("Built-in")],
            speakers: vec![],
        }),
        proposed_room: "maple-river".into(),
        camera: DeviceState::On("Front (1280x720)".into()),
        microphone: DeviceState::On("Built-in".into()),
        microphone_dbfs: -20.0,
        ..Snapshot::default()
    }
}

fn in_call() -> Snapshot {
    Snapshot {
        phase: Phase::InCall { room: "tea".into(), since: Instant::now(), server_lost: false },
        peer: Some(Peer { name: "韩梅梅".into(), audio: true, video: true, ..Peer::default() }),
        ..in_lobby()
    }
}

#[test]
fn a_call_is_started_in_the_room_that_was_typed() {
    let mut stage = Stage::new(in_lobby());
    stage.click(english().start_call);
    assert_eq!(stage.asked(), [Command::Host { room: "maple-river".into() }]);
    stage.type_into(english().room, "tea-house");
    stage.click(english().start_call);
    assert_eq!(stage.asked(), [Command::Host { room: "tea-house".into() }]);
    stage.click(english().new_name);
    assert_eq!(stage.asked(), [Command::ProposeRoom]);
    stage.publish(|snapshot| snapshot.proposed_room = "quiet-fox".into());
    stage.click(english().start_call);
    assert_eq!(stage.asked(), [Command::Host { room: "quiet-fox".into() }]);
}

#[test]
fn an_impossible_room_name_is_explained_and_not_sent() {
    let mut stage = Stage::new(in_lobby());
    stage.type_into(english().room, "two words");
    assert!(stage.sees(english().room_invalid));
    stage.click(english().start_call);
    assert_eq!(stage.asked(), []);
}

#[test]
fn a_pasted_link_is_joined() {
    let mut stage = Stage::new(in_lobby());
    stage.click(english().join_tab);
    stage.type_into(english().link_or_room, "http://10.0.0.2:8080/room/tea");
    assert!(!stage.sees(english().server));
    stage.click(english().join);
    let target = "http://10.0.0.2:8080/room/tea".to_owned();
    assert_eq!(stage.asked(), [Command::Join { target, server: None }]);
}

#[test]
fn a_bare_room_asks_for_its_server_and_enter_joins() {
    let mut stage = Stage::new(in_lobby());
    stage.click(english().join_tab);
    stage.type_into(english().link_or_room, "茶室");
    assert!(stage.sees(english().server_needed));
    stage.type_into(english().server, "10.0.0.2:8080");
    stage.press(Key::Enter);
    let (target, server) = ("茶室".to_owned(), Some("http://10.0.0.2:8080".to_owned()));
    assert_eq!(stage.asked(), [Command::Join { target, server }]);
    stage.type_into(english().link_or_room, "http://10.0.0.2:8080/");
    assert!(stage.sees(english().link_invalid));
}

#[test]
fn the_name_is_saved_when_the_field_is_left() {
    let mut stage = Stage::new(in_lobby());
    stage.type_into(english().your_name, " 李雷 ");
    assert_eq!(stage.asked(), []);
    stage.press(Key::Tab);
    assert_eq!(stage.asked(), [Command::SetName("李雷".into())]);
    stage.click(english().start_call);
    assert_eq!(stage.asked(), [Command::Host { room: "maple-river".into() }]);
}

#[test]
fn microphone_and_camera_are_switched_by_button_and_key() {
    let mut stage = Stage::new(in_lobby());
    stage.click(english().turn_microphone_off);
    stage.click(english().turn_camera_off);
    stage.press(Key::M);
    stage.press(Key::V);
    let off = [Command::SetMicrophone(false), Command::SetCamera(false)];
    assert_eq!(stage.asked(), [off.clone(), off].concat());
    stage.publish(|snapshot| {
        snapshot.microphone = DeviceState::Off;
        snapshot.camera = DeviceState::Off;
    });
    assert!(stage.sees(english().camera_off));
    stage.click(english().turn_microphone_on);
    stage.click(english().turn_camera_on);
    assert_eq!(stage.asked(), [Command::SetMicrophone(true), Command::SetCamera(true)]);
}

#[test]
fn letters_typed_into_a_field_are_no_shortcuts() {
    let mut stage = Stage::new(in_lobby());
    stage.harness.get_by_label(english().your_name).focus();
    stage.harness.run_steps(2);
    for key in [Key::M, Key::V, Key::F, Key::Escape] {
        stage.harness.key_press(key);
        stage.harness.run_steps(1);
        stage.harness.get_by_label(english().your_name).focus();
        stage.harness.run_steps(1);
    }
    stage.settle();
    let switched = |command: &Command| {
        matches!(command, Command::SetMicrophone(_) | Command::SetCamera(_) | Command::HangUp)
    };
    assert!(!stage.asked().iter().any(switched));
}

#[test]
fn a_camera_that_fails_says_what_to_do() {
    let mut stage = Stage::new(in_lobby());
    let sentence = "The camera \"Front\" is in use by another program: close that program.";
    stage.publish(|snapshot| snapshot.camera = DeviceState::Failed(sentence.into()));
    assert!(stage.sees(sentence));
    stage.publish(|snapshot| snapshot.microphone = DeviceState::Failed("No microphone.".into()));
    assert!(stage.sees("No microphone."));
}

#[test]
fn another_camera_is_chosen_from_the_list() {
    let mut stage = Stage::new(in_lobby());
    let picker = |stage: &Stage| {
        let role = egui::Role::ComboBox;
        stage.harness.get_by_role_and_label(role, english().camera).click();
    };
    picker(&stage);
    stage.settle();
    assert_eq!(stage.asked(), [Command::RefreshDevices], "a list that opens is a fresh one");
    stage.click("Back");
    assert_eq!(stage.asked(), [Command::ChooseCamera(Some("id of Back".into()))]);
    let speaker = stage.harness.get_by_role_and_label(egui::Role::ComboBox, english().speaker);
    assert_eq!(speaker.value().as_deref(), Some(english().no_speaker_listed));
}

#[test]
fn a_recent_room_is_one_click_away() {
    let mut lobby = in_lobby();
    let mut settings = (*lobby.settings).clone();
    let target = "http://10.0.0.2:8080/room/tea".to_owned();
    settings.remember_room(RecentRoom { target: target.clone(), ..RecentRoom::default() });
    settings.remember_room(RecentRoom {
        target: "quiet-fox".into(),
        hosted: true,
        ..RecentRoom::default()
    });
    lobby.settings = Arc::new(settings);
    let mut stage = Stage::new(lobby);
    stage.click(&english().rejoin("tea"));
    stage.click(&english().rejoin("quiet-fox"));
    let expected =
        [Command::Join { target, server: None }, Command::Host { room: "quiet-fox".into() }];
    assert_eq!(stage.asked(), expected);
}

#[test]
fn waiting_shows_the_link_copies_it_and_can_be_cancelled() {
    let link = "http://192.168.1.7:8080/room/maple-river";
    let mut lobby = in_lobby();
    lobby.phase = Phase::Waiting { room: "maple-river".into(), invite: Some(link.into()) };
    let mut stage = Stage::new(lobby);
    assert!(stage.sees(english().waiting) && stage.sees(link));
    stage.harness.get_by_label(english().copy).click();
    let mut copied = Vec::new();
    for _ in 0..4 {
        stage.harness.step();
        copied.extend(stage.harness.output().platform_output.commands.iter().filter_map(
            |command| match command {
                egui::OutputCommand::CopyText(text) => Some(text.clone()),
                _ => None,
            },
        ));
    }
    assert_eq!(copied, [link]);
    assert!(stage.sees(english().copied));
    stage.click(english().cancel);
    stage.press(Key::Escape);
    assert_eq!(stage.asked(), [Command::HangUp, Command::HangUp]);
    stage.publish(|snapshot| {
        snapshot.phase = Phase::Waiting { room: "maple-river".into(), invite: None };
    });
    assert!(stage.sees("no link to send"));
}

#[test]
fn in_a_call_the_other_is_seen_and_the_bar_works() {
    let mut stage = Stage::new(in_call());
    assert!(stage.sees(english().peer_no_picture_yet));
    stage.show_remote(7);
    stage.show_remote(8);
    assert_eq!(*stage.shown.lock().unwrap(), [Some(7), Some(8)]);
    assert_eq!(stage.harness.state().as_ref().map(Window::remote_shown), Some(2));
    assert!(stage.sees(english().remote_picture));
    assert!(stage.sees("韩梅梅") && stage.sees(english().encrypted));
    stage.click(english().turn_microphone_off);
    stage.click(english().turn_camera_off);
    stage.click(english().hang_up);
    let expected = [Command::SetMicrophone(false), Command::SetCamera(false), Command::HangUp];
    assert_eq!(stage.asked(), expected);
}

#[test]
fn the_bar_hides_but_stays_within_reach_of_assistive_technology() {
    let mut stage = Stage::new(in_call());
    stage.show_remote(1);
    // Far beyond the three seconds, a quarter at a time.
    stage.harness.run_steps(40);
    stage.harness.get_by_label(english().hang_up).click_accesskit();
    stage.settle();
    assert_eq!(stage.asked(), [Command::HangUp]);
}

#[test]
fn a_picture_of_an_earlier_call_never_comes_back() {
    let mut stage = Stage::new(in_call());
    stage.show_remote(1);
    stage.publish(|snapshot| {
        snapshot.phase = Phase::Lobby;
        snapshot.peer = None;
    });
    stage.publish(|snapshot| *snapshot = in_call());
    assert!(!stage.sees(english().remote_picture));
}

#[test]
fn what_the_other_switched_off_is_shown() {
    let mut stage = Stage::new(in_call());
    stage.show_remote(1);
    stage.publish(|snapshot| {
        snapshot.peer = Some(Peer::default());
    });
    assert!(stage.sees(english().peer_camera_off));
    assert!(stage.sees(english().peer_muted) && stage.sees(english().the_other));
    assert!(!stage.sees(english().remote_picture), "not a frozen picture");
}

#[test]
fn the_screen_is_shared_and_taken_back() {
    let mut stage = Stage::new(in_call());
    stage.click(english().share_screen);
    assert_eq!(stage.asked(), [Command::ShareScreen(true)]);
    stage.publish(|snapshot| {
        snapshot.camera = DeviceState::Off;
        snapshot.screen = DeviceState::On("screen 0 (1280x720)".into());
    });
    stage.press(Key::S);
    stage.click(english().stop_sharing);
    assert_eq!(stage.asked(), [Command::ShareScreen(false), Command::ShareScreen(false)]);
    let mut alone = Stage::new(in_lobby());
    alone.press(Key::S);
    assert_eq!(alone.asked(), [], "there is nobody to share it with");
}

#[test]
fn a_link_too_narrow_for_pictures_is_named_at_both_ends() {
    let mut stage = Stage::new(in_call());
    assert!(!stage.sees(english().pictures_paused));
    stage.publish(|snapshot| {
        snapshot.pictures_paused = true;
        snapshot.peer.as_mut().expect("a peer").paused = true;
    });
    assert!(stage.sees(english().pictures_paused) && stage.sees(english().peer_paused));
    assert!(!stage.sees(english().remote_picture), "not a frozen picture");
}

#[test]
fn escape_asks_before_it_leaves_a_call() {
    let mut stage = Stage::new(in_call());
    stage.press(Key::Escape);
    assert!(stage.sees(english().leave_question));
    stage.press(Key::Escape);
    assert!(!stage.sees(english().leave_question));
    assert_eq!(stage.asked(), []);
    stage.press(Key::Escape);
    stage.click(english().leave);
    assert_eq!(stage.asked(), [Command::HangUp]);
}

#[test]
fn escape_leaves_full_screen_first() {
    let mut stage = Stage::new(in_call());
    let full = |stage: &Stage| stage.harness.state().as_ref().map(|w| w.local.full_screen);
    stage.press(Key::F);
    assert_eq!(full(&stage), Some(true));
    assert!(stage.sees(english().leave_full_screen));
    stage.press(Key::Escape);
    assert_eq!(full(&stage), Some(false));
    assert!(!stage.sees(english().leave_question));
}

#[test]
fn devices_can_be_changed_during_a_call() {
    let mut stage = Stage::new(in_call());
    stage.click(english().devices);
    let role = egui::Role::ComboBox;
    stage.harness.get_by_role_and_label(role, english().camera).click();
    stage.settle();
    assert_eq!(stage.asked(), [Command::RefreshDevices]);
    stage.click("Front");
    assert_eq!(stage.asked(), [Command::ChooseCamera(Some("id of Front".into()))]);
    stage.press(Key::Escape);
    assert!(stage.harness.query_by_role_and_label(role, english().camera).is_none());
    assert!(!stage.sees(english().leave_question));
}

#[test]
fn a_lost_server_is_said_while_the_picture_stays() {
    let mut stage = Stage::new(in_call());
    assert!(!stage.sees(english().server_lost));
    stage.publish(|snapshot| {
        snapshot.phase =
            Phase::InCall { room: "tea".into(), since: Instant::now(), server_lost: true };
    });
    assert!(stage.sees(english().server_lost));
    assert!(!stage.sees(english().reconnecting_explained));
}

#[test]
fn connecting_and_reconnecting_are_said_in_words() {
    let mut stage = Stage::new(in_call());
    stage.show_remote(1);
    stage.publish(|snapshot| snapshot.phase = Phase::Reconnecting { room: "tea".into() });
    assert!(stage.sees(english().reconnecting) && stage.sees(english().reconnecting_explained));
    assert!(stage.sees(english().remote_picture), "the last picture stays, dimmed");
    stage.publish(|snapshot| snapshot.phase = Phase::Connecting { room: "tea".into() });
    assert!(stage.sees(english().connecting));
}

#[test]
fn notices_are_dismissed_by_hand_and_news_goes_by_itself() {
    let mut stage = Stage::new(in_lobby());
    let error = Notice { id: 4, error: true, text: "The room tea is full.".into() };
    stage.publish(|snapshot| snapshot.notices = vec![error]);
    assert!(stage.sees("The room tea is full."));
    stage.click(english().dismiss);
    assert_eq!(stage.asked(), [Command::Dismiss(4)]);
    let news = Notice { id: 5, error: false, text: "Ann left the call.".into() };
    stage.publish(|snapshot| snapshot.notices = vec![news]);
    assert_eq!(stage.asked(), []);
    stage.harness.run_steps(40);
    assert_eq!(stage.asked(), [Command::Dismiss(5)]);
}

#[test]
fn the_language_is_switched_and_every_view_speaks_it() {
    let mut stage = Stage::new(in_lobby());
    stage.click(Language::Chinese.own_name());
    assert_eq!(stage.asked(), [Command::SetLanguage(Some(Language::Chinese))]);
    let here = words(Language::Chinese);
    let settings = Settings { language: Some(Language::Chinese), ..Settings::default() };
    stage.publish(|snapshot| snapshot.settings = Arc::new(settings));
    assert!(stage.sees(here.lobby_heading) && !stage.sees(english().lobby_heading));
    stage.publish(|snapshot| {
        snapshot.phase =
            Phase::Waiting { room: "茶".into(), invite: Some("http://h/room/茶".into()) };
    });
    assert!(stage.sees(here.waiting) && stage.sees(here.copy));
    stage.publish(|snapshot| {
        snapshot.phase =
            Phase::InCall { room: "茶".into(), since: Instant::now(), server_lost: false };
        snapshot.peer = Some(Peer::default());
    });
    assert!(stage.sees(here.hang_up) && stage.sees(here.encrypted));
    assert!(stage.sees(here.peer_camera_off));
}

fn before_a_stranger() -> Snapshot {
    let fingerprint = Fingerprint::of_public_key(b"a key");
    let server = "https://10.0.0.2:8443".to_owned();
    Snapshot { stranger: Some(Stranger { server, fingerprint }), ..in_lobby() }
}

#[test]
fn an_unknown_server_is_joined_only_when_the_user_says_so() {
    let mut stage = Stage::new(before_a_stranger());
    assert!(stage.sees("https://10.0.0.2:8443") && !stage.sees(english().link_or_room));
    let first = &Fingerprint::of_public_key(b"a key").grouped()[..4];
    assert!(stage.sees(first), "the fingerprint is shown");
    stage.click(english().trust_and_join);
    assert_eq!(stage.asked(), [Command::TrustStranger]);
    stage.click(english().cancel);
    assert_eq!(stage.asked(), [Command::DistrustStranger]);
    stage.publish(|snapshot| snapshot.stranger = None);
    assert!(stage.sees(english().start_call));
}

#[test]
fn every_view_fits_the_smallest_window() {
    let link = Some("http://192.168.1.7:8080/room/maple-river-sunny-otter".to_owned());
    let room = "maple-river-sunny-otter".to_owned();
    for phase in [
        Phase::Lobby,
        Phase::Joining { room: room.clone(), held: false },
        Phase::Waiting { room: room.clone(), invite: link },
        Phase::Connecting { room: room.clone() },
        Phase::InCall { room: room.clone(), since: Instant::now(), server_lost: false },
        Phase::Reconnecting { room },
    ] {
        let [width, height] = super::SMALLEST_SIZE;
        let size = vec2(width, height);
        let stage = Stage::sized(Snapshot { phase: phase.clone(), ..in_call() }, size);
        let mut buttons = 0;
        for node in stage.harness.query_all_by_role(egui::Role::Button) {
            let rect = node.rect();
            buttons += 1;
            assert!(rect.left() >= 0.0 && rect.right() <= width, "{phase:?}: {rect:?}");
        }
        assert!(buttons >= 3, "{phase:?}");
    }
}

#[test]
fn a_closed_window_lets_go_of_the_engines_hooks() {
    let stage = Stage::new(in_call());
    let (pictures, shared) = (stage.pictures.clone(), stage.shared.clone());
    let weak = Arc::downgrade(&stage.shown);
    drop(stage);
    pictures.remote.put(Arc::new(FramePool::new().black(2, 2)));
    shared.publish(in_lobby());
    assert!(weak.upgrade().is_none());
}
