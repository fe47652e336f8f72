//! What the views are built from.

use eframe::egui::{
    self, Align2, Color32, CornerRadius, CursorIcon, FontId, Id, Margin, Mesh, Rect, Response,
    Role, Sense, Stroke, StrokeKind, TextEdit, Ui, UiBuilder, Vec2, WidgetInfo, pos2, vec2,
};
use std::time::Duration;

use super::icons::{Icon, square};
use super::theme;
use crate::snapshot::METER_STEPS;

/// Height of fields and pickers.
pub const FIELD_HEIGHT: f32 = 40.0;

/// How a round button looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Dark, for what is on or neutral.
    Plain,
    /// See-through, on a picture.
    OnPicture,
    /// Red: off, or hanging up.
    Red,
    /// Green: on, and seen by others beyond the usual.
    Green,
}

impl Look {
    fn fill(self, hovered: bool) -> Color32 {
        match (self, hovered) {
            (Self::Plain, false) => Color32::from_rgb(43, 47, 57),
            (Self::Plain, true) => Color32::from_rgb(60, 66, 79),
            (Self::Green, false) => Color32::from_rgb(28, 122, 78),
            (Self::Green, true) => Color32::from_rgb(36, 146, 94),
            (Self::OnPicture, false) => Color32::from_rgba_unmultiplied(16, 12, 14, 178),
            (Self::OnPicture, true) => Color32::from_rgba_unmultiplied(40, 38, 44, 205),
            (Self::Red, false) => theme::RED,
            (Self::Red, true) => theme::RED_HOVER,
        }
    }
}

/// A round button with an icon, named `label`; `hint` is shown under the pointer.
pub fn round_button(
    ui: &Ui,
    rect: Rect,
    icon: Icon,
    look: Look,
    label: &str,
    hint: &str,
) -> Response {
    let response =
        ui.interact(rect, ui.scope_id().with(("round", label_key(icon))), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), label));
    let pressed = response.is_pointer_button_down_on();
    let fill = look.fill(response.hovered() || response.has_focus());
    let radius = rect.width() / 2.0 - if pressed { 1.0 } else { 0.0 };
    ui.painter().circle_filled(rect.center(), radius, fill);
    let side = rect.width() * if icon == Icon::HangUp { 0.56 } else { 0.48 };
    icon.paint(ui.painter(), square(rect, side), Color32::WHITE, fill.to_opaque());
    focus_ring(ui, &response, rect, rect.width() / 2.0);
    response.on_hover_cursor(CursorIcon::PointingHand).on_hover_text(hint)
}

/// A button keeps its identity (and the keyboard's focus) when its icon is struck out.
fn label_key(icon: Icon) -> u8 {
    match icon {
        Icon::MicrophoneOff => Icon::Microphone as u8,
        Icon::CameraOff => Icon::Camera as u8,
        Icon::Window => Icon::FullScreen as u8,
        Icon::Tick => Icon::Copy as u8,
        other => other as u8,
    }
}

/// A ring around what the keyboard would press.
pub fn focus_ring(ui: &Ui, response: &Response, rect: Rect, radius: f32) {
    if response.has_focus() {
        let ring = rect.expand(3.0);
        let stroke = Stroke::new(2.0, theme::ACCENT_HOVER);
        ui.painter().rect_stroke(
            ring,
            CornerRadius::from(radius + 3.0),
            stroke,
            StrokeKind::Middle,
        );
    }
}

/// How a text button looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// What one came for.
    Primary,
    /// Beside it.
    Secondary,
    /// Leaving.
    Danger,
}

/// A button with words, filling `size`.
pub fn text_button(ui: &mut Ui, text: &str, weight: Weight, size: Vec2, enabled: bool) -> Response {
    icon_text_button(ui, None, text, weight, size, enabled)
}

