//! How the server logs: to standard error, as text or as JSON, a line each.
//!
//! What each level may hold: `info` and above name connections by number and say why they ended;
//! addresses appear at `debug` only; what two ends say to each other (session descriptions,
//! candidates, any message) and the names of rooms appear nowhere.

use std::io::IsTerminal;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// The least important lines that are still written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What keeps the server from working.
    Error,
    /// What an operator should look into.
    Warn,
    /// Each connection's beginning and end.
    #[default]
    Info,
    /// Addresses too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    fn filter(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "warn,visavis_signaling=info",
            Self::Debug => "warn,visavis_signaling=debug",
            Self::Trace => "warn,visavis_signaling=trace",
        }
    }
}

/// Logs to standard error from now on. RUST_LOG wins over `level`. A program that logs already
/// goes on as it does.
pub fn init(format: LogFormat, level: LogLevel) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| level.filter().into());
    let colours = std::io::stderr().is_terminal();
    // An error means that there is a subscriber already.
    let _ = match format {
        LogFormat::Text => builder(filter, std::io::stderr).with_ansi(colours).finish().try_init(),
        LogFormat::Json => {
            builder(filter, std::io::stderr).json().flatten_event(true).finish().try_init()
        }
    };
}

type Builder<W> = tracing_subscriber::fmt::SubscriberBuilder<
    tracing_subscriber::fmt::format::DefaultFields,
    tracing_subscriber::fmt::format::Format,
    EnvFilter,
    W,
>;

fn builder<W>(filter: EnvFilter, writer: W) -> Builder<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel) -> Vec<serde_json::Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = builder(level.filter().into(), move || writer.clone())
            .json()
            .flatten_event(true)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "visavis_signaling", "first");
            tracing::info!(target: "visavis_signaling", connection = 7, "second");
            tracing::debug!(target: "visavis_signaling", address = "192.0.2.1", "third");
            tracing::info!(target: "hyper", "not ours");
        });
        let bytes = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_line_is_an_object_and_the_level_decides_how_many() {
        let messages = |level| -> Vec<String> {
            let lines = logged(level);
            lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(messages(LogLevel::Error), Vec::<String>::new());
        assert_eq!(messages(LogLevel::Warn), ["first"]);
        assert_eq!(messages(LogLevel::Info), ["first", "second"]);
        assert_eq!(messages(LogLevel::Debug), ["first", "second", "third"]);
        let line = logged(LogLevel::Info).remove(1);
        assert_eq!((&line["connection"], &line["level"]), (&7.into(), &"INFO".into()));
    }
}
