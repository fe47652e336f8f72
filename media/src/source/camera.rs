//! A camera: opened, read and closed on a thread of its own, which may block for ever.
//!
//! Two threads a camera. The reader owns the device: a stalled camera blocks it without limit,
//! so nobody ever joins it. The keeper takes the newest buffer from a slot (whatever the reader
//! fetched in the meantime is dropped: after a stall the driver delivers old pictures in a
//! burst), converts it, hands it on, watches the clock and tells what happened.

mod formats;
mod keeper;
mod node;
mod reader;
#[cfg(target_os = "linux")]
mod v4l2;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use self::keeper::Keeper;
use self::node::{Node, nodes};
use super::{DeviceSelector, FrameSink, SourceError, SourceEvent, SourceEvents, VideoSource};
use crate::devices::{self, Device};
use crate::picture::convert::RawFormat;
use crate::slot::Slot;

/// What the caller would like best; the nearest the camera can do is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameraFormatWish {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
}

impl Default for CameraFormatWish {
    fn default() -> Self {
        Self { width: 1280, height: 720, fps: 30 }
    }
}

/// The cameras, the default first. Prints nothing; a machine without any gets an empty list.
pub fn list() -> Vec<Device> {
    devices::arrange(nodes().into_iter().map(|node| node.device).collect())
}

/// Starts a camera. Returns at once: [`SourceEvent::Started`] follows with the first picture, or
/// [`SourceEvent::Lost`] says why there is none. Dropping the source closes the device without
/// waiting for it.
pub fn open(
    selector: &DeviceSelector,
    wanted: CameraFormatWish,
    frames: FrameSink,
    events: SourceEvents,
) -> VideoSource {
    let tell = Arc::clone(&events);
    let shared = Arc::new(Shared::default());
    let guard = VideoSource::new(StopOnDrop(Arc::clone(&shared)));
    let keeper = Keeper::new(Arc::clone(&shared), frames, events);
    let selector = selector.clone();
    let ours = Arc::clone(&shared);
    let spawned = thread::Builder::new()
        .name("camera-read".into())
        .spawn(move || reader::run(&ours, &selector, wanted))
        .and_then(|_| thread::Builder::new().name("camera".into()).spawn(move || keeper.run()));
    if let Err(error) = spawned {
        shared.stop.store(true, Ordering::Relaxed);
        let reason = format!("no thread for it: {error}");
        tell(SourceEvent::Lost(SourceError::Camera { name: "camera".into(), reason }));
    }
    guard
}

/// What the two threads and the guard share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    news: Slot<News>,
    /// Filled when the reader let go of the device.
    closed: Slot<()>,
    /// Names the device once it is known, to stop the stream under a stuck reader.
    node: Slot<Node>,
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.news.put(News::Stop);
    }
}

/// From the reader (or the guard) to the keeper; a newer one replaces an older one.
enum News {
    /// Waiting for something else than the camera.
    Opening,
    Picture(Picture),
    Ended(SourceError),
    Stop,
}

struct Picture {
    buffer: nokhwa::Buffer,
    format: Negotiated,
    captured_at: Instant,
    name: String,
}

/// What the camera agreed to.
#[derive(Clone, Copy, Debug)]
struct Negotiated {
    format: RawFormat,
    width: u32,
    height: u32,
    fps: f32,
    /// Bytes from row to row, 0 where unknown.
    stride: usize,
}

#[cfg(test)]
#[path = "camera/tests.rs"]
mod tests;
