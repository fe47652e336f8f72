//! Which devices are wanted, which run, and what the window says of them.

use visavis_media::local::{LocalEvent, LocalMedia};
use visavis_media::sound::{AudioSinkSpec, AudioSourceSpec, SoundError};
use visavis_media::source::{DeviceSelector, SourceError, SourceEvent, VideoSourceSpec};

use super::Sources;
use crate::settings::Settings;
use crate::snapshot::{self, Phase};
use crate::text::Language;

/// This end's devices as the user wants them and as they are.
pub(super) struct Devices {
    sources: Sources,
    camera_id: Option<String>,
    microphone_id: Option<String>,
    speaker_id: Option<String>,
    camera_on: bool,
    microphone_on: bool,
    /// Whether devices run in the lobby.
    preview: bool,
    in_call: bool,
    label: String,
    pub(super) camera: DeviceState,
    pub(super) microphone: DeviceState,
    pub(super) speaker: DeviceState,
    /// What the other end was told last.
    pub(super) announced: Option<(bool, bool)>,
}

impl Devices {
    pub(super) fn new(sources: Sources, settings: &Settings, preview: bool) -> Self {
        Self {
            camera_id: settings.camera.clone(),
            microphone_id: settings.microphone.clone(),
            speaker_id: settings.speaker.clone(),
            camera_on: settings.camera_on && sources.video != Some(VideoSourceSpec::None),
            microphone_on: settings.microphone_on && sources.audio != Some(AudioSourceSpec::None),
            sources,
            preview,
            in_call: false,
            label: String::new(),
            camera: DeviceState::Off,
            microphone: DeviceState::Off,
            speaker: DeviceState::Off,
            announced: None,
        }
    }

    /// Back in the lobby, or there for the first time.
    pub(super) fn enter_lobby(&mut self, local: &LocalMedia) {
        self.in_call = false;
        local.close_speaker();
        self.speaker = DeviceState::Off;
        if !self.microphone_on {
            local.close_microphone();
            self.microphone = DeviceState::Off;
        }
        if self.preview {
            self.start_missing(local);
        } else {
            self.camera = DeviceState::Off;
            self.microphone = DeviceState::Off;
            local.set_video(&VideoSourceSpec::None, "");
            local.close_microphone();
        }
    }

    /// A call begins.
    pub(super) fn enter_call(&mut self, local: &LocalMedia, label: String) {
        self.in_call = true;
        let relabel = self.label != label;
        self.label = label;
        if relabel && self.sources.video == Some(VideoSourceSpec::Testcard) && self.camera_on {
            self.start_camera(local);
        }
        self.start_missing(local);
        self.start_speaker(local);
    }

    fn start_missing(&mut self, local: &LocalMedia) {
        if self.camera_on && !matches!(self.camera, DeviceState::On(_) | DeviceState::Starting) {
            self.start_camera(local);
        }
        let running = matches!(self.microphone, DeviceState::On(_) | DeviceState::Starting);
        if self.microphone_on && !running {
            self.start_microphone(local);
        }
    }

    pub(super) fn set_camera(&mut self, local: &LocalMedia, on: bool) {
        self.camera_on = on;
        if !on {
            // Closes the device: its light goes out.
            local.set_video(&VideoSourceSpec::None, "");
            self.camera = DeviceState::Off;
        } else if self.in_call || self.preview {
            self.start_camera(local);
        }
    }

    /// In a call a muted microphone stays open, so that unmuting is instant and never fails.
    pub(super) fn set_microphone(&mut self, local: &LocalMedia, on: bool, phase: &Phase) {
        self.microphone_on = on;
        match (on, &self.microphone) {
            (true, DeviceState::On(_) | DeviceState::Starting) => {}
            (true, _) => self.start_microphone(local),
            (false, _) if *phase == Phase::Lobby => {
                local.close_microphone();
                self.microphone = DeviceState::Off;
            }
            (false, _) => {}
        }
    }

    pub(super) fn choose_camera(&mut self, local: &LocalMedia, id: Option<String>) {
        self.camera_id = id;
        self.sources.video = None;
        if self.camera_on && (self.in_call || self.preview) {
            self.start_camera(local);
        }
    }

    pub(super) fn choose_microphone(&mut self, local: &LocalMedia, id: Option<String>) {
        self.microphone_id = id;
        self.sources.audio = None;
        // A muted one of a call is open as well.
        if self.microphone != DeviceState::Off {
            self.start_microphone(local);
        }
    }

    pub(super) fn choose_speaker(&mut self, local: &LocalMedia, id: Option<String>) {
        self.speaker_id = id;
        self.sources.sink = None;
        if self.in_call {
            self.start_speaker(local);
        }
    }

    fn start_camera(&mut self, local: &LocalMedia) {
        let spec = self
            .sources
            .video
            .clone()
            .unwrap_or_else(|| VideoSourceSpec::Camera(selector(self.camera_id.as_deref())));
        self.camera = match spec {
            VideoSourceSpec::None => DeviceState::Off,
            _ => DeviceState::Starting,
        };
        local.set_video(&spec, &self.label);
    }

