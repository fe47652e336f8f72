//! The one task that owns the rooms. Carriers speak to it through [`Connection`]s: whatever the
//! wire, a carrier hands in events and writes out what comes back.
//!
//! Back-pressure: every event a carrier hands in holds one of its connection's few credits until
//! all deliveries it caused are written out or dropped. So a flood slows its sender, the hub
//! never waits, and no queue grows.

use std::{any::Any, collections::HashSet, fmt, sync::Arc, time::Instant};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{
    carrier::Guest,
    metrics::{Metrics, Present},
    outbox::MAX_KEPT,
    protocol::{ByeReason, ClientEvent, EventError, RoomName, ServerEvent},
    room::{ConnectionId, Counts, Limits, Registry},
};

pub(crate) use crate::room::CloseReason;

mod mailbox;
mod task;

pub(crate) use self::mailbox::Mailbox;

/// Events of one connection whose deliveries may be under way.
const CREDITS: usize = 32;

/// Deliveries that may wait for a connection. Its own events and its peer's cause at most four
/// each, besides what a resumed seat missed, so a connection whose queue is full cannot be an
/// honest one's.
pub(crate) const OUTBOX: usize = CREDITS * 8 + 4 * MAX_KEPT;

/// Commands that may wait for the hub.
pub(crate) const INBOX: usize = 256;

/// Speaks to the hub.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    inbox: mpsc::Sender<Command>,
    counts: watch::Receiver<Counts>,
    metrics: Arc<Metrics>,
    limits: Limits,
}

/// The hub is gone: the server is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// What to write to a connection.
#[derive(Debug)]
pub(crate) enum Outbound {
    /// An event. The credit comes back when this is dropped. Boxed: a connection's queue keeps
    /// room for 32 of these, however idle it is.
    Event(Box<ServerEvent>, Option<Credit>),
    /// Nothing more: close it, for this reason.
    Close(CloseReason),
}

/// A credit shared by the deliveries of one event.
#[derive(Clone)]
pub(crate) struct Credit {
    _guard: Arc<dyn Any + Send + Sync>,
    /// When its event was handed in.
    pub(crate) received: Instant,
}

impl Credit {
    /// A credit that gives itself back by dropping `guard`.
    pub(crate) fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Arc::new(guard), received: Instant::now() }
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credit")
    }
}

/// What carriers, and the router of a cluster, want of the hub.
#[derive(Debug)]
pub(crate) enum Command {
    Open {
        guest: Guest,
        outbox: mpsc::Sender<Outbound>,
        reply: oneshot::Sender<ConnectionId>,
    },
    /// A connection that has a number already, in a cluster.
    Route {
        connection: ConnectionId,
        guest: Guest,
        outbox: Mailbox,
    },
    /// A room came here from another node: for a while it is set up again from tokens.
    Recover {
        room: RoomName,
    },
    /// A room goes to another node: nobody is told.
    HandOver {
        room: RoomName,
    },
    /// Which rooms there are.
    Survey {
        reply: oneshot::Sender<HashSet<RoomName>>,
    },
    Event {
        connection: ConnectionId,
        event: Result<ClientEvent, EventError>,
        credit: Credit,
    },
    Closed {
        connection: ConnectionId,
        reason: ByeReason,
    },
    Expelled {
        connection: ConnectionId,
    },
    Allow {
        room: RoomName,
        done: oneshot::Sender<()>,
    },
    Disallow {
        room: RoomName,
        done: oneshot::Sender<()>,
    },
    Stop,
}

impl Hub {
    /// Starts the hub's task, which ends after [`Self::stop`] once all connections are closed.
    pub(crate) fn start(
        registry: Registry,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (inbox, commands) = mpsc::channel(INBOX);
        let (counts_out, counts) = watch::channel(Counts::default());
        let limits = registry.limits();
        let task = task::Task::new(registry, counts_out, Arc::clone(&metrics));
        (Self { inbox, counts, metrics, limits }, task.run(commands))
    }

