//! `visavis-signaling`, and the app's `serve`: the same server from a command line.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    sync::Arc,
};

use thiserror::Error;

pub use crate::config::ServeArgs;
use crate::{
    cluster::{Cluster, ClusterError},
    config::{Config, ConfigError},
    files,
    invite::{Invite, PublicAddress},
    link::{Scheme, ServerUrl},
    listen::BindError,
    logging,
    page::PageFolder,
    proposal,
    protocol::RoomName,
    qr,
    room::RoomPolicy,
    server::{Server, ServerOptions},
    state_dir::StateDir,
    tls::{TlsMode, TlsOptions},
    turn::{self, settings::Turn},
};

/// Keeps the key of the relay's credentials.
const TURN_KEY: &str = "turn.key";

/// Why the server cannot serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The other nodes cannot be met.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system lets no one be told of Ctrl-C.
    #[error("Cannot wait for Ctrl-C: {0}.")]
    Signal(#[source] std::io::Error),
}

/// Serves any room until Ctrl-C or SIGTERM, and prints where.
///
/// # Errors
/// When it cannot start.
pub async fn serve(args: &ServeArgs) -> Result<(), ServeError> {
    let config = args.settle()?;
    if args.print_config {
        // A closed standard output is no reason to fail.
        let _ = write!(std::io::stdout(), "{}", config.to_toml());
        return Ok(());
    }
    logging::init(config.log_format, config.log_level);
    let (public, mode) = (config.public_address.clone(), config.tls_mode());
    let mut options = options_of(&config)?;
    if let Some(cluster) = config.cluster()? {
        options.cluster = Some(Cluster::connect(cluster).await?);
    }
    // First, so that a signal right after the line below is not missed.
    let stop = stop_signal().map_err(ServeError::Signal)?;
    let turn_is_asked_for = config.turn.is_some() || !config.turn_listen.is_empty();
    let server = match Server::bind(options.clone()).await {
        // On by default only: another relay on this machine is no reason not to serve rooms.
        Err(error @ BindError::Turn(_)) if !turn_is_asked_for => {
            tracing::warn!("{error}");
            Server::bind(ServerOptions { turn: None, ..options }).await?
        }
        bound => bound?,
    };
    let mut out = std::io::stdout();
    let secure = !server.tls_addrs().is_empty();
    let others = if secure { "; others are sent to https" } else { EVERYWHERE };
    let mut lines = welcome(Scheme::Http, server.local_addrs(), others);
    lines.extend(welcome(Scheme::Https, server.tls_addrs(), EVERYWHERE));
    if let Some(fingerprint) = server.fingerprint() {
        lines.push(format!("Fingerprint: {}", fingerprint.grouped()));
    }
    if let Some(invite) = invite(&server, public.as_ref(), &mode) {
        lines.extend(invite_lines(&invite, args.qr || out.is_terminal()));
    }
    for line in lines {
        // A closed standard output is no reason not to serve.
        let _ = writeln!(out, "{line}");
    }
    if let Some(address) = server.turn_addrs().first() {
        let _ = writeln!(out, "Relaying (TURN) on port {}", address.port());
    }
    if let Some(address) = server.metrics_addr() {
        let _ = writeln!(out, "Serving metrics on http://{address}/metrics");
    }
    let _ = out.flush();
    tell_service_manager(ServiceState::Ready);
    let stop = async {
        stop.await;
        tell_service_manager(ServiceState::Stopping);
    };
    server.run(stop).await;
    Ok(())
}

fn options_of(config: &Config) -> Result<ServerOptions, ConfigError> {
    let page = match &config.page {
        Some(path) => {
            let page = PageFolder::open(path);
            Some(page.map_err(|error| ConfigError::Unusable(error.to_string()))?)
        }
        None => None,
    };
    let mut connections = config.connection_limits()?;
    let proxies = config.trusted_proxies()?;
    let access_token = config.required_token()?;
    let wanted = connections.total;
    connections.total = files::affordable(wanted, files::raise_limit());
    if connections.total < wanted {
        tracing::warn!(
            wanted,
            possible = connections.total,
            "the system allows too few open files for max-connections: raise the limit (ulimit -n, \
             LimitNOFILE)"
        );
    }
    let mut options = ServerOptions {
        tls: tls_options(config),
        state_dir: open_state_dir(config),
        limits: config.limits(),
        hold: config.hold(),
        listen: config.listen.clone(),
        rooms: RoomPolicy::Any,
        page,
        connections,
        origins: config.allow_origin.clone(),
        proxies,
        access_token,
        metrics_listen: config.metrics_listen,
        ..ServerOptions::default()
    };
    use_turn(&mut options, turn::settings::options(config)?);
    Ok(options)
}

