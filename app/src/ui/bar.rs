//! The row of round buttons: microphone, camera, screen, devices, full screen, leave.

use eframe::egui::{
    Align2, Area, Color32, CornerRadius, Frame, Id, Margin, Order, Rect, Role, Stroke, StrokeKind,
    Ui, WidgetInfo, pos2, vec2,
};

use super::icons::Icon;
use super::widgets::{self, Look};
use super::{Local, keys, settings, theme};
use crate::snapshot::{Command, DeviceState, Snapshot};

/// Diameter of a round button.
pub const BUTTON: f32 = 52.0;
const GAP: f32 = 14.0;
const PADDING: f32 = 20.0;
const HEIGHT: f32 = 76.0;
const MARGIN: f32 = 18.0;

/// What a press on the red button means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Hanging up.
    HangUp,
    /// No red button here: there is another way out.
    Elsewhere,
}

/// The microphone's button.
pub fn microphone(
    ui: &Ui,
    rect: Rect,
    snapshot: &Snapshot,
    local: &Local,
    on: Look,
) -> Option<Command> {
    let words = local.words;
    let wanted = snapshot.microphone.wanted();
    let label = if wanted { words.turn_microphone_off } else { words.turn_microphone_on };
    let hint = match &snapshot.microphone {
        DeviceState::Failed(reason) => reason.clone(),
        _ => format!("{label} (M)"),
    };
    let works = wanted && !matches!(snapshot.microphone, DeviceState::Failed(_));
    let (icon, look) =
        if works { (Icon::Microphone, on) } else { (Icon::MicrophoneOff, Look::Red) };
    let pressed = widgets::round_button(ui, rect, icon, look, label, &hint).clicked();
    pressed.then_some(Command::SetMicrophone(!wanted))
}

/// The camera's button.
pub fn camera(
    ui: &Ui,
    rect: Rect,
    snapshot: &Snapshot,
    local: &Local,
    on: Look,
) -> Option<Command> {
    let words = local.words;
    let wanted = snapshot.camera.wanted();
    let label = if wanted { words.turn_camera_off } else { words.turn_camera_on };
    let hint = match &snapshot.camera {
        DeviceState::Failed(reason) => reason.clone(),
        _ => format!("{label} (V)"),
    };
    let works = wanted && !matches!(snapshot.camera, DeviceState::Failed(_));
    let (icon, look) = if works { (Icon::Camera, on) } else { (Icon::CameraOff, Look::Red) };
    let pressed = widgets::round_button(ui, rect, icon, look, label, &hint).clicked();
    pressed.then_some(Command::SetCamera(!wanted))
}

/// The button that shares the screen.
fn screen(ui: &Ui, rect: Rect, snapshot: &Snapshot, local: &Local) -> Option<Command> {
    let words = local.words;
    let shared = snapshot.screen.wanted();
    let label = if shared { words.stop_sharing } else { words.share_screen };
    let look = if shared { Look::Green } else { Look::Plain };
    let hint = format!("{label} (S)");
    let pressed = widgets::round_button(ui, rect, Icon::Screen, look, label, &hint).clicked();
    pressed.then_some(Command::ShareScreen(!shared))
}

/// Where the bar lies in `area`.
pub fn place(area: Rect, leave: Leave) -> Rect {
    let buttons = if leave == Leave::HangUp { 6.0 } else { 4.0 };
    let wide = if leave == Leave::HangUp { 6.0 } else { 0.0 };
    let width = buttons * BUTTON + (buttons - 1.0) * GAP + 2.0 * PADDING + wide;
    let centre = pos2(area.center().x, area.bottom() - MARGIN - HEIGHT / 2.0);
    Rect::from_center_size(centre, vec2(width, HEIGHT))
}

