//! `visavis-signaling`, and the app's `serve`: the same server from a command line.

use std::{io::Write, net::SocketAddr, sync::Arc};

use thiserror::Error;

pub use crate::config::ServeArgs;
use crate::{
    cluster::{Cluster, ClusterError},
    config::{Config, ConfigError},
    link::ServerUrl,
    listen::BindError,
    room::RoomPolicy,
    server::{Server, ServerOptions},
    state_dir::StateDir,
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
    let cluster = match config.cluster()? {
        Some(options) => Some(Cluster::connect(options).await?),
        None => None,
    };
    let mut options = ServerOptions {
        cluster,
        state_dir: open_state_dir(&config),
        limits: config.limits(),
        hold: config.hold(),
        listen: config.listen.clone(),
        rooms: RoomPolicy::Any,
        ..ServerOptions::default()
    };
    use_turn(&mut options, turn::settings::options(&config)?);
    // First, so that a signal right after the line below is not missed.
    let stop = stop_signal().map_err(ServeError::Signal)?;
    let server = Server::bind(options).await?;
    let mut out = std::io::stdout();
    for line in welcome(server.local_addrs()) {
        // A closed standard output is no reason not to serve.
        let _ = writeln!(out, "{line}");
    }
    if let Some(address) = server.turn_addrs().first() {
        let _ = writeln!(out, "Relaying (TURN) on port {}", address.port());
    }
    let _ = out.flush();
    server.run(stop).await;
    Ok(())
}

/// Where to keep keys. A server without works too, so it is no reason not to serve.
fn open_state_dir(config: &Config) -> Option<StateDir> {
    let Some(path) = config.state_dir() else {
        tracing::warn!("no folder for keys: name one with --state-dir, or calls end at a restart");
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
        Turn::External(external) => options.ice = Arc::new(external),
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

/// A line for each address; one that can be opened here for all interfaces together.
fn welcome(addresses: &[SocketAddr]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for address in addresses {
        let line = if address.ip().is_unspecified() {
            let port = address.port();
            format!("Serving on http://localhost:{port} and every other address of this machine")
        } else {
            format!("Serving on {}", ServerUrl::from(*address))
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
