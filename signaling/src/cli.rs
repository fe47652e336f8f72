//! `visavis-signaling`, and the app's `serve`: the same server from a command line.

use std::{io::Write, net::SocketAddr};

use thiserror::Error;

pub use crate::config::ServeArgs;
use crate::{
    config::{Config, ConfigError},
    files,
    link::ServerUrl,
    listen::BindError,
    logging,
    room::RoomPolicy,
    server::{Server, ServerOptions},
    state_dir::StateDir,
};

/// Why the server cannot serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
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
    let options = options_of(config)?;
    // First, so that a signal right after the line below is not missed.
    let stop = stop_signal().map_err(ServeError::Signal)?;
    let server = Server::bind(options).await?;
    let mut out = std::io::stdout();
    for line in welcome(server.local_addrs()) {
        // A closed standard output is no reason not to serve.
        let _ = writeln!(out, "{line}");
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

fn options_of(config: Config) -> Result<ServerOptions, ConfigError> {
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
    Ok(ServerOptions {
        state_dir: open_state_dir(&config),
        limits: config.limits(),
        hold: config.hold(),
        listen: config.listen,
        rooms: RoomPolicy::Any,
        connections,
        origins: config.allow_origin,
        proxies,
        access_token,
        metrics_listen: config.metrics_listen,
        ..ServerOptions::default()
    })
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
