//! A camera: opened, read and closed on a thread of its own, which may block for ever.
//!
//! Two threads a camera. The reader owns the device: a stalled camera blocks it without limit,
//! so nobody ever joins it. The keeper takes the newest buffer from a slot (whatever the reader
//! fetched in the meantime is dropped: after a stall the driver delivers old pictures in a
//! burst), converts it, hands it on, watches the clock and tells what happened.

mod formats;
#[cfg(target_os = "linux")]
mod v4l2;
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nokhwa::Camera;
use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};

use self::watchdog::{Verdict, Watchdog};
use super::{DeviceSelector, FrameSink, SourceError, SourceEvent, SourceEvents, VideoSource};
use crate::devices::{self, Device};
use crate::frame::FramePool;
use crate::picture::convert::{Converter, RawFormat, RawPicture};
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
        Self {
            width: 1280,
            height: 720,
            fps: 30,
        }
    }
}

/// How often the keeper looks at the clock.
const TICK: Duration = Duration::from_millis(250);

/// How long a reader may take to close its camera before the stream is stopped under it.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// How long to wait for a camera that is busy: another part of this program may just be closing it.
const BUSY_RETRIES: u32 = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(150);

/// Buffers in a row that are no picture before the camera counts as broken: 5 s at 30 a second.
const MAX_BAD: u32 = 150;

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
    let shared = Arc::new(Shared::default());
    let guard = VideoSource::new(StopOnDrop(Arc::clone(&shared)));
    let tell = Arc::clone(&events);
    let keeper = Keeper {
        shared: Arc::clone(&shared),
        frames,
        events,
        converter: Converter::new(FramePool::new()),
        watchdog: Watchdog::new(Instant::now()),
        started: false,
        bad: 0,
    };
    let selector = selector.clone();
    let reader = Arc::clone(&shared);
    let spawned = thread::Builder::new()
        .name("camera-read".into())
        .spawn(move || run_reader(&reader, &selector, wanted))
        .and_then(|_| {
            thread::Builder::new()
                .name("camera".into())
                .spawn(move || keeper.run())
        });
    if let Err(error) = spawned {
        shared.stop.store(true, Ordering::Relaxed);
        let reason = format!("no thread for it: {error}");
        tell(SourceEvent::Lost(SourceError::Camera {
            name: "camera".into(),
            reason,
        }));
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
    stride: usize,
}

/// A camera and how its driver calls it.
#[derive(Clone, Debug)]
struct Node {
    device: Device,
    index: CameraIndex,
}

#[cfg(target_os = "linux")]
fn nodes() -> Vec<Node> {
    let node = |found: v4l2::CaptureNode| Node {
        device: Device {
            id: found.path(),
            name: found.name,
            default: false,
        },
        index: CameraIndex::Index(found.number),
    };
    v4l2::capture_nodes().into_iter().map(node).collect()
}

#[cfg(not(target_os = "linux"))]
fn nodes() -> Vec<Node> {
    let Ok(found) = nokhwa::query(nokhwa::utils::ApiBackend::Auto) else {
        return Vec::new();
    };
    let node = |info: nokhwa::utils::CameraInfo| Node {
        // `misc` holds the unique id (macOS) or the symbolic link (Windows).
        device: Device {
            id: info.misc(),
            name: info.human_name(),
            default: false,
        },
        index: info.index().clone(),
    };
    found.into_iter().map(node).collect()
}

fn choose(selector: &DeviceSelector) -> Result<Node, SourceError> {
    let nodes = nodes();
    let listed = devices::arrange(nodes.iter().map(|node| node.device.clone()).collect());
    if listed.is_empty() {
        return Err(SourceError::NoCamera);
    }
    let device = devices::resolve(&canonical(selector), &listed).map(|index| &listed[index]);
    let node = device.and_then(|device| {
        let node = nodes.into_iter().find(|node| node.device.id == device.id)?;
        Some(Node {
            device: device.clone(),
            ..node
        })
    });
    node.ok_or_else(|| SourceError::UnknownCamera {
        wanted: devices::wanted(selector),
        available: devices::available(&listed),
    })
}