    fn start_microphone(&mut self, local: &LocalMedia) {
        let spec = self
            .sources
            .audio
            .clone()
            .unwrap_or_else(|| AudioSourceSpec::Mic(selector(self.microphone_id.as_deref())));
        local.set_microphone(&spec);
        self.microphone = match spec {
            AudioSourceSpec::None => DeviceState::Off,
            _ => DeviceState::Starting,
        };
    }

    fn start_speaker(&mut self, local: &LocalMedia) {
        let spec = self
            .sources
            .sink
            .clone()
            .unwrap_or_else(|| AudioSinkSpec::Speaker(selector(self.speaker_id.as_deref())));
        self.speaker = DeviceState::Starting;
        local.set_speaker(&spec);
    }

    /// Takes what a device tells; returns what went wrong, if something did.
    pub(super) fn handle(&mut self, event: LocalEvent) -> Option<Fault> {
        // What was switched off may have spoken just before.
        let (camera_off, microphone_off, speaker_off) = (
            self.camera == DeviceState::Off,
            self.microphone == DeviceState::Off,
            self.speaker == DeviceState::Off,
        );
        let (device, asked, error) = match event {
            LocalEvent::Video(_) if camera_off => return None,
            LocalEvent::MicrophoneStarted(_) | LocalEvent::MicrophoneLost(_) if microphone_off => {
                return None;
            }
            LocalEvent::SpeakerStarted(_) | LocalEvent::SpeakerLost(_) if speaker_off => {
                return None;
            }
            LocalEvent::Video(SourceEvent::Started { name, width, height, .. }) => {
                self.camera = DeviceState::On(format!("{name} ({width}\u{d7}{height})"));
                return None;
            }
            LocalEvent::MicrophoneStarted(name) => {
                self.microphone = DeviceState::On(name);
                return None;
            }
            LocalEvent::SpeakerStarted(name) => {
                self.speaker = DeviceState::On(name);
                return None;
            }
            LocalEvent::Video(SourceEvent::Stalled) => {
                return Some(Fault { error: DeviceError::CameraStalled, asked: false });
            }
            LocalEvent::Video(SourceEvent::Lost(error)) => {
                (&mut self.camera, self.sources.video.is_some(), DeviceError::Source(error))
            }
            LocalEvent::MicrophoneLost(error) => {
                (&mut self.microphone, self.sources.audio.is_some(), DeviceError::Sound(error))
            }
            LocalEvent::SpeakerLost(error) => {
                (&mut self.speaker, self.sources.sink.is_some(), DeviceError::Sound(error))
            }
        };
        let never_came = *device == DeviceState::Starting;
        *device = DeviceState::Failed(error.clone());
        Some(Fault { error, asked: asked && never_came })
    }

    /// Whether camera and microphone are there, or known to be absent.
    pub(super) fn settled(&self) -> bool {
        self.camera != DeviceState::Starting && self.microphone != DeviceState::Starting
    }

    /// The microphone as the window shows it: a muted one is off, though it stays open.
    pub(super) fn microphone_shown(&self, language: Language) -> snapshot::DeviceState {
        if self.microphone_on {
            self.microphone.shown(language)
        } else {
            snapshot::DeviceState::Off
        }
    }

    /// What the other end may expect: sound, pictures.
    pub(super) fn sending(&self) -> (bool, bool) {
        let audio = self.microphone_on && matches!(self.microphone, DeviceState::On(_));
        (audio, matches!(self.camera, DeviceState::On(_)))
    }

    /// Whether someone looks at the level meter.
    pub(super) fn metering(&self, phase: &Phase) -> bool {
        self.preview && *phase == Phase::Lobby && matches!(self.microphone, DeviceState::On(_))
    }
}

/// A device of ours as the engine knows it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DeviceState {
    Off,
    Starting,
    On(String),
    Failed(DeviceError),
}

impl DeviceState {
    /// As the window shows it.
    pub(super) fn shown(&self, language: Language) -> snapshot::DeviceState {
        match self {
            Self::Off => snapshot::DeviceState::Off,
            Self::Starting => snapshot::DeviceState::Starting,
            Self::On(name) => snapshot::DeviceState::On(name.clone()),
            Self::Failed(error) => snapshot::DeviceState::Failed(error.sentence(language)),
        }
    }
}

/// What is wrong with a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DeviceError {
    Source(SourceError),
    Sound(SoundError),
    CameraStalled,
}

impl DeviceError {
    /// What is wrong, and what to do.
    pub(super) fn sentence(&self, language: Language) -> String {
        match (self, language) {
            (Self::Source(error), _) => language.words().source_error(error),
            (Self::Sound(error), _) => language.words().sound_error(error),
            (Self::CameraStalled, Language::English) => {
                "The camera has stopped delivering pictures: check its cable.".to_owned()
            }
            (Self::CameraStalled, Language::Chinese) => {
                "摄像头停止传送画面：请检查连接线。".to_owned()
            }
        }
    }
}

/// Something went wrong with a device.
pub(super) struct Fault {
    pub(super) error: DeviceError,
    /// It was asked for on the command line and never came up.
    pub(super) asked: bool,
}

fn selector(id: Option<&str>) -> DeviceSelector {
    id.map_or(DeviceSelector::Default, |id| DeviceSelector::Name(id.to_owned()))
}
