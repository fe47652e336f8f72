//! Which devices are wanted, which run, and what the window says of them.

use visavis_media::devices::{DeviceList, resolve};
use visavis_media::local::{LocalEvent, LocalMedia};
use visavis_media::sound::{AudioSinkSpec, AudioSourceSpec, SoundError};
use visavis_media::source::{DeviceSelector, SourceError, SourceEvent, VideoSourceSpec};

use super::Sources;
use crate::news::News;
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
    /// Off unless it is shared; then the camera is closed.
    pub(super) screen: DeviceState,
    pub(super) microphone: DeviceState,
    pub(super) speaker: DeviceState,
    /// A device went away and another took its place, until it returns.
    microphone_stands_in: bool,
    speaker_stands_in: bool,
    /// What starts next was not asked for by the user just now: its name is worth telling.
    tell_microphone: bool,
    tell_speaker: bool,
    /// Which device took over.
    news: Option<News>,
    /// What the other end was told last.
    pub(super) announced: Option<(bool, bool, bool)>,
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
            screen: DeviceState::Off,
            microphone: DeviceState::Off,
            speaker: DeviceState::Off,
            microphone_stands_in: false,
            speaker_stands_in: false,
            tell_microphone: false,
            tell_speaker: false,
            news: None,
            announced: None,
        }
    }

    /// Back in the lobby, or there for the first time.
    pub(super) fn enter_lobby(&mut self, local: &LocalMedia) {
        self.in_call = false;
        self.share_screen(local, false);
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
        let running = matches!(self.camera, DeviceState::On(_) | DeviceState::Starting);
        if self.camera_on && !running && !self.sharing() {
            self.start_camera(local);
        }
        let running = matches!(self.microphone, DeviceState::On(_) | DeviceState::Starting);
        if self.microphone_on && !running {
            self.start_microphone(local);
        }
    }

    /// While the screen is shared, switching the camera on ends that; switching it off is for
    /// later.
    pub(super) fn set_camera(&mut self, local: &LocalMedia, on: bool) {
        self.camera_on = on;
        if self.sharing() {
            if on {
                self.share_screen(local, false);
            }
        } else if !on {
            // Closes the device: its light goes out.
            local.set_video(&VideoSourceSpec::None, "");
            self.camera = DeviceState::Off;
        } else if self.in_call || self.preview {
            self.start_camera(local);
        }
    }

    /// Shows the screen instead of the camera, in a call, or goes back to what was before.
    pub(super) fn share_screen(&mut self, local: &LocalMedia, on: bool) {
        if on == self.sharing() || (on && !self.in_call) {
            return;
        }
        if on {
            self.camera = DeviceState::Off;
            self.screen = DeviceState::Starting;
            local.set_video(&VideoSourceSpec::Screen(DeviceSelector::Default), "");
        } else {
            self.screen = DeviceState::Off;
            if self.camera_on && (self.in_call || self.preview) {
                self.start_camera(local);
            } else {
                local.set_video(&VideoSourceSpec::None, "");
            }
        }
    }

    fn sharing(&self) -> bool {
        self.screen != DeviceState::Off
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
        if self.camera_on && (self.in_call || self.preview) && !self.sharing() {
            self.start_camera(local);
        }
    }

    pub(super) fn choose_microphone(&mut self, local: &LocalMedia, id: Option<String>) {
        self.microphone_id = id;
        self.sources.audio = None;
        self.restart_microphone(local);
    }

    /// Opens it again if it is open, with as many channels as are wanted now.
    pub(super) fn restart_microphone(&mut self, local: &LocalMedia) {
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

    fn camera_wanted(&self) -> VideoSourceSpec {
        let chosen = || VideoSourceSpec::Camera(selector(self.camera_id.as_deref()));
        self.sources.video.clone().unwrap_or_else(chosen)
    }

    fn start_camera(&mut self, local: &LocalMedia) {
        let spec = self.camera_wanted();
        self.camera = match spec {
            VideoSourceSpec::None => DeviceState::Off,
            _ => DeviceState::Starting,
        };
        local.set_video(&spec, &self.label);
    }

    /// What was chosen.
    fn microphone_wanted(&self) -> AudioSourceSpec {
        let chosen = || AudioSourceSpec::Mic(selector(self.microphone_id.as_deref()));
        self.sources.audio.clone().unwrap_or_else(chosen)
    }

    fn speaker_wanted(&self) -> AudioSinkSpec {
        let chosen = || AudioSinkSpec::Speaker(selector(self.speaker_id.as_deref()));
        self.sources.sink.clone().unwrap_or_else(chosen)
    }

    fn start_microphone(&mut self, local: &LocalMedia) {
        let spec = self.microphone_wanted();
        self.microphone_stands_in = false;
        self.tell_microphone = false;
        local.set_microphone(&spec);
        self.microphone = match spec {
            AudioSourceSpec::None => DeviceState::Off,
            _ => DeviceState::Starting,
        };
    }

    fn start_speaker(&mut self, local: &LocalMedia) {
        let spec = self.speaker_wanted();
        self.speaker_stands_in = false;
        self.tell_speaker = false;
        self.speaker = DeviceState::Starting;
        local.set_speaker(&spec);
    }

    /// Whether it matters what is plugged in and out.
    pub(super) fn watching(&self) -> bool {
        self.preview
            || self.in_call
                && (matches!(self.microphone_wanted(), AudioSourceSpec::Mic(_))
                    || matches!(self.camera_wanted(), VideoSourceSpec::Camera(_))
                    || matches!(self.speaker_wanted(), AudioSinkSpec::Speaker(_)))
    }

    /// What is plugged in now, and what was before: a device that is missed is tried again when
    /// something came, one that returned takes its place again.
    pub(super) fn handle_list(&mut self, local: &LocalMedia, old: &DeviceList, new: &DeviceList) {
        // A camera that was unplugged is missed until it, or in its place another, is there.
        if let VideoSourceSpec::Camera(wanted) = self.camera_wanted()
            && self.camera_on
            && new.cameras != old.cameras
        {
            match next(&self.camera, false, &wanted, &new.cameras) {
                Next::Wanted => self.start_camera(local),
                Next::Another => {
                    self.camera = DeviceState::Starting;
                    local.set_video(&VideoSourceSpec::Camera(DeviceSelector::Default), "");
                }
                Next::Stay => {}
            }
        }
        if let AudioSourceSpec::Mic(wanted) = self.microphone_wanted()
            && self.microphone != DeviceState::Off
        {
            let came = new.microphones != old.microphones;
            match next(&self.microphone, self.microphone_stands_in, &wanted, &new.microphones) {
                Next::Wanted if came || self.microphone_stands_in => {
                    self.start_microphone(local);
                    self.tell_microphone = true;
                }
                Next::Another if came => self.replace_microphone(local),
                _ => {}
            }
        }
        if let AudioSinkSpec::Speaker(wanted) = self.speaker_wanted()
            && self.speaker != DeviceState::Off
        {
            let came = new.speakers != old.speakers;
            match next(&self.speaker, self.speaker_stands_in, &wanted, &new.speakers) {
                Next::Wanted if came || self.speaker_stands_in => {
                    self.start_speaker(local);
                    self.tell_speaker = true;
                }
                Next::Another if came => self.replace_speaker(local),
                _ => {}
            }
        }
    }

    /// Goes on with what the system thinks best now.
    fn replace_microphone(&mut self, local: &LocalMedia) {
        self.microphone = DeviceState::Starting;
        (self.microphone_stands_in, self.tell_microphone) = (true, true);
        local.set_microphone(&AudioSourceSpec::Mic(DeviceSelector::Default));
    }

    fn replace_speaker(&mut self, local: &LocalMedia) {
        self.speaker = DeviceState::Starting;
        (self.speaker_stands_in, self.tell_speaker) = (true, true);
        local.set_speaker(&AudioSinkSpec::Speaker(DeviceSelector::Default));
    }

    /// Which device took over, once.
    pub(super) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// Takes what a device tells; returns what went wrong, if something did. A microphone or
    /// speaker that ran and is lost gives way to another.
    pub(super) fn handle(&mut self, local: &LocalMedia, event: LocalEvent) -> Option<Fault> {
        // What was switched off may have spoken just before.
        let (camera_off, microphone_off, speaker_off) = (
            self.camera == DeviceState::Off && !self.sharing(),
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
                let sharing = self.sharing();
                let device = if sharing { &mut self.screen } else { &mut self.camera };
                *device = DeviceState::On(format!("{name} ({width}\u{d7}{height})"));
                return None;
            }
            LocalEvent::MicrophoneStarted(name) => {
                if std::mem::take(&mut self.tell_microphone) {
                    self.news = Some(News::MicrophoneInstead(name.clone()));
                }
                self.microphone = DeviceState::On(name);
                return None;
            }
            LocalEvent::SpeakerStarted(name) => {
                if std::mem::take(&mut self.tell_speaker) {
                    self.news = Some(News::SpeakerInstead(name.clone()));
                }
                self.speaker = DeviceState::On(name);
                return None;
            }
            LocalEvent::MicrophoneLost(error)
                if matches!(self.microphone, DeviceState::On(_))
                    && matches!(self.microphone_wanted(), AudioSourceSpec::Mic(_)) =>
            {
                self.replace_microphone(local);
                return Some(Fault { error: DeviceError::Sound(error), asked: false });
            }
            LocalEvent::SpeakerLost(error)
                if matches!(self.speaker, DeviceState::On(_))
                    && matches!(self.speaker_wanted(), AudioSinkSpec::Speaker(_)) =>
            {
                self.replace_speaker(local);
                return Some(Fault { error: DeviceError::Sound(error), asked: false });
            }
            LocalEvent::Video(SourceEvent::Stalled) => {
                return Some(Fault { error: DeviceError::CameraStalled, asked: false });
            }
            LocalEvent::Video(SourceEvent::Lost(error)) if self.sharing() => {
                self.share_screen(local, false);
                return Some(Fault { error: DeviceError::Source(error), asked: false });
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

    /// What the other end may expect: sound, the camera's pictures, the screen's.
    pub(super) fn sending(&self) -> (bool, bool, bool) {
        let audio = self.microphone_on && matches!(self.microphone, DeviceState::On(_));
        let camera = matches!(self.camera, DeviceState::On(_));
        // The command line may have chosen a screen for a camera.
        let is_screen = matches!(self.sources.video, Some(VideoSourceSpec::Screen(_)));
        let screen = matches!(self.screen, DeviceState::On(_)) || (camera && is_screen);
        (audio, camera && !is_screen, screen)
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

/// What to do about a device, now that the list is this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Stay,
    /// Start what was chosen.
    Wanted,
    /// Start what there is.
    Another,
}

fn next(
    state: &DeviceState,
    stands_in: bool,
    wanted: &DeviceSelector,
    list: &[visavis_media::devices::Device],
) -> Next {
    let Some(found) = resolve(wanted, list).and_then(|index| list.get(index)) else {
        let failed = matches!(state, DeviceState::Failed(_));
        return if failed && !list.is_empty() { Next::Another } else { Next::Stay };
    };
    match state {
        DeviceState::Failed(_) => Next::Wanted,
        DeviceState::On(name) if stands_in && *name != found.name => Next::Wanted,
        _ => Next::Stay,
    }
}

fn selector(id: Option<&str>) -> DeviceSelector {
    id.map_or(DeviceSelector::Default, |id| DeviceSelector::Name(id.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use visavis_media::devices::Device;

    fn list(names: &[&str]) -> Vec<Device> {
        let device = |(at, name): (usize, &&str)| Device {
            id: name.to_lowercase(),
            name: (*name).to_owned(),
            default: at == 0,
        };
        names.iter().enumerate().map(device).collect()
    }

    fn on(name: &str) -> DeviceState {
        DeviceState::On(name.to_owned())
    }

    #[test]
    fn a_chosen_device_that_returns_takes_its_place_again() {
        let headset = selector(Some("headset"));
        let with = list(&["Built-in", "Headset"]);
        assert_eq!(next(&on("Built-in"), true, &headset, &with), Next::Wanted);
        assert_eq!(next(&on("Headset"), false, &headset, &with), Next::Stay);
        // Another was chosen meanwhile: it does not stand in for anything.
        assert_eq!(next(&on("Built-in"), false, &headset, &with), Next::Stay);
        assert_eq!(next(&on("Built-in"), true, &headset, &list(&["Built-in"])), Next::Stay);
    }

    #[test]
    fn the_systems_choice_is_followed_only_after_a_loss() {
        let lists = list(&["Headset", "Built-in"]);
        assert_eq!(next(&on("Built-in"), true, &DeviceSelector::Default, &lists), Next::Wanted);
        assert_eq!(next(&on("Built-in"), false, &DeviceSelector::Default, &lists), Next::Stay);
    }

    #[test]
    fn a_failed_device_is_tried_again_or_replaced() {
        let failed =
            DeviceState::Failed(DeviceError::Sound(SoundError::NoDevice { kind: "speaker" }));
        let headset = selector(Some("headset"));
        assert_eq!(next(&failed, false, &headset, &list(&["Headset"])), Next::Wanted);
        assert_eq!(next(&failed, false, &headset, &list(&["Built-in"])), Next::Another);
        assert_eq!(next(&failed, false, &headset, &[]), Next::Stay);
        assert_eq!(next(&DeviceState::Starting, true, &headset, &list(&["Headset"])), Next::Stay);
    }

    #[test]
    fn an_unplugged_camera_is_taken_up_again_where_it_or_another_appears() {
        let local = LocalMedia::new(Default::default(), Default::default(), Arc::new(|_| {}));
        let cameras = |names: &[&str]| DeviceList { cameras: list(names), ..DeviceList::default() };
        let unplugged = || {
            DeviceState::Failed(DeviceError::Source(SourceError::Unplugged("Webcam".to_owned())))
        };
        let settings = Settings { camera: Some("webcam".to_owned()), ..Settings::default() };
        let mut devices = Devices::new(Sources::default(), &settings, true);
        for (before, after, state) in [
            (&["Webcam"][..], &[][..], unplugged()),
            (&[], &["Webcam"], DeviceState::Starting),
            (&[], &["Built-in"], DeviceState::Starting),
            (&["Webcam"], &["Webcam"], unplugged()),
        ] {
            devices.camera = unplugged();
            devices.handle_list(&local, &cameras(before), &cameras(after));
            assert_eq!(devices.camera, state, "{before:?} to {after:?}");
        }
        devices.camera_on = false;
        devices.camera = DeviceState::Off;
        devices.handle_list(&local, &cameras(&[]), &cameras(&["Webcam"]));
        assert_eq!(devices.camera, DeviceState::Off, "switched off by the user");
    }
}