/// Follows links like `/dev/v4l/by-id/...` to the node they stand for.
fn canonical(selector: &DeviceSelector) -> DeviceSelector {
    match selector {
        DeviceSelector::Name(name) if name.starts_with('/') => std::fs::canonicalize(name)
            .map_or_else(
                |_| selector.clone(),
                |path| DeviceSelector::Name(path.to_string_lossy().into_owned()),
            ),
        other => other.clone(),
    }
}

fn run_reader(shared: &Shared, selector: &DeviceSelector, wanted: CameraFormatWish) {
    // The V4L2 binding panics where a driver refuses to stop.
    let result = catch_unwind(AssertUnwindSafe(|| read(shared, selector, wanted)));
    let ended = result.unwrap_or_else(|_| {
        Err(SourceError::Camera {
            name: "camera".into(),
            reason: "its driver failed".into(),
        })
    });
    shared.closed.put(());
    if let Err(error) = ended
        && !shared.stop.load(Ordering::Relaxed)
    {
        shared.news.put(News::Ended(error));
    }
}

/// Reads until told to stop. The device is closed when this returns.
fn read(
    shared: &Shared,
    selector: &DeviceSelector,
    wanted: CameraFormatWish,
) -> Result<(), SourceError> {
    let node = choose(selector)?;
    let name = node.device.name.clone();
    shared.node.put(node.clone());
    ask_permission(shared, &name)?;
    let (mut camera, format) = open_patiently(shared, &node, wanted)?;
    tracing::info!("camera \"{name}\" opened: {format:?}");
    while !shared.stop.load(Ordering::Relaxed) {
        let buffer = camera
            .frame()
            .map_err(|error| classify(&name, &error.to_string()))?;
        let captured_at = captured_at(buffer.capture_timestamp(), Instant::now());
        let picture = Picture {
            buffer,
            format,
            captured_at,
            name: name.clone(),
        };
        // A stop must not be replaced by a picture; the flag above is looked at next.
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        shared.news.put(News::Picture(picture));
    }
    Ok(())
}

/// Waits while the system asks the person whether this program may see.
#[cfg(target_os = "macos")]
fn ask_permission(shared: &Shared, name: &str) -> Result<(), SourceError> {
    let (sender, answer) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    nokhwa::nokhwa_initialize(move |allowed| {
        if let Ok(sender) = sender.lock() {
            let _ = sender.send(allowed);
        }
    });
    for _ in 0..60 {
        match answer.recv_timeout(Duration::from_secs(1)) {
            Ok(true) => return Ok(()),
            Ok(false) => break,
            Err(_) if shared.stop.load(Ordering::Relaxed) => break,
            Err(_) => shared.news.put(News::Opening),
        }
    }
    Err(SourceError::Denied(name.to_owned()))
}

#[cfg(not(target_os = "macos"))]
#[allow(clippy::unnecessary_wraps)]
fn ask_permission(_: &Shared, _: &str) -> Result<(), SourceError> {
    Ok(())
}

fn open_patiently(
    shared: &Shared,
    node: &Node,
    wanted: CameraFormatWish,
) -> Result<(Camera, Negotiated), SourceError> {
    let mut retries = BUSY_RETRIES;
    loop {
        match open_ladder(node, wanted) {
            Err(SourceError::Busy(_)) if retries > 0 && !shared.stop.load(Ordering::Relaxed) => {
                retries -= 1;
                shared.news.put(News::Opening);
                thread::sleep(BUSY_PAUSE);
            }
            other => return other,
        }
    }
}

/// Tries exact formats, the best first: nokhwa's searches for a near one pick badly.
fn open_ladder(node: &Node, wanted: CameraFormatWish) -> Result<(Camera, Negotiated), SourceError> {
    let name = &node.device.name;
    let mut last = "it offers no format that is understood".to_owned();
    let rungs = formats::ladder(wanted).into_iter().map(Some);
    // Some virtual cameras offer one odd format only: the last rung is whatever is set.
    for rung in rungs.chain([None]) {
        let Some(rung) = rung.or_else(|| current_format(node)) else {
            break;
        };
        match open_exactly(node, rung) {
            Ok(opened) => return Ok(opened),
            Err(reason) => match classify(name, &reason) {
                SourceError::Camera { reason, .. } => last = reason,
                fatal => return Err(fatal),
            },
        }
    }
    Err(SourceError::Camera {
        name: name.clone(),
        reason: last,
    })
}

