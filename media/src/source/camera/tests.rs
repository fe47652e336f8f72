use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use super::node::canonical;
use super::reader::{captured_at, classify};
use super::*;

#[test]
fn a_drivers_message_becomes_the_right_error() {
    let name = || "Webcam".to_owned();
    let cases = [
        (
            "Could not open device stream: Device or resource busy (os error 16)",
            SourceError::Busy(name()),
        ),
        ("V4L2 Error: Permission denied (os error 13)", SourceError::Denied(name())),
        ("Could not capture frame: No such device (os error 19)", SourceError::Unplugged(name())),
        (
            "Could not open device 3: No such file or directory (os error 2)",
            SourceError::Unplugged(name()),
        ),
    ];
    for (message, wanted) in cases {
        assert_eq!(classify("Webcam", message), wanted);
    }
    let odd = "Could not set device property: Invalid argument (os error 22)";
    assert_eq!(classify("Webcam", odd), SourceError::Camera { name: name(), reason: odd.into() });
}

#[test]
fn the_moment_of_capture_is_before_now_and_nonsense_is_ignored() {
    let now = Instant::now();
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    assert_eq!(captured_at(None, now), now);
    assert_eq!(captured_at(Some(wall + Duration::from_secs(60)), now), now);
    assert_eq!(captured_at(Some(Duration::from_secs(5)), now), now);
    let age = now - captured_at(Some(wall - Duration::from_millis(40)), now);
    assert!(age >= Duration::from_millis(40) && age < Duration::from_secs(2), "{age:?}");
}

#[test]
fn a_camera_that_does_not_exist_is_lost_with_the_reason() {
    let (sender, receiver) = mpsc::channel();
    let events: SourceEvents = Arc::new(move |event| {
        let _ = sender.send(event);
    });
    let frames: FrameSink = Arc::new(|_| {});
    let selector = DeviceSelector::Name("no such camera anywhere".into());
    let source = open(&selector, CameraFormatWish::default(), frames, events);
    let event = receiver.recv_timeout(Duration::from_secs(20)).expect("an event");
    let wanted = matches!(
        &event,
        SourceEvent::Lost(SourceError::NoCamera | SourceError::UnknownCamera { .. })
    );
    assert!(wanted, "{event:?}");
    drop(source);
}

#[test]
fn a_source_dropped_at_once_tells_nothing_and_holds_no_thread() {
    let gone = Arc::new(Slot::<()>::new());
    struct Signal(Arc<Slot<()>>);
    impl Drop for Signal {
        fn drop(&mut self) {
            self.0.put(());
        }
    }
    let signal = Signal(Arc::clone(&gone));
    let frames: FrameSink = Arc::new(move |_| {
        let _ = &signal;
    });
    drop(open(&DeviceSelector::Default, CameraFormatWish::default(), frames, Arc::new(|_| {})));
    // The sink is freed when the keeper ends.
    assert!(gone.wait(Duration::from_secs(20)).is_some(), "the camera's thread never ended");
}

#[test]
fn links_to_a_node_are_followed_and_names_are_left_alone() {
    let named = |name: &str| DeviceSelector::Name(name.into());
    assert_eq!(canonical(&named("/dev/../dev/null")), named("/dev/null"));
    assert_eq!(canonical(&named("/dev/nothing here")), named("/dev/nothing here"));
    assert_eq!(canonical(&named("Webcam")), named("Webcam"));
}
