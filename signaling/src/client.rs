//! The app's end: keeps a connection to a server and a seat in a room, as long as it is wanted.

mod connect;
mod memory;
mod task;
mod trust;

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    link::ServerUrl,
    protocol::{Payload, RoomName, ServerEvent},
};

pub use connect::Trouble;
pub(crate) use connect::{Stream, open};
pub use trust::Trust;

/// Messages that may wait to be sent.
const QUEUE: usize = 256;

/// How long [`ClientHandle::close`] may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// What a client is to do.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Which server to connect to.
    pub server: ServerUrl,
    /// By what the server is recognised, if one speaks with it over TLS.
    pub trust: Trust,
    /// Which room to enter, each time the connection is up.
    pub room: RoomName,
    /// After so many failed attempts in a row it gives up, unless it has had a seat: then the
    /// call goes on without the server. Never if `None`.
    pub give_up_after: Option<u32>,
    /// What a closed server wants to hear (`--access-token`).
    pub access_token: Option<String>,
    /// Messages for whoever sits opposite, said right behind the request for a seat: they arrive
    /// with the news that somebody came, a round trip sooner than what is sent after the answer.
    /// Where nobody sits there yet, they are lost; so whoever is met is to be greeted all the same.
    pub greeting: Vec<Value>,
}

/// What a client tells, in order. After [`Self::Refused`] the channel ends.
///
/// A lost connection is not yet a lost seat. After [`Self::Lost`] comes, sooner or later, either
/// `Event(Resumed)`: the seat is back, opposite the same peer, the same call goes on, and every
/// message of either end arrives once and in order; or `Event(Created)` or `Event(Joined)`: the
/// seat was lost, or who sits opposite changed, and everything from the call before is over; or
/// `Event(Full)`: the seat was lost and others have the room.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientUpdate {
    /// It tries to connect.
    Connecting {
        /// Counts attempts since the last seat, from 1.
        attempt: u32,
    },
    /// It is connected, and asks for a seat.
    Connected,
    /// The server says something. What the client itself deals with (`pong`, unknown events)
    /// is not told.
    Event(ServerEvent),
    /// There is no connection, or no longer. A seat it had is held by the server for a while, the
    /// peer does not notice, and messages sent meanwhile wait: the call goes on. It tries again.
    Lost {
        /// Why.
        reason: Trouble,
        /// When it tries again.
        retry_in: Duration,
    },
    /// It has given up.
    Refused {
        /// Why.
        reason: Trouble,
    },
}

/// Connects to servers.
#[derive(Debug)]
pub struct Client;

/// Steers a client. Dropping it leaves the room too, in the background.
#[derive(Debug)]
pub struct ClientHandle {
    commands: mpsc::Sender<Command>,
    /// Dropped or used: leave.
    close: oneshot::Sender<()>,
    redial: Arc<Notify>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Send(Payload),
    Join,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// Too many wait already.
    #[error("Too many messages wait to be sent.")]
    Full,
    /// The client has given up.
    #[error("The connection to the server has ended.")]
    Ended,
}

impl Client {
    /// Starts a client on the current tokio runtime. The updates must be read: it waits for them
    /// to be taken.
    pub fn start(options: ClientOptions) -> (ClientHandle, mpsc::Receiver<ClientUpdate>) {
        let (updates, updates_out) = mpsc::channel(QUEUE);
        let (commands, commands_out) = mpsc::channel(QUEUE);
        let (close, closed) = oneshot::channel();
        let redial = Arc::new(Notify::new());
        let task = task::Task::new(options, updates, commands_out, Arc::clone(&redial));
        let task = tokio::spawn(task.run(closed));
        (ClientHandle { commands, close, redial, task }, updates_out)
    }
}

impl ClientHandle {
    /// Sends `message` to the other seat. What is sent while the connection is lost waits for
    /// the seat, up to 64 messages or 256 KiB; with more, the seat is given up. What is sent
    /// without a seat is dropped.
    ///
    /// # Errors
    /// When it cannot be queued.
    pub fn send(&self, message: Value) -> Result<(), SendError> {
        self.command(Command::Send(message.into()))
    }

    /// Asks for a seat again, after the server said `full`.
    ///
    /// # Errors
    /// When it cannot be queued.
    pub fn join_again(&self) -> Result<(), SendError> {
        self.command(Command::Join)
    }

    /// The network changed: connects again at once, without waiting for the old connection to be
    /// found dead, and takes the seat back.
    pub fn redial(&self) {
        self.redial.notify_one();
    }

    /// Sends what waits, leaves the room and closes the connection; takes three seconds at most.
    pub async fn close(self) {
        let Self { close, mut task, commands: _commands, redial: _ } = self;
        drop(close);
        if timeout(CLOSE_LIMIT, &mut task).await.is_err() {
            task.abort();
        }
    }

    fn command(&self, command: Command) -> Result<(), SendError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Ended,
        })
    }
}
