//! What the window shows, and what it asks for. The engine publishes a [`Snapshot`] after each
//! change; the window sends [`Command`]s and knows nothing else of the program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use visavis_media::devices::DeviceList;
use visavis_media::frame::Frame;
use visavis_media::slot::{Slot, WakeHook};
use visavis_media::sound::processing::Processing;
use visavis_signaling::Fingerprint;

use crate::settings::Settings;

/// Everything the window needs to draw itself. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Where the call stands.
    pub phase: Phase,
    /// Cameras, microphones and speakers, as last listed.
    pub devices: Arc<DeviceList>,
    /// Settings as the engine has them (device choices, name, language, last rooms).
    pub settings: Arc<Settings>,
    /// The room name proposed for the next hosted call.
    pub proposed_room: String,
    /// The local camera: off, starting, on, or failed and why.
    pub camera: DeviceState,
    /// The screen, while it is shared instead of the camera.
    pub screen: DeviceState,
    /// The local microphone.
    pub microphone: DeviceState,
    /// The local speaker.
    pub speaker: DeviceState,
    /// Loudness of the microphone now, dBFS (0 loudest, -60 and below silence).
    pub microphone_dbfs: f32,
    /// Our link is too narrow for pictures just now: the other person only hears us.
    pub pictures_paused: bool,
    /// The other person, while there is one.
    pub peer: Option<Peer>,
    /// A server that nobody known vouches for: the user decides.
    pub stranger: Option<Stranger>,
    /// Something to tell, as a sentence that says what to do. Newest last; each has an id by
    /// which it is dismissed.
    pub notices: Vec<Notice>,
}

/// How many steps the level meter has.
pub const METER_STEPS: u8 = 24;

impl Snapshot {
    /// The microphone's loudness as steps of the meter, 0 (silence) to [`METER_STEPS`].
    pub fn meter(&self) -> u8 {
        if !matches!(self.microphone, DeviceState::On(_)) || self.microphone_dbfs.is_nan() {
            return 0;
        }
        let share = ((self.microphone_dbfs + 60.0) / 60.0).clamp(0.0, 1.0);
        (share * f32::from(METER_STEPS)).round() as u8
    }

    /// Whether the window would draw `other` the same way.
    fn looks_like(&self, other: &Self) -> bool {
        let level = other.microphone_dbfs;
        self.meter() == other.meter() && *other == Self { microphone_dbfs: level, ..self.clone() }
    }
}

/// The newest [`Snapshot`], shared by the engine (which publishes) and the window (which
/// looks, and is woken when there is something new to see). Clones share one cell.
#[derive(Clone, Default)]
pub struct Shared {
    inner: Arc<Mutex<SharedInner>>,
}

#[derive(Default)]
struct SharedInner {
    snapshot: Arc<Snapshot>,
    version: u64,
    wake: Option<WakeHook>,
    closing: bool,
}

impl Shared {
    /// A cell holding `snapshot`.
    pub fn new(snapshot: Snapshot) -> Self {
        let shared = Self::default();
        shared.publish(snapshot);
        shared
    }

    /// Replaces the snapshot and wakes the window, unless it would look the same: a level that
    /// moves within one step of the meter costs no repaint.
    pub fn publish(&self, snapshot: Snapshot) {
        let wake = {
            let mut inner = self.lock();
            let same = inner.snapshot.looks_like(&snapshot);
            inner.snapshot = Arc::new(snapshot);
            if same {
                return;
            }
            inner.version += 1;
            inner.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock().snapshot)
    }

    /// Counts the changes that can be seen.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Asks the window to close, as if the user had closed it.
    pub fn close(&self) {
        let wake = {
            let mut inner = self.lock();
            inner.closing = true;
            inner.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Whether the window was asked to close.
    pub fn closing(&self) -> bool {
        self.lock().closing
    }

    /// Replaces the hook that runs after each visible change, on the publisher's thread.
    pub fn set_wake(&self, hook: Option<WakeHook>) {
        self.lock().wake = hook;
    }

    fn lock(&self) -> MutexGuard<'_, SharedInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the call stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Phase {
    /// No call.
    #[default]
    Lobby,
    /// Reaching the server, or starting our own.
    Joining {
        /// The room's name.
        room: String,
        /// Both seats are taken, one by somebody who is away: it may soon be free.
        held: bool,
    },
    /// In the room, alone.
    Waiting {
        /// The room's name.
        room: String,
        /// The link to pass on, if this room can be reached by others.
        invite: Option<String>,
    },
    /// The other person is there; media is being set up.
    Connecting {
        /// The room's name.
        room: String,
    },
    /// Pictures and sound flow.
    InCall {
        /// The room's name.
        room: String,
        /// Since when.
        since: Instant,
        /// The server was lost meanwhile, and is tried again; the call does not need it just
        /// now.
        server_lost: bool,
    },
    /// The path or the server was lost; trying again.
    Reconnecting {
        /// The room's name.
        room: String,
    },
}

impl Phase {
    /// Whether there is (or just was) somebody at the other end.
    pub fn with_peer(&self) -> bool {
        matches!(self, Self::Connecting { .. } | Self::InCall { .. } | Self::Reconnecting { .. })
    }
}

/// The other person.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// The name they gave, already trimmed and limited; empty if none.
    pub name: String,
    /// Whether their microphone is on.
    pub audio: bool,
    /// Whether their camera is on. Off shows a placeholder, not a frozen picture.
    pub video: bool,
    /// Their link is too narrow for pictures just now.
    pub paused: bool,
    /// Their pictures are of their screen: to be seen whole.
    pub screen: bool,
}

/// A server that nobody the system trusts vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its address.
    pub server: String,
    /// Of its key.
    pub fingerprint: Fingerprint,
}

