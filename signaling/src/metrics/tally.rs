//! What can be told from what the registry answers: joins, resumes, errors.

use serde_json::Value;

use super::Metrics;
use crate::{
    protocol::{ClientEvent, ErrorCode, EventError, ServerEvent},
    room::{ConnectionId, Delivery},
};

/// What of a client's event decides how its answers are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A seat.
    Seat {
        /// One it held before.
        resume: bool,
    },
    /// Anything else.
    Other,
}

impl From<&Result<ClientEvent, EventError>> for Asked {
    fn from(event: &Result<ClientEvent, EventError>) -> Self {
        match event {
            Ok(ClientEvent::CreateOrJoin { resume, .. }) => Self::Seat { resume: resume.is_some() },
            _ => Self::Other,
        }
    }
}

impl Metrics {
    /// Counts what `from` is answered.
    pub(crate) fn count_answers(&self, from: ConnectionId, asked: Asked, answers: &[Delivery]) {
        for delivery in answers {
            let Delivery::Event { to, event } = delivery else { continue };
            if *to != from {
                continue;
            }
            if let ServerEvent::Error { code, .. } = event {
                self.errors.inc("code", name_of(*code));
            }
            let Asked::Seat { resume } = asked else { continue };
            let outcome = match event {
                ServerEvent::Created { .. } => "created",
                ServerEvent::Joined { .. } => "joined",
                ServerEvent::Resumed { .. } => "resumed",
                ServerEvent::Full { .. } => "full",
                ServerEvent::Error { .. } => "refused",
                _ => continue,
            };
            self.joins.inc("outcome", outcome);
            if resume {
                let succeeded = matches!(event, ServerEvent::Resumed { .. });
                self.resumes.inc("outcome", if succeeded { "success" } else { "failure" });
            }
        }
    }
}

/// As on the wire.
fn name_of(code: ErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(Value::String(name)) => name,
        _ => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Counts;

    #[test]
    fn answers_are_counted_by_what_was_asked() {
        let metrics = Metrics::new();
        let (me, other) = (ConnectionId(1), ConnectionId(2));
        let full = ServerEvent::Full { room: "tea".parse().unwrap(), retry_ms: 1, held: false };
        let error: ServerEvent = EventError::new(ErrorCode::NotInRoom, "x").into();
        let to = |to, event: &ServerEvent| Delivery::Event { to, event: event.clone() };
        metrics.count_answers(me, Asked::Seat { resume: true }, &[to(me, &full)]);
        // `created` for whoever stays is no answer.
        metrics.count_answers(me, Asked::Seat { resume: false }, &[to(other, &full)]);
        metrics.count_answers(me, Asked::Other, &[to(me, &error)]);
        let text = metrics.text(Counts::default(), 0);
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}: {text}");
        has("visavis_joins_total{outcome=\"full\"} 1");
        has("visavis_resumes_total{outcome=\"failure\"} 1");
        has("visavis_errors_total{code=\"not-in-room\"} 1");
    }
}
