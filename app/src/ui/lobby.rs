//! The lobby: see oneself, choose devices, start a call or join one.

use eframe::egui::{
    Align, CornerRadius, Id, Key, Label, Layout, Rect, Role, ScrollArea, Sense, Shadow, Stroke,
    StrokeKind, Ui, pos2, vec2,
};

use super::address::{ROOM_LIMIT, Target, server_address, valid_room};
use super::fit::Fit;
use super::icons::Icon;
use super::recent::recent_ui;
use super::stranger::stranger_ui;
use super::video::Paint;
use super::widgets::{self, Look, Weight};
use super::{Local, bar, settings, theme};
use crate::settings::{NAME_LIMIT, tidy_name};
use crate::snapshot::{Command, DeviceState, Snapshot};
use crate::text::Language;

/// From this width on, preview and form stand side by side.
const SIDE_BY_SIDE: f32 = 900.0;
const FORM_WIDTH: f32 = 408.0;

/// What is half typed.
#[derive(Default)]
pub struct Form {
    join: bool,
    /// The room to host, once it was changed from the proposed one.
    room: Option<String>,
    target: String,
    server: Option<String>,
    name: Option<String>,
    /// The name as last sent, until the settings say the same.
    name_sent: Option<String>,
}

/// Draws the lobby.
pub fn lobby_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    let area = ui.max_rect();
    let mut commands = Vec::new();
    if area.width() >= SIDE_BY_SIDE {
        let width = (area.width() - 96.0).min(1320.0);
        let side = ((area.width() - width) / 2.0).max(area.width() * 0.0625);
        let inner = Rect::from_min_max(
            pos2(area.left() + side, area.top()),
            pos2(area.right() - side, area.bottom()),
        );
        let form = Rect::from_min_max(pos2(inner.right() - FORM_WIDTH, inner.top()), inner.max);
        let left = Rect::from_min_max(inner.min, pos2(form.left() - 40.0, inner.bottom()));
        widgets::within(ui, left, |ui| {
            centred(ui, "left", |ui| {
                commands.extend(preview_ui(ui, snapshot, local, area.height() - 190.0));
                commands.extend(recent_ui(ui, snapshot, local));
            });
        });
        // Room for the focus rings, which a scroll area would clip.
        widgets::within(ui, form.expand2(vec2(8.0, 0.0)), |ui| {
            centred(ui, "form", |ui| {
                margins(ui, 8.0, |ui| commands.extend(form_ui(ui, snapshot, local)));
            });
        });
        let corner = pos2(area.right() - 24.0 - SWITCH.x, area.top() + 20.0);
        widgets::within(ui, Rect::from_min_size(corner, SWITCH), |ui| {
            commands.extend(language_ui(ui, local));
        });
    } else {
        ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
            margins(ui, 20.0, |ui| {
                ui.add_space(14.0);
                commands.extend(head_ui(ui, local));
                ui.add_space(14.0);
                commands.extend(preview_ui(ui, snapshot, local, area.height() * 0.62));
                ui.add_space(24.0);
                commands.extend(form_ui(ui, snapshot, local));
                commands.extend(recent_ui(ui, snapshot, local));
                ui.add_space(20.0);
            });
        });
    }
    commands
}

/// Contents in the middle of the height, scrolling where they do not fit.
fn centred(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui)) {
    let id = Id::unique(("height of", name));
    let known = ui.data(|data| data.get_temp::<f32>(id));
    let height = ui.available_height();
    ScrollArea::vertical().id_salt(name).auto_shrink([false, false]).show(ui, |ui| {
        ui.add_space(((height - known.unwrap_or(height)) / 2.0).max(18.0).round());
        let used = ui.scope(add).response.rect.height();
        ui.add_space(18.0);
        if known.is_none_or(|known| (known - used).abs() > 0.5) {
            ui.data_mut(|data| data.insert_temp(id, used));
            ui.ctx().request_discard("the height of the lobby changed");
        }
    });
}

fn margins(ui: &mut Ui, side: f32, add: impl FnOnce(&mut Ui)) {
    eframe::egui::Frame::NONE
        .inner_margin(eframe::egui::Margin::symmetric(side as i8, 0))
        .show(ui, add);
}

/// Title and language, above a single column.
fn head_ui(ui: &mut Ui, local: &Local) -> Option<Command> {
    let size = vec2(ui.available_width(), SWITCH.y);
    let (head, _) = ui.allocate_exact_size(size, Sense::hover());
    widgets::within(ui, head, |ui| {
        let title = Label::new(theme::strong(super::TITLE, 17.0));
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| ui.add(title));
    });
    let switch = Rect::from_min_max(head.right_top() - vec2(SWITCH.x, 0.0), head.max);
    widgets::within(ui, switch, |ui| language_ui(ui, local))
}

