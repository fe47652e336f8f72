//! The app's client against real servers, and against none.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use common::{LIMIT, Running};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use visavis_signaling::{
    Client, ClientHandle, ClientOptions, ClientUpdate, ServerOptions, ServerUrl, Trust,
    client::Trouble,
    protocol::{ByeReason, ServerEvent},
};

struct App {
    handle: ClientHandle,
    updates: mpsc::Receiver<ClientUpdate>,
}

impl App {
    fn start(server: impl Into<ServerUrl>, give_up_after: Option<u32>) -> Self {
        Self::greeting(server, give_up_after, vec![])
    }

    fn greeting(
        server: impl Into<ServerUrl>,
        give_up_after: Option<u32>,
        greeting: Vec<Value>,
    ) -> Self {
        let room = "tea".parse().unwrap();
        let options = ClientOptions {
            server: server.into(),
            trust: Trust::default(),
            room,
            give_up_after,
            access_token: None,
            greeting,
        };
        let (handle, updates) = Client::start(options);
        Self { handle, updates }
    }

    async fn update(&mut self) -> Option<ClientUpdate> {
        timeout(LIMIT, self.updates.recv()).await.expect("an update in time")
    }

    async fn connects(&mut self) {
        loop {
            match self.update().await.unwrap() {
                ClientUpdate::Connected => return,
                ClientUpdate::Connecting { .. } | ClientUpdate::Lost { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn event(&mut self) -> ServerEvent {
        match self.update().await.unwrap() {
            ClientUpdate::Event(event) => event,
            other => panic!("no event but {other:?}"),
        }
    }

    async fn lost(&mut self) -> Trouble {
        loop {
            match self.update().await.unwrap() {
                ClientUpdate::Lost { reason, .. } => return reason,
                ClientUpdate::Refused { reason } => panic!("refused: {reason}"),
                _ => {}
            }
        }
    }

    async fn refused(&mut self) -> Trouble {
        loop {
            match self.update().await.unwrap() {
                ClientUpdate::Refused { reason } => {
                    assert_eq!(self.update().await, None, "it is the last word");
                    return reason;
                }
                ClientUpdate::Event(event) => panic!("{event:?}"),
                _ => {}
            }
        }
    }
}

async fn pair(server: &Running) -> (App, App) {
    let mut first = App::start(server.address, None);
    first.connects().await;
    assert!(matches!(first.event().await, ServerEvent::Created { .. }));
    let mut second = App::start(server.address, None);
    second.connects().await;
    assert!(matches!(second.event().await, ServerEvent::Joined { .. }));
    assert!(matches!(second.event().await, ServerEvent::Ready { .. }));
    assert!(matches!(first.event().await, ServerEvent::Join { .. }));
    assert!(matches!(first.event().await, ServerEvent::Ready { .. }));
    (first, second)
}

#[tokio::test]
async fn two_clients_meet_speak_and_part() {
    let server = Running::start().await;
    let (mut first, mut second) = pair(&server).await;
    first.handle.send(json!({"type": "offer"})).unwrap();
    let heard = second.event().await;
    assert!(
        matches!(heard, ServerEvent::Message { seq: 1, message, .. } if message == json!({"type": "offer"}))
    );
    // What is said just before closing still arrives.
    second.handle.send(json!("last words")).unwrap();
    second.handle.close().await;
    assert!(matches!(first.event().await, ServerEvent::Message { .. }));
    let bye = first.event().await;
    assert!(matches!(bye, ServerEvent::Bye { reason: ByeReason::Left, .. }), "{bye:?}");
    assert!(matches!(first.event().await, ServerEvent::Created { .. }));
    server.stop().await;
}

#[tokio::test]
async fn a_greeting_comes_with_the_news_of_who_came() {
    let server = Running::start().await;
    let greeting = || vec![json!({"type": "hello"})];
    let mut first = App::greeting(server.address, None, greeting());
    first.connects().await;
    assert!(matches!(first.event().await, ServerEvent::Created { .. }));
    let mut second = App::greeting(server.address, None, greeting());
    second.connects().await;
    assert!(matches!(second.event().await, ServerEvent::Joined { .. }));
    assert!(
        matches!(second.event().await, ServerEvent::Ready { .. }),
        "nothing from who was alone"
    );
    assert!(matches!(first.event().await, ServerEvent::Join { .. }));
    assert!(matches!(first.event().await, ServerEvent::Ready { .. }));
    let heard = first.event().await;
    assert!(
        matches!(heard, ServerEvent::Message { seq: 1, message, .. } if message == json!({"type": "hello"}))
    );
    // In a full room it is lost, and nobody is told so.
    let mut third = App::greeting(server.address, None, greeting());
    third.connects().await;
    assert!(matches!(third.event().await, ServerEvent::Full { .. }));
    second.handle.close().await;
    assert!(matches!(first.event().await, ServerEvent::Bye { .. }));
    third.handle.join_again().unwrap();
    let next = third.event().await;
    assert!(matches!(next, ServerEvent::Joined { .. }), "{next:?}");
    server.stop().await;
}

#[tokio::test]
async fn dropping_the_handle_leaves_the_room() {
    let server = Running::start().await;
    let (mut first, second) = pair(&server).await;
    drop(second);
    let bye = first.event().await;
    assert!(matches!(bye, ServerEvent::Bye { reason: ByeReason::Left, .. }), "{bye:?}");
    server.stop().await;
}

#[tokio::test]
async fn closing_works_though_nobody_reads_the_updates() {
    let server = Running::start().await;
    let (first, second) = pair(&server).await;
    for number in 0..2_000 {
        while first.handle.send(json!(number)).is_err() {
            tokio::task::yield_now().await;
        }
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    timeout(LIMIT, second.handle.close()).await.unwrap();
    timeout(LIMIT, first.handle.close()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_third_is_told_full_and_may_ask_again() {
    let server = Running::start().await;
    let (first, _second) = pair(&server).await;
    let mut third = App::start(server.address, None);
    third.connects().await;
    assert!(matches!(third.event().await, ServerEvent::Full { .. }));
    first.handle.close().await;
    third.handle.join_again().unwrap();
    assert!(matches!(third.event().await, ServerEvent::Joined { .. }));
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_server_finds_its_clients_again() {
    let server = Running::start().await;
    let address = server.address;
    let (mut first, mut second) = pair(&server).await;
    // Both read on while the server stops.
    let ((), first_lost, second_lost) = tokio::join!(server.stop(), first.lost(), second.lost());
    assert!(matches!(first_lost, Trouble::Restarts(_)), "{first_lost}");
    assert!(matches!(second_lost, Trouble::Restarts(_)), "{second_lost}");
    first.handle.send(json!("to nobody")).unwrap();
    let options = ServerOptions { listen: vec![address], ..ServerOptions::default() };
    let server = Running::with(options).await;
    let (_, _) = tokio::join!(first.connects(), second.connects());
    let events = [first.event().await, second.event().await];
    assert!(events.iter().any(|event| matches!(event, ServerEvent::Created { .. })));
    assert!(events.iter().any(|event| matches!(event, ServerEvent::Joined { .. })));
    for _ in 0..100 {
        if server.handle.counts().seats == 2 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(server.handle.counts().seats, 2);
    server.stop().await;
}

#[tokio::test]
async fn an_unreachable_server_is_reported_at_once_and_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut app = App::start(address, None);
    assert_eq!(app.update().await, Some(ClientUpdate::Connecting { attempt: 1 }));
    let Some(ClientUpdate::Lost { reason, .. }) = app.update().await else {
        panic!("not reported");
    };
    assert_eq!(reason, Trouble::NothingThere(address.into()));
    assert!(reason.to_string().contains(&address.to_string()));
    assert_eq!(app.update().await, Some(ClientUpdate::Connecting { attempt: 2 }));
    let options = ServerOptions { listen: vec![address], ..ServerOptions::default() };
    let server = Running::with(options).await;
    app.connects().await;
    assert!(matches!(app.event().await, ServerEvent::Created { .. }));
    server.stop().await;
}

#[tokio::test]
async fn a_client_gives_up_when_told_to() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut app = App::start(address, Some(2));
    assert_eq!(app.refused().await, Trouble::NothingThere(address.into()));
    assert!(app.handle.send(json!(1)).is_err());
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_named() {
    let server: ServerUrl = "http://no-such-host.invalid:8080".parse().unwrap();
    let mut app = App::start(server, Some(1));
    assert_eq!(app.refused().await, Trouble::NoSuchHost("no-such-host.invalid".into()));
}

#[tokio::test]
async fn another_program_at_the_address_is_not_tried_again() {
    for answer in
        ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-OpenSSH_9\r\n\r\n"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let other = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            stream
        });
        let mut app = App::start(address, None);
        assert_eq!(app.refused().await, Trouble::NotVisavis(address.into()));
        drop(other.await.unwrap());
    }
}

#[tokio::test]
async fn a_room_that_is_not_hosted_is_not_tried_again() {
    let server = Running::hosting(&["coffee"]).await;
    let mut app = App::start(server.address, None);
    let reason = app.refused().await;
    assert!(matches!(reason, Trouble::RoomNotHosted { .. }), "{reason}");
    server.stop().await;
}