/// A button with an icon and words, filling `size`.
pub fn icon_text_button(
    ui: &mut Ui,
    icon: Option<Icon>,
    text: &str,
    weight: Weight,
    size: Vec2,
    enabled: bool,
) -> Response {
    let sense = if enabled { Sense::click() } else { Sense::hover() };
    let (rect, response) = ui.allocate_exact_size(size, sense);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, text));
    let hovered = enabled && (response.hovered() || response.has_focus());
    let (fill, colour) = match (weight, hovered) {
        _ if !enabled => (theme::FIELD, theme::TEXT_WEAK),
        (Weight::Primary, false) => (theme::ACCENT, Color32::WHITE),
        (Weight::Primary, true) => (theme::ACCENT_HOVER, Color32::WHITE),
        (Weight::Secondary, false) => (theme::FIELD, theme::TEXT),
        (Weight::Secondary, true) => (theme::FIELD_HOVER, theme::TEXT),
        (Weight::Danger, false) => (theme::RED, Color32::WHITE),
        (Weight::Danger, true) => (theme::RED_HOVER, Color32::WHITE),
    };
    let shrink = if response.is_pointer_button_down_on() { 1.0 } else { 0.0 };
    let corner = CornerRadius::same(if size.y > 44.0 { 12 } else { theme::RADIUS });
    ui.painter().rect_filled(rect.shrink(shrink), corner, fill);
    let font = FontId::new(if size.y > 44.0 { 17.0 } else { 15.0 }, theme::semibold());
    let galley = ui.painter().layout_no_wrap(text.to_owned(), font, colour);
    let icon_room = if icon.is_some() { 26.0 } else { 0.0 };
    let left = rect.center().x - (galley.size().x + icon_room) / 2.0;
    if let Some(icon) = icon {
        let place = Rect::from_center_size(pos2(left + 9.0, rect.center().y), vec2(18.0, 18.0));
        icon.paint(ui.painter(), place, colour, fill);
    }
    let top = rect.center().y - galley.size().y / 2.0;
    ui.painter().galley(pos2(left + icon_room, top), galley, colour);
    focus_ring(ui, &response, rect, f32::from(corner.nw));
    if enabled { response.on_hover_cursor(CursorIcon::PointingHand) } else { response }
}

/// A small square button with an icon, as high as a field.
pub fn icon_button(ui: &mut Ui, icon: Icon, label: &str) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(FIELD_HEIGHT, FIELD_HEIGHT), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), label));
    let active = response.hovered() || response.has_focus();
    let fill = if active { theme::FIELD_HOVER } else { theme::FIELD };
    ui.painter().rect(
        rect,
        CornerRadius::same(theme::RADIUS),
        fill,
        Stroke::new(1.0, theme::EDGE),
        StrokeKind::Inside,
    );
    icon.paint(ui.painter(), square(rect, 19.0), theme::TEXT, fill);
    focus_ring(ui, &response, rect, f32::from(theme::RADIUS));
    response.on_hover_cursor(CursorIcon::PointingHand).on_hover_text(label)
}

/// A label above a control.
pub fn caption(ui: &mut Ui, text: &str) -> Response {
    let response = ui.label(theme::weak(text, 13.0));
    ui.add_space(7.0);
    response
}

/// A text field, `width` wide.
pub fn field(
    ui: &mut Ui,
    id: Id,
    text: &mut String,
    hint: &str,
    width: f32,
    limit: usize,
) -> Response {
    let focused = ui.memory(|memory| memory.has_focus(id));
    let edge = if focused { theme::ACCENT } else { theme::EDGE };
    let margin = Margin::symmetric(12, 10);
    let frame = egui::Frame::NONE
        .fill(theme::FIELD)
        .stroke(Stroke::new(1.0, edge))
        .corner_radius(theme::RADIUS)
        .inner_margin(margin);
    let edit = TextEdit::singleline(text)
        .id(id)
        .hint_text(theme::weak(hint, 15.0))
        .font(FontId::proportional(15.0))
        .frame(frame)
        .char_limit(limit)
        .align(Align2::LEFT_CENTER)
        .min_size(vec2(width, FIELD_HEIGHT))
        .desired_width(width - 26.0);
    ui.add(edit)
}

/// A switch between two or more tabs; returns the one clicked.
pub fn segmented(
    ui: &mut Ui,
    name: &str,
    labels: &[&str],
    chosen: usize,
    size: Vec2,
    font: f32,
) -> Option<usize> {
    let (rect, group) = ui.allocate_exact_size(size, Sense::hover());
    group.widget_info(|| WidgetInfo::labeled(Role::TabList, ui.is_enabled(), name));
    let radius = f32::from(theme::RADIUS);
    ui.painter().rect_filled(rect, CornerRadius::from(radius), theme::SURFACE);
    let mut clicked = None;
    let step = rect.width() / labels.len() as f32;
    for (index, label) in labels.iter().enumerate() {
        let left = rect.left() + step * index as f32;
        let cell = Rect::from_min_size(pos2(left, rect.top()), vec2(step, rect.height()));
        let inner = cell.shrink(3.0);
        let response = ui.interact(cell, ui.scope_id().with(("segment", *label)), Sense::click());
        let on = index == chosen;
        response.widget_info(|| WidgetInfo::selected(Role::Tab, ui.is_enabled(), on, *label));
        if on {
            ui.painter().rect_filled(inner, CornerRadius::from(radius - 3.0), theme::FIELD_HOVER);
        }
        let colour = if on || response.hovered() { theme::TEXT } else { theme::TEXT_WEAK };
        let family = if on { theme::semibold() } else { egui::FontFamily::Proportional };
        let centre = inner.center();
        ui.painter().text(centre, Align2::CENTER_CENTER, label, FontId::new(font, family), colour);
        focus_ring(ui, &response, inner, radius - 3.0);
        if response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
            clicked = Some(index);
        }
    }
    clicked
}

