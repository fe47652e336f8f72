//! Where pictures come from. Each source runs on a thread of its own and hands frames on;
//! dropping its [`VideoSource`] stops it (and closes the camera).

pub mod camera;
pub mod file;
pub mod screen;
pub mod testcard;

use crate::frame::Frame;
use std::path::PathBuf;
use std::sync::Arc;

/// Receives every captured picture, on the source's own thread. Must not block.
pub type FrameSink = Arc<dyn Fn(Arc<Frame>) + Send + Sync>;

/// Receives what a running source has to tell, on the source's own thread.
pub type SourceEvents = Arc<dyn Fn(SourceEvent) + Send + Sync>;

/// What to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoSourceSpec {
    /// A camera: the first, one by (part of) its name, or by number.
    Camera(DeviceSelector),
    /// A whole screen with the pointer (without, under Windows). By name: an X server's, as in
    /// `DISPLAY`, or part of a monitor's; in a Wayland session the desktop asks which.
    Screen(DeviceSelector),
    /// A Y4M clip, looped in real time.
    File(PathBuf),
    /// The moving test picture with the clock and the strip.
    Testcard,
    /// No picture.
    None,
}

/// Which of several devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSelector {
    /// The system's default, or the first.
    #[default]
    Default,
    /// The one whose id equals this, else whose name equals or contains it (case ignored).
    Name(String),
    /// Counted from 0 in the order of the device list.
    Index(usize),
}

/// What a running source tells.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// Pictures flow.
    Started {
        /// The device's or file's name, for people.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Frames a second as negotiated.
        fps: f32,
    },
    /// No picture for several seconds although the device is open.
    Stalled,
    /// The source ended by itself: unplugged, or the file could not be read on.
    Lost(SourceError),
}

/// Why a source does not deliver. Each message says what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SourceError {
    /// No camera at all.
    #[error("no camera was found: plug one in, or call without video")]
    NoCamera,
    /// None of this name or number.
    #[error("there is no camera \"{wanted}\": `visavis devices` lists {available}")]
    UnknownCamera {
        /// What was asked for.
        wanted: String,
        /// What there is instead.
        available: String,
    },
    /// Another program has it.
    #[error("the camera \"{0}\" is in use by another program: close that program and try again")]
    Busy(String),
    /// The user may not open it.
    #[error("the camera \"{0}\" may not be opened: allow this user to (on Linux: group \"video\")")]
    Denied(String),
    /// Unplugged.
    #[error("the camera \"{0}\" was unplugged")]
    Unplugged(String),
    /// It offers no format we can use, or the driver failed.
    #[error("the camera \"{name}\" cannot be used: {reason}")]
    Camera {
        /// The camera's name.
        name: String,
        /// What the driver said.
        reason: String,
    },
    /// The screen cannot be captured.
    #[error("the screen cannot be shared: {0}")]
    Screen(String),
    /// A file cannot be read.
    #[error("cannot play {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A running source; dropping it stops it.
pub struct VideoSource {
    _guard: Box<dyn Send + Sync>,
}

impl VideoSource {
    /// Wraps whatever keeps the source running.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self { _guard: Box::new(guard) }
    }
}
