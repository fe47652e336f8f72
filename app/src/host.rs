//! Our own server: where it listens, and the link under which others find it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use visavis_signaling::config::{HTTP_PORT, HTTPS_PORT};
use visavis_signaling::{
    BindError, CallLink, Invite, Probe, PublicAddress, RoomName, RoomPolicy, Scheme, Server,
    ServerOptions, ServerUrl, StateDir, TlsMode, TlsOptions, Trust, all_interfaces, probe,
    probe_server,
};

/// What came of the wish to host a room.
pub enum Hosted {
    /// Our own server runs.
    Here(Hosting),
    /// A Visavis server has the port already: this is its address for us, and the link to the
    /// room there.
    Elsewhere(ServerUrl, CallLink),
}

/// A running server of our own; dropping it stops it in the background.
pub struct Hosting {
    /// For ourselves: in the open, since nobody is in between.
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

/// Hosts `room` and no other on all interfaces, with TLS for others. Where the usual port is
/// taken by a Visavis server, that one is named instead, if `may_join`; else another port is
/// used. `public` goes into the link instead of this machine's likeliest address.
///
/// # Errors
/// Where no port can be had, or no TLS.
pub async fn host(
    room: &RoomName,
    may_join: bool,
    public: Option<PublicAddress>,
) -> Result<Hosted, BindError> {
    let (mut port, mut tls_port) = (HTTP_PORT, HTTPS_PORT);
    let server = loop {
        match bind(port, tls_port, room, public.as_ref()).await {
            Err(BindError::InUse(taken)) if port != 0 && taken.port() == port => {
                let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                if may_join && let Probe::Visavis { tls_port, .. } = probe(local).await {
                    let link = link_elsewhere(local, tls_port, public.as_ref(), room).await;
                    return Ok(Hosted::Elsewhere(local.into(), link));
                }
                port = 0;
            }
            Err(BindError::InUse(taken)) if tls_port != 0 && taken.port() == tls_port => {
                tls_port = 0;
            }
            result => break result?,
        }
    };
    let moved_from = (port == 0).then_some(HTTP_PORT);
    let port = server.local_addrs().first().map_or(HTTP_PORT, SocketAddr::port);
    let local = ServerUrl::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let found =
        Invite::find(Scheme::Https, server.tls_addrs(), public.as_ref(), server.fingerprint());
    let invite = match found {
        Some(invite) => invite.link(room.clone()),
        None => CallLink::new(local.clone(), room.clone(), None),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async {
        let _ = stopped.await; // also when the sender is dropped
    }));
    Ok(Hosted::Here(Hosting { server: local, invite, moved_from, stop, task }))
}

async fn bind(
    port: u16,
    tls_port: u16,
    room: &RoomName,
    public: Option<&PublicAddress>,
) -> Result<Server, BindError> {
    // Without a place to keep it the key lasts as long as the call, and links no longer.
    let state_dir = StateDir::usual().and_then(|path| {
        let warn = |error: &std::io::Error| tracing::warn!(path = %path.display(), %error, "no key is kept");
        StateDir::open(&path).inspect_err(warn).ok()
    });
    Server::bind(ServerOptions {
        listen: all_interfaces(port),
        rooms: RoomPolicy::Only([room.clone()].into()),
        tls: TlsOptions {
            mode: TlsMode::Auto,
            listen: all_interfaces(tls_port),
            names: public.iter().map(|public| public.name()).collect(),
            ..TlsOptions::default()
        },
        state_dir,
        ..ServerOptions::default()
    })
    .await
}

/// The link to `room` on another server of this machine. Nobody is in between, so the key it
/// shows is its own.
async fn link_elsewhere(
    local: SocketAddr,
    tls_port: Option<u16>,
    public: Option<&PublicAddress>,
    room: &RoomName,
) -> CallLink {
    let plain = CallLink::new(local.into(), room.clone(), None);
    let Some(port) = tls_port else { return plain };
    let secure = ServerUrl::at(Scheme::Https, SocketAddr::new(local.ip(), port));
    let fingerprint = match probe_server(&secure, Trust::default()).await {
        Probe::Unknown(fingerprint) => Some(fingerprint),
        Probe::Visavis { .. } | Probe::SomethingElse | Probe::Nothing => None,
    };
    let invite = Invite::find(Scheme::Https, &all_interfaces(port), public, fingerprint);
    invite.map_or(plain, |invite| invite.link(room.clone()))
}