/// A local device.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum DeviceState {
    /// Switched off by the user: closed.
    #[default]
    Off,
    /// Opening.
    Starting,
    /// Delivering. What it calls itself, e.g. `Integrated Camera (1280x720)`.
    On(String),
    /// Wanted, but not to be had: a sentence that says what to do.
    Failed(String),
}

impl DeviceState {
    /// Whether the user wants the device on, working or not.
    pub fn wanted(&self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// A sentence for the user.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// By which it is dismissed.
    pub id: u64,
    /// An error, or just news.
    pub error: bool,
    /// The sentence.
    pub text: String,
}

/// What the window asks the engine for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start a call here: our own server, this room.
    Host {
        /// The room's name.
        room: String,
    },
    /// Join by a link (`https://HOST/room/NAME#fp=…`), or by room name if `server` is given.
    Join {
        /// A link, or a room's name.
        target: String,
        /// The server for a bare room name, e.g. `https://192.168.1.7:8443`.
        server: Option<String>,
    },
    /// Trust the [`Stranger`] from now on, and join there.
    TrustStranger,
    /// Do not.
    DistrustStranger,
    /// Leave the call (or stop waiting or trying); back to the lobby.
    HangUp,
    /// Microphone on or off.
    SetMicrophone(bool),
    /// Camera on or off; off closes the device.
    SetCamera(bool),
    /// Share the screen instead of the camera, or go back to it.
    ShareScreen(bool),
    /// Use this camera (its id; `None`: the default), from now on.
    ChooseCamera(Option<String>),
    /// Use this microphone (its id), from now on.
    ChooseMicrophone(Option<String>),
    /// Use this speaker (its id), from now on.
    ChooseSpeaker(Option<String>),
    /// What is done to the microphone's sound, from now on.
    SetProcessing(Processing),
    /// The name that the other person sees.
    SetName(String),
    /// The language of the window; `None`: the system's.
    SetLanguage(Option<crate::text::Language>),
    /// List the devices again.
    RefreshDevices,
    /// Propose another room name.
    ProposeRoom,
    /// A notice was read.
    Dismiss(u64),
    /// The window closes.
    Quit,
}

/// The pictures the window shows: newest only.
#[derive(Clone, Default)]
pub struct Pictures {
    /// What the local camera sees.
    pub local: Arc<Slot<Arc<Frame>>>,
    /// What the other person sends.
    pub remote: Arc<Slot<Arc<Frame>>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn with_level(dbfs: f32) -> Snapshot {
        Snapshot {
            microphone: DeviceState::On("Mic".into()),
            microphone_dbfs: dbfs,
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_meter_runs_from_silence_to_full() {
        assert_eq!(with_level(-90.0).meter(), 0);
        assert_eq!(with_level(-30.0).meter(), METER_STEPS / 2);
        assert_eq!(with_level(3.0).meter(), METER_STEPS);
        assert_eq!(with_level(f32::NAN).meter(), 0);
        assert_eq!(Snapshot { microphone_dbfs: 0.0, ..Snapshot::default() }.meter(), 0);
    }

    #[test]
    fn the_window_is_woken_only_by_what_it_would_show() {
        let shared = Shared::default();
        let wakes = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&wakes);
        shared.set_wake(Some(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        })));
        shared.publish(with_level(-30.0));
        shared.publish(with_level(-30.2));
        assert_eq!((wakes.load(Ordering::Relaxed), shared.version()), (1, 1));
        shared.publish(with_level(-20.0));
        assert_eq!((wakes.load(Ordering::Relaxed), shared.version()), (2, 2));
        assert_eq!(shared.latest().meter(), with_level(-20.0).meter());
    }
}
