//! What the relay's tasks share, and how they carry out what `allocations` decides.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{net::UdpSocket, sync::mpsc};

use super::{
    TurnOptions, TurnStats,
    allocations::{Action, Allocations, Client, Now, Path, RelayId},
    credentials::Authority,
    filter,
    frame::MAX_FRAME,
    relays::Relays,
    route,
    stats::count,
};

/// How often expired allocations are looked for; no life is shorter than that matters.
const TICK: Duration = Duration::from_secs(1);

/// How many ticks go by before the machine's addresses are listed anew.
const LIST_EVERY: u32 = 10;

/// Packets taken from a socket before others get a turn.
const BATCH: usize = 32;

/// Failed reads in a row after which a relayed address is given up.
const MAX_FAILURES: u32 = 100;

pub(super) struct Service {
    state: Mutex<State>,
    /// The sockets clients send to.
    udp: Vec<Arc<UdpSocket>>,
    public_ips: Vec<IpAddr>,
    pub(super) stats: Arc<TurnStats>,
    pub(super) max_streams: usize,
    pub(super) max_streams_per_address: usize,
    last_stream: AtomicU64,
}

struct State {
    allocations: Allocations,
    relays: Relays,
    streams: HashMap<u64, mpsc::Sender<Vec<u8>>>,
}

/// A packet and the socket it goes out by.
type Datagram = (Arc<UdpSocket>, SocketAddr, Vec<u8>);

impl Service {
    pub(super) fn new(
        udp: Vec<Arc<UdpSocket>>,
        listening: &[SocketAddr],
        options: &TurnOptions,
        stats: Arc<TurnStats>,
    ) -> Arc<Self> {
        let allocations = Allocations::new(
            Authority::new(&options.secret),
            options.realm.clone(),
            options.limits,
            filter(options),
            Arc::clone(&stats),
        );
        let of_udp = udp.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let relays = Relays::new(listening, of_udp, options);
        let service = Arc::new(Self {
            state: Mutex::new(State { allocations, relays, streams: HashMap::new() }),
            udp,
            public_ips: options.public_ips.clone(),
            stats,
            max_streams: options.limits.total,
            max_streams_per_address: options.limits.address,
            last_stream: AtomicU64::new(0),
        });
        service.list_own_addresses();
        service
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list_own_addresses(&self) {
        let mut own = route::own_and_broadcast();
        own.extend(&self.public_ips);
        own.extend(self.udp.iter().filter_map(|socket| Some(socket.local_addr().ok()?.ip())));
        self.state().allocations.filter_mut().set_own(own);
    }

    /// What a client sent, to wherever it belongs.
    pub(super) async fn from_client(self: &Arc<Self>, client: Client, bytes: &[u8]) {
        let outgoing = self.client_packet(client, bytes);
        send(outgoing).await;
    }

    fn client_packet(self: &Arc<Self>, client: Client, bytes: &[u8]) -> Vec<Datagram> {
        let now = Now { instant: Instant::now(), wall: SystemTime::now() };
        let mut state = self.state();
        let State { allocations, relays, .. } = &mut *state;
        let actions = allocations.handle_client(client, bytes, now, relays);
        let outgoing = self.carry_out(&mut state, actions);
        for relay in std::mem::take(&mut state.relays.fresh) {
            if let Some(open) = state.relays.open.get_mut(&relay) {
                let task = read_relay(Arc::clone(self), relay, Arc::clone(&open.socket));
                open.task = Some(tokio::spawn(task).abort_handle());
            }
        }
        outgoing
    }

    /// Whether a connection has an allocation, and so a reason to be silent.
    pub(super) fn has_allocation(&self, client: &Client) -> bool {
        self.state().allocations.has(client)
    }

    /// Takes a connection in.
    pub(super) fn open_stream(&self, outbox: mpsc::Sender<Vec<u8>>) -> Path {
        let id = self.last_stream.fetch_add(1, Relaxed) + 1;
        self.state().streams.insert(id, outbox);
        Path::Stream(id)
    }

    /// Forgets a connection and its allocation.
    pub(super) fn close_stream(&self, client: &Client) {
        let mut state = self.state();
        if let Path::Stream(id) = client.path {
            state.streams.remove(&id);
        }
        let actions = state.allocations.handle_closed(client);
        // Nothing but closed sockets.
        self.carry_out(&mut state, actions);
    }

    pub(super) fn close_all(&self) {
        let mut state = self.state();
        state.relays.open.clear();
        state.streams.clear();
    }

    fn carry_out(&self, state: &mut State, actions: Vec<Action>) -> Vec<Datagram> {
        let mut outgoing = Vec::new();
        for action in actions {
            match action {
                Action::ToClient(Client { path: Path::Udp(index), remote }, bytes) => {
                    if let Some(socket) = self.udp.get(index) {
                        outgoing.push((Arc::clone(socket), remote, bytes));
                    }
                }
                Action::ToClient(Client { path: Path::Stream(id), .. }, bytes) => {
                    // Like a router: what does not fit the queue is dropped.
                    if let Some(outbox) = state.streams.get(&id)
                        && outbox.try_send(bytes).is_err()
                    {
                        count(&self.stats.dropped_slow_client);
                    }
                }
                Action::ToPeer(relay, peer, bytes) => {
                    if let Some(relay) = state.relays.open.get(&relay) {
                        outgoing.push((Arc::clone(&relay.socket), peer, bytes));
                    }
                }
                Action::Close(relay, _) => {
                    state.relays.open.remove(&relay);
                }
            }
        }
        outgoing
    }

    /// Reads what lies in a relay's socket; `Err` where it cannot be read.
    fn drain_relay(&self, relay: RelayId, socket: &UdpSocket) -> Result<Vec<Datagram>, ()> {
        let mut buffer = [0; MAX_FRAME];
        let mut outgoing = Vec::new();
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let from = canonical(from);
                    let mut state = self.state();
                    let now = Instant::now();
                    let actions =
                        state.allocations.handle_peer(relay, from, &buffer[..length], now);
                    outgoing.extend(self.carry_out(&mut state, actions));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "reading a relayed address");
                    return if outgoing.is_empty() { Err(()) } else { Ok(outgoing) };
                }
            }
        }
        Ok(outgoing)
    }

    /// Reads what lies in a socket of ours and answers it.
    pub(super) fn drain_clients(
        self: &Arc<Self>,
        index: usize,
        socket: &UdpSocket,
    ) -> Vec<Datagram> {
        let mut buffer = [0; MAX_FRAME];
        let mut outgoing = Vec::new();
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let client = Client { path: Path::Udp(index), remote: canonical(from) };
                    outgoing.extend(self.client_packet(client, &buffer[..length]));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // Of an earlier packet of ours to someone who is gone.
                Err(error) => tracing::debug!(%error, "reading the TURN port"),
            }
        }
        outgoing
    }
}

