//! The call: the other person fills the window, oneself in the corner.

use std::time::Duration;

use eframe::egui::{
    Align, Align2, Color32, CornerRadius, CursorIcon, Event, FontId, Frame, Id, Label, Layout,
    Margin, Memory, Modal, Rect, Role, Sense, Shadow, Stroke, StrokeKind, Ui, Vec2, pos2, vec2,
};

use super::fit::Fit;
use super::icons::Icon;
use super::video::Paint;
use super::widgets::{self, Weight};
use super::{Local, bar, keys, passed, theme};
use crate::snapshot::{Command, DeviceState, Phase, Snapshot};
use crate::text::call_time;

/// The controls hide after this long without pointer or keyboard, seconds.
const HIDES_AFTER: f64 = 3.0;

/// Behind a picture that does not fill the window. Where one does, it is not painted: every
/// layer counts where the processor does the painting.
const GROUND: Color32 = Color32::from_rgb(10, 11, 14);

/// What the call view remembers.
#[derive(Default)]
pub struct CallState {
    /// When pointer or keyboard last moved, in the window's time.
    active_at: Option<f64>,
    /// The devices are open.
    pub panel: bool,
    /// The question whether to leave is open.
    pub leaving: bool,
    /// When the link was copied, in the window's time.
    pub copied_at: Option<f64>,
}

impl CallState {
    /// The next call starts with its controls in sight.
    pub fn forget_activity(&mut self) {
        self.active_at = None;
        self.leaving = false;
    }
}

/// Draws the call.
pub fn call_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    let area = ui.max_rect();
    let mut commands = Vec::new();
    remote_ui(ui, area, snapshot, local);
    let opacity = controls_opacity(ui, area, snapshot, local);
    overlay_ui(ui, area, snapshot, local);
    if opacity > 0.0 {
        let top = Rect::from_min_max(area.min, pos2(area.right(), area.top() + 110.0));
        let bottom = Rect::from_min_max(pos2(area.left(), area.bottom() - 170.0), area.max);
        widgets::scrim(ui, top, 170, 0, opacity);
        widgets::scrim(ui, bottom, 0, 200, opacity);
    }
    let own = own_ui(ui, area, snapshot, local);
    top_line_ui(ui, area, own.left(), snapshot, local, opacity);
    peer_signs_ui(ui, area, snapshot, local, opacity);
    commands.extend(bar::bar_ui(ui, area, snapshot, local, bar::Leave::HangUp, opacity));
    if local.call.leaving {
        commands.extend(leave_ui(ui, local));
    }
    commands
}

/// How visible the controls are, 0 to 1. They stay while there is something to decide.
fn controls_opacity(ui: &Ui, area: Rect, snapshot: &Snapshot, local: &mut Local) -> f32 {
    let (now, moved, over_bar) = ui.input(|input| {
        let moved = input.events.iter().any(|event| {
            matches!(
                event,
                Event::PointerMoved(_)
                    | Event::PointerButton { .. }
                    | Event::Touch { .. }
                    | Event::Key { pressed: true, .. }
            )
        });
        let bar = bar::place(area, bar::Leave::HangUp);
        (input.time, moved, input.pointer.hover_pos().is_some_and(|at| bar.contains(at)))
    });
    let call = &mut local.call;
    if moved || call.active_at.is_none() {
        call.active_at = Some(now);
    }
    let left = HIDES_AFTER - (now - call.active_at.unwrap_or(now));
    let focused = ui.memory(Memory::focused).is_some();
    let calm = matches!(snapshot.phase, Phase::InCall { server_lost: false, .. });
    let held = !calm || over_bar || focused || call.panel || call.leaving;
    let visible = held || left > 0.0;
    if visible && !held {
        ui.ctx().request_repaint_after(Duration::from_secs_f64(left.max(0.001)));
    }
    if !visible {
        ui.ctx().set_cursor_icon(CursorIcon::None);
    }
    ui.ctx().animate_bool_with_time(Id::unique("call controls"), visible, 0.2)
}

