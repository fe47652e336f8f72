//! Opens the listening sockets.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How often a free port is looked for that is free on every address.
const PORT_TRIES: usize = 16;

/// Why a server cannot listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "Port {} on {} is in use by another program: stop that program or choose another port.",
        .0.port(), .0.ip()
    )]
    InUse(SocketAddr),
    /// The system forbids it.
    #[error(
        "Not allowed to listen on port {} of {}: choose a port above 1023.",
        .0.port(), .0.ip()
    )]
    Denied(SocketAddr),
    /// The address belongs to another machine, or its family is switched off here.
    #[error("This machine has no address {}: listen on one it has, or on 0.0.0.0 for all.", .0.ip())]
    NoSuchAddress(SocketAddr),
    /// Anything else.
    #[error("Cannot listen on {address}: {error}.")]
    Other {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The relay's port, not the server's own.
    #[error(
        "The relay (TURN) cannot be started. {0} Or name another port for it with --turn-listen, or do without: --turn off."
    )]
    Turn(#[source] Box<BindError>),
    /// The list was empty.
    #[error("No address to listen on was given.")]
    Nowhere,
    /// There can be no TLS.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
}

/// Every interface of the machine, IPv4 and IPv6, as a list for
/// [`ServerOptions::listen`](crate::ServerOptions). Without IPv6 the server does with IPv4.
pub fn all_interfaces(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
}

/// Listens on all of `addresses`. Those with port 0 share one port, which the system chooses.
///
/// # Errors
/// The first that could not be had. `[::]` beside other addresses may fail where the machine
/// has no IPv6.
pub(crate) fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    for _ in 1..PORT_TRIES {
        match bind_once(addresses) {
            // The port chosen for one address was taken on another.
            Err(BindError::InUse(_)) if addresses.iter().any(|address| address.port() == 0) => {}
            result => return result,
        }
    }
    bind_once(addresses)
}

fn bind_once(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut shared_port = 0;
    for address in addresses {
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(shared_port);
        }
        // Alone, `[::]` stands for IPv4 too, whatever the system's default.
        let beside_ipv4 = addresses.iter().any(SocketAddr::is_ipv4);
        match listen(address, beside_ipv4) {
            Ok(listener) => {
                if shared_port == 0
                    && let Ok(local) = listener.local_addr()
                {
                    shared_port = local.port();
                }
                listeners.push(listener);
            }
            Err(BindError::NoSuchAddress(_))
                if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && beside_ipv4 =>
            {
                tracing::debug!("this machine has no IPv6");
            }
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() { Err(BindError::Nowhere) } else { Ok(listeners) }
}

fn listen(address: SocketAddr, beside_ipv4: bool) -> Result<TcpListener, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(beside_ipv4 || !address.ip().is_unspecified())?;
        }
        // A restarted server need not wait for the connections of the one before. (Windows
        // means something else by this option.)
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|error: io::Error| explain(address, error))
}

/// What to say when `address` cannot be had.
pub(crate) fn explain(address: SocketAddr, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        io::ErrorKind::PermissionDenied => BindError::Denied(address),
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress(address),
        // EAFNOSUPPORT has no kind of its own in the standard library.
        _ if address.is_ipv6() && is_no_family(&error) => BindError::NoSuchAddress(address),
        _ => BindError::Other { address, error },
    }
}

fn is_no_family(error: &io::Error) -> bool {
    // Linux, macOS and the BSDs, Windows.
    matches!(error.raw_os_error(), Some(97 | 47 | 10047))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(listeners: &[TcpListener]) -> Vec<u16> {
        listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
    }

    #[tokio::test]
    async fn all_interfaces_share_a_free_port() {
        let listeners = bind(&all_interfaces(0)).unwrap();
        let ports = ports(&listeners);
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap();
        let taken = first[0].local_addr().unwrap();
        let error = bind(&[taken]).expect_err("in use");
        assert!(matches!(error, BindError::InUse(address) if address == taken));
        assert!(error.to_string().contains(&taken.port().to_string()));
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named() {
        let error = bind(&["192.0.2.1:0".parse().unwrap()]).expect_err("not ours");
        assert!(matches!(error, BindError::NoSuchAddress(_)));
        assert!(matches!(bind(&[]), Err(BindError::Nowhere)));
    }
}
