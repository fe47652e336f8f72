//! Clients over UDP.

use std::{io, net::SocketAddr, sync::Arc};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::service::{Service, send};
use crate::listen::{self, BindError};

/// How often a free port is looked for that is free over UDP and TCP.
const PORT_TRIES: usize = 16;

/// For bursts while the task is busy; the system may grant less.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Opens the UDP sockets and TCP listeners wanted, on the same ports.
pub(super) fn bind_both(
    addresses: &[SocketAddr],
    over_udp: bool,
    over_tcp: bool,
) -> Result<(Vec<UdpSocket>, Vec<TcpListener>), BindError> {
    if !over_tcp {
        return Ok((
            addresses.iter().map(|a| bind(*a, addresses)).collect::<Result<_, _>>()?,
            vec![],
        ));
    }
    let free = addresses.iter().any(|address| address.port() == 0);
    let mut tries = 1;
    loop {
        let listeners = listen::bind(addresses)?;
        if !over_udp {
            return Ok((Vec::new(), listeners));
        }
        let local = listeners.iter().filter_map(|listener| listener.local_addr().ok());
        match local.map(|address| bind(address, addresses)).collect::<Result<Vec<_>, _>>() {
            // The port was free for TCP only.
            Err(BindError::InUse(_)) if free && tries < PORT_TRIES => tries += 1,
            Err(error) => return Err(error),
            Ok(sockets) => return Ok((sockets, listeners)),
        }
    }
}

fn bind(address: SocketAddr, all: &[SocketAddr]) -> Result<UdpSocket, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            let beside_ipv4 = all.iter().any(SocketAddr::is_ipv4);
            socket.set_only_v6(beside_ipv4 || !address.ip().is_unspecified())?;
        }
        if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
            tracing::debug!(%error, "no large receive buffer");
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|error: io::Error| listen::explain(address, error))
}

/// Answers and relays until dropped.
pub(super) async fn serve(service: Arc<Service>, index: usize, socket: Arc<UdpSocket>) {
    while socket.readable().await.is_ok() {
        send(service.drain_clients(index, &socket)).await;
        tokio::task::yield_now().await;
    }
}