const SWITCH: eframe::egui::Vec2 = vec2(150.0, 34.0);

fn language_ui(ui: &mut Ui, local: &Local) -> Option<Command> {
    let words = local.words;
    let names = Language::ALL.map(Language::own_name);
    let here = Language::ALL.iter().position(|language| language.words().is(words));
    let clicked =
        widgets::segmented(ui, words.language_switch, &names, here.unwrap_or(0), SWITCH, 13.5)?;
    let language = Language::ALL.get(clicked).copied()?;
    Some(Command::SetLanguage(Some(language)))
}

/// One's own picture with its two buttons, at most `tallest` high.
fn preview_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local, tallest: f32) -> Vec<Command> {
    let words = local.words;
    let room = ui.available_width();
    let height = (room * 9.0 / 16.0).min(tallest.max(180.0)).round();
    let (rect, _) = ui.allocate_exact_size(vec2(room, height), Sense::hover());
    let radius = 20.0;
    let corner = CornerRadius::from(radius);
    let shadow = Shadow { offset: [0, 6], blur: 24, ..theme::SHADOW };
    ui.painter().add(shadow.as_shape(rect, corner));
    ui.painter().rect_filled(rect, corner, theme::SURFACE);
    if local.own.is_some() {
        local.own.paint(ui, rect, Paint { fit: Fit::Cover, mirror: true, radius });
        widgets::announce(ui, Id::unique("preview"), rect, Role::Image, words.preview);
    } else {
        let edge = Stroke::new(1.0, theme::EDGE);
        ui.painter().rect_stroke(rect, corner, edge, StrokeKind::Inside);
        let (sentence, working) = match &snapshot.camera {
            DeviceState::Off => (words.camera_off, false),
            DeviceState::Failed(reason) => (reason.as_str(), false),
            DeviceState::Starting | DeviceState::On(_) => (words.camera_starting, true),
        };
        let centre = rect.center() - vec2(0.0, 44.0);
        if working {
            widgets::spinner(ui, centre, 18.0);
        } else {
            ui.painter().circle_filled(centre, 38.0, theme::FIELD);
            let place = Rect::from_center_size(centre, vec2(38.0, 38.0));
            Icon::CameraOff.paint(ui.painter(), place, theme::TEXT_WEAK, theme::FIELD);
        }
        let below = Rect::from_min_max(
            pos2(rect.left() + 32.0, centre.y + 54.0),
            pos2(rect.right() - 32.0, rect.bottom() - 84.0),
        );
        widgets::within(ui, below, |ui| {
            ui.vertical_centered(|ui| ui.label(theme::plain(sentence, 15.5)));
        });
    }
    let name = local.form.name.as_deref().unwrap_or(&snapshot.settings.name).trim();
    let name = if name.is_empty() { words.you } else { name };
    // The plate may grow up to the buttons in the middle.
    let widest = room / 2.0 - bar::BUTTON - 7.0 - 16.0 - 12.0;
    widgets::plate(ui, rect.left_bottom() + vec2(16.0, -16.0), None, name, widest);
    let buttons = pos2(rect.center().x, rect.bottom() - 18.0 - bar::BUTTON / 2.0);
    let step = bar::BUTTON / 2.0 + 7.0;
    let place =
        |x: f32| Rect::from_center_size(buttons + vec2(x, 0.0), vec2(bar::BUTTON, bar::BUTTON));
    let look = if local.own.is_some() { Look::OnPicture } else { Look::Plain };
    let mut commands = Vec::new();
    commands.extend(bar::microphone(ui, place(-step), snapshot, local, look));
    commands.extend(bar::camera(ui, place(step), snapshot, local, look));
    commands
}

/// The right-hand column.
fn form_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    if let Some(stranger) = &snapshot.stranger {
        return stranger_ui(ui, stranger, local.words);
    }
    let words = local.words;
    let width = ui.available_width();
    let mut commands = Vec::new();
    ui.label(theme::strong(words.lobby_heading, 28.0));
    ui.add_space(8.0);
    ui.label(theme::weak(words.lobby_subheading, 15.5));
    ui.add_space(20.0);
    let tabs = [words.start_tab, words.join_tab];
    let chosen = usize::from(local.form.join);
    if let Some(tab) =
        widgets::segmented(ui, words.lobby_heading, &tabs, chosen, vec2(width, 42.0), 15.0)
    {
        local.form.join = tab == 1;
    }
    ui.add_space(16.0);
    let mut entered = false;
    let action = if local.form.join {
        join_fields(ui, snapshot, local, &mut entered)
    } else {
        host_fields(ui, snapshot, local, &mut entered, &mut commands)
    };
    ui.add_space(13.0);
    commands.extend(name_field(ui, snapshot, local));
    ui.add_space(13.0);
    commands.extend(settings::devices_ui(ui, snapshot, words, false));
    ui.add_space(22.0);
    let label = if local.form.join { words.join } else { words.start_call };
    let size = vec2(width, 48.0);
    let clicked =
        widgets::text_button(ui, label, Weight::Primary, size, action.is_some()).clicked();
    if let Some(action) = action.filter(|_| clicked || entered) {
        commands.extend(local.form.take_name(snapshot));
        commands.push(action);
    }
    commands
}

