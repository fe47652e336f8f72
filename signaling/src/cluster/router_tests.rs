//! Whole clusters with fake time, a medium that loses, and a Redis of a few lines.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    carrier::{CarrierKind, Guest},
    hub::Mailbox,
    room::{Delivery, Limits, Registry, RoomOptions},
    token::TokenKey,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn tea() -> RoomName {
    RoomName::parse("tea").unwrap()
}

struct Node {
    id: NodeId,
    router: Router,
    registry: Registry,
    outboxes: HashMap<ConnectionId, Mailbox>,
    mailbox: mpsc::UnboundedReceiver<(ConnectionId, Outbound)>,
    returns: mpsc::UnboundedReceiver<Returned>,
    alive: bool,
}

impl Node {
    fn new(index: u8) -> Self {
        let id = NodeId::new([index + 1; 16]);
        let (mailbox_in, mailbox) = mpsc::unbounded_channel();
        let (returns_in, returns) = mpsc::unbounded_channel();
        let router = Router::new(id, ClusterTimes::default(), mailbox_in, returns_in);
        let key = Some(TokenKey::new(&[7; TokenKey::LENGTH]));
        let limits = Limits { message_rate: 0, ..Limits::default() };
        let options = RoomOptions { key, limits, ..RoomOptions::default() };
        let registry = Registry::with(options, [index; 32]);
        let outboxes = HashMap::new();
        Self { id, router, registry, outboxes, mailbox, returns, alive: true }
    }

    /// As the hub does.
    fn obey(&mut self, command: Command, now: Moment) {
        let deliver = |node: &Self, deliveries: Vec<Delivery>, credit: Option<&Credit>| {
            for delivery in deliveries {
                let (to, outbound) = match delivery {
                    Delivery::Event { to, event } => {
                        (to, Outbound::Event(Box::new(event), credit.cloned()))
                    }
                    Delivery::Close { connection, reason } => (connection, Outbound::Close(reason)),
                };
                if let Some(outbox) = node.outboxes.get(&to) {
                    outbox.try_send(outbound).unwrap();
                }
            }
        };
        match command {
            Command::Route { connection, guest, outbox } => {
                self.outboxes.insert(connection, outbox);
                self.registry.handle_open(connection, guest, now);
            }
            Command::Event { connection, event, credit } => {
                let event = event.expect("clients here make sense");
                let deliveries = self.registry.handle_event(connection, event, now);
                deliver(self, deliveries, Some(&credit));
            }
            Command::Closed { connection, reason } => {
                self.outboxes.remove(&connection);
                let deliveries = self.registry.handle_closed(connection, reason, now);
                deliver(self, deliveries, None);
            }
            Command::Recover { room } => self.registry.recover(room, now),
            Command::HandOver { room } => self.registry.hand_over(&room, now),
            other => panic!("{other:?}"),
        }
    }
}

/// What the scripts do, in the same words.
#[derive(Default)]
struct FakeRedis {
    leases: HashMap<RoomName, (NodeId, u64, Instant)>,
    fence: u64,
}

impl FakeRedis {
    fn acquire(&mut self, room: RoomName, node: NodeId, known: u64, now: Instant) -> Owner {
        let lease = self.leases.get(&room).copied();
        let mut moved = false;
        let fence = match lease {
            Some((owner, fence, _)) if owner == node && fence == known => fence,
            Some((owner, fence, until)) if owner != node && until > now => {
                return Owner { node: owner, fence, moved };
            }
            lease => {
                moved = lease.is_some();
                self.fence += 1;
                self.fence
            }
        };
        self.leases.insert(room, (node, fence, now + LeaseTimes::default().lifetime));
        Owner { node, fence, moved }
    }

    fn renew(&mut self, room: &RoomName, node: NodeId, fence: u64, now: Instant) -> bool {
        let is_ours = self.leases.get(room).is_none_or(|lease| (lease.0, lease.1) == (node, fence));
        if is_ours {
            let until = now + LeaseTimes::default().lifetime;
            self.leases.insert(room.clone(), (node, fence, until));
        }
        is_ours
    }
}

