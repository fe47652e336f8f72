//! The app's client over lines that break and servers that are killed.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;
#[path = "common/line.rs"]
mod line;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{LIMIT, Running};
use line::Line;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use visavis_signaling::{
    Client, ClientHandle, ClientOptions, ClientUpdate, Limits, ServerOptions, Trust,
    client::Trouble,
    protocol::{ByeReason, ServerEvent},
};

struct App {
    handle: ClientHandle,
    updates: mpsc::Receiver<ClientUpdate>,
}

impl App {
    fn start(server: SocketAddr) -> Self {
        let room = "tea".parse().unwrap();
        let options = ClientOptions {
            server: server.into(),
            room,
            give_up_after: None,
            trust: Trust::default(),
            access_token: None,
            greeting: vec![],
        };
        let (handle, updates) = Client::start(options);
        Self { handle, updates }
    }

    /// The next event; whatever happens to the line in between.
    async fn event(&mut self) -> ServerEvent {
        loop {
            match self.update().await {
                ClientUpdate::Event(ServerEvent::Log { .. }) => {}
                ClientUpdate::Event(event) => return event,
                ClientUpdate::Refused { reason } => panic!("refused: {reason}"),
                _ => {}
            }
        }
    }

    async fn update(&mut self) -> ClientUpdate {
        timeout(LIMIT, self.updates.recv()).await.expect("an update in time").unwrap()
    }

    async fn lost(&mut self) {
        while !matches!(self.update().await, ClientUpdate::Lost { .. }) {}
    }

    async fn resumed(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, ServerEvent::Resumed { .. }), "{event:?}");
    }

    async fn hears(&mut self, expected: &Value) {
        let event = self.event().await;
        assert!(
            matches!(&event, ServerEvent::Message { message, .. } if message == expected),
            "{event:?} instead of {expected}"
        );
    }
}

async fn pair(first: SocketAddr, second: SocketAddr) -> (App, App) {
    let mut first = App::start(first);
    assert!(matches!(first.event().await, ServerEvent::Created { .. }));
    let mut second = App::start(second);
    assert!(matches!(second.event().await, ServerEvent::Joined { .. }));
    assert!(matches!(second.event().await, ServerEvent::Ready { .. }));
    assert!(matches!(first.event().await, ServerEvent::Join { .. }));
    assert!(matches!(first.event().await, ServerEvent::Ready { .. }));
    (first, second)
}