/// Enter was pressed in this field.
fn entered(ui: &Ui, response: &eframe::egui::Response) -> bool {
    response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter))
}

fn complaint(ui: &mut Ui, text: &str) {
    ui.add_space(6.0);
    ui.label(theme::plain(text, 13.0).color(theme::RED_HOVER));
}

fn host_fields(
    ui: &mut Ui,
    snapshot: &Snapshot,
    local: &mut Local,
    enter: &mut bool,
    commands: &mut Vec<Command>,
) -> Option<Command> {
    let words = local.words;
    let label = widgets::caption(ui, words.room);
    let mut room = local.form.room.clone().unwrap_or_else(|| snapshot.proposed_room.clone());
    ui.horizontal(|ui| {
        let width = ui.available_width() - widgets::FIELD_HEIGHT - 8.0;
        let field = widgets::field(ui, Id::unique("room"), &mut room, "", width, ROOM_LIMIT)
            .labelled_by(label.id);
        *enter |= entered(ui, &field);
        if field.changed() {
            local.form.room = Some(room.clone());
        }
        if widgets::icon_button(ui, Icon::Refresh, words.new_name).clicked() {
            local.form.room = None;
            commands.push(Command::ProposeRoom);
        }
    });
    let room = room.trim().to_owned();
    if !valid_room(&room) {
        if !room.is_empty() || local.form.room.is_some() {
            complaint(ui, words.room_invalid);
        }
        return None;
    }
    Some(Command::Host { room })
}

fn join_fields(
    ui: &mut Ui,
    snapshot: &Snapshot,
    local: &mut Local,
    enter: &mut bool,
) -> Option<Command> {
    let words = local.words;
    let width = ui.available_width();
    let label = widgets::caption(ui, words.link_or_room);
    let text = &mut local.form.target;
    let field = widgets::field(ui, Id::unique("target"), text, words.link_hint, width, 2048)
        .labelled_by(label.id);
    *enter |= entered(ui, &field);
    match Target::of(&local.form.target) {
        Target::Nothing => None,
        Target::Link(target) => Some(Command::Join { target, server: None }),
        Target::BadLink => {
            complaint(ui, words.link_invalid);
            None
        }
        Target::BadRoom => {
            complaint(ui, words.room_invalid);
            None
        }
        Target::Room(target) => {
            ui.add_space(13.0);
            let label = widgets::caption(ui, words.server);
            let known = snapshot.settings.server.clone().unwrap_or_default();
            let server = local.form.server.get_or_insert(known);
            let field =
                widgets::field(ui, Id::unique("server"), server, words.server_hint, width, 512)
                    .labelled_by(label.id);
            *enter |= entered(ui, &field);
            match server_address(server) {
                Some(server) => Some(Command::Join { target, server: Some(server) }),
                None => {
                    complaint(ui, words.server_needed);
                    None
                }
            }
        }
    }
}

fn name_field(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Option<Command> {
    let words = local.words;
    let label = widgets::caption(ui, words.your_name);
    let form = &mut local.form;
    let saved = &snapshot.settings.name;
    let mut name = form.name.clone().unwrap_or_else(|| saved.clone());
    let (id, width) = (Id::unique("name"), ui.available_width());
    let field = widgets::field(ui, id, &mut name, words.your_name_hint, width, NAME_LIMIT)
        .labelled_by(label.id);
    if field.changed() {
        form.name = Some(name);
    }
    if field.lost_focus() { form.take_name(snapshot) } else { None }
}

impl Form {
    /// The name, if it was changed and not sent yet.
    pub fn take_name(&mut self, snapshot: &Snapshot) -> Option<Command> {
        let saved = &snapshot.settings.name;
        let name = tidy_name(self.name.as_ref()?);
        if name == *saved {
            self.name = None;
            self.name_sent = None;
            return None;
        }
        if self.name_sent.as_deref() == Some(&name) {
            return None;
        }
        self.name = Some(name.clone());
        self.name_sent = Some(name.clone());
        Some(Command::SetName(name))
    }
}
