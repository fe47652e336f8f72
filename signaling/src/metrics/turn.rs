//! What the relay of media counts. The relay keeps its own figures; they are read when asked for.

use std::{
    fmt::{self, Error},
    sync::OnceLock,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Figures of a TURN relay (RFC 8656) since its start, unless a field says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnFigures {
    /// Allocations there are just now.
    pub allocations: u64,
    /// TCP and TLS connections there are just now.
    pub streams: u64,
    /// Allocations made.
    pub allocated: u64,
    /// Requests refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Packets of media dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Bytes of media relayed from clients to peers.
    pub bytes_to_peers: u64,
    /// Bytes of media relayed from peers to clients.
    pub bytes_to_clients: u64,
}

type Read = dyn Fn() -> TurnFigures + Send + Sync;

/// Where the figures come from; all zero where there is no relay.
#[derive(Default)]
pub(super) struct Turn(OnceLock<Box<Read>>);

impl Turn {
    /// Has effect once.
    pub(super) fn watch(&self, read: impl Fn() -> TurnFigures + Send + Sync + 'static) {
        if self.0.set(Box::new(read)).is_err() {
            tracing::debug!("there is a relay already");
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turn").field(&self.0.get().is_some()).finish()
    }
}

impl Collector for Turn {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let figures = self.0.get().map(|read| read()).unwrap_or_default();
        for (name, help, value) in [
            ("visavis_turn_allocations", "Allocations there are just now", figures.allocations),
            ("visavis_turn_streams", "TCP and TLS connections to the relay", figures.streams),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let (name, help) = ("visavis_turn_allocated", "Allocations made");
        let counter = ConstCounter::new(figures.allocated);
        counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        let bytes =
            [("to-peers", figures.bytes_to_peers), ("to-clients", figures.bytes_to_clients)];
        for (name, help, label, values) in [
            ("visavis_turn_bytes", "Media relayed", "direction", &bytes[..]),
            ("visavis_turn_refusals", "Requests refused", "reason", &figures.refused),
            ("visavis_turn_dropped", "Packets of media dropped", "reason", &figures.dropped),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in values {
                let labels = [(label, *value)];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