#[tokio::test]
async fn a_cut_line_costs_neither_the_seat_nor_a_message() {
    let server = Running::start().await;
    let line = Line::to(server.address).await;
    let (mut first, mut second) = pair(line.address, server.address).await;
    line.cut();
    first.lost().await;
    for number in 0..10 {
        first.handle.send(json!(["from the first", number])).unwrap();
        second.handle.send(json!(["from the second", number])).unwrap();
    }
    first.resumed().await;
    for number in 0..10 {
        first.hears(&json!(["from the second", number])).await;
        second.hears(&json!(["from the first", number])).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_line_that_breaks_again_and_again_neither_loses_nor_doubles_a_message() {
    const COUNT: u64 = 200;
    let limits = Limits { message_rate: 0, ..Limits::default() };
    let server = Running::with(ServerOptions { limits, ..ServerOptions::default() }).await;
    let (first_line, second_line) =
        (Line::to(server.address).await, Line::to(server.address).await);
    let (first, second) = pair(first_line.address, second_line.address).await;
    let talk = |mut app: App| async move {
        let (mut sent, mut heard, mut resumed) = (0, 0, 0);
        // As a call does: a few messages at a time, so that what waits never is too much.
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while sent < COUNT || heard < COUNT {
            tokio::select! {
                _ = pace.tick(), if sent < COUNT => {
                    sent += 1;
                    app.handle.send(sent.into()).unwrap();
                }
                event = app.event() => match event {
                    ServerEvent::Message { message, .. } => {
                        heard += 1;
                        assert_eq!(message, Value::from(heard));
                    }
                    ServerEvent::Resumed { .. } => resumed += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        (app, resumed)
    };
    let cuts = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            first_line.cut();
            tokio::time::sleep(Duration::from_millis(400)).await;
            second_line.cut();
            first_line.cut();
        }
    };
    let talks = async { tokio::join!(talk(first), talk(second)) };
    let (((_first, resumed), _second), ()) =
        timeout(3 * LIMIT, async { tokio::join!(talks, cuts) }).await.expect("all in time");
    assert!(resumed >= 1, "the line was cut while they talked");
    server.stop().await;
}

#[tokio::test]
async fn dialling_again_at_once_goes_on_where_it_was() {
    let server = Running::start().await;
    let (mut first, mut second) = pair(server.address, server.address).await;
    for number in 0..3 {
        first.handle.redial();
        first.handle.send(number.into()).unwrap();
        second.handle.send(number.into()).unwrap();
        first.resumed().await;
        first.hears(&number.into()).await;
        second.hears(&number.into()).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn hanging_up_while_the_line_is_down_frees_the_seat() {
    let server = Running::start().await;
    let line = Line::to(server.address).await;
    let (mut first, mut second) = pair(line.address, server.address).await;
    line.cut();
    first.lost().await;
    first.handle.close().await;
    let bye = second.event().await;
    assert!(matches!(bye, ServerEvent::Bye { reason: ByeReason::Left, .. }), "{bye:?}");
    server.stop().await;
}

#[tokio::test]
async fn too_much_sent_while_away_is_a_new_call() {
    let server = Running::start().await;
    let line = Line::to(server.address).await;
    let (mut first, mut second) = pair(line.address, server.address).await;
    line.cut();
    first.lost().await;
    for number in 0..100 {
        first.handle.send(number.into()).unwrap();
    }
    let joined = first.event().await;
    assert!(matches!(joined, ServerEvent::Joined { .. }), "{joined:?}");
    let bye = second.event().await;
    assert!(matches!(bye, ServerEvent::Bye { reason: ByeReason::Left, .. }), "{bye:?}");
    assert!(matches!(second.event().await, ServerEvent::Created { .. }));
    assert!(matches!(second.event().await, ServerEvent::Join { .. }));
    server.stop().await;
}

#[tokio::test]
async fn a_seat_not_taken_back_in_time_is_a_new_call() {
    let hold = Duration::from_millis(50);
    let server = Running::with(ServerOptions { hold, ..ServerOptions::default() }).await;
    let line = Line::to(server.address).await;
    let (mut first, mut second) = pair(line.address, server.address).await;
    line.cut();
    let bye = second.event().await;
    assert!(matches!(bye, ServerEvent::Bye { reason: ByeReason::Lost, .. }), "{bye:?}");
    let joined = first.event().await;
    assert!(matches!(joined, ServerEvent::Joined { .. }), "{joined:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_says_replaced_is_not_dialled_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let other = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        for event in [
            json!({"type": "created", "room": "tea", "id": "a", "resume": "t"}),
            json!({"type": "bye", "id": "a", "reason": "replaced"}),
        ] {
            futures_util::SinkExt::send(&mut socket, event.to_string().into()).await.unwrap();
        }
        (socket, listener)
    });
    let mut app = App::start(address);
    loop {
        match app.update().await {
            ClientUpdate::Refused { reason } => break assert_eq!(reason, Trouble::Replaced),
            ClientUpdate::Lost { .. } => panic!("it dials again"),
            _ => {}
        }
    }
    assert_eq!(timeout(LIMIT, app.updates.recv()).await.unwrap(), None);
    drop(other.await.unwrap());
}

/// The headless server as a process that can be killed.
struct Process(Child);

impl Process {
    fn start(listen: &str, state: &Path) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
            .args(["--listen", listen, "--state-dir"])
            .arg(state)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("Serving on http://").unwrap();
        let address = address.trim_end_matches('/').parse().unwrap();
        (Self(child), address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_killed_server_costs_neither_the_call_nor_a_message() {
    let state = tempfile::tempdir().unwrap();
    let (server, address) = Process::start("127.0.0.1:0", state.path());
    let (mut first, mut second) = pair(address, address).await;
    for round in 0..2 {
        first.handle.send(json!([round, "before"])).unwrap();
        second.hears(&json!([round, "before"])).await;
    }
    // Some of these are on their way when it dies.
    for number in 0..5 {
        first.handle.send(number.into()).unwrap();
        second.handle.send(number.into()).unwrap();
    }
    drop(server);
    first.lost().await;
    for number in 5..10 {
        first.handle.send(number.into()).unwrap();
        second.handle.send(number.into()).unwrap();
    }
    let (_server, again) = Process::start(&address.to_string(), state.path());
    assert_eq!(again, address);
    let hears_all = |mut app: App| async move {
        let (mut expected, mut resumed) = (0, 0);
        while expected < 10 {
            match app.event().await {
                ServerEvent::Message { message, .. } => {
                    assert_eq!(message, Value::from(expected));
                    expected += 1;
                }
                ServerEvent::Resumed { .. } => resumed += 1,
                other => panic!("{other:?}"),
            }
        }
        (app, resumed)
    };
    // Read together: what one hears waits for the other.
    let ((mut first, first_resumed), (mut second, second_resumed)) =
        tokio::join!(hears_all(first), hears_all(second));
    assert!(first_resumed <= 1 && second_resumed <= 1, "once is enough");
    first.handle.send(json!("on we go")).unwrap();
    second.hears(&json!("on we go")).await;
    second.handle.send(json!("indeed")).unwrap();
    first.hears(&json!("indeed")).await;
}
