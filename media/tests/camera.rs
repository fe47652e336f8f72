//! Cameras as Linux drives them: the kernel's own drivers, in a virtual machine, with a USB webcam
//! that the tests plug in and out. `make test-camera` starts it, see `docs/testing.md`.
#![cfg(target_os = "linux")]

mod camera_vm;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use camera_vm::{
    Agreement, BLUE, FORMAT_MJPEG, FORMAT_YUY2, INTERVALS, OtherProgram, PICTURES, Picture, RED,
    Viewer, Webcam, listed, nothing_is_left, v4l2_ctl, wait_for,
};
use visavis_media::source::camera::CameraFormatWish;
use visavis_media::source::{SourceError, SourceEvent};

const NAME: &str = "Emulated webcam";

/// The kernel's virtual camera; its name goes on with its number.
const VIVID: &str = "vivid";
/// The machine has it from the start.
const VIVID_NODE: &str = "/dev/video0";

/// From letting go of a camera to having the thread back: no driver is waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

const HD: CameraFormatWish = CameraFormatWish { width: 1280, height: 720, fps: 30 };
const VGA: CameraFormatWish = CameraFormatWish { width: 640, height: 480, fps: 30 };

const HD_AT_30: Agreement = Agreement { format: FORMAT_MJPEG, size: 2, interval: INTERVALS[0] };

/// Opens it and waits for pictures.
#[track_caller]
fn view(name: &str, wish: CameraFormatWish) -> Viewer {
    let viewer = Viewer::open(name, wish);
    let event = viewer.event();
    let SourceEvent::Started { width, height, .. } = event else {
        panic!("{event:?} instead of a start");
    };
    assert_eq!((width, height), (wish.width, wish.height));
    viewer
}

fn near(got: [u8; 3], wanted: [u8; 3]) -> bool {
    got.iter().zip(wanted).all(|(got, wanted)| got.abs_diff(wanted) <= 4)
}

/// These are pictures of the emulated webcam, and not one picture again and again.
#[track_caller]
fn assert_filmed(pictures: &[Picture], wish: CameraFormatWish) {
    let mut numbers = BTreeSet::new();
    for picture in pictures {
        assert_eq!((picture.width, picture.height), (wish.width, wish.height));
        for (index, &column) in picture.columns.iter().enumerate() {
            let wanted = if index < 4 { BLUE } else { RED };
            assert!(near(column, wanted), "{column:?} for {wanted:?} in column {index}");
        }
        let number = picture.number.unwrap_or_else(|| panic!("no number in {picture:?}"));
        assert!(number < PICTURES, "{picture:?}");
        numbers.insert(number);
    }
    // Which ones come in time is a matter of the machine's speed.
    assert!(numbers.len() >= 2, "{numbers:?}");
}

#[track_caller]
fn assert_let_go(webcam: &Webcam) {
    wait_for("the webcam's light to go out", || webcam.filming().is_none());
    wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
}

fn unplugged(name: &str) -> SourceEvent {
    SourceEvent::Lost(SourceError::Unplugged(name.into()))
}