/// The level meter: `steps` of [`METER_STEPS`] lit.
pub fn meter(ui: &mut Ui, steps: u8, label: &str) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 10.0), Sense::hover());
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::Meter, true, label);
        info.value = Some(f64::from(steps));
        info
    });
    let pitch = rect.width() / f32::from(METER_STEPS);
    for step in 0..METER_STEPS {
        let left = rect.left() + pitch * f32::from(step);
        let cell = Rect::from_min_size(pos2(left, rect.top()), vec2(pitch - 3.0, rect.height()));
        let colour = match step {
            _ if step >= steps => theme::FIELD,
            _ if step >= METER_STEPS - 2 => theme::RED,
            _ => theme::GREEN,
        };
        ui.painter().rect_filled(cell, CornerRadius::same(3), colour);
    }
}

/// Says that something is under way. Turns slowly enough to cost little.
pub fn spinner(ui: &Ui, centre: egui::Pos2, radius: f32) {
    const DOTS: u32 = 10;
    let now = ui.input(|input| input.time);
    let phase = (now * 10.0) as u32 % DOTS;
    for dot in 0..DOTS {
        let angle = std::f32::consts::TAU * dot as f32 / DOTS as f32;
        let age = (phase + DOTS - dot) % DOTS;
        let alpha = 1.0 - age as f32 / DOTS as f32 * 0.85;
        let at = centre + radius * vec2(angle.cos(), angle.sin());
        ui.painter().circle_filled(at, radius * 0.17, Color32::WHITE.gamma_multiply(alpha));
    }
    ui.ctx().request_repaint_after(Duration::from_millis(100));
}

/// A vertical fade of black over `rect`, from `top` to `bottom` (0 to 255).
pub fn scrim(ui: &Ui, rect: Rect, top: u8, bottom: u8, opacity: f32) {
    let shade = |alpha: u8| Color32::from_black_alpha((f32::from(alpha) * opacity) as u8);
    let mut mesh = Mesh::default();
    mesh.colored_vertex(rect.left_top(), shade(top));
    mesh.colored_vertex(rect.right_top(), shade(top));
    mesh.colored_vertex(rect.right_bottom(), shade(bottom));
    mesh.colored_vertex(rect.left_bottom(), shade(bottom));
    mesh.add_triangle(0, 1, 2);
    mesh.add_triangle(0, 2, 3);
    ui.painter().add(mesh);
}

/// Words on a dark plate, its left bottom corner at `at`, with an icon if given.
pub fn plate(ui: &Ui, at: egui::Pos2, icon: Option<Icon>, text: &str, widest: f32) {
    let icon_room = if icon.is_some() { 22.0 } else { 0.0 };
    let text_room = (widest - icon_room - 20.0).max(20.0);
    let mut job = egui::text::LayoutJob::simple_singleline(
        text.to_owned(),
        FontId::proportional(14.0),
        theme::TEXT,
    );
    job.wrap = egui::text::TextWrapping::truncate_at_width(text_room);
    let galley = ui.painter().layout_job(job);
    let size = vec2(galley.size().x + icon_room + 20.0, 28.0);
    let rect = Rect::from_min_size(pos2(at.x, at.y - size.y), size);
    let fill = Color32::from_black_alpha(160);
    ui.painter().rect_filled(rect, CornerRadius::same(8), fill);
    if let Some(icon) = icon {
        let place =
            Rect::from_center_size(pos2(rect.left() + 18.0, rect.center().y), vec2(16.0, 16.0));
        icon.paint(ui.painter(), place, theme::TEXT, Color32::from_gray(24));
    }
    let top = rect.center().y - galley.size().y / 2.0;
    ui.painter().galley(pos2(rect.left() + 10.0 + icon_room, top), galley, theme::TEXT);
}

/// Adds contents in `rect`, laid out from the top, without moving what follows.
pub fn within<R>(ui: &mut Ui, rect: Rect, add: impl FnOnce(&mut Ui) -> R) -> R {
    let mut child = ui.new_child(UiBuilder::new().max_rect(rect));
    add(&mut child)
}

/// Gives a painted place a name for assistive technology; `live` ones are read out when they
/// change.
pub fn announce(ui: &Ui, id: Id, rect: Rect, role: Role, text: &str) {
    let response = ui.interact(rect, id, Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(role, true, text));
}
