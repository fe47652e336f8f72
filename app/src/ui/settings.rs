//! Choosing devices: in the lobby, and in the popover of a call.

use eframe::egui::{Checkbox, ComboBox, Rect, Stroke, TextWrapMode, Ui, pos2, vec2};
use visavis_media::devices::Device;

use super::icons::{Icon, square};
use super::{theme, widgets};
use crate::snapshot::{Command, DeviceState, Snapshot};
use crate::text::Words;

/// Pickers for camera, microphone (with its level) and speaker, as wide as there is room. A
/// failed device is explained under its picker; the camera only if `tell_camera` (in the lobby
/// the preview says it).
pub fn devices_ui(
    ui: &mut Ui,
    snapshot: &Snapshot,
    words: &Words,
    tell_camera: bool,
) -> Vec<Command> {
    let mut commands = Vec::new();
    let (devices, settings) = (&snapshot.devices, &snapshot.settings);
    let camera = Picker {
        icon: Icon::Camera,
        label: words.camera,
        nothing: words.no_camera_listed,
        devices: &devices.cameras,
        chosen: settings.camera.as_deref(),
        failure: failure(&snapshot.camera).filter(|_| tell_camera),
    };
    commands.extend(camera.ui(ui, words, Command::ChooseCamera));
    ui.add_space(13.0);
    let microphone = Picker {
        icon: Icon::Microphone,
        label: words.microphone,
        nothing: words.no_microphone_listed,
        devices: &devices.microphones,
        chosen: settings.microphone.as_deref(),
        failure: failure(&snapshot.microphone),
    };
    commands.extend(microphone.ui(ui, words, Command::ChooseMicrophone));
    ui.add_space(10.0);
    widgets::meter(ui, snapshot.meter(), words.microphone_level);
    ui.add_space(13.0);
    let speaker = Picker {
        icon: Icon::Speaker,
        label: words.speaker,
        nothing: words.no_speaker_listed,
        devices: &devices.speakers,
        chosen: settings.speaker.as_deref(),
        failure: failure(&snapshot.speaker),
    };
    commands.extend(speaker.ui(ui, words, Command::ChooseSpeaker));
    commands
}

/// Switches for what is done to the microphone's sound: with stereo nothing else is.
pub fn processing_ui(ui: &mut Ui, snapshot: &Snapshot, words: &Words) -> Option<Command> {
    let mut processing = snapshot.settings.processing;
    let voice = !processing.stereo;
    for (on, label, may) in [
        (&mut processing.echo_cancel, words.echo_cancel, voice),
        (&mut processing.noise_suppression, words.noise_suppression, voice),
        (&mut processing.auto_gain, words.auto_gain, voice),
        (&mut processing.stereo, words.stereo, true),
    ] {
        ui.add_enabled(may, Checkbox::new(on, theme::plain(label, 14.0)));
    }
    (processing != snapshot.settings.processing).then_some(Command::SetProcessing(processing))
}

fn failure(state: &DeviceState) -> Option<&str> {
    match state {
        DeviceState::Failed(reason) => Some(reason),
        DeviceState::Off | DeviceState::Starting | DeviceState::On(_) => None,
    }
}

struct Picker<'a> {
    icon: Icon,
    label: &'a str,
    nothing: &'a str,
    devices: &'a [Device],
    chosen: Option<&'a str>,
    failure: Option<&'a str>,
}

impl Picker<'_> {
    /// Opening the list looks for devices again; `choose` tells what was chosen from it.
    fn ui(
        &self,
        ui: &mut Ui,
        words: &Words,
        choose: impl FnOnce(Option<String>) -> Command,
    ) -> Vec<Command> {
        let caption = widgets::caption(ui, self.label);
        let (mut picked, mut commands) = (None, Vec::new());
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 8.0;
            let (place, _) = ui.allocate_exact_size(
                vec2(24.0, widgets::FIELD_HEIGHT),
                eframe::egui::Sense::hover(),
            );
            let icon = square(Rect::from_center_size(place.center(), vec2(22.0, 22.0)), 21.0);
            self.icon.paint(ui.painter(), icon, theme::TEXT_WEAK, theme::BACKGROUND);
            ui.spacing_mut().interact_size.y = widgets::FIELD_HEIGHT;
            let width = ui.available_width();
            let response = ComboBox::from_id_salt(("picker", self.icon as u8))
                .width(width)
                .truncate()
                .selected_text(theme::plain(self.shown_name(words), 15.0))
                .icon(|ui, rect, _, _| {
                    let centre = rect.center();
                    let points = vec![
                        pos2(centre.x - 5.0, centre.y - 3.0),
                        pos2(centre.x + 5.0, centre.y - 3.0),
                        pos2(centre.x, centre.y + 3.5),
                    ];
                    let shape =
                        eframe::egui::Shape::convex_polygon(points, theme::TEXT, Stroke::NONE);
                    ui.painter().add(shape);
                })
                .show_ui(ui, |ui| picked = self.choices(ui, words))
                .response;
            if response.labelled_by(caption.id).clicked() {
                commands.push(Command::RefreshDevices);
            }
        });
        if let Some(reason) = self.failure {
            ui.add_space(6.0);
            ui.label(theme::weak(reason, 13.0).color(theme::RED_HOVER));
        }
        commands.extend(picked.map(choose));
        commands
    }

    fn shown_name(&self, words: &Words) -> String {
        let by_id = |id| self.devices.iter().find(|device| device.id == id);
        // Chosen once but unplugged now: the default stands in.
        let device = self
            .chosen
            .and_then(by_id)
            .or_else(|| self.devices.iter().find(|device| device.default))
            .or_else(|| self.devices.first());
        match device {
            Some(device) if device.name.is_empty() => words.system_default.to_owned(),
            Some(device) => device.name.clone(),
            None => self.nothing.to_owned(),
        }
    }

    fn choices(&self, ui: &mut Ui, words: &Words) -> Option<Option<String>> {
        ui.spacing_mut().button_padding = vec2(12.0, 9.0);
        ui.style_mut().wrap_mode = Some(TextWrapMode::Truncate);
        if self.devices.is_empty() {
            ui.label(theme::weak(self.nothing, 14.0));
            return None;
        }
        let mut picked = None;
        let known = self.chosen.filter(|id| self.devices.iter().any(|device| device.id == *id));
        if ui.selectable_label(known.is_none(), words.system_default).clicked() {
            picked = Some(None);
        }
        for device in self.devices {
            let selected = known == Some(device.id.as_str());
            if ui.selectable_label(selected, device.name.as_str()).clicked() {
                picked = Some(Some(device.id.clone()));
            }
        }
        picked
    }
}
