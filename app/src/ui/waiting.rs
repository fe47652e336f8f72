//! Alone in the room: the link to pass on.

use std::time::Duration;

use eframe::egui::{
    Color32, CornerRadius, FontId, Frame, Label, Margin, Rect, Stroke, Ui, pos2, vec2,
};

use super::fit::Fit;
use super::icons::Icon;
use super::video::Paint;
use super::widgets::{self, Weight};
use super::{Local, bar, theme};
use crate::snapshot::{Command, Phase, Snapshot};

/// How long "Copied" stays, seconds.
const COPIED_STAYS: f64 = 2.0;

/// Draws the waiting room, also while the room is still being reached.
pub fn waiting_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    let area = ui.max_rect();
    let mut commands = Vec::new();
    if local.own.is_some() {
        local.own.paint(ui, area, Paint { fit: Fit::Cover, mirror: true, radius: 0.0 });
        ui.painter().rect_filled(area, 0.0, Color32::from_black_alpha(150));
    }
    let bar = bar::place(area, bar::Leave::Elsewhere);
    let width = (area.width() - 40.0).min(560.0);
    let id = ui.scope_id().with("height of the card");
    let known = ui.data(|data| data.get_temp::<f32>(id));
    let free = bar.top() - 12.0 - area.top();
    let height = known.unwrap_or(free).min(free - 12.0);
    let top = area.top() + ((free - height) / 2.0).max(12.0);
    let place = Rect::from_min_size(
        pos2(area.center().x - width / 2.0, top.round()),
        vec2(width, free - 12.0),
    );
    let tight = area.height() < 520.0;
    let (side, above) = if tight { (22.0, 14.0) } else { (28.0, 26.0) };
    widgets::within(ui, place, |ui| {
        let card = Frame::NONE
            .fill(Color32::from_rgba_unmultiplied(20, 22, 28, 238))
            .stroke(Stroke::new(1.0, Color32::from_white_alpha(24)))
            .corner_radius(CornerRadius::same(20))
            .shadow(theme::SHADOW)
            .inner_margin(Margin::symmetric(side as i8, above as i8))
            .show(ui, |ui| {
                ui.set_width(width - 2.0 * side);
                let shown = eframe::egui::ScrollArea::vertical()
                    .max_height(free - 24.0 - 2.0 * above)
                    .show(ui, |ui| card_ui(ui, snapshot, local));
                commands.extend(shown.inner);
                shown.content_size.y
            });
        let used = card.inner + 2.0 * above;
        if known.is_none_or(|known| (known - used).abs() > 0.5) {
            ui.data_mut(|data| data.insert_temp(id, used));
            ui.ctx().request_discard("the height of the card changed");
        }
    });
    commands.extend(bar::bar_ui(ui, area, snapshot, local, bar::Leave::Elsewhere, 1.0));
    commands
}

fn card_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    let words = local.words;
    let mut commands = Vec::new();
    let (heading, room, invite) = match &snapshot.phase {
        Phase::Waiting { room, invite } => (words.waiting, room, Some(invite)),
        Phase::Joining { room, held: true } => (words.seat_held, room, None),
        Phase::Joining { room, held: false } => (words.joining, room, None),
        // Not drawn here.
        Phase::Lobby
        | Phase::Connecting { .. }
        | Phase::InCall { .. }
        | Phase::Reconnecting { .. } => return commands,
    };
    ui.horizontal(|ui| {
        let (place, _) = ui.allocate_exact_size(vec2(30.0, 34.0), eframe::egui::Sense::hover());
        widgets::spinner(ui, place.center(), 11.0);
        ui.add_space(4.0);
        ui.add(Label::new(theme::strong(heading, 22.0)).wrap());
    });
    ui.add_space(6.0);
    ui.label(theme::weak(words.room_named(room), 15.0));
    match invite {
        Some(Some(link)) => {
            ui.add_space(16.0);
            ui.label(theme::plain(words.waiting_explained, 15.0));
            ui.add_space(12.0);
            link_ui(ui, link);
        }
        Some(None) => {
            ui.add_space(16.0);
            ui.label(theme::plain(words.no_invite(room), 15.0));
        }
        None => {}
    }
    ui.add_space(16.0);
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        let size = vec2(120.0, 48.0);
        if widgets::text_button(ui, words.cancel, Weight::Secondary, size, true).clicked() {
            commands.push(Command::HangUp);
        }
        if let Some(Some(link)) = invite {
            copy_ui(ui, link, local);
        }
    });
    commands
}

/// The link, large.
fn link_ui(ui: &mut Ui, link: &str) {
    Frame::NONE
        .fill(theme::FIELD)
        .stroke(Stroke::new(1.0, theme::EDGE))
        .corner_radius(CornerRadius::same(12))
        .inner_margin(Margin::symmetric(16, 14))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            let size = link_size(ui, link);
            let text = eframe::egui::RichText::new(link)
                .font(FontId::new(size, theme::semibold()))
                .color(theme::TEXT);
            ui.add(Label::new(text).wrap_mode(eframe::egui::TextWrapMode::Wrap).selectable(true));
        });
}

/// The button that copies the link, as wide as there is room.
fn copy_ui(ui: &mut Ui, link: &str, local: &mut Local) {
    let words = local.words;
    let now = ui.input(|input| input.time);
    let copied = local.call.copied_at.is_some_and(|at| now - at < COPIED_STAYS);
    let (icon, label) = if copied { (Icon::Tick, words.copied) } else { (Icon::Copy, words.copy) };
    let size = vec2(ui.available_width(), 48.0);
    let button = widgets::icon_text_button(ui, Some(icon), label, Weight::Primary, size, true);
    if button.clicked() {
        ui.ctx().copy_text(link.to_owned());
        local.call.copied_at = Some(now);
        ui.ctx().request_repaint_after(Duration::from_secs_f64(COPIED_STAYS + 0.05));
    }
}

/// The largest size at which the link stays on one line; else it wraps at a readable one.
fn link_size(ui: &Ui, link: &str) -> f32 {
    let room = ui.available_width();
    let fits = |size: &f32| {
        let font = FontId::new(*size, theme::semibold());
        ui.painter().layout_no_wrap(link.to_owned(), font, theme::TEXT).size().x <= room
    };
    [19.0, 17.5, 16.0, 14.5].into_iter().find(fits).unwrap_or(16.0)
}
