//! The router's task: carriers, hub, Redis and the clock on one side, the router on the other.

use std::time::Instant;

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    Cluster,
    redis::Heard,
    router::{Action, Owner, Returned, Router},
    wire::NodeId,
};
use crate::{
    hub::{Command, INBOX, Outbound, sleep_until},
    moment::Moment,
    protocol::RoomName,
    room::ConnectionId,
};

/// Frames that may wait to be published; the links send again what does not fit.
const FRAMES: usize = 4096;

/// What Redis or the hub answered.
enum Answer {
    Resolved { room: RoomName, asked: Instant, owner: Option<Owner> },
    Renewed { asked: Instant, leases: Vec<(RoomName, u64, bool)> },
    Surveyed { moment: u64, rooms: std::collections::HashSet<RoomName> },
    Nothing,
}

pub(super) struct Task {
    node: NodeId,
    cluster: Cluster,
    router: Router,
    hub: mpsc::Sender<Command>,
    mailbox: mpsc::UnboundedReceiver<(ConnectionId, Outbound)>,
    returns: mpsc::UnboundedReceiver<Returned>,
    answers: JoinSet<Answer>,
    healthy: watch::Sender<bool>,
}

impl Task {
    pub(super) fn new(
        cluster: Cluster,
        hub: mpsc::Sender<Command>,
        healthy: watch::Sender<bool>,
    ) -> Self {
        let node = NodeId::new(rand::random());
        let (mailbox_in, mailbox) = mpsc::unbounded_channel();
        let (returns_in, returns) = mpsc::unbounded_channel();
        let router = Router::new(node, cluster.times, mailbox_in, returns_in);
        Self { node, cluster, router, hub, mailbox, returns, answers: JoinSet::new(), healthy }
    }

    /// Until a stopped router has nothing left to do, or the hub is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let store = &self.cluster.store;
        let (frames, to_publish) = mpsc::channel(FRAMES);
        let (heard_in, mut heard) = mpsc::channel(INBOX);
        let mut medium = JoinSet::new();
        medium.spawn(store.clone().publish(to_publish));
        let silence = self.cluster.times.link.silence;
        medium.spawn(store.clone().listen(self.node, silence, heard_in));
        tracing::info!(node = %self.node, "one of many nodes");
        while !self.router.is_done() {
            tokio::select! {
                Some(command) = commands.recv() => {
                    self.router.handle_command(command, Moment::now());
                }
                Some((connection, outbound)) = self.mailbox.recv() => {
                    self.router.handle_delivery(connection, outbound, Moment::now());
                }
                Some(returned) = self.returns.recv() => {
                    self.router.handle_returned(returned);
                    // Many at once become one message.
                    while let Ok(returned) = self.returns.try_recv() {
                        self.router.handle_returned(returned);
                    }
                }
                Some(heard) = heard.recv() => match heard {
                    Heard::Frame(frame) => self.router.handle_frame(&frame, Moment::now()),
                    Heard::Up(up) => self.set_up(up),
                },
                Some(answer) = self.answers.join_next() => {
                    self.hear(answer.unwrap_or(Answer::Nothing));
                }
                () = sleep_until(self.router.poll_timeout()) => {
                    self.router.handle_timeout(Moment::now());
                }
            }
            while let Some(action) = self.router.poll_action(Moment::now()) {
                if self.perform(action, &frames).await.is_err() {
                    return;
                }
            }
        }
        // What gives the leases back, for one.
        while self.answers.join_next().await.is_some() {}
    }

    fn set_up(&mut self, up: bool) {
        if up {
            tracing::info!("Redis answers");
            self.cluster.remind(&mut self.answers, || Answer::Nothing);
        } else {
            tracing::warn!("Redis does not answer: rooms of other nodes wait");
        }
        self.healthy.send_replace(up);
        self.router.set_up(up, Moment::now());
    }

    fn hear(&mut self, answer: Answer) {
        let now = Moment::now();
        match answer {
            Answer::Resolved { room, asked, owner } => {
                self.router.handle_resolved(room, asked, owner, now);
            }
            Answer::Renewed { asked, leases } => self.router.handle_renewed(asked, leases, now),
            Answer::Surveyed { moment, rooms } => self.router.handle_survey(moment, &rooms),
            Answer::Nothing => {}
        }
    }

    /// Fails when the hub is gone.
    async fn perform(
        &mut self,
        action: Action,
        frames: &mpsc::Sender<(NodeId, Vec<u8>)>,
    ) -> Result<(), mpsc::error::SendError<Command>> {
        let (store, node, times) = (self.cluster.store.clone(), self.node, self.cluster.times);
        let asked = Instant::now();
        match action {
            // The hub never waits for us.
            Action::Hub(command) => self.hub.send(command).await?,
            Action::Publish { to, frame } => {
                // One too many: the link sends it again.
                let _ = frames.try_send((to, frame));
            }
            Action::Survey { moment } => {
                let (reply, rooms) = oneshot::channel();
                self.hub.send(Command::Survey { reply }).await?;
                self.answers.spawn(async move {
                    match rooms.await {
                        Ok(rooms) => Answer::Surveyed { moment, rooms },
                        Err(_) => Answer::Nothing,
                    }
                });
            }
            Action::Resolve { room, known } => {
                self.answers.spawn(async move {
                    let owner = store.acquire(&room, node, known, times.lease).await;
                    let owner =
                        owner.inspect_err(|error| tracing::debug!(%room, %error, "no owner found"));
                    Answer::Resolved { room, asked, owner: owner.ok() }
                });
            }
            Action::Renew(leases) => {
                self.answers.spawn(async move {
                    match store.renew(&leases, node, times.lease).await {
                        Ok(leases) => Answer::Renewed { asked, leases },
                        Err(error) => {
                            tracing::debug!(%error, "leases were not renewed");
                            Answer::Nothing
                        }
                    }
                });
            }
            Action::Release { room, fence } => {
                self.answers.spawn(async move {
                    // If it fails the lease runs out.
                    let _ = store.release(&room, node, fence).await;
                    Answer::Nothing
                });
            }
            Action::Abandon(leases) => {
                self.answers.spawn(async move {
                    // If it fails the leases run out.
                    let _ = store.abandon(&leases, node).await;
                    Answer::Nothing
                });
            }
        }
        Ok(())
    }
}