/// The other's picture, or who they are while there is none.
fn remote_ui(ui: &mut Ui, area: Rect, snapshot: &Snapshot, local: &mut Local) {
    let words = local.words;
    let ground = ui.interact(area, Id::unique("remote ground"), Sense::click());
    if ground.clicked() {
        local.call.panel = false;
    }
    if ground.double_clicked() {
        keys::toggle_full_screen(ui.ctx(), local);
    }
    if let Some(size) = local.remote.size() {
        // Of a screen every corner counts.
        let screen = snapshot.peer.as_ref().is_some_and(|peer| peer.screen);
        let fit = if screen { Fit::Contain } else { Fit::for_call(size, area.size()) };
        if fit == Fit::Contain {
            ui.painter().rect_filled(area, 0.0, GROUND);
        }
        local.remote.paint(ui, area, Paint { fit, mirror: false, radius: 0.0 });
        widgets::announce(
            ui,
            Id::unique("remote picture"),
            area,
            Role::Image,
            words.remote_picture,
        );
        return;
    }
    ui.painter().rect_filled(area, 0.0, GROUND);
    let centre = area.center() - vec2(0.0, 36.0);
    let name = peer_name(snapshot, local);
    avatar(ui, centre, 56.0_f32.min(area.height() * 0.16), name);
    if !matches!(snapshot.phase, Phase::InCall { .. }) {
        return;
    }
    let peer = snapshot.peer.as_ref();
    let sentence = if peer.is_some_and(|peer| peer.paused) {
        words.peer_paused
    } else if peer.is_some_and(|peer| peer.video) {
        words.peer_no_picture_yet
    } else {
        words.peer_camera_off
    };
    let below = Rect::from_min_max(
        pos2(area.left() + 24.0, centre.y + 78.0),
        pos2(area.right() - 24.0, area.bottom()),
    );
    widgets::within(ui, below, |ui| {
        ui.vertical_centered(|ui| ui.label(theme::weak(sentence, 16.0)));
    });
}

fn peer_name<'a>(snapshot: &'a Snapshot, local: &Local) -> &'a str {
    match &snapshot.peer {
        Some(peer) if !peer.name.is_empty() => &peer.name,
        _ => local.words.the_other,
    }
}

/// A coloured disc with the first letter of a name.
fn avatar(ui: &Ui, centre: eframe::egui::Pos2, radius: f32, name: &str) {
    const COLOURS: [Color32; 5] = [
        Color32::from_rgb(60, 98, 190),
        Color32::from_rgb(121, 82, 179),
        Color32::from_rgb(24, 121, 106),
        Color32::from_rgb(173, 86, 52),
        Color32::from_rgb(150, 62, 98),
    ];
    let sum: u32 = name.chars().fold(7, |sum, letter| sum.wrapping_mul(31) ^ u32::from(letter));
    let colour = COLOURS[sum as usize % COLOURS.len()];
    ui.painter().circle_filled(centre, radius, colour);
    let letter: String =
        name.chars().next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let font = FontId::new(radius * 0.9, theme::semibold());
    ui.painter().text(centre, Align2::CENTER_CENTER, letter, font, Color32::WHITE);
}

/// Dims the picture and says what is going on, while it is not simply a call.
fn overlay_ui(ui: &mut Ui, area: Rect, snapshot: &Snapshot, local: &Local) {
    let words = local.words;
    let (heading, explained) = match snapshot.phase {
        Phase::Connecting { .. } => (words.connecting, None),
        Phase::Reconnecting { .. } => (words.reconnecting, Some(words.reconnecting_explained)),
        Phase::Lobby | Phase::Joining { .. } | Phase::Waiting { .. } | Phase::InCall { .. } => {
            return;
        }
    };
    let pictured = local.remote.is_some();
    if pictured {
        ui.painter().rect_filled(area, 0.0, Color32::from_black_alpha(160));
    }
    let middle = if pictured { area.center().y - 40.0 } else { area.center().y + 62.0 };
    let centre = pos2(area.center().x, middle);
    widgets::spinner(ui, centre, 16.0);
    let below = Rect::from_min_max(pos2(area.left() + 24.0, centre.y + 32.0), area.max);
    widgets::within(ui, below.with_max_x(area.right() - 24.0), |ui| {
        ui.vertical_centered(|ui| {
            ui.label(theme::strong(heading, 20.0));
            if let Some(explained) = explained {
                ui.add_space(8.0);
                ui.label(theme::weak(explained, 15.0));
            }
        });
    });
}