/// What a service manager wants to know (systemd's `Type=notify`).
#[derive(Debug, Clone, Copy)]
enum ServiceState {
    Ready,
    Stopping,
}

#[cfg(target_os = "linux")]
fn tell_service_manager(state: ServiceState) {
    let state = match state {
        ServiceState::Ready => sd_notify::NotifyState::Ready,
        ServiceState::Stopping => sd_notify::NotifyState::Stopping,
    };
    // Nothing happens where there is no service manager.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

#[cfg(not(target_os = "linux"))]
fn tell_service_manager(_state: ServiceState) {}

/// What the settings say of TLS.
fn tls_options(config: &Config) -> TlsOptions {
    TlsOptions {
        mode: config.tls_mode(),
        listen: config.tls_addresses(),
        names: config.public_address.iter().map(PublicAddress::name).collect(),
        ..TlsOptions::default()
    }
}

/// Where others get to, if anyone does: over TLS where there is TLS.
fn invite(server: &Server, public: Option<&PublicAddress>, mode: &TlsMode) -> Option<Invite> {
    match mode {
        TlsMode::Off => Invite::find(Scheme::Http, server.local_addrs(), public, None),
        // Port 443 of the domain leads here, or there would be no certificate.
        TlsMode::Acme { domain } if public.is_none() => {
            let host = url::Host::Domain(domain.clone());
            Some(Invite { server: ServerUrl::new(Scheme::Https, host, 443), fingerprint: None })
        }
        _ => Invite::find(Scheme::Https, server.tls_addrs(), public, server.fingerprint()),
    }
}

/// The link to a room nobody guesses, and the same to be read by a telephone.
fn invite_lines(invite: &Invite, as_picture: bool) -> Vec<String> {
    let name = proposal::room(&mut rand::rng());
    let Ok(room) = RoomName::parse(&name) else { return Vec::new() };
    let link = invite.link(room).to_string();
    let picture = as_picture.then(|| qr::half_blocks(&link)).flatten();
    let mut lines = vec![format!("Invite: {link}")];
    lines.extend(picture.map(|picture| picture.trim_end_matches('\n').to_owned()));
    lines
}

/// Where to keep keys. A server without works too, so it is no reason not to serve.
fn open_state_dir(config: &Config) -> Option<StateDir> {
    let Some(path) = config.state_dir() else {
        tracing::warn!(
            "no folder for keys: name one with --state-dir, or links and calls end at a restart"
        );
        return None;
    };
    match StateDir::open(&path) {
        Ok(state) => Some(state),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%error, %path, "cannot keep keys there: name another folder with --state-dir, or calls end at a restart");
            None
        }
    }
}

/// Sets up the relay as `turn` says.
fn use_turn(options: &mut ServerOptions, turn: Turn) {
    match turn {
        Turn::Off => {}
        Turn::External(external) => options.ice = Arc::new(*external),
        Turn::BuiltIn(mut built_in) => {
            if built_in.secret.is_empty() {
                built_in.secret = turn_secret(options.state_dir.as_ref());
            }
            options.turn = Some(*built_in);
        }
    }
}

/// The key that credentials are made with; kept, so that those handed out before a restart are
/// good after it.
fn turn_secret(state: Option<&StateDir>) -> Vec<u8> {
    let new = || rand::random::<[u8; 32]>().to_vec();
    let Some(state) = state else {
        return new();
    };
    match state.read_or_create(TURN_KEY, new) {
        Ok(key) if key.len() >= 16 => key,
        Ok(_) => {
            tracing::warn!("{TURN_KEY} is too short to be a key, and is not used");
            new()
        }
        Err(error) => {
            tracing::warn!(%error, "no key for TURN is kept: relayed calls end at a restart");
            new()
        }
    }
}

/// Said after an address that stands for all of this machine's.
const EVERYWHERE: &str = " and every other address of this machine";

/// A line for each address; one that can be opened here for all interfaces together, and what
/// is to be said of the `others`.
fn welcome(scheme: Scheme, addresses: &[SocketAddr], others: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for address in addresses {
        let line = if address.ip().is_unspecified() {
            let host = url::Host::Domain("localhost".to_owned());
            let here = ServerUrl::new(scheme, host, address.port());
            format!("Serving on {here}{others}")
        } else {
            format!("Serving on {}", ServerUrl::at(scheme, *address))
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    })
}

#[cfg(windows)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        tracing::info!("stopping");
    })
}
