//! The hub's task: commands in, deliveries out.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::{Command, Credit, INBOX, Mailbox, Outbound, sleep_until};
use crate::{
    metrics::{Asked, Metrics},
    moment::Moment,
    protocol::{ByeReason, ServerEvent},
    room::{CloseReason, ConnectionId, Counts, Delivery, Registry},
};

pub(super) struct Task {
    registry: Registry,
    outboxes: HashMap<ConnectionId, Mailbox>,
    counts: watch::Sender<Counts>,
    last_id: u64,
    stopping: bool,
    metrics: Arc<Metrics>,
}

impl Task {
    pub(super) fn new(
        registry: Registry,
        counts: watch::Sender<Counts>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { registry, outboxes: HashMap::new(), counts, last_id: 0, stopping: false, metrics }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while !(self.stopping && self.outboxes.is_empty()) {
            tokio::select! {
                // Time first, or a flood would stop it.
                biased;
                () = sleep_until(self.registry.poll_timeout()) => {
                    let deliveries = self.registry.handle_timeout(Moment::now());
                    self.deliver(deliveries, None);
                }
                command = commands.recv() => match command {
                    Some(command) => {
                        self.obey(command);
                        // Setting a timer costs more than a command: once for all that wait.
                        for _ in 1..INBOX {
                            let Ok(command) = commands.try_recv() else { break };
                            self.obey(command);
                        }
                    }
                    None => return,
                },
            }
            let counts = self.registry.counts();
            self.counts.send_if_modified(|known| std::mem::replace(known, counts) != counts);
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Moment::now();
        match command {
            Command::Open { guest, outbox, reply } => {
                if self.stopping {
                    return;
                }
                self.last_id += 1;
                let connection = ConnectionId(self.last_id);
                self.outboxes.insert(connection, Mailbox::Carrier(outbox));
                self.registry.handle_open(connection, guest, now);
                if reply.send(connection).is_err() {
                    self.lose(connection);
                }
            }
            Command::Route { connection, guest, outbox } => {
                if !self.stopping {
                    self.outboxes.insert(connection, outbox);
                    self.registry.handle_open(connection, guest, now);
                }
            }
            Command::Recover { room } => self.registry.recover(room, now),
            Command::HandOver { room } => self.registry.hand_over(&room, now),
            Command::Survey { reply } => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(self.registry.rooms().cloned().collect());
            }
            // Nothing more is taken in: who sends it keeps it, and sends it again to the next
            // run of the server.
            Command::Event { .. } if self.stopping => {}
            Command::Event { connection, event, credit } => {
                let asked = Asked::from(&event);
                let deliveries = match event {
                    Ok(event) => self.registry.handle_event(connection, event, now),
                    Err(error) => self.registry.handle_bad_event(connection, error, now),
                };
                self.metrics.count_answers(connection, asked, &deliveries);
                self.deliver(deliveries, Some(&credit));
            }
            Command::Closed { connection, reason } => {
                self.outboxes.remove(&connection);
                let deliveries = self.registry.handle_closed(connection, reason, now);
                self.deliver(deliveries, None);
            }
            Command::Expelled { connection } => {
                self.outboxes.remove(&connection);
                let deliveries = self.registry.handle_expelled(connection, now);
                self.deliver(deliveries, None);
            }
            Command::Allow { room, done } => {
                self.registry.allow(room);
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            Command::Disallow { room, done } => {
                let deliveries = self.registry.disallow(&room, now);
                self.deliver(deliveries, None);
                let _ = done.send(());
            }
            Command::Stop => {
                self.stopping = true;
                for outbox in self.outboxes.values() {
                    let log = ServerEvent::Log { message: "server restarting".into() };
                    // A full queue means a stuck connection; the server's time limit ends it.
                    let _ = outbox.try_send(Outbound::Event(Box::new(log), None));
                    let _ = outbox.try_send(Outbound::Close(CloseReason::Restart));
                }
            }
        }
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>, credit: Option<&Credit>) {
        let mut stuck = Vec::new();
        for delivery in deliveries {
            let (connection, outbound) = match delivery {
                Delivery::Event { to, event } => {
                    (to, Outbound::Event(Box::new(event), credit.cloned()))
                }
                Delivery::Close { connection, reason } => (connection, Outbound::Close(reason)),
            };
            let Some(outbox) = self.outboxes.get(&connection) else {
                continue;
            };
            if outbox.try_send(outbound).is_err() {
                stuck.push(connection);
            }
        }
        for connection in stuck {
            self.lose(connection);
        }
    }

    /// Forgets a connection that does not take what it is told; its carrier ends when it finds
    /// its queue closed.
    fn lose(&mut self, connection: ConnectionId) {
        if self.outboxes.remove(&connection).is_none() {
            return;
        }
        tracing::info!(connection = connection.0, "dropped: does not take what it is told");
        let deliveries = self.registry.handle_closed(connection, ByeReason::Lost, Moment::now());
        self.deliver(deliveries, None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Hub, OUTBOX};
    use super::*;
    use crate::{
        carrier::{CarrierKind, Guest},
        protocol::{ClientEvent, RoomName, ServerEvent},
        room::{Limits, RoomOptions, RoomPolicy},
    };

    fn hub() -> Hub {
        let limits = Limits { message_rate: 0, ..Limits::default() };
        let hold = Duration::from_millis(50);
        let options = RoomOptions { limits, hold, ..RoomOptions::default() };
        let (hub, task) = Hub::start(Registry::with(options, [1; 32]), Arc::default());
        tokio::spawn(task);
        hub
    }

    const GUEST: Guest = Guest {
        address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        carrier: CarrierKind::WebSocket,
    };

    fn join() -> ClientEvent {
        let room = RoomName::parse("tea").unwrap();
        ClientEvent::CreateOrJoin { room, resume: None, last_seq: None }
    }

    fn event(outbound: Option<Outbound>) -> ServerEvent {
        match outbound {
            Some(Outbound::Event(event, _)) => *event,
            other => panic!("no event but {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_dropped_connection_frees_its_seat() {
        let hub = hub();
        let (first, _first_out) = hub.open(GUEST).await.unwrap();
        first.hand_in(Ok(join())).await.unwrap();
        let (second, mut second_out) = hub.open(GUEST).await.unwrap();
        second.hand_in(Ok(join())).await.unwrap();
        assert!(matches!(event(second_out.recv().await), ServerEvent::Joined { .. }));
        assert!(matches!(event(second_out.recv().await), ServerEvent::Ready { .. }));
        drop(first);
        assert!(matches!(event(second_out.recv().await), ServerEvent::Bye { .. }));
        assert!(matches!(event(second_out.recv().await), ServerEvent::Created { .. }));
        assert_eq!(hub.counts().seats, 1);
    }

    #[tokio::test]
    async fn a_flood_waits_for_the_one_it_floods() {
        let hub = hub();
        let (first, mut first_out) = hub.open(GUEST).await.unwrap();
        first.hand_in(Ok(join())).await.unwrap();
        let (second, mut second_out) = hub.open(GUEST).await.unwrap();
        second.hand_in(Ok(join())).await.unwrap();
        let flood = async {
            for number in 0..OUTBOX as u64 * 4 {
                let event = ClientEvent::Message { message: number.into(), seq: None };
                second.hand_in(Ok(event)).await.unwrap();
            }
        };
        let read = async {
            let mut expected = 0;
            while expected < OUTBOX as u64 * 4 {
                if let ServerEvent::Message { message, seq, .. } = event(first_out.recv().await) {
                    assert_eq!((message, seq), (expected.into(), expected + 1));
                    expected += 1;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(flood, read);
        assert!(matches!(event(second_out.recv().await), ServerEvent::Joined { .. }));
    }

    #[tokio::test]
    async fn a_stopped_hub_closes_everyone_and_ends() {
        let (hub, task) = Hub::start(Registry::new(RoomPolicy::Any, [1; 32]), Arc::default());
        let task = tokio::spawn(task);
        let (connection, mut outbound) = hub.open(GUEST).await.unwrap();
        hub.stop().await.unwrap();
        assert!(matches!(event(outbound.recv().await), ServerEvent::Log { .. }));
        let told = outbound.recv().await;
        assert!(matches!(told, Some(Outbound::Close(CloseReason::Restart))));
        assert!(hub.open(GUEST).await.is_err());
        connection.close(ByeReason::Left).await;
        task.await.unwrap();
        assert!(hub.open(GUEST).await.is_err());
    }
}
