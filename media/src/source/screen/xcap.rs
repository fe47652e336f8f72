//! A monitor under macOS and Windows: the only user of the crate `xcap`, whose recorder brings a
//! picture whenever something changed.
//!
//! The pointer is in macOS' pictures; for Windows the crate leaves it out.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use ::xcap::{Monitor, VideoRecorder, XCapError};

use super::Capture;
use crate::frame::{Frame, FramePool};
use crate::picture::convert::{Converter, RawFormat, RawPicture};
use crate::source::DeviceSelector;

/// So long the first picture may take.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether the monitor is still there and as large.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A monitor that is recorded.
pub(super) struct Display {
    recording: Recording,
    monitor: Monitor,
    id: u32,
    name: String,
    size: (u32, u32),
    look_at: Instant,
    /// Until when the first picture must have come; none once it has.
    first_by: Option<Instant>,
    newest: Option<::xcap::Frame>,
    converter: Converter,
}

impl Display {
    /// The main monitor, one by (part of) the system's name for it, or by number.
    pub fn open(selector: &DeviceSelector, pool: FramePool) -> Result<Self, String> {
        let monitors = Monitor::all().map_err(said)?;
        let number = match selector {
            DeviceSelector::Default => {
                let main = |it: &Monitor| it.is_primary().unwrap_or_default();
                monitors.iter().position(main).unwrap_or_default()
            }
            DeviceSelector::Index(number) => *number,
            DeviceSelector::Name(wanted) => {
                let names: Vec<String> =
                    monitors.iter().map(|it| it.name().unwrap_or_default()).collect();
                named(&names, wanted).ok_or_else(|| {
                    format!("there is no monitor \"{wanted}\", only {}", names.join(", "))
                })?
            }
        };
        let monitor = monitors.get(number).ok_or("there is no such monitor")?.clone();
        let now = Instant::now();
        Ok(Self {
            recording: Recording::start(&monitor).map_err(said)?,
            id: monitor.id().map_err(said)?,
            size: size(&monitor).map_err(said)?,
            monitor,
            name: format!("screen {number}"),
            look_at: now + LOOK_EVERY,
            first_by: Some(now + FIRST_WITHIN),
            newest: None,
            converter: Converter::new(pool),
        })
    }

    /// The recorder tells neither that its monitor is gone nor that it has another size, and brings
    /// no more pictures.
    fn look_after_monitor(&mut self) -> Result<(), String> {
        let monitors = Monitor::all().map_err(said)?;
        // Another one, which nobody asked to share, does not take its place.
        if !monitors.iter().any(|it| it.id().is_ok_and(|id| id == self.id)) {
            return Err("the monitor is gone: share again to choose another one".to_owned());
        }
        let size = size(&self.monitor).map_err(said)?;
        if std::mem::replace(&mut self.size, size) != size {
            self.recording = Recording::start(&self.monitor).map_err(said)?;
        }
        Ok(())
    }
}

impl Capture for Display {
    fn name(&self) -> &str {
        &self.name
    }

    fn changed(&mut self) -> Result<bool, String> {
        let now = Instant::now();
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.look_after_monitor()?;
        }
        let Some(picture) = self.recording.newest()? else {
            if self.first_by.is_some_and(|at| now > at) {
                return Err(SILENT.to_owned());
            }
            return Ok(false);
        };
        self.first_by = None;
        // Some come though nothing changed.
        let same = self.newest.as_ref().is_some_and(|last| {
            (last.width, last.height) == (picture.width, picture.height) && last.raw == picture.raw
        });
        self.newest = Some(picture);
        Ok(!same)
    }

    fn capture(&mut self) -> Result<Frame, String> {
        let picture = self.newest.as_ref().ok_or("there is no picture yet")?;
        let raw = RawPicture {
            format: RawFormat::Rgbx,
            width: picture.width,
            height: picture.height,
            stride: 0,
            data: &picture.raw,
        };
        self.converter.convert(&raw).map_err(|error| error.to_string())
    }
}

/// A recorder that runs until dropped.
struct Recording {
    recorder: VideoRecorder,
    pictures: Option<Receiver<::xcap::Frame>>,
}

impl Recording {
    fn start(monitor: &Monitor) -> Result<Self, XCapError> {
        let (recorder, pictures) = monitor.video_recorder()?;
        recorder.start()?;
        Ok(Self { recorder, pictures: Some(pictures) })
    }

    /// The channel has no room: the recorder waits in it with one picture, and drops what comes
    /// meanwhile.
    fn newest(&self) -> Result<Option<::xcap::Frame>, String> {
        match self.pictures.as_ref().map(Receiver::try_recv) {
            Some(Ok(picture)) => Ok(Some(picture)),
            Some(Err(TryRecvError::Empty)) => Ok(None),
            Some(Err(TryRecvError::Disconnected)) | None => {
                Err("the system ended the recording".to_owned())
            }
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // First, so that nothing waits in the channel while it is stopped.
        self.pictures = None;
        if let Err(error) = self.recorder.stop() {
            tracing::debug!(%error, "the recorder does not stop");
        }
    }
}

#[cfg(target_os = "macos")]
const SILENT: &str = "no picture came: allow it in System Settings, Privacy & Security, Screen \
                      Recording, then start the program again";
#[cfg(not(target_os = "macos"))]
const SILENT: &str = "no picture of it came: see whether its graphics driver is installed";

/// The one of this name, else the first whose name contains it.
fn named(names: &[String], wanted: &str) -> Option<usize> {
    let wanted = wanted.to_lowercase();
    let exactly = |name: &String| name.to_lowercase() == wanted;
    let partly = |name: &String| name.to_lowercase().contains(&wanted);
    names.iter().position(exactly).or_else(|| names.iter().position(partly))
}

fn size(monitor: &Monitor) -> Result<(u32, u32), XCapError> {
    Ok((monitor.width()?, monitor.height()?))
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn said(error: XCapError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_is_found_by_its_name_or_a_part_of_it() {
        let names = ["\\\\.\\DISPLAY10", "\\\\.\\DISPLAY1"].map(str::to_owned);
        assert_eq!(named(&names, "\\\\.\\display1"), Some(1));
        assert_eq!(named(&names, "display1"), Some(0));
        assert_eq!(named(&names, "display2"), None);
    }
}
