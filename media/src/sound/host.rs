//! Which sound system to use and what is plugged into it.
//!
//! On Linux: the PulseAudio protocol (PipeWire speaks it too), chosen by `PULSE_SERVER` or the
//! session; where no server runs, ALSA's hardware, never ALSA's `default` or `pulse`, which lead
//! back to a server. Elsewhere: the system's own.

#[cfg(target_os = "linux")]
mod alsa;
mod format;
mod gaps;
mod resample;
mod stream;

use cpal::traits::{DeviceTrait, HostTrait};

pub(super) use self::format::{BLOCK, Format};
pub(super) use self::resample::Resampler;
pub(super) use self::stream::{Beats, Keep, start};
use super::SoundError;
use crate::devices::{self, Device};
use crate::source::DeviceSelector;

/// To or from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Input,
    Output,
}

impl Direction {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Input => "microphone",
            Self::Output => "speaker",
        }
    }
}

/// The microphones and the speakers, each with the default first. Monitors of speakers are not
/// microphones and stay out. Prints nothing; blocks up to 2 s (and, where the sound server froze
/// half-way, for ever: see [`devices::list`]).
pub fn list() -> (Vec<Device>, Vec<Device>) {
    let Ok(system) = System::connect() else {
        return Default::default();
    };
    let listed = |direction| -> Vec<Device> {
        system.endpoints(direction).into_iter().map(|endpoint| endpoint.info).collect()
    };
    (listed(Direction::Input), listed(Direction::Output))
}

/// A device with its names.
pub(super) struct Endpoint {
    pub(super) device: cpal::Device,
    pub(super) info: Device,
}

/// A connection to the sound system.
pub(super) struct System {
    host: cpal::Host,
    /// A server may move a stream to another device without a word.
    moves_streams: bool,
}

impl System {
    /// Connects, waiting up to 2 s for a server.
    ///
    /// # Errors
    /// What the system said.
    #[cfg(target_os = "linux")]
    pub(super) fn connect() -> Result<Self, String> {
        alsa::silence();
        match cpal::host_from_id(cpal::HostId::PulseAudio) {
            Ok(host) => {
                return Ok(Self { host, moves_streams: true });
            }
            // It runs (and holds the hardware) but does not answer.
            Err(error) if error.to_string().contains("timed out") => {
                return Err("the sound server does not answer: restart it".into());
            }
            Err(error) => tracing::debug!("no sound server: {error}"),
        }
        cpal::host_from_id(cpal::HostId::Alsa)
            .map(|host| Self { host, moves_streams: false })
            .map_err(|error| error.to_string())
    }

    /// Connects.
    ///
    /// # Errors
    /// None: the system's own host is always there.
    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn connect() -> Result<Self, String> {
        Ok(Self { host: cpal::default_host(), moves_streams: false })
    }

    /// The devices of one direction, the default first.
    pub(super) fn endpoints(&self, direction: Direction) -> Vec<Endpoint> {
        let Ok(found) = self.host.devices() else {
            return Vec::new();
        };
        let chosen = match direction {
            Direction::Input => self.host.default_input_device(),
            Direction::Output => self.host.default_output_device(),
        };
        let chosen = chosen.and_then(|device| device.id().ok());
        let mut found: Vec<(cpal::Device, Device)> = found
            .filter_map(|device| {
                let id = device.id().ok()?;
                let description = device.description().ok()?;
                let fits = match direction {
                    Direction::Input => device.supports_input(),
                    Direction::Output => device.supports_output(),
                };
                let default = chosen.as_ref() == Some(&id);
                let name = description.name().trim().to_owned();
                let info = Device { id: id.id().to_owned(), name, default };
                (fits && self.is_real(&info.id, direction)).then_some((device, info))
            })
            .collect();
        if !self.moves_streams {
            // Nobody chose: what people listen to goes before a display's speakers.
            found.sort_by_key(|(_, info)| is_display(&info.name));
        }
        let arranged =
            devices::arrange(found.iter().map(|(_, info)| info.clone()).collect::<Vec<_>>());
        arranged
            .into_iter()
            .filter_map(|info| {
                let device = found.iter().find(|(_, found)| found.id == info.id)?.0.clone();
                Some(Endpoint { device, info })
            })
            .collect()
    }

    fn is_real(&self, id: &str, direction: Direction) -> bool {
        if cfg!(target_os = "linux") {
            if self.moves_streams { !is_monitor(id, direction) } else { is_hardware(id) }
        } else {
            true
        }
    }

    /// The device that is meant.
    ///
    /// # Errors
    /// When there is none, or none of this name.
    pub(super) fn choose(
        &self,
        direction: Direction,
        selector: &DeviceSelector,
    ) -> Result<Endpoint, SoundError> {
        let kind = direction.kind();
        let mut endpoints = self.endpoints(direction);
        if endpoints.is_empty() {
            return Err(SoundError::NoDevice { kind });
        }
        let listed: Vec<Device> = endpoints.iter().map(|endpoint| endpoint.info.clone()).collect();
        devices::resolve(selector, &listed).map(|index| endpoints.swap_remove(index)).ok_or_else(
            || SoundError::UnknownDevice {
                kind,
                wanted: devices::wanted(selector),
                available: devices::available(&listed),
            },
        )
    }

    /// False once a device that a stream was opened on is certainly gone. A sound server then
    /// plays on elsewhere, and a microphone may have become a speaker's monitor: an echo.
    fn still_has(&self, id: &str) -> bool {
        if !self.moves_streams {
            return true;
        }
        // Where the server itself is gone, the stream says so.
        let Ok(mut all) = self.host.devices() else {
            return true;
        };
        all.any(|device| device.id().is_ok_and(|found| found.id() == id))
    }
}

/// PulseAudio and PipeWire name what a speaker plays `SINK.monitor`.
fn is_monitor(id: &str, direction: Direction) -> bool {
    direction == Direction::Input && id.ends_with(".monitor")
}

/// Of the dozen names ALSA has for one card, the numbered one with conversions.
fn is_hardware(id: &str) -> bool {
    let numbers = id.strip_prefix("plughw:CARD=").and_then(|rest| rest.split_once(",DEV="));
    numbers.is_some_and(|(card, device)| {
        [card, device].iter().all(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn is_display(name: &str) -> bool {
    name.contains("HDMI") || name.contains("DisplayPort")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speakers_in_a_display_come_last() {
        assert!(is_display("HDA Intel PCH, HDMI 0"));
        assert!(!is_display("HDA Intel PCH, ALC257 Analog"));
    }

    #[test]
    fn a_monitor_is_a_microphone_to_nobody() {
        assert!(is_monitor("alsa_output.pci-0000_00_1f.3.analog-stereo.monitor", Direction::Input));
        assert!(!is_monitor("alsa_input.usb-Blue_Yeti-00.analog-stereo", Direction::Input));
        assert!(!is_monitor("odd.monitor", Direction::Output));
    }

    #[test]
    fn of_alsas_names_only_numbered_hardware_is_kept() {
        assert!(is_hardware("plughw:CARD=0,DEV=0"));
        assert!(is_hardware("plughw:CARD=12,DEV=3"));
        for junk in [
            "default",
            "pulse",
            "null",
            "jack",
            "oss",
            "samplerate",
            "speexrate",
            "upmix",
            "hw:CARD=0,DEV=0",
            "plughw:CARD=PCH,DEV=0",
            "sysdefault:CARD=PCH",
            "front:CARD=0,DEV=0",
            "plughw:CARD=,DEV=0",
            "plughw:CARD=0,DEV=",
        ] {
            assert!(!is_hardware(junk), "{junk}");
        }
    }
}