/// The own picture in the corner; returns its place.
fn own_ui(ui: &mut Ui, area: Rect, snapshot: &Snapshot, local: &mut Local) -> Rect {
    let words = local.words;
    let margin = if area.width() < 700.0 { 14.0 } else { 24.0 };
    let shape = local.own.size().unwrap_or(vec2(16.0, 9.0));
    let size = corner_size(area.size(), shape);
    let min = pos2(area.right() - margin - size.x, area.top() + margin);
    let rect = Rect::from_min_size(min, size);
    let radius = 14.0;
    let corner = CornerRadius::from(radius);
    let shadow = Shadow { offset: [0, 6], blur: 22, ..theme::SHADOW };
    ui.painter().add(shadow.as_shape(rect, corner));
    if local.own.is_some() {
        // One's own face is known from mirrors, one's own screen is not.
        let mirror = !snapshot.screen.wanted();
        local.own.paint(ui, rect, Paint { fit: Fit::Cover, mirror, radius });
        widgets::announce(ui, Id::unique("own picture"), rect, Role::Image, words.own_picture);
    } else {
        ui.painter().rect_filled(rect, corner, theme::SURFACE);
        let place = Rect::from_center_size(rect.center(), Vec2::splat(rect.height() * 0.3));
        Icon::CameraOff.paint(ui.painter(), place, theme::TEXT_WEAK, theme::SURFACE);
        let label = match &snapshot.camera {
            DeviceState::Failed(reason) => reason.as_str(),
            DeviceState::Starting | DeviceState::On(_) => words.camera_starting,
            DeviceState::Off => words.camera_off,
        };
        widgets::announce(ui, Id::unique("own picture"), rect, Role::Image, label);
    }
    let edge = Stroke::new(1.0, Color32::from_white_alpha(48));
    ui.painter().rect_stroke(rect, corner, edge, StrokeKind::Inside);
    let speaks =
        snapshot.microphone.wanted() && !matches!(snapshot.microphone, DeviceState::Failed(_));
    if !speaks {
        let centre = rect.left_bottom() + vec2(20.0, -20.0);
        ui.painter().circle_filled(centre, 13.0, theme::RED);
        let place = Rect::from_center_size(centre, Vec2::splat(15.0));
        Icon::MicrophoneOff.paint(ui.painter(), place, Color32::WHITE, theme::RED);
        let place = Rect::from_center_size(centre, Vec2::splat(26.0));
        let label = words.microphone_off;
        widgets::announce(ui, Id::unique("own microphone off"), place, Role::Image, label);
    }
    if snapshot.pictures_paused {
        let centre = rect.right_bottom() + vec2(-20.0, -20.0);
        ui.painter().circle_filled(centre, 13.0, theme::RED);
        let place = Rect::from_center_size(centre, Vec2::splat(15.0));
        Icon::CameraOff.paint(ui.painter(), place, Color32::WHITE, theme::RED);
        let place = Rect::from_center_size(centre, Vec2::splat(26.0));
        let label = words.pictures_paused;
        widgets::announce(ui, Id::unique("pictures paused"), place, Role::Status, label);
    }
    rect
}

/// How large the own picture is: about a fifth of the window's width, its own shape.
fn corner_size(area: Vec2, shape: Vec2) -> Vec2 {
    let ratio = (shape.x / shape.y.max(1.0)).clamp(0.5, 2.0);
    let width = (area.x * 0.19).clamp(132.0, 320.0);
    let (width, height) = (width, width / ratio);
    let tallest = area.y * 0.3;
    if height > tallest { vec2(tallest * ratio, tallest) } else { vec2(width, height) }
}

/// Name, time, and the lock.
fn top_line_ui(
    ui: &mut Ui,
    area: Rect,
    right: f32,
    snapshot: &Snapshot,
    local: &Local,
    opacity: f32,
) {
    let words = local.words;
    let name = peer_name(snapshot, local);
    let time = match snapshot.phase {
        Phase::InCall { since, .. } => {
            let passed = passed(since);
            if opacity > 0.0 {
                let part = Duration::from_nanos(u64::from(passed.subsec_nanos()));
                ui.ctx().request_repaint_after(Duration::from_millis(1001).saturating_sub(part));
            }
            Some(call_time(passed))
        }
        _ => None,
    };
    let margin = if area.width() < 700.0 { 16.0 } else { 24.0 };
    let place = Rect::from_min_max(
        pos2(area.left() + margin, area.top() + 12.0),
        pos2(right - 16.0, area.top() + 48.0),
    );
    widgets::within(ui, place, |ui| {
        ui.multiply_opacity(opacity);
        let told = time.is_some();
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            ui.spacing_mut().item_spacing.x = 11.0;
            // What follows the name needs this much.
            let rest = match snapshot.phase {
                Phase::InCall { server_lost: true, .. } => 390.0,
                _ if told => 170.0,
                _ => 0.0,
            };
            let width = (place.width() - rest).max(60.0);
            ui.scope(|ui| {
                ui.set_max_width(width);
                ui.add(Label::new(theme::strong(name, 19.0)).truncate());
            });
            if let Some(time) = time {
                ui.label(theme::plain(time, 15.0).color(Color32::from_white_alpha(205)));
                let (lock, _) = ui.allocate_exact_size(vec2(14.0, 20.0), Sense::hover());
                let lock = Rect::from_center_size(lock.center(), Vec2::splat(15.0));
                Icon::Lock.paint(ui.painter(), lock, theme::GREEN, Color32::BLACK);
                ui.add_space(-5.0);
                ui.add(Label::new(theme::plain(words.encrypted, 14.0)).truncate());
            }
            if matches!(snapshot.phase, Phase::InCall { server_lost: true, .. }) {
                ui.add_space(6.0);
                ui.add(Label::new(theme::weak(words.server_lost, 14.0)).truncate());
            }
        });
    });
}

