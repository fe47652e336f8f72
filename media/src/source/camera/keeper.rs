//! The thread that converts the newest picture, hands it on and watches the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use super::v4l2;
use super::watchdog::{Verdict, Watchdog};
use super::{Negotiated, News, Picture, Shared};
use crate::frame::FramePool;
use crate::picture::convert::{Converter, RawPicture};
use crate::source::{FrameSink, SourceError, SourceEvent, SourceEvents};

/// How often the keeper looks at the clock.
const TICK: Duration = Duration::from_millis(250);

/// How long a reader may take to close its camera before the stream is stopped under it.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Buffers in a row that are no picture before the camera counts as broken: 5 s at 30 a second.
const MAX_BAD: u32 = 150;

pub(super) struct Keeper {
    shared: Arc<Shared>,
    frames: FrameSink,
    events: SourceEvents,
    converter: Converter,
    watchdog: Watchdog,
    started: bool,
    bad: u32,
}

impl Keeper {
    /// For a camera that begins to open now.
    pub(super) fn new(shared: Arc<Shared>, frames: FrameSink, events: SourceEvents) -> Self {
        Self {
            shared,
            frames,
            events,
            converter: Converter::new(FramePool::new()),
            watchdog: Watchdog::new(Instant::now()),
            started: false,
            bad: 0,
        }
    }

    /// Runs until the camera ends or the caller lets go of it.
    pub(super) fn run(mut self) {
        if let Some(error) = self.keep() {
            self.shared.stop.store(true, Ordering::Relaxed);
            (self.events)(SourceEvent::Lost(error));
        }
        if self.shared.closed.wait(CLOSE_LIMIT).is_none() {
            self.free();
        }
    }

    /// Why it ended, or None where the caller ended it.
    fn keep(&mut self) -> Option<SourceError> {
        loop {
            let news = self.shared.news.wait(TICK);
            if self.shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            match news {
                Some(News::Picture(picture)) => {
                    if let Err(error) = self.deliver(&picture) {
                        return Some(error);
                    }
                }
                Some(News::Opening) => self.watchdog.picture(Instant::now()),
                Some(News::Ended(error)) => return Some(error),
                Some(News::Stop) => return None,
                None => {}
            }
            match self.watchdog.poll(Instant::now()) {
                Verdict::Fine => {}
                Verdict::Stalled => (self.events)(SourceEvent::Stalled),
                Verdict::Dead => {
                    let name = self.name();
                    let reason = "it stopped delivering pictures: unplug it and plug it in again";
                    return Some(SourceError::Camera { name, reason: reason.into() });
                }
            }
        }
    }

    fn deliver(&mut self, picture: &Picture) -> Result<(), SourceError> {
        let Negotiated { format, width, height, fps, stride } = picture.format;
        let raw = RawPicture { format, width, height, stride, data: picture.buffer.buffer() };
        let mut frame = match self.converter.convert(&raw) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!("camera \"{}\": {error}", picture.name);
                self.bad += 1;
                if self.bad < MAX_BAD {
                    return Ok(());
                }
                let reason = error.to_string();
                return Err(SourceError::Camera { name: picture.name.clone(), reason });
            }
        };
        self.bad = 0;
        self.watchdog.picture(Instant::now());
        frame.captured_at = picture.captured_at;
        if !self.started {
            self.started = true;
            let name = picture.name.clone();
            (self.events)(SourceEvent::Started { name, width, height, fps });
        }
        (self.frames)(Arc::new(frame));
        Ok(())
    }

    fn name(&self) -> String {
        // Put back: freeing the device needs it too.
        let Some(node) = self.shared.node.take() else {
            return "camera".into();
        };
        let name = node.device.name.clone();
        self.shared.node.put(node);
        name
    }

    /// The reader is stuck in the driver: stops the stream under it, so that it wakes with an
    /// error, closes the device and the camera's light goes out.
    fn free(&self) {
        let Some(node) = self.shared.node.take() else {
            return;
        };
        tracing::warn!("camera \"{}\" does not answer; stopping its stream", node.device.name);
        #[cfg(target_os = "linux")]
        v4l2::stop_stream(&node.device.id);
    }
}
