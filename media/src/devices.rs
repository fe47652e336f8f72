//! Cameras, microphones and speakers by their names.

use serde::Serialize;

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
