//! A webcam to plug in and out, and what a test sees of a camera.

mod agreement;
mod descriptors;
mod pictures;
mod usbip;
mod webcam;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use std::{fs, thread};

use visavis_media::frame::Frame;
use visavis_media::source::camera::{self, CameraFormatWish};
use visavis_media::source::{DeviceSelector, SourceEvent, VideoSource};
use visavis_media::strip;

pub use agreement::Agreement;
pub use descriptors::{FORMAT_MJPEG, FORMAT_YUY2, INTERVALS};
pub use pictures::{BLUE, PICTURES, RED};
pub use webcam::Webcam;

/// The machine is emulated: ten times what a real one takes.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The names of the cameras that the program lists.
pub fn listed() -> Vec<String> {
    camera::list().into_iter().map(|device| device.name).collect()
}

/// Another program that uses cameras; panics where it fails.
pub fn v4l2_ctl(node: &str, arguments: &[&str]) -> String {
    let output = Command::new("v4l2-ctl").arg("-d").arg(node).args(arguments).output();
    let output = output.expect("v4l2-ctl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "v4l2-ctl {arguments:?}: {said}");
    said
}

/// A program that films until it is dropped.
pub struct OtherProgram(Child);

impl OtherProgram {
    pub fn film(webcam: &Webcam) -> Self {
        let node = webcam.node().expect("a node");
        let child = Command::new("v4l2-ctl")
            .args(["-d", &node, "--stream-mmap", "--stream-to", "/dev/null"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let program = Self(child.expect("v4l2-ctl"));
        wait_for("the other program to film", || webcam.filming().is_some());
        program
    }
}

impl Drop for OtherProgram {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a test remembers of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// By its strip.
    pub number: Option<u32>,
    /// Y, U and V in the middle of eight columns, well below whatever is written at the top.
    pub columns: [[u8; 3]; 8],
    /// Changes with the contents.
    pub sum: u64,
}

impl Picture {
    fn of(frame: &Frame) -> Self {
        let (width, height) = (frame.width(), frame.height());
        let column = |index: usize| {
            pictures::pixel(frame, width * (2 * index as u32 + 1) / 16, height * 7 / 8)
        };
        let bytes = frame.planes()[0].iter();
        Self {
            width,
            height,
            number: strip::read(frame),
            columns: std::array::from_fn(column),
            sum: bytes.fold(0, |sum: u64, &byte| sum.wrapping_mul(31).wrapping_add(byte.into())),
        }
    }
}

/// An open camera.
pub struct Viewer {
    source: Option<VideoSource>,
    events: Receiver<SourceEvent>,
    pictures: Receiver<Picture>,
}

impl Viewer {
    pub fn open(name: &str, wish: CameraFormatWish) -> Self {
        let (tell, events) = mpsc::channel();
        let (show, pictures) = mpsc::channel();
        // Nobody listens any more when the test is over.
        let source = camera::open(
            &DeviceSelector::Name(name.into()),
            wish,
            Arc::new(move |frame| _ = show.send(Picture::of(&frame))),
            Arc::new(move |event| _ = tell.send(event)),
        );
        Self { source: Some(source), events, pictures }
    }

    /// The next event.
    #[track_caller]
    pub fn event(&self) -> SourceEvent {
        self.events.recv_timeout(LIMIT).expect("an event")
    }

    /// What was told besides, without waiting.
    pub fn other_events(&self) -> Vec<SourceEvent> {
        self.events.try_iter().collect()
    }

    /// So many new pictures.
    #[track_caller]
    pub fn pictures(&self, count: usize) -> Vec<Picture> {
        while self.pictures.try_recv().is_ok() {}
        let mut pictures = Vec::new();
        while pictures.len() < count {
            pictures.push(self.pictures.recv_timeout(LIMIT).expect("a picture"));
        }
        pictures
    }

    /// Lets go of the camera, and tells how long that took.
    pub fn close(&mut self) -> Duration {
        let start = Instant::now();
        self.source = None;
        start.elapsed()
    }
}

/// Whether this process has no camera open and no thread that belongs to one.
pub fn nothing_is_left() -> bool {
    let entries = |path: &str| fs::read_dir(path).expect("/proc").flatten();
    let open = entries("/proc/self/fd").any(|descriptor| {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        target.to_string_lossy().starts_with("/dev/video")
    });
    let thread = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
    let runs = entries("/proc/self/task")
        .any(|task| matches!(thread(&task.path()).trim(), "camera" | "camera-read"));
    !open && !runs
}