/// What the other has switched off; stays when the controls hide.
fn peer_signs_ui(ui: &mut Ui, area: Rect, snapshot: &Snapshot, local: &Local, opacity: f32) {
    let muted = snapshot.peer.as_ref().is_some_and(|peer| !peer.audio);
    if !muted || !matches!(snapshot.phase, Phase::InCall { .. }) {
        return;
    }
    let name = peer_name(snapshot, local);
    let text = format!("{name} · {}", local.words.peer_muted);
    let bar = bar::place(area, bar::Leave::HangUp);
    // Beside the bar where there is room, else above it while it shows.
    let widest = 260.0_f32;
    let beside = bar.left() - area.left() - 36.0 >= 150.0;
    let lift = if beside { 0.0 } else { (bar.height() + 18.0) * opacity };
    let widest = if beside { widest.min(bar.left() - area.left() - 36.0) } else { widest };
    let at = pos2(area.left() + 24.0, area.bottom() - 26.0 - lift);
    widgets::plate(ui, at, Some(Icon::MicrophoneOff), &text, widest);
    let place = Rect::from_min_size(at - vec2(0.0, 28.0), vec2(widest, 28.0));
    widgets::announce(ui, Id::unique("peer muted"), place, Role::Status, &text);
}

/// Asks before leaving.
fn leave_ui(ui: &mut Ui, local: &mut Local) -> Option<Command> {
    let words = local.words;
    let mut command = None;
    let frame = Frame::NONE
        .fill(theme::SURFACE)
        .stroke(Stroke::new(1.0, theme::EDGE))
        .corner_radius(CornerRadius::same(18))
        .shadow(theme::SHADOW)
        .inner_margin(Margin::same(24));
    let modal = Modal::new(Id::unique("leave")).frame(frame).show(ui.ctx(), |ui| {
        ui.set_width(300.0);
        ui.label(theme::strong(words.leave_question, 20.0));
        ui.add_space(8.0);
        ui.label(theme::weak(words.leave_explained, 15.0));
        ui.add_space(20.0);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 12.0;
            let size = vec2(144.0, 42.0);
            let stay = widgets::text_button(ui, words.stay, Weight::Secondary, size, true);
            let leave = widgets::text_button(ui, words.leave, Weight::Danger, size, true);
            if ui.memory(Memory::focused).is_none() {
                leave.request_focus();
            }
            if stay.clicked() {
                local.call.leaving = false;
            }
            if leave.clicked() {
                local.call.leaving = false;
                command = Some(Command::HangUp);
            }
        });
    });
    if modal.backdrop_response.clicked() {
        local.call.leaving = false;
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_picture_keeps_its_shape_and_its_place() {
        let wide = corner_size(vec2(1280.0, 760.0), vec2(1280.0, 720.0));
        assert!((wide.x - 243.2).abs() < 0.1 && (wide.y - 136.8).abs() < 0.1, "{wide:?}");
        let small = corner_size(vec2(480.0, 400.0), vec2(640.0, 480.0));
        assert!(small.x >= 132.0 && small.y <= 120.0, "{small:?}");
        let portrait = corner_size(vec2(1280.0, 760.0), vec2(480.0, 640.0));
        assert!(portrait.y <= 760.0 * 0.3 + 0.1 && portrait.x < portrait.y);
        let broken = corner_size(vec2(480.0, 400.0), vec2(0.0, 0.0));
        assert!(broken.x > 0.0 && broken.y > 0.0);
    }
}
