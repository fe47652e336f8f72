//! The frame log: when each picture passed each station, as CSV lines
//! `event,unix_us,strip` (`docs/testing.md`). Two ends' logs together give every delay.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::units::unix_us;

/// A station on a picture's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// The source delivered it.
    Captured,
    /// The encoder is done.
    Encoded,
    /// Its last packet is in.
    Received,
    /// The decoder is done.
    Decoded,
    /// Handed to the screen, or in a headless run to the sink.
    Shown,
}

impl FrameEvent {
    fn name(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Encoded => "encoded",
            Self::Received => "received",
            Self::Decoded => "decoded",
            Self::Shown => "shown",
        }
    }
}

/// How old a line may grow before the file has it: who watches a call reads along.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Writes the log; a log that is off costs nothing. Lines reach the file about once a second while
/// pictures pass, at [`FrameLog::flush`] and at the end.
#[derive(Default)]
pub struct FrameLog {
    file: Option<Mutex<Lines>>,
}

struct Lines {
    file: BufWriter<File>,
    flushed: Instant,
}

impl FrameLog {
    /// No log.
    pub fn off() -> Self {
        Self::default()
    }

    /// Creates the file with its header line.
    ///
    /// # Errors
    /// As the file system says, naming the file.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let named = |error: std::io::Error| {
            std::io::Error::new(
                error.kind(),
                format!("cannot write the frame log {}: {error}", path.display()),
            )
        };
        let mut file = BufWriter::with_capacity(64 * 1024, File::create(path).map_err(named)?);
        writeln!(file, "event,unix_us,strip").map_err(named)?;
        Ok(Self { file: Some(Mutex::new(Lines { file, flushed: Instant::now() })) })
    }

    /// Whether anything is written: reading a strip only for the log is worth its time then.
    pub fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// Notes that a picture passed a station now.
    pub fn note(&self, event: FrameEvent, strip: Option<u32>) {
        self.note_at(event, SystemTime::now(), strip);
    }

    /// Notes that a picture passed a station at `time`.
    pub fn note_at(&self, event: FrameEvent, time: SystemTime, strip: Option<u32>) {
        let Some(lines) = &self.file else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let strip = strip.map(|number| number.to_string()).unwrap_or_default();
        // A full disk must not end a call; the log is then short.
        let _ = writeln!(lines.file, "{},{},{strip}", event.name(), unix_us(time));
        if lines.flushed.elapsed() >= FLUSH_EVERY {
            lines.flushed = Instant::now();
            let _ = lines.file.flush();
        }
    }

    /// Brings the file up to date.
    pub fn flush(&self) {
        if let Some(lines) = &self.file {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = lines.file.flush();
        }
    }
}

impl Drop for FrameLog {
    fn drop(&mut self) {
        self.flush();
    }
}
