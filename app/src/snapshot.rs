//! What the window shows, and what it asks for. The engine publishes a [`Snapshot`] after each
//! change; the window sends [`Command`]s and knows nothing else of the program.

use std::sync::Arc;
use std::time::Instant;

use visavis_media::devices::DeviceList;
use visavis_media::frame::Frame;
use visavis_media::slot::Slot;

use crate::settings::Settings;

/// Everything the window needs to draw itself. Cheap to clone.
#[derive(Clone, Debug, Default)]
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
    /// The local microphone.
    pub microphone: DeviceState,
    /// The local speaker.
    pub speaker: DeviceState,
    /// Loudness of the microphone now, dBFS (0 loudest, -60 and below silence).
    pub microphone_dbfs: f32,
    /// The other person, while there is one.
    pub peer: Option<Peer>,
    /// Something to tell, as a sentence that says what to do. Newest last; each has an id by
    /// which it is dismissed.
    pub notices: Vec<Notice>,
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
    },
    /// The path or the server was lost; trying again.
    Reconnecting {
        /// The room's name.
        room: String,
    },
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
    /// Join by a link (`http://HOST/room/NAME`), or by room name if `server` is given.
    Join {
        /// A link, or a room's name.
        target: String,
        /// The server for a bare room name, e.g. `http://192.168.1.7:8080`.
        server: Option<String>,
    },
    /// Leave the call (or stop waiting or trying); back to the lobby.
    HangUp,
    /// Microphone on or off.
    SetMicrophone(bool),
    /// Camera on or off; off closes the device.
    SetCamera(bool),
    /// Use this camera (its id; `None`: the default), from now on.
    ChooseCamera(Option<String>),
    /// Use this microphone (its id), from now on.
    ChooseMicrophone(Option<String>),
    /// Use this speaker (its id), from now on.
    ChooseSpeaker(Option<String>),
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