enum Due {
    Frame { to: NodeId, frame: Vec<u8> },
    Resolved { node: usize, room: RoomName, asked: Instant, owner: Option<Owner> },
    Renewed { node: usize, asked: Instant, leases: Vec<(RoomName, u64, bool)> },
    Up { up: bool },
    Return { client: usize },
}

/// A client that keeps what it says, and says it again when it is told what had arrived.
struct Caller {
    node: usize,
    connection: ConnectionId,
    outbound: mpsc::Receiver<Outbound>,
    token: Option<String>,
    said: u64,
    heard: u64,
    away: bool,
    /// Told to have its seat, over this connection.
    seated: bool,
}

struct World {
    now: Moment,
    rng: StdRng,
    nodes: Vec<Node>,
    redis: FakeRedis,
    up: bool,
    loss: f64,
    due: Vec<(Instant, Due)>,
    callers: Vec<Caller>,
    story: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            now: Moment::now(),
            rng: StdRng::seed_from_u64(seed),
            nodes: (0..3).map(Node::new).collect(),
            redis: FakeRedis::default(),
            up: true,
            loss: 0.05,
            due: Vec::new(),
            callers: Vec::new(),
            story: vec![format!("seed {seed}")],
        };
        world.set_up(true);
        for _ in 0..2 {
            world.call();
            world.run(20 * SECOND);
        }
        world
    }

    fn set_up(&mut self, up: bool) {
        for node in self.nodes.iter_mut().filter(|node| node.alive) {
            node.router.set_up(up, self.now);
        }
    }

    fn some_node(&mut self) -> usize {
        loop {
            let node = self.rng.random_range(0..self.nodes.len());
            if self.nodes[node].alive {
                return node;
            }
        }
    }

    fn connect(&mut self) -> (usize, ConnectionId, mpsc::Receiver<Outbound>) {
        let node = self.some_node();
        let (outbox, outbound) = mpsc::channel(1000);
        let (reply, mut id) = tokio::sync::oneshot::channel();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let guest = Guest { address, carrier: CarrierKind::WebSocket };
        let open = Command::Open { guest, outbox, reply };
        self.nodes[node].router.handle_command(open, self.now);
        (node, id.try_recv().unwrap(), outbound)
    }

    fn call(&mut self) {
        let (node, connection, outbound) = self.connect();
        let client = self.callers.len();
        self.callers.push(Caller {
            node,
            connection,
            outbound,
            token: None,
            said: 0,
            heard: 0,
            away: false,
            seated: false,
        });
        self.say(client, ClientEvent::CreateOrJoin { room: tea(), resume: None, last_seq: None });
    }

    fn say(&mut self, client: usize, event: ClientEvent) {
        let Caller { node, connection, .. } = self.callers[client];
        if self.nodes[node].alive {
            let credit = Credit::new(());
            let command = Command::Event { connection, event: Ok(event), credit };
            self.nodes[node].router.handle_command(command, self.now);
        }
    }

    fn message(&mut self, client: usize) {
        self.callers[client].said += 1;
        let seq = self.callers[client].said;
        if self.callers[client].seated {
            self.say(client, ClientEvent::Message { message: seq.into(), seq: Some(seq) });
        }
    }

    /// The client's line breaks; it comes back in a second, anywhere.
    fn cut(&mut self, client: usize) {
        let caller = &mut self.callers[client];
        if caller.away {
            return;
        }
        caller.away = true;
        caller.seated = false;
        let (node, connection) = (caller.node, caller.connection);
        if self.nodes[node].alive {
            let reason = ByeReason::Lost;
            let command = Command::Closed { connection, reason };
            self.nodes[node].router.handle_command(command, self.now);
        }
        self.due.push((self.now.instant + SECOND, Due::Return { client }));
    }

    fn come_back(&mut self, client: usize) {
        let (node, connection, outbound) = self.connect();
        let caller = &mut self.callers[client];
        *caller = Caller {
            node,
            connection,
            outbound,
            token: caller.token.take(),
            away: false,
            ..*caller
        };
        let (resume, last_seq) = (caller.token.clone(), Some(caller.heard));
        self.story.push(format!("{client} is back at {node}"));
        self.say(client, ClientEvent::CreateOrJoin { room: tea(), resume, last_seq });
    }

    fn perform(&mut self, index: usize, action: Action) {
        let now = self.now.instant;
        let later = now + MS * self.rng.random_range(1..30);
        let id = self.nodes[index].id;
        match action {
            Action::Hub(command) => self.nodes[index].obey(command, self.now),
            Action::Publish { to, frame } => {
                for _ in 0..if self.rng.random_bool(0.05) { 2 } else { 1 } {
                    if self.up && !self.rng.random_bool(self.loss) {
                        let due = now + MS * self.rng.random_range(1..30);
                        self.due.push((due, Due::Frame { to, frame: frame.clone() }));
                    }
                }
            }
            Action::Resolve { room, known } => {
                let owner = self.up.then(|| self.redis.acquire(room.clone(), id, known, now));
                // Answers get lost, too.
                let owner = owner.filter(|_| !self.rng.random_bool(self.loss));
                let later = if owner.is_some() { later } else { now + 2 * SECOND };
                self.due.push((later, Due::Resolved { node: index, room, asked: now, owner }));
            }
            Action::Renew(leases) => {
                if self.up {
                    let renewed = leases.into_iter().map(|(room, fence)| {
                        let ok = self.redis.renew(&room, id, fence, now);
                        (room, fence, ok)
                    });
                    let leases = renewed.collect();
                    self.due.push((later, Due::Renewed { node: index, asked: now, leases }));
                }
            }
            Action::Survey { moment } => {
                let rooms: HashSet<RoomName> =
                    self.nodes[index].registry.rooms().cloned().collect();
                self.nodes[index].router.handle_survey(moment, &rooms);
            }
            Action::Release { room, fence } => {
                if self.up
                    && self.redis.leases.get(&room).is_some_and(|l| (l.0, l.1) == (id, fence))
                {
                    self.redis.leases.remove(&room);
                }
            }
            Action::Abandon(_) => panic!("nobody stops"),
        }
    }

    /// Everything that follows without time passing.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for index in 0..self.nodes.len() {
                let now = self.now;
                if !self.nodes[index].alive {
                    continue;
                }
                let node = &mut self.nodes[index];
                while let Ok((connection, outbound)) = node.mailbox.try_recv() {
                    is_quiet = false;
                    node.router.handle_delivery(connection, outbound, now);
                }
                while let Ok(returned) = node.returns.try_recv() {
                    is_quiet = false;
                    node.router.handle_returned(returned);
                }
                while let Some(action) = self.nodes[index].router.poll_action(now) {
                    is_quiet = false;
                    self.perform(index, action);
                }
            }
            for client in 0..self.callers.len() {
                while let Ok(outbound) = self.callers[client].outbound.try_recv() {
                    is_quiet = false;
                    self.hear(client, outbound);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn hear(&mut self, client: usize, outbound: Outbound) {
        let story = self.story.join("\n");
        let caller = &mut self.callers[client];
        if caller.away {
            return;
        }
        let Outbound::Event(event, _) = outbound else {
            // Nobody answered for the room: it tries again.
            return self.cut(client);
        };
        match *event {
            ServerEvent::Created { resume, .. } | ServerEvent::Joined { resume, .. } => {
                assert!(caller.token.is_none(), "{client}: a new call\n{story}");
                caller.token = resume;
                caller.seated = true;
            }
            ServerEvent::Join { resume, .. } => caller.token = resume.or(caller.token.take()),
            ServerEvent::Ready { .. } | ServerEvent::Log { .. } => {}
            ServerEvent::Message { seq, .. } if seq <= caller.heard => {}
            ServerEvent::Message { seq, .. } => {
                assert_eq!(seq, caller.heard + 1, "{client}: a gap\n{story}");
                caller.heard = seq;
            }
            ServerEvent::Resumed { resume, last_seq, .. } => {
                caller.token = Some(resume);
                caller.seated = true;
                self.story.push(format!("{client} resumed, {last_seq} had arrived"));
                for seq in last_seq + 1..=self.callers[client].said {
                    self.say(client, ClientEvent::Message { message: seq.into(), seq: Some(seq) });
                }
            }
            other => panic!("{client}: {other:?}\n{story}"),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.instant + time;
        self.settle();
        loop {
            let alive = self.nodes.iter().filter(|node| node.alive);
            let timers = alive.flat_map(|node| {
                node.router.poll_timeout().into_iter().chain(node.registry.poll_timeout())
            });
            let next = timers.chain(self.due.iter().map(|(due, _)| *due)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now += next.saturating_duration_since(self.now.instant);
            let now = self.now;
            let due: Vec<_> = self.due.extract_if(.., |(due, _)| *due <= now.instant).collect();
            for (_, due) in due {
                self.happen(due);
                self.settle();
            }
            for index in 0..self.nodes.len() {
                let node = &mut self.nodes[index];
                if !node.alive {
                    continue;
                }
                node.router.handle_timeout(now);
                let deliveries = node.registry.handle_timeout(now);
                assert!(deliveries.is_empty(), "{deliveries:?}\n{}", self.story.join("\n"));
            }
            self.settle();
        }
        self.now += end.saturating_duration_since(self.now.instant);
    }

    fn happen(&mut self, due: Due) {
        let now = self.now;
        match due {
            Due::Frame { to, frame } => {
                let node = self.nodes.iter_mut().find(|node| node.id == to && node.alive);
                if let Some(node) = node {
                    node.router.handle_frame(&frame, now);
                }
            }
            Due::Resolved { node, room, asked, owner } => {
                self.nodes[node].router.handle_resolved(room, asked, owner, now);
            }
            Due::Renewed { node, asked, leases } => {
                self.nodes[node].router.handle_renewed(asked, leases, now);
            }
            Due::Up { up } => self.set_up(up),
            Due::Return { client } => self.come_back(client),
        }
    }

    /// Something goes wrong.
    fn disturb(&mut self) {
        let alive = self.nodes.iter().filter(|node| node.alive).count();
        match self.rng.random_range(0..5) {
            0 if alive > 1 => {
                let dead = self.some_node();
                self.story.push(format!("node {dead} is killed"));
                self.nodes[dead].alive = false;
                for client in 0..self.callers.len() {
                    if self.callers[client].node == dead {
                        self.cut(client);
                    }
                }
            }
            1 => {
                let seconds = self.rng.random_range(1..25);
                self.story.push(format!("Redis is gone for {seconds} s"));
                self.up = false;
                let now = self.now.instant;
                self.due.push((now + 4 * SECOND, Due::Up { up: false }));
                self.messages();
                self.run(seconds * SECOND);
                self.up = true;
                self.due.retain(|(_, due)| !matches!(due, Due::Up { .. }));
                self.set_up(false);
                self.set_up(true);
            }
            2 => {
                self.story.push("another node takes the lease, and dies".into());
                let other = NodeId::new([0xff; 16]);
                self.redis.fence += 1;
                self.redis.leases.insert(tea(), (other, self.redis.fence, self.now.instant));
            }
            _ => {
                let client = self.rng.random_range(0..2);
                self.story.push(format!("the line of {client} breaks"));
                self.cut(client);
            }
        }
    }

    fn messages(&mut self) {
        for _ in 0..self.rng.random_range(0..12) {
            let client = self.rng.random_range(0..2);
            self.message(client);
            let pause = self.rng.random_range(0..40);
            self.run(MS * pause);
        }
    }
}

#[test]
fn whatever_happens_no_seat_is_lost_and_every_message_arrives_once_and_in_order() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..6 {
            world.messages();
            world.disturb();
            for _ in 0..4 {
                world.messages();
                let pause = world.rng.random_range(0..4_000);
                world.run(MS * pause);
            }
            world.run(25 * SECOND);
            let story = world.story.join("\n");
            let [a, b] = &world.callers[..] else { panic!("two callers") };
            assert!(!a.away && !b.away, "{story}");
            assert_eq!((a.heard, b.heard), (b.said, a.said), "{story}");
        }
    }
}
