//! The screen, with the pointer, looked at 30 times a second: X11's, a Wayland session's where that
//! is built in, or another system's.
//!
//! Pictures are sent when something changed. For a moment after a change the same picture is
//! repeated, so that the encoder sharpens it; a screen that stays still then costs two a second.

#[cfg(target_os = "linux")]
mod cursor;
mod rhythm;
#[cfg(all(target_os = "linux", feature = "wayland"))]
mod wayland;
#[cfg(target_os = "linux")]
mod x11;
#[cfg(any(target_os = "macos", windows))]
mod xcap;

use std::sync::Arc;
use std::time::Instant;

use super::{DeviceSelector, FrameSink, SourceError, SourceEvent, SourceEvents, VideoSource};
use crate::frame::{ContentHint, Frame, FramePool};
use crate::paced::{PacedThread, Schedule, Stop};
use crate::picture::scale;
use rhythm::{Look, Rhythm};

/// How often it is looked at.
const FPS: u32 = 30;

/// The longest and shortest side of what is sent; a larger screen is scaled down.
const LARGEST: (u32, u32) = (3840, 2160);

/// Starts capturing the screen. How it went, and any end, comes as an event.
pub fn open(selector: DeviceSelector, frames: FrameSink, events: SourceEvents) -> VideoSource {
    let failed = Arc::clone(&events);
    let thread = PacedThread::spawn("screen", move |stop| {
        if let Err(reason) = run(stop, &selector, &frames, &events) {
            events(SourceEvent::Lost(SourceError::Screen(reason)));
        }
    });
    match thread {
        Ok(thread) => VideoSource::new(thread),
        Err(error) => {
            failed(SourceEvent::Lost(SourceError::Screen(error.to_string())));
            VideoSource::new(())
        }
    }
}

/// Where pictures of a screen come from. It stays on the source's thread.
trait Capture {
    /// What it is called, for people.
    fn name(&self) -> &str;

    /// Whether it looks different since the last call. Before it first does there is no picture.
    fn changed(&mut self) -> Result<bool, String>;

    /// Takes a picture.
    fn capture(&mut self) -> Result<Frame, String>;
}

/// Until it is to stop, or the screen is gone: then why.
fn run(
    stop: &Stop,
    selector: &DeviceSelector,
    frames: &FrameSink,
    events: &SourceEvents,
) -> Result<(), String> {
    let pool = FramePool::new();
    let Some(mut display) = display(selector, &pool, stop)? else { return Ok(()) };
    let (mut rhythm, mut told) = (Rhythm::default(), None);
    let mut last: Option<Arc<Frame>> = None;
    let mut schedule = Schedule::new(Instant::now(), (FPS, 1));
    while stop.sleep_until(schedule.deadline()) {
        let changed = display.changed()?;
        let now = Instant::now();
        let there = changed || last.is_some();
        let look = if there { rhythm.look(now, changed) } else { Look::Nothing };
        let frame = match (look, &last) {
            (Look::Capture, _) | (Look::Repeat, None) => Some(within(display.capture()?, &pool)),
            (Look::Repeat, Some(last)) => Some(copy(last, &pool)),
            (Look::Nothing, _) => None,
        };
        if let Some(mut frame) = frame {
            frame.captured_at = now;
            frame.hint = ContentHint::Detail;
            let size = (frame.width(), frame.height());
            if told.replace(size) != Some(size) {
                let (width, height) = size;
                let name = display.name().to_owned();
                events(SourceEvent::Started { name, width, height, fps: FPS as f32 });
            }
            let frame = Arc::new(frame);
            last = Some(Arc::clone(&frame));
            frames(frame);
        }
        schedule.advance();
        schedule.skip_missed(Instant::now());
    }
    Ok(())
}

/// At most as large as [`LARGEST`].
fn within(frame: Frame, pool: &FramePool) -> Frame {
    let (width, height) = (frame.width(), frame.height());
    let (longer, shorter) = (width.max(height), width.min(height));
    let share =
        (f64::from(LARGEST.0) / f64::from(longer)).min(f64::from(LARGEST.1) / f64::from(shorter));
    if share >= 1.0 {
        return frame;
    }
    let scaled = |side: u32| ((f64::from(side) * share) as u32 & !1).max(2);
    scale::resize(&frame, scaled(width), scaled(height), pool)
}

fn copy(frame: &Frame, pool: &FramePool) -> Frame {
    let mut copy = pool.take(frame.width(), frame.height());
    for (to, from) in copy.planes_mut().into_iter().zip(frame.planes()) {
        to.copy_from_slice(from);
    }
    copy.matrix = frame.matrix;
    copy
}

/// The screen of this session, or of the X server that is named. None when no longer wanted.
#[cfg(target_os = "linux")]
fn display(
    selector: &DeviceSelector,
    pool: &FramePool,
    stop: &Stop,
) -> Result<Option<Box<dyn Capture>>, String> {
    let wayland = std::env::var_os("WAYLAND_DISPLAY").is_some_and(|name| !name.is_empty());
    // An X server inside of it shows X programs only, and of the rest nothing but black: only one
    // that is named is meant.
    if wayland && !matches!(selector, DeviceSelector::Name(_)) {
        return wayland_display(pool, stop);
    }
    Ok(Some(Box::new(x11::Display::open(selector, pool.clone())?)))
}

#[cfg(all(target_os = "linux", feature = "wayland"))]
fn wayland_display(pool: &FramePool, stop: &Stop) -> Result<Option<Box<dyn Capture>>, String> {
    let display = wayland::Display::open(pool.clone(), stop)?;
    Ok(display.map(|display| Box::new(display) as Box<dyn Capture>))
}

#[cfg(all(target_os = "linux", not(feature = "wayland")))]
fn wayland_display(_: &FramePool, _: &Stop) -> Result<Option<Box<dyn Capture>>, String> {
    Err("this is a Wayland session, and this program was built without what that takes: build it \
         with `make run FEATURES=wayland`, or log in to an X11 session"
        .to_owned())
}

#[cfg(any(target_os = "macos", windows))]
fn display(
    selector: &DeviceSelector,
    pool: &FramePool,
    _: &Stop,
) -> Result<Option<Box<dyn Capture>>, String> {
    Ok(Some(Box::new(xcap::Display::open(selector, pool.clone())?)))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn display(
    _: &DeviceSelector,
    _: &FramePool,
    _: &Stop,
) -> Result<Option<Box<dyn Capture>>, String> {
    Err("not on this system".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_screen_is_scaled_and_a_usual_one_is_not() {
        let pool = FramePool::new();
        let size = |width, height| {
            let frame = within(pool.black(width, height), &pool);
            (frame.width(), frame.height())
        };
        assert_eq!(size(1921, 1081), (1921, 1081));
        assert_eq!(size(3840, 2160), (3840, 2160));
        assert_eq!(size(5120, 2880), (3840, 2160));
        assert_eq!(size(1080, 7680), (540, 3840));
    }
}
