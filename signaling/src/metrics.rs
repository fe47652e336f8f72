//! What the server counts, for `/metrics`. Counting never waits and never allocates on the way
//! of a message.

mod process;
mod tally;
mod turn;

use std::{borrow::Cow, sync::Arc, time::Instant};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{admission::Refusal, carrier::CarrierKind, room::Counts};

pub(crate) use tally::Asked;
pub use turn::TurnFigures;

/// What `/metrics` is served as (OpenMetrics 1.0, which Prometheus reads).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency histogram, in seconds: from what a message takes on an idle
/// machine to what a person notices.
const LATENCY_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

type Label = [(&'static str, Cow<'static, str>); 1];

/// One label's counters, by its value.
#[derive(Debug, Clone, Default)]
struct By(Family<Label, Counter>);

impl By {
    fn inc(&self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        self.0.get_or_create(&[(name, value.into())]).inc();
    }
}

/// Every counter of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Family<Label, Gauge>,
    tcp: Gauge,
    rooms: Gauge,
    seats: Gauge,
    held: Gauge,
    joins: By,
    resumes: By,
    refusals: By,
    errors: By,
    endings: By,
    messages: Counter,
    bytes: Counter,
    latency: Histogram,
    turn: Arc<turn::Turn>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            connections: Family::default(),
            tcp: Gauge::default(),
            rooms: Gauge::default(),
            seats: Gauge::default(),
            held: Gauge::default(),
            joins: By::default(),
            resumes: By::default(),
            refusals: By::default(),
            errors: By::default(),
            endings: By::default(),
            messages: Counter::default(),
            bytes: Counter::default(),
            latency: Histogram::new(LATENCY_BUCKETS),
            turn: Arc::default(),
            registry: Registry::default(),
        };
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let ours = registry.sub_registry_with_prefix("visavis");
        ours.register("build", "The version that runs", Info::new(version));
        let m = &metrics;
        m.carrier(CarrierKind::WebSocket);
        m.carrier(CarrierKind::SocketIo);
        ours.register("connections", "Clients connected, by carrier", m.connections.clone());
        ours.register("tcp_connections", "TCP connections open", m.tcp.clone());
        ours.register("rooms", "Rooms with somebody in them", m.rooms.clone());
        ours.register("seats", "Seats taken", m.seats.clone());
        ours.register("seats_held", "Seats kept for broken connections", m.held.clone());
        for (name, help, counters) in [
            ("joins", "Requests for a seat, by outcome", &m.joins),
            ("resumes", "Requests for a seat held before, by outcome", &m.resumes),
            ("refusals", "Connections and requests refused, by reason", &m.refusals),
            ("errors", "Events refused with an error, by its code", &m.errors),
            ("endings", "Clients' connections ended, by reason", &m.endings),
        ] {
            ours.register(name, help, counters.0.clone());
        }
        ours.register(
            "messages",
            "Messages relayed: written to the other seat",
            m.messages.clone(),
        );
        let help = "Bytes of the events that carried the messages relayed";
        ours.register_with_unit("message", help, Unit::Bytes, m.bytes.clone());
        let help = "From a message's arrival until it is written to the other seat";
        ours.register_with_unit("relay", help, Unit::Seconds, m.latency.clone());
        registry.register_collector(Box::new(Arc::clone(&m.turn)));
        registry.register_collector(Box::new(process::Process));
        Self { registry, ..metrics }
    }

    /// Tells also what a relay of media counts: `read` is asked whenever somebody looks.
    pub fn watch_turn(&self, read: impl Fn() -> TurnFigures + Send + Sync + 'static) {
        self.turn.watch(read);
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn text(&self, counts: Counts, tcp: usize) -> String {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.rooms.set(gauge(counts.rooms));
        self.seats.set(gauge(counts.seats));
        self.held.set(gauge(counts.held));
        self.tcp.set(gauge(tcp));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A connection was refused.
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        self.count_refused(match refusal {
            Refusal::Full => "full",
            Refusal::Share => "share",
            Refusal::Rate => "rate",
        });
    }

    /// A connection or a request was refused, for this reason.
    pub(crate) fn count_refused(&self, reason: &'static str) {
        self.refusals.inc("reason", reason);
    }

    /// A client's connection ended, for this reason.
    pub(crate) fn count_ending(&self, reason: &'static str) {
        self.endings.inc("reason", reason);
    }

    /// A message of so many bytes was written to the other seat; without the time when it was
    /// received if it had to wait for a broken connection.
    pub(crate) fn count_relayed(&self, bytes: usize, received: Option<Instant>) {
        self.messages.inc();
        self.bytes.inc_by(bytes as u64);
        if let Some(received) = received {
            self.latency.observe(received.elapsed().as_secs_f64());
        }
    }

    /// There from the start, so that nobody connected is 0 and not nothing.
    fn carrier(&self, carrier: CarrierKind) -> Gauge {
        let name = match carrier {
            CarrierKind::WebSocket => "websocket",
            CarrierKind::SocketIo => "socket.io",
        };
        self.connections.get_or_create_owned(&[("carrier", Cow::Borrowed(name))])
    }

    /// Counts a client until what is returned is dropped.
    pub(crate) fn count_client(&self, carrier: CarrierKind) -> Present {
        let gauge = self.carrier(carrier);
        gauge.inc();
        Present(gauge)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A client that is counted as connected.
#[derive(Debug)]
pub(crate) struct Present(Gauge);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Every metric's name, as `docs/operations.md` lists them.
#[cfg(test)]
pub(crate) fn names() -> Vec<String> {
    let metrics = Metrics::new();
    // Families appear with their first child.
    metrics.count_refused("x");
    metrics.count_ending("x");
    metrics.joins.inc("outcome", "x");
    metrics.resumes.inc("outcome", "x");
    metrics.errors.inc("code", "x");
    metrics.count_relayed(1, Some(Instant::now()));
    let some = vec![("x", 1)];
    metrics.watch_turn(move || TurnFigures {
        refused: some.clone(),
        dropped: some.clone(),
        ..TurnFigures::default()
    });
    let text = metrics.text(Counts::default(), 0);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(|name| name.trim_end_matches("_bucket").trim_end_matches("_sum"))
        .map(|name| match name {
            "visavis_relay_seconds_count" => "visavis_relay_seconds",
            name => name,
        })
        .map(str::to_owned)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// How long ago, for a log line: whole seconds.
pub(crate) fn seconds(since: Instant) -> u64 {
    since.elapsed().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::new();
        let present = metrics.count_client(CarrierKind::WebSocket);
        metrics.count_refusal(Refusal::Share);
        metrics.count_relayed(100, Some(Instant::now()));
        metrics.count_ending("left");
        assert!(metrics.text(Counts::default(), 0).contains("visavis_turn_allocations 0"));
        metrics.watch_turn(|| TurnFigures {
            allocations: 3,
            bytes_to_peers: 1000,
            refused: vec![("forged", 2)],
            ..TurnFigures::default()
        });
        let counts = Counts { connections: 5, rooms: 2, seats: 3, held: 1 };
        let text = metrics.text(counts, 7);
        for line in [
            "visavis_connections{carrier=\"websocket\"} 1",
            "visavis_tcp_connections 7",
            "visavis_rooms 2",
            "visavis_seats 3",
            "visavis_seats_held 1",
            "visavis_refusals_total{reason=\"share\"} 1",
            "visavis_endings_total{reason=\"left\"} 1",
            "visavis_messages_total 1",
            "visavis_message_bytes_total 100",
            "visavis_relay_seconds_count 1",
            "visavis_turn_allocations 3",
            "visavis_turn_bytes_total{direction=\"to-peers\"} 1000",
            "visavis_turn_refusals_total{reason=\"forged\"} 2",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        drop(present);
        let text = metrics.text(counts, 7);
        assert!(text.contains("visavis_connections{carrier=\"websocket\"} 0"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_measured() {
        let text = Metrics::new().text(Counts::default(), 0);
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_max_fds ") >= value("process_open_fds "));
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }
}