fn open_exactly(node: &Node, rung: CameraFormat) -> Result<(Camera, Negotiated), String> {
    let stride = prepare(node, rung)?;
    let accepted = [rung.format()];
    let request = RequestedFormat::with_formats(RequestedFormatType::Exact(rung), &accepted);
    let mut camera = Camera::new(node.index.clone(), request).map_err(|error| error.to_string())?;
    camera.open_stream().map_err(|error| error.to_string())?;
    let agreed = camera.camera_format();
    let format = Negotiated {
        format: raw_format(agreed.format()),
        width: agreed.width(),
        height: agreed.height(),
        fps: agreed.frame_rate() as f32,
        stride,
    };
    Ok((camera, format))
}

/// Sets format and rate first, because nokhwa cannot open a camera that another program left at
/// a rate like 7.5 a second. Returns the bytes from row to row, 0 where unknown.
#[cfg(target_os = "linux")]
fn prepare(node: &Node, rung: CameraFormat) -> Result<usize, String> {
    v4l2::prepare(&node.device.id, rung).map_err(|error| error.to_string())
}

#[cfg(target_os = "linux")]
fn current_format(node: &Node) -> Option<CameraFormat> {
    v4l2::current_format(&node.device.id)
}

#[cfg(not(target_os = "linux"))]
fn current_format(_: &Node) -> Option<CameraFormat> {
    None
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)]
fn prepare(_: &Node, _: CameraFormat) -> Result<usize, String> {
    Ok(0)
}

fn raw_format(format: FrameFormat) -> RawFormat {
    match format {
        FrameFormat::MJPEG => RawFormat::Mjpeg,
        FrameFormat::YUYV => RawFormat::Yuyv,
        FrameFormat::NV12 => RawFormat::Nv12,
        FrameFormat::GRAY => RawFormat::Gray,
        FrameFormat::RAWRGB => RawFormat::Rgb,
        FrameFormat::RAWBGR => RawFormat::Bgr,
    }
}

/// The moment of capture on our clock. The driver tells it in wall time, where it tells it.
fn captured_at(stamp: Option<Duration>, now: Instant) -> Instant {
    let age = stamp.and_then(|stamp| {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?;
        wall.checked_sub(stamp)
    });
    // Drivers with another clock give nonsense.
    let age = age
        .filter(|age| *age <= Duration::from_secs(2))
        .unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

/// What a driver's message means. nokhwa passes errors on as text only.
fn classify(name: &str, message: &str) -> SourceError {
    let has = |code: i32| message.contains(&format!("os error {code})"));
    let name = name.to_owned();
    if has(16) {
        SourceError::Busy(name)
    } else if has(13) || has(1) {
        SourceError::Denied(name)
    } else if has(19) || has(6) || has(2) {
        SourceError::Unplugged(name)
    } else {
        SourceError::Camera {
            name,
            reason: message.to_owned(),
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    frames: FrameSink,
    events: SourceEvents,
    converter: Converter,
    watchdog: Watchdog,
    started: bool,
    bad: u32,
}

impl Keeper {
    fn run(mut self) {
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
                    return Some(SourceError::Camera {
                        name,
                        reason: reason.into(),
                    });
                }
            }
        }
    }

    fn deliver(&mut self, picture: &Picture) -> Result<(), SourceError> {
        let Negotiated {
            format,
            width,
            height,
            fps,
            stride,
        } = picture.format;
        let raw = RawPicture {
            format,
            width,
            height,
            stride,
            data: picture.buffer.buffer(),
        };
        let mut frame = match self.converter.convert(&raw) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!("camera \"{}\": {error}", picture.name);
                self.bad += 1;
                if self.bad < MAX_BAD {
                    return Ok(());
                }
                let reason = error.to_string();
                return Err(SourceError::Camera {
                    name: picture.name.clone(),
                    reason,
                });
            }
        };
        self.bad = 0;
        self.watchdog.picture(Instant::now());
        frame.captured_at = picture.captured_at;
        if !self.started {
            self.started = true;
            let name = picture.name.clone();
            (self.events)(SourceEvent::Started {
                name,
                width,
                height,
                fps,
            });
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
        tracing::warn!(
            "camera \"{}\" does not answer; stopping its stream",
            node.device.name
        );
        #[cfg(target_os = "linux")]
        v4l2::stop_stream(&node.device.id);
    }
}

#[cfg(test)]
#[path = "camera/tests.rs"]
mod tests;