#[track_caller]
fn assert_given_up(event: &SourceEvent) {
    let told = matches!(event, SourceEvent::Lost(SourceError::Camera { name, reason })
        if name == NAME && reason.contains("stopped delivering"));
    assert!(told, "{event:?}");
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_is_listed_once_and_films_in_hd() {
    let webcam = Webcam::plug_in(NAME);
    // Its second node is for metadata.
    let ours = listed().iter().filter(|name| name.starts_with(NAME)).count();
    assert_eq!(ours, 1, "{:?}", listed());

    let mut viewer = Viewer::open(NAME, HD);
    let started = SourceEvent::Started { name: NAME.into(), width: 1280, height: 720, fps: 30.0 };
    assert_eq!(viewer.event(), started);
    assert_eq!(webcam.filming(), Some(HD_AT_30));
    let pictures = viewer.pictures(30);
    assert_filmed(&pictures, HD);
    let different: BTreeSet<_> = pictures.iter().map(|picture| picture.number).collect();
    assert!(different.len() > 5, "{different:?}");
    assert!(viewer.close() < AT_ONCE);
    assert_let_go(&webcam);
    assert_eq!(viewer.other_events(), []);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_small_picture_comes_uncompressed() {
    let webcam = Webcam::plug_in(NAME);
    let mut viewer = view(NAME, VGA);
    let agreed = Agreement { format: FORMAT_YUY2, size: 1, interval: INTERVALS[0] };
    assert_eq!(webcam.filming(), Some(agreed));
    assert_filmed(&viewer.pictures(20), VGA);
    viewer.close();
    assert_let_go(&webcam);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn an_unplugged_webcam_is_lost_and_a_replugged_one_films_again() {
    for _ in 0..3 {
        let webcam = Webcam::plug_in(NAME);
        wait_for("the webcam in the list", || listed().iter().any(|name| name == NAME));
        let viewer = view(NAME, HD);
        assert_filmed(&viewer.pictures(5), HD);
        drop(webcam);
        assert_eq!(viewer.event(), unplugged(NAME));
        wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
        wait_for("the list without it", || !listed().iter().any(|name| name == NAME));
        assert_eq!(viewer.other_events(), []);
    }
    let gone = Viewer::open(NAME, HD).event();
    assert!(
        matches!(&gone, SourceEvent::Lost(SourceError::UnknownCamera { wanted, .. }) if wanted == NAME),
        "{gone:?}"
    );
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_that_is_unplugged_while_it_is_opened_is_lost() {
    for delay in [0, 5, 10, 20, 40, 80, 160, 320] {
        let webcam = Webcam::plug_in(NAME);
        let viewer = Viewer::open(NAME, HD);
        thread::sleep(Duration::from_millis(delay));
        drop(webcam);
        let mut event = viewer.event();
        // The kernel waits for the answer to a last question, for up to 5 s.
        while matches!(event, SourceEvent::Started { .. } | SourceEvent::Stalled) {
            event = viewer.event();
        }
        // Or it was gone before it was looked for.
        let unknown = matches!(event, SourceEvent::Lost(SourceError::UnknownCamera { .. }));
        assert!(unknown || event == unplugged(NAME), "after {delay} ms: {event:?}");
        wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
        assert_eq!(viewer.other_events(), []);
    }
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_replugged_webcam_can_be_opened_while_the_old_source_is_still_held() {
    let webcam = Webcam::plug_in(NAME);
    let old = view(NAME, HD);
    drop(webcam);
    assert_eq!(old.event(), unplugged(NAME));
    let _webcam = Webcam::plug_in(NAME);
    assert_filmed(&view(NAME, HD).pictures(5), HD);
    drop(old);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_stall_is_told_and_pictures_that_come_back_are_shown() {
    let webcam = Webcam::plug_in(NAME);
    let mut viewer = view(NAME, HD);
    for _ in 0..2 {
        webcam.stall(true);
        assert_eq!(viewer.event(), SourceEvent::Stalled);
        webcam.stall(false);
        assert_filmed(&viewer.pictures(5), HD);
        assert_eq!(viewer.other_events(), []);
    }
    viewer.close();
    assert_let_go(&webcam);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_that_stays_stalled_is_given_up_and_set_free() {
    let webcam = Webcam::plug_in(NAME);
    let viewer = view(NAME, HD);
    webcam.stall(true);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    assert_given_up(&viewer.event());
    // Without anybody dropping the source.
    assert_let_go(&webcam);
    webcam.stall(false);
    assert_filmed(&view(NAME, HD).pictures(5), HD);
    assert_eq!(viewer.other_events(), []);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_stalled_webcam_is_dropped_at_once_and_set_free() {
    let webcam = Webcam::plug_in(NAME);
    let mut viewer = view(NAME, HD);
    webcam.stall(true);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    assert!(viewer.close() < AT_ONCE);
    assert_let_go(&webcam);
    webcam.stall(false);
    assert_filmed(&view(NAME, HD).pictures(5), HD);
    assert_eq!(viewer.other_events(), []);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_that_is_dropped_while_stalled_can_be_opened_at_once() {
    let webcam = Webcam::plug_in(NAME);
    let mut viewer = view(NAME, HD);
    webcam.stall(true);
    // The reader waits for a picture now.
    thread::sleep(Duration::from_millis(500));
    assert!(viewer.close() < AT_ONCE);
    webcam.stall(false);
    assert_filmed(&view(NAME, HD).pictures(5), HD);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_that_never_films_is_given_up_and_set_free() {
    let webcam = Webcam::plug_in(NAME);
    webcam.stall(true);
    let viewer = Viewer::open(NAME, HD);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    assert_given_up(&viewer.event());
    assert_let_go(&webcam);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_stalled_webcam_that_is_unplugged_is_lost() {
    let webcam = Webcam::plug_in(NAME);
    let viewer = view(NAME, HD);
    webcam.stall(true);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    drop(webcam);
    assert_eq!(viewer.event(), unplugged(NAME));
    wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_that_answers_nothing_holds_nobody() {
    let webcam = Webcam::plug_in(NAME);
    let mut viewer = view(NAME, HD);
    webcam.deafen(true);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    assert!(viewer.close() < AT_ONCE);
    wait_for("the camera's threads and descriptors to be gone", nothing_is_left);

    // It does not answer while it is opened either; each question costs the kernel seconds.
    let mut viewer = Viewer::open(NAME, HD);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    assert!(viewer.close() < AT_ONCE);
    wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
    let viewer = Viewer::open(NAME, HD);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    assert_given_up(&viewer.event());
    wait_for("the camera's threads and descriptors to be gone", nothing_is_left);

    webcam.deafen(false);
    assert_filmed(&view(NAME, HD).pictures(5), HD);
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_left_at_a_broken_rate_is_set_to_a_whole_one() {
    let webcam = Webcam::plug_in(NAME);
    let node = webcam.node().expect("a node");
    let formats =
        ["width=1280,height=720,pixelformat=MJPG", "width=640,height=480,pixelformat=YUYV"];
    for format in formats {
        v4l2_ctl(&node, &["--set-fmt-video", format, "--set-parm", "7.5"]);
        let left = v4l2_ctl(&node, &["--get-parm"]);
        assert!(left.contains("7.500"), "the other program did not leave 7.5: {left}");
        let mut viewer = Viewer::open(NAME, HD);
        let started =
            SourceEvent::Started { name: NAME.into(), width: 1280, height: 720, fps: 30.0 };
        assert_eq!(viewer.event(), started);
        assert_eq!(webcam.filming(), Some(HD_AT_30));
        assert_filmed(&viewer.pictures(5), HD);
        viewer.close();
        assert_let_go(&webcam);
    }
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn a_webcam_that_another_program_films_with_is_busy_until_it_ends() {
    let webcam = Webcam::plug_in(NAME);
    let other = OtherProgram::film(&webcam);
    let viewer = Viewer::open(NAME, HD);
    assert_eq!(viewer.event(), SourceEvent::Lost(SourceError::Busy(NAME.into())));
    wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
    drop(other);
    assert_filmed(&view(NAME, HD).pictures(5), HD);
}

/// Vivid films white, yellow, cyan, green, magenta, red, blue and black bars, with text over them.
#[track_caller]
fn assert_bars(pictures: &[Picture], wish: CameraFormatWish) {
    for picture in pictures {
        assert_eq!((picture.width, picture.height), (wish.width, wish.height));
        let bars = picture.columns;
        let falls = bars.windows(2).all(|pair| pair[0][0] > pair[1][0]);
        let (red, blue) = (bars[5], bars[6]);
        let coloured = red[2] > 200 && red[1] < 128 && blue[1] > 200 && blue[2] < 128;
        let grey = [bars[0], bars[7]].iter().all(|bar| near([0, bar[1], bar[2]], [0, 128, 128]));
        assert!(falls && coloured && grey, "{bars:?}");
    }
    let different: BTreeSet<_> = pictures.iter().map(|picture| picture.sum).collect();
    assert!(different.len() > pictures.len() / 2, "the same picture again and again");
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn another_driver_gives_its_layouts_and_rates() {
    let layouts = [("YUYV", VGA.width, VGA.height, 25), ("NV12", HD.width, HD.height, 10)];
    for (layout, width, height, fps) in layouts {
        // What another program leaves, here 12.5 a second.
        v4l2_ctl(VIVID_NODE, &["--set-fmt-video", "width=1280,height=720", "--set-parm", "12.5"]);
        let mut viewer = view(VIVID, CameraFormatWish { width, height, fps });
        let set = v4l2_ctl(VIVID_NODE, &["--get-fmt-video", "--get-parm"]);
        assert!(set.contains(layout) && set.contains(&format!("{fps}.000")), "{set}");
        assert_bars(&viewer.pictures(10), CameraFormatWish { width, height, fps });
        viewer.close();
        wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
    }
}

#[test]
#[ignore = "needs a camera driver: make test-camera"]
fn another_driver_that_stalls_lets_go_too() {
    let wish = CameraFormatWish { fps: 25, ..VGA };
    let drop_buffers = |percentage: u32| {
        let control = format!("percentage_of_dropped_buffers={percentage}");
        v4l2_ctl(VIVID_NODE, &["-c", &control]);
    };
    let mut viewer = view(VIVID, wish);
    drop_buffers(100);
    assert_eq!(viewer.event(), SourceEvent::Stalled);
    assert!(viewer.close() < AT_ONCE);
    wait_for("the camera's threads and descriptors to be gone", nothing_is_left);
    drop_buffers(0);
    assert_bars(&view(VIVID, wish).pictures(5), wish);
}
