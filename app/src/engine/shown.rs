//! Where a remote picture meets its reader: the frame log, and when the first one came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use visavis_media::frame::Frame;
use visavis_media::frame_log::{FrameEvent, FrameLog};

use crate::samples::Samples;

/// Called for each remote picture as it is shown: by the window when it is painted, in a
/// headless run when it reaches the sink.
pub struct Shown {
    log: Arc<FrameLog>,
    first: Mutex<Option<Instant>>,
    samples: Option<Mutex<Samples>>,
}

impl Shown {
    /// Writes to `log`.
    pub fn new(log: Arc<FrameLog>) -> Self {
        Self { log, first: Mutex::default(), samples: None }
    }

    /// Also keeps samples of what comes to the sink.
    pub fn with_samples(self, samples: Option<Samples>) -> Self {
        Self { samples: samples.map(Mutex::new), ..self }
    }

    /// A picture has come to the sink of a headless run.
    pub fn sink(&self, frame: &Arc<Frame>) {
        self.note(frame);
        if let Some(samples) = &self.samples {
            samples.lock().unwrap_or_else(PoisonError::into_inner).handle_shown(frame);
        }
    }

    /// A picture is shown now.
    pub fn note(&self, frame: &Frame) {
        self.log.note(FrameEvent::Shown, frame.strip);
        self.lock().get_or_insert_with(Instant::now);
    }

    /// A new connection begins: its first picture is to come.
    pub fn expect_first(&self) {
        *self.lock() = None;
    }

    /// When the present connection's first picture was shown.
    pub fn first(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
