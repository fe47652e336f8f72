//! The statistics line, once a second.

use std::io::Write;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use visavis_media::stats::{Counters, Meter, ProcessMeter, Statistics};
use visavis_media::units::unix_us;

use crate::call::ConnectionId;
use crate::snapshot::Phase;

/// Writes one JSON object a line.
pub struct StatsSink {
    out: Box<dyn Write + Send>,
    process: ProcessMeter,
    meter: Option<(ConnectionId, Meter)>,
    failed: bool,
}

/// What the call knows besides what is counted.
pub(super) struct Facts<'a> {
    pub(super) phase: &'a Phase,
    pub(super) initiator: Option<bool>,
    pub(super) pair: Option<&'a str>,
    pub(super) ready_at: Option<Instant>,
    pub(super) connected_at: Option<Instant>,
    pub(super) first_shown_at: Option<Instant>,
}

impl StatsSink {
    /// Writes to `out`, flushing each line.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, process: ProcessMeter::default(), meter: None, failed: false }
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        counters: Option<(ConnectionId, &Arc<Counters>)>,
        facts: &Facts<'_>,
    ) {
        let since_ready = |at: Option<Instant>| {
            let (at, ready) = (at?, facts.ready_at?);
            Some(at.saturating_duration_since(ready).as_secs_f64() * 1000.0)
        };
        let mut statistics = Statistics {
            unix_ms: unix_us(SystemTime::now()) / 1000,
            state: state(facts.phase).to_owned(),
            role: facts
                .initiator
                .map(|initiator| if initiator { "initiator" } else { "responder" }.to_owned()),
            pair: facts.pair.map(str::to_owned),
            connect_ms: since_ready(facts.connected_at),
            first_frame_ms: since_ready(facts.first_shown_at),
            process: self.process.read(now),
            ..Statistics::default()
        };
        if let Some((id, counters)) = counters {
            if self.meter.as_ref().is_none_or(|(of, _)| *of != id) {
                self.meter = Some((id, Meter::new()));
            }
            if let Some((_, meter)) = &mut self.meter {
                meter.read(now, counters, &mut statistics);
            }
        }
        if let Err(error) = self.line(&statistics)
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!(%error, "the statistics cannot be written");
        }
    }

    fn line(&mut self, statistics: &Statistics) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(statistics)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

fn state(phase: &Phase) -> &'static str {
    match phase {
        Phase::Lobby => "lobby",
        Phase::Joining { .. } => "joining",
        Phase::Waiting { .. } => "waiting",
        Phase::Connecting { .. } => "connecting",
        Phase::InCall { .. } => "in_call",
        Phase::Reconnecting { .. } => "reconnecting",
    }
}
