//! Our own server: where it listens, and the link under which others find it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use visavis_signaling::{
    BindError, CallLink, Probe, RoomName, RoomPolicy, Server, ServerOptions, ServerUrl,
};

/// Where browsers and the documentation look first.
pub const PORT: u16 = 8080;

/// What came of the wish to host a room.
pub enum Hosted {
    /// Our own server runs.
    Here(Hosting),
    /// A Visavis server has the port already: this is its address.
    Elsewhere(ServerUrl),
}

/// A running server of our own; dropping it stops it in the background.
pub struct Hosting {
    /// For ourselves.
    pub server: ServerUrl,
    /// For others.
    pub invite: CallLink,
    /// The port that was taken by another program, if we had to use another.
    pub moved_from: Option<u16>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Hosting {
    /// Stops the server and waits, a few seconds at most, until its port is free.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = tokio::time::timeout(STOP_LIMIT, self.task).await;
    }
}

/// The server itself takes no longer.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// Hosts `room` and no other on all interfaces. Where the usual port is taken by a Visavis
/// server, that one is named instead, if `may_join`; else another port is used.
///
/// # Errors
/// Where no port can be had.
pub async fn host(room: &RoomName, may_join: bool) -> Result<Hosted, BindError> {
    let (server, moved_from) = match bind(PORT, room).await {
        Ok(server) => (server, None),
        Err(BindError::InUse(_)) => {
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
            if may_join && let Probe::Visavis { .. } = visavis_signaling::probe(local).await {
                return Ok(Hosted::Elsewhere(local.into()));
            }
            (bind(0, room).await?, Some(PORT))
        }
        Err(error) => return Err(error),
    };
    let port = server.local_addrs().first().map_or(PORT, SocketAddr::port);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async {
        let _ = stopped.await; // also when the sender is dropped
    }));
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let public = SocketAddr::from((lan_address(), port));
    Ok(Hosted::Here(Hosting {
        server: local.into(),
        invite: CallLink::new(public.into(), room.clone()),
        moved_from,
        stop,
        task,
    }))
}

async fn bind(port: u16, room: &RoomName) -> Result<Server, BindError> {
    Server::bind(ServerOptions {
        listen: visavis_signaling::all_interfaces(port),
        rooms: RoomPolicy::Only([room.clone()].into()),
        ..ServerOptions::default()
    })
    .await
}

/// The address other machines most likely reach us at: the one packets leave from. Connecting a
/// UDP socket sends nothing. Loopback where there is no network.
fn lan_address() -> IpAddr {
    // Addresses that no network routes specially (RFC 5737, RFC 3849), then whatever interface
    // there is.
    let leaving = |local: &str, remote: &str| {
        let socket = UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    leaving("0.0.0.0:0", "192.0.2.1:9")
        .or_else(|| leaving("[::]:0", "[2001:db8::1]:9"))
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .or_else(visavis_media::peer::first_lan_address)
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_an_address() {
        assert!(!lan_address().is_unspecified());
    }
}