/// Sends; a packet that cannot be sent is lost, as packets are.
pub(super) async fn send(outgoing: Vec<Datagram>) {
    for (socket, to, bytes) in outgoing {
        let to = match (socket.local_addr(), to) {
            // A socket for both families knows IPv4 only in this form.
            (Ok(SocketAddr::V6(_)), SocketAddr::V4(v4)) => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            _ => to,
        };
        if let Err(error) = socket.send_to(&bytes, to).await {
            tracing::debug!(%error, "a relayed packet was not sent");
        }
    }
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn read_relay(service: Arc<Service>, relay: RelayId, socket: Arc<UdpSocket>) {
    let mut failures = 0;
    while failures < MAX_FAILURES && socket.readable().await.is_ok() {
        match service.drain_relay(relay, &socket) {
            Ok(outgoing) => {
                failures = 0;
                send(outgoing).await;
            }
            Err(()) => failures += 1,
        }
        tokio::task::yield_now().await;
    }
    let mut state = service.state();
    let actions = state.allocations.handle_relay_lost(relay);
    service.carry_out(&mut state, actions);
}

/// Ends what has expired, and keeps the list of the machine's own addresses fresh.
pub(super) async fn keep_time(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0u32.. {
        ticks.tick().await;
        if tick % LIST_EVERY == 0 {
            service.list_own_addresses();
        }
        let mut state = service.state();
        let actions = state.allocations.handle_timeout(Instant::now());
        service.carry_out(&mut state, actions);
    }
}
