//! What an operator's machines ask: `/healthz`, `/readyz`, `/metrics`.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::{accept::RemoteAddress, gate::Gate};
use crate::{
    hub::Hub,
    metrics::{CONTENT_TYPE, Metrics},
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// Whether the server should be sent new clients. Cheap to ask.
#[derive(Debug, Default)]
pub struct Readiness {
    draining: AtomicBool,
    /// Dependencies that are down, and what is wrong with them.
    down: Mutex<BTreeMap<&'static str, String>>,
}

impl Readiness {
    /// From now on no new clients, please.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether [`Self::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Something the server needs (a database, a relay) works, or does not: why, in a sentence.
    pub fn set_dependency(&self, name: &'static str, state: Result<(), String>) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Ok(()) => drop(down.remove(name)),
            Err(why) => drop(down.insert(name, why)),
        }
    }

    fn trouble(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining: the server is about to stop".into());
        }
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = down.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }
}

/// What the answers are made of.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) readiness: Arc<Readiness>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) gate: Arc<Gate>,
    pub(super) hub: Hub,
    pub(super) audience: Audience,
}

/// Who may read the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Whoever gets to the port: it is one of their own.
    Anybody,
    /// Programs of this machine.
    ThisMachine,
    /// They are served elsewhere.
    Nobody,
}

/// The three routes.
pub(super) fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> Response {
    match health.readiness.trouble() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(health): State<Health>, request: Request) -> Response {
    let peer = request.extensions().get().map(|RemoteAddress(address)| address.ip());
    let may_read = match health.audience {
        Audience::Anybody => true,
        Audience::ThisMachine => is_local(peer, request.headers()),
        Audience::Nobody => false,
    };
    if !may_read {
        // As if there were nothing: strangers need not know.
        return (StatusCode::NOT_FOUND, "There is nothing at this address.\n").into_response();
    }
    let text = health.metrics.text(health.hub.counts(), health.gate.open());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// Whether the request comes from this machine itself, and not through a proxy on it: that would
/// make everybody local. A page of a browser on this machine is kept out by its `Host`.
fn is_local(peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
    const BY_PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    peer.is_some_and(|peer| peer.to_canonical().is_loopback())
        && matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        && !BY_PROXIES.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_until_it_drains_or_a_dependency_is_down() {
        let readiness = Readiness::default();
        assert_eq!(readiness.trouble(), None);
        readiness.set_dependency("redis", Err("no answer".into()));
        assert_eq!(readiness.trouble().as_deref(), Some("redis: no answer"));
        readiness.set_dependency("redis", Ok(()));
        assert_eq!(readiness.trouble(), None);
        readiness.drain();
        assert!(readiness.trouble().is_some_and(|why| why.contains("draining")));
    }

    #[test]
    fn only_this_machine_without_a_proxy_is_local() {
        let local = |peer: &str, headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            is_local(Some(peer.parse().unwrap()), &map)
        };
        assert!(local("127.0.0.1", &[("host", "localhost:8080")]));
        assert!(local("::ffff:127.0.0.1", &[("host", "127.0.0.1")]));
        assert!(local("::1", &[("host", "[::1]:8080")]));
        assert!(!local("192.0.2.1", &[("host", "localhost")]));
        assert!(!local("127.0.0.1", &[("host", "tea.example")]));
        assert!(!local("127.0.0.1", &[]));
        for header in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
            assert!(!local("127.0.0.1", &[("host", "localhost"), (header, "192.0.2.1")]));
        }
    }
}
