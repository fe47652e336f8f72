//! The client's task: connect, talk, wait, again.

use std::time::Duration;

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{
    Bytes, Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    ClientOptions, ClientUpdate, Command, Trouble,
    connect::{Socket, connect},
};
use crate::{
    backoff::Backoff,
    link::ServerUrl,
    protocol::{ByeReason, ClientEvent, ErrorCode, ServerEvent},
};

/// Keeps what lies between (routers, proxies) from forgetting the connection.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Without any frame for so long the server is gone: it pings, and answers pings.
const SILENCE: Duration = Duration::from_secs(15);
/// A frame must be written within this.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// For the goodbye.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Task {
    options: ClientOptions,
    updates: mpsc::Sender<ClientUpdate>,
    commands: mpsc::Receiver<Command>,
    /// Here, so that leaving can interrupt talking at any point.
    socket: Option<(SplitSink<Socket, Message>, SplitStream<Socket>)>,
    /// Messages sent, ever.
    sent: u64,
}

/// Nobody reads the updates any more.
struct Unheard;

impl Task {
    pub(super) fn new(
        options: ClientOptions,
        updates: mpsc::Sender<ClientUpdate>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self { options, updates, commands, socket: None, sent: 0 }
    }

    /// Works until it gives up, or `closed` says or loses its other end: then it leaves.
    pub(super) async fn run(mut self, closed: oneshot::Receiver<()>) {
        tokio::select! {
            _ = closed => {}
            result = self.work() => {
                if let Err(Unheard) = result {
                    tracing::debug!("nobody listens to the client any more");
                }
            }
        }
        // After a time-out the connection is dropped, which is a goodbye of a kind.
        let _ = timeout(LEAVE_LIMIT, self.leave()).await;
    }

    async fn work(&mut self) -> Result<(), Unheard> {
        let mut backoff = Backoff::default();
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.tell(ClientUpdate::Connecting { attempt }).await?;
            let reason =
                match connect(&self.options.server, self.options.access_token.as_deref()).await {
                    Ok(socket) => {
                        self.socket = Some(socket.split());
                        self.tell(ClientUpdate::Connected).await?;
                        let (reason, was_seated) = self.talk().await?;
                        if was_seated {
                            attempt = 0;
                            backoff.reset();
                        }
                        reason
                    }
                    Err(reason) => reason,
                };
            let exhausted = self.options.give_up_after.is_some_and(|limit| attempt >= limit);
            if exhausted || !reason.is_passing() {
                return self.tell(ClientUpdate::Refused { reason }).await;
            }
            self.socket = None;
            let retry_in = backoff.next_wait(&mut rand::rng());
            self.tell(ClientUpdate::Lost { reason, retry_in }).await?;
            self.pause(Instant::now() + retry_in).await;
        }
    }

    /// Waits; what is sent meanwhile has no seat to go to.
    async fn pause(&mut self, until: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                Some(_) = self.commands.recv() => {}
            }
        }
        while self.commands.try_recv().is_ok() {}
    }

    /// Speaks with the server until the connection ends: why, and whether there was a seat.
    async fn talk(&mut self) -> Result<(Trouble, bool), Unheard> {
        let Self { options, updates, commands, socket, sent } = self;
        let Some((sink, stream)) = socket else {
            return Ok((Trouble::Broken(options.server.clone()), false));
        };
        let mut seated = false;
        let reason = tokio::select! {
            reason = listen(stream, options, updates, &mut seated) => reason?,
            reason = speak(sink, options, commands, sent) => reason,
        };
        Ok((reason, seated))
    }

    async fn tell(&self, update: ClientUpdate) -> Result<(), Unheard> {
        self.updates.send(update).await.map_err(|_| Unheard)
    }

    /// Sends what still waits, and goodbye.
    async fn leave(&mut self) {
        let Some((sink, stream)) = self.socket.take() else {
            return;
        };
        let Ok(mut socket) = sink.reunite(stream) else {
            return;
        };
        self.commands.close();
        let mut last_words = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            last_words.push(event_of(command, &self.options, &mut self.sent));
        }
        last_words.push(ClientEvent::Bye);
        for event in last_words {
            if socket.feed(Message::Text(event.to_text().into())).await.is_err() {
                return;
            }
        }
        let reason = Utf8Bytes::from_static("");
        let frame = CloseFrame { code: CloseCode::Normal, reason };
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    }
}

async fn listen(
    stream: &mut SplitStream<Socket>,
    options: &ClientOptions,
    updates: &mpsc::Sender<ClientUpdate>,
    seated: &mut bool,
) -> Result<Trouble, Unheard> {
    let server = || options.server.clone();
    loop {
        let text = match timeout(SILENCE, stream.next()).await {
            Err(_) => return Ok(Trouble::Silent(server())),
            Ok(None | Some(Err(_))) => return Ok(Trouble::Broken(server())),
            Ok(Some(Ok(Message::Close(frame)))) => {
                return Ok(trouble_of_close(&options.server, frame.as_ref()));
            }
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(_))) => continue,
        };
        let event = match ServerEvent::parse(text.as_str()) {
            Ok(ServerEvent::Pong | ServerEvent::Unknown) => continue,
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "the server said something that is no event");
                continue;
            }
        };
        match &event {
            ServerEvent::Created { .. } | ServerEvent::Joined { .. } => *seated = true,
            ServerEvent::Error { code: ErrorCode::RoomNotHosted, .. } => {
                let room = options.room.clone();
                return Ok(Trouble::RoomNotHosted { server: server(), room });
            }
            ServerEvent::Bye { reason: ByeReason::Replaced, .. } => return Ok(Trouble::Replaced),
            _ => {}
        }
        updates.send(ClientUpdate::Event(event)).await.map_err(|_| Unheard)?;
    }
}

async fn speak(
    sink: &mut SplitSink<Socket, Message>,
    options: &ClientOptions,
    commands: &mut mpsc::Receiver<Command>,
    sent: &mut u64,
) -> Trouble {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = Some(Command::Join);
    loop {
        let message = match next.take() {
            Some(command) => Message::Text(event_of(command, options, sent).to_text().into()),
            None => tokio::select! {
                Some(command) = commands.recv() => {
                    next = Some(command);
                    continue;
                }
                _ = pings.tick() => Message::Ping(Bytes::new()),
            },
        };
        match timeout(WRITE_LIMIT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Trouble::Broken(options.server.clone()),
            Err(_) => return Trouble::Silent(options.server.clone()),
        }
    }
}

fn event_of(command: Command, options: &ClientOptions, sent: &mut u64) -> ClientEvent {
    match command {
        Command::Join => {
            ClientEvent::CreateOrJoin { room: options.room.clone(), resume: None, last_seq: None }
        }
        Command::Send(message) => {
            *sent += 1;
            ClientEvent::Message { message, seq: Some(*sent) }
        }
    }
}

fn trouble_of_close(server: &ServerUrl, frame: Option<&CloseFrame>) -> Trouble {
    let server = server.clone();
    match frame.map(|frame| frame.code) {
        Some(CloseCode::Restart | CloseCode::Away) => Trouble::Restarts(server),
        Some(code) => Trouble::Ended { server, code: code.into() },
        None => Trouble::Broken(server),
    }
}