    /// A hub whose carriers speak to `inbox` first, and what `inbox` is to pass on to.
    pub(crate) fn behind(self, inbox: mpsc::Sender<Command>) -> (Self, mpsc::Sender<Command>) {
        let hub = self.inbox.clone();
        (Self { inbox, ..self }, hub)
    }

    /// Opens a connection; what it is to write comes out of the receiver, whose end means the
    /// connection is to be dropped.
    pub(crate) async fn open(
        &self,
        guest: Guest,
    ) -> Result<(Connection, mpsc::Receiver<Outbound>), Stopped> {
        let (outbox, outbound) = mpsc::channel(OUTBOX);
        let (reply, id) = oneshot::channel();
        self.send(Command::Open { guest, outbox, reply }).await?;
        let id = id.await.map_err(|_| Stopped)?;
        let credits = Arc::new(Semaphore::new(CREDITS));
        let _present = self.metrics.count_client(guest.carrier);
        let inbox = self.inbox.clone();
        Ok((Connection { id, inbox, credits, open: true, _present }, outbound))
    }

    /// Serves `room` from now on.
    pub(crate) async fn allow(&self, room: RoomName) -> Result<(), Stopped> {
        let (done, reply) = oneshot::channel();
        self.send(Command::Allow { room, done }).await?;
        reply.await.map_err(|_| Stopped)
    }

    /// No longer serves `room`.
    pub(crate) async fn disallow(&self, room: RoomName) -> Result<(), Stopped> {
        let (done, reply) = oneshot::channel();
        self.send(Command::Disallow { room, done }).await?;
        reply.await.map_err(|_| Stopped)
    }

    /// What carriers are to allow.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Says so to everyone, then closes every connection once all that waits for it is written;
    /// takes nothing new.
    pub(crate) async fn stop(&self) -> Result<(), Stopped> {
        self.send(Command::Stop).await
    }

    /// What the server counts.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many there are of what, as of the hub's last event.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.inbox.send(command).await.map_err(|_| Stopped)
    }
}

/// A carrier's side of one connection. Dropping it counts as losing the connection.
#[derive(Debug)]
pub(crate) struct Connection {
    id: ConnectionId,
    inbox: mpsc::Sender<Command>,
    credits: Arc<Semaphore>,
    open: bool,
    _present: Present,
}

impl Connection {
    /// For the log.
    pub(crate) fn id(&self) -> u64 {
        self.id.0
    }

    /// Hands in what the client said, or why it could not be read. Waits while too many earlier
    /// events of this connection are still being delivered.
    pub(crate) async fn hand_in(
        &self,
        event: Result<ClientEvent, EventError>,
    ) -> Result<(), Stopped> {
        let permit = Arc::clone(&self.credits).acquire_owned().await.map_err(|_| Stopped)?;
        let credit = Credit::new(permit);
        let command = Command::Event { connection: self.id, event, credit };
        self.inbox.send(command).await.map_err(|_| Stopped)
    }

    /// The client broke the rules: frees the connection's seat at once.
    pub(crate) async fn expel(mut self) {
        self.open = false;
        // A hub that is gone has no seats to free.
        let _ = self.inbox.send(Command::Expelled { connection: self.id }).await;
    }

    /// Frees the connection's seat, or, if it was lost, holds it where its wire can resume.
    pub(crate) async fn close(mut self, reason: ByeReason) {
        self.open = false;
        // A hub that is gone has no seats to free.
        let _ = self.inbox.send(Command::Closed { connection: self.id, reason }).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // Only on a panic or an aborted carrier; the seat must be freed even so.
        let (inbox, connection) = (self.inbox.clone(), self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let reason = ByeReason::Lost;
                let _ = inbox.send(Command::Closed { connection, reason }).await;
            });
        }
    }
}

/// Sleeps until `due`, or for ever.
pub(crate) async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
