//! What the relay of media counts. Its owner writes the numbers, `/metrics` reads them.

use std::{
    fmt::Error,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Written by whoever relays media over TURN (RFC 8656); all zero where nobody does.
#[derive(Debug, Default)]
pub struct TurnCounters {
    /// Allocations there are just now.
    pub allocations: AtomicU64,
    /// Allocations made, ever.
    pub allocated: AtomicU64,
    /// Allocations and permissions refused: no or false credentials, quotas, forbidden addresses.
    pub refused: AtomicU64,
    /// Bytes of media relayed from clients to their peers.
    pub bytes_sent: AtomicU64,
    /// Bytes of media relayed from peers to clients.
    pub bytes_received: AtomicU64,
}

impl Collector for TurnCounters {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let help = "Allocations on the TURN relay just now";
        let gauge = ConstGauge::new(i64::try_from(self.allocations.load(Relaxed)).unwrap_or(0));
        let name = "visavis_turn_allocations";
        gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        for (name, help, value) in [
            ("visavis_turn_allocated", "Allocations made", &self.allocated),
            ("visavis_turn_refused", "Requests refused by the TURN relay", &self.refused),
            ("visavis_turn_sent_bytes", "Media relayed from clients to peers", &self.bytes_sent),
            (
                "visavis_turn_received_bytes",
                "Media relayed from peers to clients",
                &self.bytes_received,
            ),
        ] {
            let counter = ConstCounter::new(value.load(Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
