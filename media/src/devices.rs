//! Cameras, microphones and speakers by their names.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::sound::host;
use crate::source::{DeviceSelector, camera};

/// What is plugged in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceList {
    /// Cameras, the default first.
    pub cameras: Vec<Device>,
    /// Microphones, the default first.
    pub microphones: Vec<Device>,
    /// Speakers, the default first.
    pub speakers: Vec<Device>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// Names it for the program: stable while it stays plugged in.
    pub id: String,
    /// Names it for people.
    pub name: String,
    /// The system's choice.
    pub default: bool,
}

/// A frozen sound server or driver costs a list no more than this.
const LIST_LIMIT: Duration = Duration::from_secs(4);

/// Lists what is plugged in; prints nothing. Takes up to 4 s where a sound server or driver does
/// not answer (its part of the list is then empty), so call it on a thread of its own.
pub fn list() -> DeviceList {
    let deadline = Instant::now() + LIST_LIMIT;
    let cameras = ask("list-cameras", camera::list);
    let sound = ask("list-sound", host::list);
    let cameras = answer(&cameras, deadline);
    let (microphones, speakers) = answer(&sound, deadline);
    DeviceList { cameras, microphones, speakers }
}

/// Asks on a thread that is left behind if it never answers.
fn ask<T: Send + 'static>(
    name: &str,
    question: impl FnOnce() -> T + Send + 'static,
) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    let spawned = thread::Builder::new().name(name.into()).spawn(move || {
        // Nobody listens any more after the deadline.
        let _ = sender.send(question());
    });
    if let Err(error) = spawned {
        tracing::warn!("cannot list devices: {error}");
    }
    receiver
}

fn answer<T: Default>(receiver: &mpsc::Receiver<T>, deadline: Instant) -> T {
    let left = deadline.saturating_duration_since(Instant::now());
    receiver.recv_timeout(left).unwrap_or_else(|_| {
        tracing::warn!("a device or the sound server does not answer");
        T::default()
    })
}

/// Which of `devices` is meant: by name, the one whose id equals it, else whose name equals it,
/// else the first whose name contains it (case ignored).
pub fn resolve(selector: &DeviceSelector, devices: &[Device]) -> Option<usize> {
    match selector {
        DeviceSelector::Default => devices
            .iter()
            .position(|device| device.default)
            .or(if devices.is_empty() { None } else { Some(0) }),
        DeviceSelector::Index(index) => (*index < devices.len()).then_some(*index),
        DeviceSelector::Name(name) => {
            let wanted = name.trim().to_lowercase();
            if wanted.is_empty() {
                return None;
            }
            let names: Vec<String> =
                devices.iter().map(|device| device.name.trim().to_lowercase()).collect();
            devices
                .iter()
                .position(|device| device.id == name.trim())
                .or_else(|| names.iter().position(|name| *name == wanted))
                .or_else(|| names.iter().position(|name| name.contains(&wanted)))
        }
    }
}

/// What was asked for, for an error.
pub(crate) fn wanted(selector: &DeviceSelector) -> String {
    match selector {
        DeviceSelector::Default => "default".into(),
        DeviceSelector::Name(name) => name.clone(),
        DeviceSelector::Index(index) => index.to_string(),
    }
}

/// What there is, for an error: quoted names, or "none".
pub(crate) fn available(devices: &[Device]) -> String {
    if devices.is_empty() {
        return "none".into();
    }
    let names: Vec<String> = devices.iter().map(|device| format!("\"{}\"", device.name)).collect();
    names.join(", ")
}

/// Puts the default first (where the system chose none, the first is it) and tells devices of
/// the same name apart: "Webcam", "Webcam (2)".
pub(crate) fn arrange(mut devices: Vec<Device>) -> Vec<Device> {
    devices.sort_by_key(|device| !device.default);
    if let Some(first) = devices.first_mut() {
        first.default = true;
    }
    for index in 1..devices.len() {
        let (before, rest) = devices.split_at_mut(index);
        let taken = |name: &str| before.iter().any(|device| device.name == name);
        let Some(device) = rest.first_mut() else {
            break;
        };
        if !taken(&device.name) {
            continue;
        }
        let numbered = (2..).map(|number| format!("{} ({number})", device.name));
        if let Some(free) = numbered.into_iter().find(|name| !taken(name)) {
            device.name = free;
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, name: &str, default: bool) -> Device {
        Device { id: id.into(), name: name.into(), default }
    }

    fn named(name: &str) -> DeviceSelector {
        DeviceSelector::Name(name.into())
    }

    #[test]
    fn the_default_is_the_systems_choice_else_the_first() {
        let mut devices = [device("a", "Old", false), device("b", "New", true)];
        assert_eq!(resolve(&DeviceSelector::Default, &devices), Some(1));
        devices[1].default = false;
        assert_eq!(resolve(&DeviceSelector::Default, &devices), Some(0));
        assert_eq!(resolve(&DeviceSelector::Default, &[]), None);
    }

    #[test]
    fn an_id_goes_before_a_name_and_a_whole_name_before_a_part() {
        let devices = [
            device("x", "USB Headset Pro", false),
            device("y", "USB Headset", false),
            device("usb headset", "Other", false),
        ];
        assert_eq!(resolve(&named("usb headset"), &devices), Some(2));
        assert_eq!(resolve(&named("USB HEADSET"), &devices), Some(1));
        assert_eq!(resolve(&named("headset p"), &devices), Some(0));
        assert_eq!(resolve(&named(" other "), &devices), Some(2));
    }

    #[test]
    fn case_is_ignored_beyond_ascii() {
        assert_eq!(resolve(&named("ÜBER"), &[device("x", "Mikrofon über USB", false)]), Some(0));
    }

    #[test]
    fn what_does_not_exist_is_not_found() {
        let devices = [device("x", "Webcam", true)];
        for selector in [named("Kinect"), named(""), named("  "), DeviceSelector::Index(1)] {
            assert_eq!(resolve(&selector, &devices), None, "{selector:?}");
        }
        assert_eq!(resolve(&DeviceSelector::Index(0), &devices), Some(0));
    }

    #[test]
    fn devices_of_one_name_are_told_apart_and_the_default_comes_first() {
        let arranged = arrange(vec![
            device("0", "Cam", false),
            device("1", "Cam (2)", false),
            device("2", "Cam", false),
            device("3", "Cam", true),
        ]);
        let listed: Vec<_> =
            arranged.iter().map(|device| (device.id.as_str(), device.name.as_str())).collect();
        assert_eq!(
            listed,
            [("3", "Cam"), ("0", "Cam (2)"), ("1", "Cam (2) (2)"), ("2", "Cam (3)")]
        );
    }

    #[test]
    fn where_the_system_chose_nothing_the_first_is_the_default() {
        let arranged = arrange(vec![device("0", "A", false), device("1", "B", false)]);
        assert_eq!(arranged, [device("0", "A", true), device("1", "B", false)]);
        assert_eq!(arrange(Vec::new()), []);
    }

    #[test]
    fn an_error_can_say_what_there_is() {
        assert_eq!(available(&[]), "none");
        let devices = [device("x", "One", false), device("y", "Two", false)];
        assert_eq!(available(&devices), "\"One\", \"Two\"");
    }
}
