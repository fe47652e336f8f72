//! The screen of a real Wayland session, by its portal and PipeWire, which `wayland/run` starts: what
//! is painted there arrives, and what the desktop or its user refuses is told. `make test-wayland`.
#![cfg(all(target_os = "linux", feature = "wayland"))]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use visavis_media::frame::Frame;
use visavis_media::frame_log::FrameLog;
use visavis_media::local::{LocalEvent, LocalMedia};
use visavis_media::slot::Slot;
use visavis_media::source::{DeviceSelector, SourceEvent, VideoSourceSpec};
use visavis_media::strip;

const LIMIT: Duration = Duration::from_secs(60);
const SCREEN: VideoSourceSpec = VideoSourceSpec::Screen(DeviceSelector::Default);

/// The session that `wayland/run` started.
struct Desktop {
    folder: PathBuf,
}

impl Desktop {
    fn here() -> Self {
        let folder = std::env::var_os("VISAVIS_WAYLAND_SESSION");
        let desktop = Self { folder: folder.expect("run `make test-wayland`").into() };
        desktop.decline(false);
        desktop
    }

    fn sway(&self, command: &str) {
        let output = Command::new("swaymsg").arg(command).output().expect("swaymsg");
        assert!(output.status.success(), "{command}: {output:?}");
    }

    /// All of the screen.
    fn paint(&self, [r, g, b]: [u8; 3]) {
        self.sway(&format!("output HEADLESS-1 bg #{r:02x}{g:02x}{b:02x} solid_color"));
    }

    /// Paints it until an end sees it. Some desktops send nothing before something changes, so
    /// the paint does, by less than can be seen.
    fn shows(&self, end: &End, [r, g, b]: [u8; 3]) {
        let mut rounds = 0..60;
        let seen = rounds.any(|round| {
            self.paint([r, g, b ^ (round & 1)]);
            eventually(Duration::from_secs(1), || end.shown([r, g, b]))
        });
        assert!(seen, "never seen: {r} {g} {b}; told {:?}", end.told.lock());
    }

    /// How often the portal asked what to share.
    fn questions(&self) -> usize {
        fs::read_to_string(self.folder.join("asked")).map_or(0, |text| text.lines().count())
    }

    /// Takes the node with the pictures from PipeWire.
    fn end_sharing(&self) {
        let pw = |arguments: &[&str]| {
            let output = Command::new("pw-cli").args(arguments).output().expect("pw-cli");
            String::from_utf8(output.stdout).expect("text")
        };
        // "id 35, type ..." and below it the node's properties.
        let (mut id, mut found) = ("", None);
        let nodes = pw(&["ls", "Node"]);
        for line in nodes.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("id ") {
                id = rest.split(',').next().unwrap_or_default();
            } else if line.starts_with("media.class") && line.contains("Video/Source") {
                found = Some(id);
            }
        }
        pw(&["destroy", found.unwrap_or_else(|| panic!("no source in {nodes}"))]);
    }

    /// What is answered from now on.
    fn decline(&self, no: bool) {
        let file = self.folder.join("decline");
        if no {
            fs::write(file, "").expect("written");
        } else {
            // It may not be there.
            let _ = fs::remove_file(file);
        }
    }
}

/// The devices of one end, without a call.
struct End {
    local: LocalMedia,
    preview: Arc<Slot<Arc<Frame>>>,
    told: Arc<Mutex<Vec<LocalEvent>>>,
}

impl End {
    fn new() -> Self {
        let told = Arc::<Mutex<Vec<LocalEvent>>>::default();
        let hear = Arc::clone(&told);
        let events = Arc::new(move |event| hear.lock().expect("unpoisoned").push(event));
        let preview = Arc::<Slot<Arc<Frame>>>::default();
        let local = LocalMedia::new(Arc::clone(&preview), Arc::new(FrameLog::off()), events);
        Self { local, preview, told }
    }

    /// Waits for a picture that is as wanted.
    fn sees(&self, what: &str, wanted: impl Fn(&Frame) -> bool) {
        let seen = eventually(LIMIT, || self.preview.take().is_some_and(|frame| wanted(&frame)));
        assert!(seen, "never seen: {what}; told {:?}", self.told.lock());
    }

    /// Whether the newest picture has this colour.
    fn shown(&self, rgb: [u8; 3]) -> bool {
        self.preview.take().is_some_and(|frame| share_of(&frame, rgb) > 0.99)
    }

    /// Waits until the source is lost, and says why.
    fn lost(&self) -> String {
        let mut reason = None;
        eventually(LIMIT, || {
            reason =
                self.told.lock().expect("unpoisoned").drain(..).find_map(|event| match event {
                    LocalEvent::Video(SourceEvent::Lost(error)) => Some(error.to_string()),
                    _ => None,
                });
            reason.is_some()
        });
        reason.expect("a source that is lost")
    }
}

fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// How much of a picture has this colour (BT.601, limited range).
fn share_of(frame: &Frame, rgb: [u8; 3]) -> f64 {
    let [r, g, b] = rgb.map(|part| f64::from(part) / 255.0);
    let luma = 0.299 * r + 0.587 * g + 0.114 * b;
    let wanted = [
        16.0 + 219.0 * luma,
        128.0 + 224.0 * (b - luma) / 1.772,
        128.0 + 224.0 * (r - luma) / 1.402,
    ];
    let shares = frame.planes().into_iter().zip(wanted).map(|(plane, wanted)| {
        let alike = plane.iter().filter(|&&value| (f64::from(value) - wanted).abs() <= 2.0);
        alike.count() as f64 / plane.len() as f64
    });
    shares.fold(1.0, f64::min)
}

