//! Sockets for relayed addresses.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
};

use rand::Rng;
use tokio::{net::UdpSocket, task::AbortHandle};

use super::{
    TurnOptions,
    allocations::{Client, NoRelay, OpenRelay, Path, RelayId, Relayed},
    route,
    settings::PortRange,
};

/// Ports tried before giving up.
const TRIES: usize = 128;

/// A relayed address's socket and the task that reads it.
pub(super) struct Relay {
    pub(super) socket: Arc<UdpSocket>,
    /// None until the task runs.
    pub(super) task: Option<AbortHandle>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// All of them.
pub(super) struct Relays {
    pub(super) open: HashMap<RelayId, Relay>,
    /// Opened, but not read yet.
    pub(super) fresh: Vec<RelayId>,
    listening: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
    public_ips: Vec<IpAddr>,
    ports: PortRange,
}

impl Relays {
    pub(super) fn new(
        listening: &[SocketAddr],
        udp: Vec<SocketAddr>,
        options: &TurnOptions,
    ) -> Self {
        Self {
            open: HashMap::new(),
            fresh: Vec::new(),
            listening: listening.to_vec(),
            udp,
            public_ips: options.public_ips.clone(),
            ports: options.ports.clone(),
        }
    }

    /// The address to bind: where the client reaches us, or another one of the family it wants.
    fn ip(&self, client: &Client, ipv6: bool) -> Option<IpAddr> {
        let named = |address: &SocketAddr| {
            Some(address.ip()).filter(|ip| !ip.is_unspecified() && ip.is_ipv6() == ipv6)
        };
        let reached = match client.path {
            Path::Udp(index) => self.udp.get(index).and_then(named),
            Path::Stream(_) => None,
        };
        if reached.is_some() {
            return reached;
        }
        let anywhere = self.listening.iter().any(|address| address.ip().is_unspecified());
        if !anywhere {
            let toward = route::local_toward(client.remote.ip());
            let mut all = self.listening.iter().filter_map(named);
            return all.clone().find(|ip| Some(*ip) == toward).or_else(|| all.next());
        }
        let of_family = |ip: &IpAddr| ip.is_ipv6() == ipv6;
        route::toward_client(client.remote.ip()).filter(of_family).or_else(|| route::outward(ipv6))
    }
}

impl OpenRelay for Relays {
    fn open(&mut self, id: RelayId, client: &Client, ipv6: bool) -> Result<Relayed, NoRelay> {
        let ip = self.ip(client, ipv6).ok_or(NoRelay::Family)?;
        let start = rand::rng().random_range(0..self.ports.len());
        for index in start..start + self.ports.len().min(TRIES) {
            match bind((ip, self.ports.at(index)).into()) {
                Ok(socket) => {
                    let bound = socket.local_addr().map_err(|_| NoRelay::Capacity)?;
                    let public = self.public_ips.iter().find(|public| public.is_ipv6() == ipv6);
                    let told = public.map_or(bound, |ip| SocketAddr::new(*ip, bound.port()));
                    let relay = Relay { socket: Arc::new(socket), task: None };
                    self.open.insert(id, relay);
                    self.fresh.push(id);
                    return Ok(Relayed { bound, told });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    tracing::warn!(%error, %ip, "no socket for a relayed address");
                    return Err(NoRelay::Capacity);
                }
            }
        }
        Err(NoRelay::Capacity)
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = StdSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
