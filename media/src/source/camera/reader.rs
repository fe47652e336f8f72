//! The thread that owns the device: opens it, reads it, closes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nokhwa::Camera;
use nokhwa::utils::{CameraFormat, FrameFormat, RequestedFormat, RequestedFormatType};

use super::formats;
use super::node::{self, Node};
#[cfg(target_os = "linux")]
use super::v4l2;
use super::{CameraFormatWish, Negotiated, News, Picture, Shared};
use crate::picture::convert::RawFormat;
use crate::source::{DeviceSelector, SourceError};

/// How long to wait for a camera that is busy: another part of this program may just be closing it.
const BUSY_RETRIES: u32 = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(150);

/// Runs until told to stop or the camera fails, which is told at the end.
pub(super) fn run(shared: &Shared, selector: &DeviceSelector, wanted: CameraFormatWish) {
    // The V4L2 binding panics where a driver refuses to stop.
    let result = catch_unwind(AssertUnwindSafe(|| read(shared, selector, wanted)));
    let ended = result.unwrap_or_else(|_| {
        Err(SourceError::Camera { name: "camera".into(), reason: "its driver failed".into() })
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
    let node = node::choose(selector)?;
    let name = node.device.name.clone();
    shared.node.put(node.clone());
    ask_permission(shared, &name)?;
    let (mut camera, format) = open_patiently(shared, &node, wanted)?;
    tracing::info!("camera \"{name}\" opened: {format:?}");
    while !shared.stop.load(Ordering::Relaxed) {
        let buffer = camera.frame().map_err(|error| classify(&name, &error.to_string()))?;
        let captured_at = captured_at(buffer.capture_timestamp(), Instant::now());
        let picture = Picture { buffer, format, captured_at, name: name.clone() };
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
    nokhwa::nokhwa_initialize(move |allowed| {
        let _ = sender.send(allowed);
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
        match open_ladder(shared, node, wanted) {
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
fn open_ladder(
    shared: &Shared,
    node: &Node,
    wanted: CameraFormatWish,
) -> Result<(Camera, Negotiated), SourceError> {
    let name = &node.device.name;
    let mut last = "it offers no format that is understood".to_owned();
    let rungs = formats::ladder(wanted).into_iter().map(Some);
    // Some virtual cameras offer one odd format only: the last rung is whatever is set.
    for rung in rungs.chain([None]) {
        // Each costs 5 s with a camera that does not answer: a quarter of an hour for nobody.
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
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
    Err(SourceError::Camera { name: name.clone(), reason: last })
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
pub(super) fn captured_at(stamp: Option<Duration>, now: Instant) -> Instant {
    let age = stamp.and_then(|stamp| {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        wall.checked_sub(stamp)
    });
    // Drivers with another clock give nonsense.
    let age = age.filter(|age| *age <= Duration::from_secs(2)).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

/// What a driver's message means. nokhwa passes errors on as text only.
pub(super) fn classify(name: &str, message: &str) -> SourceError {
    let has = |code: i32| message.contains(&format!("os error {code})"));
    let name = name.to_owned();
    if has(16) {
        SourceError::Busy(name)
    } else if has(13) || has(1) {
        SourceError::Denied(name)
    } else if has(19) || has(6) || has(2) {
        SourceError::Unplugged(name)
    } else {
        SourceError::Camera { name, reason: message.to_owned() }
    }
}