/// The bar at the bottom of `area`, faded to `opacity`; its buttons stay in the accessibility
/// tree even when they cannot be seen.
pub fn bar_ui(
    ui: &mut Ui,
    area: Rect,
    snapshot: &Snapshot,
    local: &mut Local,
    leave: Leave,
    opacity: f32,
) -> Vec<Command> {
    let words = local.words;
    let mut commands = Vec::new();
    let rect = place(area, leave);
    let mut toggle_panel = false;
    ui.scope(|ui| {
        ui.multiply_opacity(opacity);
        let fill = Color32::from_rgba_unmultiplied(20, 22, 27, 235);
        let stroke = Stroke::new(1.0, Color32::from_white_alpha(22));
        let round = CornerRadius::from(HEIGHT / 2.0);
        ui.painter().rect(rect, round, fill, stroke, StrokeKind::Inside);
        let slot = |index: f32, extra: f32| {
            let x = rect.left() + PADDING + index * (BUTTON + GAP) + extra;
            Rect::from_min_size(pos2(x, rect.center().y - BUTTON / 2.0), vec2(BUTTON, BUTTON))
        };
        commands.extend(microphone(ui, slot(0.0, 0.0), snapshot, local, Look::Plain));
        commands.extend(camera(ui, slot(1.0, 0.0), snapshot, local, Look::Plain));
        // Where one is alone there is nobody to share it with.
        let next = if leave == Leave::HangUp {
            commands.extend(screen(ui, slot(2.0, 0.0), snapshot, local));
            3.0
        } else {
            2.0
        };
        let hint = words.devices;
        let gear = widgets::round_button(ui, slot(next, 0.0), Icon::Gear, Look::Plain, hint, hint);
        toggle_panel = gear.clicked();
        let (icon, label) = if local.full_screen {
            (Icon::Window, words.leave_full_screen)
        } else {
            (Icon::FullScreen, words.full_screen)
        };
        let hint = format!("{label} (F)");
        if widgets::round_button(ui, slot(next + 1.0, 0.0), icon, Look::Plain, label, &hint)
            .clicked()
        {
            keys::toggle_full_screen(ui.ctx(), local);
        }
        if leave == Leave::HangUp {
            let (place, label) = (slot(next + 2.0, 6.0), words.hang_up);
            let red = widgets::round_button(ui, place, Icon::HangUp, Look::Red, label, label);
            if red.clicked() {
                commands.push(Command::HangUp);
            }
        }
    });
    if toggle_panel {
        local.call.panel = !local.call.panel;
    }
    if local.call.panel {
        commands.extend(panel_ui(ui, area, rect, snapshot, local));
    }
    commands
}

/// The devices, above the bar.
fn panel_ui(
    ui: &mut Ui,
    area: Rect,
    bar: Rect,
    snapshot: &Snapshot,
    local: &mut Local,
) -> Vec<Command> {
    let words = local.words;
    let width = (area.width() - 32.0).min(400.0);
    let shown = Area::new(Id::unique("devices"))
        // Below the lists that its pickers open.
        .order(Order::Middle)
        .pivot(Align2::CENTER_BOTTOM)
        .fixed_pos(pos2(area.center().x, bar.top() - 12.0))
        .show(ui.ctx(), |ui| {
            let frame = Frame::NONE
                .fill(theme::SURFACE)
                .stroke(Stroke::new(1.0, theme::EDGE))
                .corner_radius(CornerRadius::same(16))
                .shadow(theme::SHADOW)
                .inner_margin(Margin::same(18));
            frame
                .show(ui, |ui| {
                    ui.set_width(width - 36.0);
                    let tallest = bar.top() - area.top() - 70.0;
                    eframe::egui::ScrollArea::vertical()
                        .max_height(tallest)
                        .show(ui, |ui| {
                            let mut commands = settings::devices_ui(ui, snapshot, words, true);
                            ui.add_space(13.0);
                            commands.extend(settings::processing_ui(ui, snapshot, words));
                            commands
                        })
                        .inner
                })
                .inner
        });
    shown.response.widget_info(|| WidgetInfo::labeled(Role::Dialog, true, words.devices));
    shown.inner
}