#[test]
#[ignore = "needs a Wayland session: make test-wayland"]
fn what_the_screen_shows_is_seen_and_so_is_every_change() {
    let (desktop, end) = (Desktop::here(), End::new());
    end.local.set_video(&SCREEN, "");
    for colour in [[255, 128, 0], [0, 64, 255], [16, 200, 40], [255, 255, 255]] {
        desktop.shows(&end, colour);
    }
    end.sees("all of the screen", |frame| (frame.width(), frame.height()) == (1280, 720));
    let started = |event: &LocalEvent| {
        matches!(
            event,
            LocalEvent::Video(SourceEvent::Started { name, width: 1280, height: 720, .. })
                if name == "screen"
        )
    };
    assert!(end.told.lock().expect("unpoisoned").iter().any(started));
}

#[test]
#[ignore = "needs a Wayland session: make test-wayland"]
fn a_still_screen_goes_on_being_sent() {
    let (desktop, end) = (Desktop::here(), End::new());
    end.local.set_video(&SCREEN, "");
    desktop.shows(&end, [9, 90, 160]);
    for _ in 0..5 {
        end.sees("the same again", |frame| share_of(frame, [9, 90, 160]) > 0.99);
    }
}

#[test]
#[ignore = "needs a Wayland session: make test-wayland"]
fn a_screen_that_has_another_size_is_sent_as_large() {
    let (desktop, end) = (Desktop::here(), End::new());
    end.local.set_video(&SCREEN, "");
    for (width, height) in [(1024, 600), (1280, 720)] {
        desktop.sway(&format!("output HEADLESS-1 resolution {width}x{height}"));
        desktop.shows(&end, [200, 20, height as u8]);
        end.sees("the new size", |frame| (frame.width(), frame.height()) == (width, height));
    }
}

#[test]
#[ignore = "needs a Wayland session: make test-wayland"]
fn the_user_is_asked_once_and_sources_are_switched() {
    let (desktop, end) = (Desktop::here(), End::new());
    end.local.set_video(&SCREEN, "");
    desktop.shows(&end, [40, 40, 200]);
    let asked = desktop.questions();
    assert!(asked > 0, "allowed without a question");
    for _ in 0..3 {
        end.local.set_video(&VideoSourceSpec::Testcard, "");
        end.sees("the test card", |frame| strip::read(frame).is_some_and(|number| number > 10));
        end.local.set_video(&VideoSourceSpec::None, "");
        end.local.set_video(&SCREEN, "");
        desktop.shows(&end, [40, 40, 200]);
    }
    assert_eq!(desktop.questions(), asked);
}

#[test]
#[ignore = "needs a Wayland session: make test-wayland"]
fn sharing_that_the_desktop_ends_is_lost_and_asked_for_again() {
    let (desktop, end) = (Desktop::here(), End::new());
    end.local.set_video(&SCREEN, "");
    desktop.shows(&end, [90, 180, 30]);
    desktop.end_sharing();
    let reason = end.lost();
    assert!(reason.contains("pictures ended"), "{reason}");
    let asked = desktop.questions();
    desktop.decline(true);
    end.local.set_video(&SCREEN, "");
    let reason = end.lost();
    assert!(reason.contains("declined"), "{reason}");
    assert!(desktop.questions() > asked);
    desktop.decline(false);
    end.local.set_video(&SCREEN, "");
    desktop.shows(&end, [90, 180, 30]);
}

#[test]
#[ignore = "needs a Wayland session: make test-wayland"]
fn without_a_portal_or_a_bus_the_reason_says_so() {
    let desktop = Desktop::here();
    let bus = EmptyBus::start(&desktop);
    let reason = reason_with_bus(&bus.address);
    assert!(reason.contains("install xdg-desktop-portal"), "{reason}");
    let reason = reason_with_bus("unix:path=/nowhere");
    assert!(reason.contains("no session bus"), "{reason}");
}

/// A bus that neither has nor can start any program.
struct EmptyBus {
    daemon: Child,
    address: String,
}

impl EmptyBus {
    fn start(desktop: &Desktop) -> Self {
        let config = desktop.folder.join("empty-bus.conf");
        let text = "<busconfig><listen>unix:tmpdir=/tmp</listen><policy context=\"default\">\
                    <allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
                    <allow own=\"*\"/></policy></busconfig>";
        fs::write(&config, text).expect("written");
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon");
        let mut address = String::new();
        let out = daemon.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut address).expect("its address");
        Self { daemon, address: address.trim().to_owned() }
    }
}

impl Drop for EmptyBus {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Why the screen cannot be shared in another process like this, which keeps its bus for good.
fn reason_with_bus(address: &str) -> String {
    let output = Command::new(std::env::current_exe().expect("a path"))
        .args(["--ignored", "--exact", "--nocapture", "another_process"])
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .env("VISAVIS_SAY_WHY", "yes")
        .output()
        .expect("this program again");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
#[ignore = "started by the test above"]
fn another_process() {
    if std::env::var_os("VISAVIS_SAY_WHY").is_some() {
        let end = End::new();
        end.local.set_video(&SCREEN, "");
        println!("{}", end.lost());
    }
}
