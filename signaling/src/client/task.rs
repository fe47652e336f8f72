//! The client's task: connect, talk, wait, again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{
    Bytes, Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    ClientOptions, ClientUpdate, Command, Trouble,
    connect::{Socket, connect},
    memory::{Heard, Memory},
};
use crate::{
    backoff::Backoff,
    link::ServerUrl,
    protocol::{ByeReason, ClientEvent, ErrorCode, Payload, ServerEvent},
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
    /// Both talking and listening change it, never while they wait.
    memory: Mutex<Memory>,
    redial: Arc<Notify>,
}

/// Nobody reads the updates any more.
struct Unheard;

impl Task {
    pub(super) fn new(
        options: ClientOptions,
        updates: mpsc::Sender<ClientUpdate>,
        commands: mpsc::Receiver<Command>,
        redial: Arc<Notify>,
    ) -> Self {
        let memory = Mutex::new(Memory::new(options.room.clone()));
        Self { options, updates, commands, socket: None, memory, redial }
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
        let mut seated_before = false;
        loop {
            attempt += 1;
            self.tell(ClientUpdate::Connecting { attempt }).await?;
            let (server, trust) = (&self.options.server, self.options.trust);
            let token = self.options.access_token.as_deref();
            let connected = tokio::select! {
                connected = connect(server, trust, token) => connected,
                // Over the new network it may work.
                () = self.redial.notified() => connect(server, trust, token).await,
            };
            let reason = match connected {
                Ok(socket) => {
                    self.socket = Some(socket.split());
                    self.tell(ClientUpdate::Connected).await?;
                    let (reason, was_seated) = self.talk().await?;
                    self.memory().lose();
                    if was_seated {
                        seated_before = true;
                        attempt = 0;
                        backoff.reset();
                    }
                    match reason {
                        Some(reason) => reason,
                        None => {
                            self.socket = None;
                            let reason = Trouble::Broken(self.options.server.clone());
                            let retry_in = Duration::ZERO;
                            self.tell(ClientUpdate::Lost { reason, retry_in }).await?;
                            continue;
                        }
                    }
                }
                Err(reason) => reason,
            };
            // Once seated it never does: the call goes on without the server.
            let limit = self.options.give_up_after.filter(|_| !seated_before);
            let exhausted = limit.is_some_and(|limit| attempt >= limit);
            if exhausted || !reason.is_passing() {
                return self.tell(ClientUpdate::Refused { reason }).await;
            }
            // Without a goodbye: that would free the seat.
            self.socket = None;
            let retry_in = backoff.next_wait(&mut rand::rng());
            self.tell(ClientUpdate::Lost { reason, retry_in }).await?;
            if self.pause(Instant::now() + retry_in).await {
                backoff.reset();
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// Waits; what is sent meanwhile waits for the seat, if there is one. Whether the wait was
    /// cut short.
    async fn pause(&mut self, until: Instant) -> bool {
        let cut_short = loop {
            let command = tokio::select! {
                () = sleep_until(until) => break false,
                () = self.redial.notified() => break true,
                Some(command) = self.commands.recv() => command,
            };
            // Never has anything to say: there is no seat.
            let _ = event_of(command, &self.memory);
        };
        while let Ok(command) = self.commands.try_recv() {
            let _ = event_of(command, &self.memory);
        }
        cut_short
    }

    /// Speaks with the server until the connection ends: why (`None`: it is to be made anew), and
    /// whether there was a seat.
    async fn talk(&mut self) -> Result<(Option<Trouble>, bool), Unheard> {
        let Self { options, updates, commands, socket, memory, redial } = self;
        let Some((sink, stream)) = socket else {
            return Ok((Some(Trouble::Broken(options.server.clone())), false));
        };
        let mut seated = false;
        // As much at most as an outbox holds.
        let (say, said) = mpsc::unbounded_channel();
        let reason = tokio::select! {
            reason = listen(stream, options, updates, memory, &say, &mut seated) => Some(reason?),
            reason = speak(sink, options, commands, memory, said) => Some(reason),
            () = redial.notified() => None,
        };
        Ok((reason, seated))
    }

    async fn tell(&self, update: ClientUpdate) -> Result<(), Unheard> {
        self.updates.send(update).await.map_err(|_| Unheard)
    }

    /// Sends what still waits, and goodbye.
    async fn leave(&mut self) {
        let socket = match self.socket.take() {
            Some((sink, stream)) => sink.reunite(stream).ok(),
            // The seat is held: without a goodbye the peer would wait in vain.
            None if self.memory().has_seat() => connect(
                &self.options.server,
                self.options.trust,
                self.options.access_token.as_deref(),
            )
            .await
            .ok(),
            None => None,
        };
        let Some(mut socket) = socket else {
            return;
        };
        self.commands.close();
        let mut last_words = Vec::new();
        if self.memory().is_away() {
            last_words.push(self.memory().join());
        }
        while let Ok(command) = self.commands.try_recv() {
            last_words.extend(event_of(command, &self.memory));
        }
        last_words.push(ClientEvent::Bye);
        for event in last_words {
            if socket.feed(text(&event)).await.is_err() {
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
    memory: &Mutex<Memory>,
    say: &mpsc::UnboundedSender<ClientEvent>,
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
        if let ServerEvent::Error { code: ErrorCode::NotInRoom, .. } = &event
            && !lock(memory).has_seat()
        {
            continue; // the greeting came to a full room
        }
        if let ServerEvent::Error { code: ErrorCode::RoomNotHosted, .. } = &event {
            let room = options.room.clone();
            return Ok(Trouble::RoomNotHosted { server: server(), room });
        }
        let replaced = matches!(&event, ServerEvent::Bye { reason: ByeReason::Replaced, .. });
        let Heard { tell, say: answers } = lock(memory).hear(event);
        if replaced {
            return Ok(Trouble::Replaced);
        }
        for answer in answers {
            // The one who speaks ends only together with this.
            let _ = say.send(answer);
        }
        for event in tell {
            *seated |= matches!(
                &event,
                ServerEvent::Created { .. }
                    | ServerEvent::Joined { .. }
                    | ServerEvent::Resumed { .. }
            );
            updates.send(ClientUpdate::Event(event)).await.map_err(|_| Unheard)?;
        }
    }
}

async fn speak(
    sink: &mut SplitSink<Socket, Message>,
    options: &ClientOptions,
    commands: &mut mpsc::Receiver<Command>,
    memory: &Mutex<Memory>,
    mut said: mpsc::UnboundedReceiver<ClientEvent>,
) -> Trouble {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next: VecDeque<_> = ask(options, memory).into();
    loop {
        let message = match next.pop_front() {
            Some(event) => text(&event),
            None => tokio::select! {
                biased;
                // What is sent again comes before what is new.
                Some(event) = said.recv() => text(&event),
                Some(command) = commands.recv() => {
                    next.extend(event_of(command, memory));
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

/// For a seat, with the greeting right behind.
fn ask(options: &ClientOptions, memory: &Mutex<Memory>) -> Vec<ClientEvent> {
    let mut memory = lock(memory);
    let greeting = options.greeting.iter().cloned().map(Payload::from);
    let mut events = vec![memory.join()];
    events.extend(greeting.filter_map(|message| memory.greet(message)));
    events
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(event: &ClientEvent) -> Message {
    Message::Text(event.to_text().into())
}

/// What to say, if the time for it has come.
fn event_of(command: Command, memory: &Mutex<Memory>) -> Option<ClientEvent> {
    match command {
        Command::Join => Some(lock(memory).join()),
        Command::Send(message) => lock(memory).send(message),
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
