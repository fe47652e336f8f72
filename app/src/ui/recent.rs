//! The rooms visited last, to go back to with one click.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eframe::egui::text::{LayoutJob, TextWrapping};
use eframe::egui::{
    CornerRadius, CursorIcon, FontFamily, FontId, Rect, Role, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, pos2, vec2,
};

use super::icons::{Icon, square};
use super::{Local, theme, widgets};
use crate::settings::RecentRoom;
use crate::snapshot::{Command, Snapshot};

/// The rooms visited last, each a button.
pub fn recent_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    let words = local.words;
    let mut commands = Vec::new();
    let rooms = &snapshot.settings.rooms;
    if rooms.is_empty() {
        return commands;
    }
    ui.add_space(26.0);
    ui.label(theme::weak(words.recent_rooms, 13.0));
    ui.add_space(10.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(10.0, 10.0);
        for room in rooms {
            let mut detail = words.ago(now.saturating_sub(Duration::from_secs(room.when)));
            if room.hosted {
                detail = format!("{} · {detail}", words.hosted_here);
            }
            let label = words.rejoin(room.name());
            if chip(ui, room.name(), &detail, &label) {
                commands.extend(local.form.take_name(snapshot));
                commands.push(rejoin(room));
            }
        }
    });
    commands
}

fn rejoin(room: &RecentRoom) -> Command {
    let target = room.target.clone();
    if room.hosted {
        Command::Host { room: target }
    } else {
        Command::Join { target, server: room.server.clone() }
    }
}

/// A small card of two lines; whether it was clicked.
fn chip(ui: &mut Ui, title: &str, detail: &str, label: &str) -> bool {
    let widest = (ui.max_rect().width() - 20.0).min(230.0);
    let line = |text: &str, size: f32, family, colour| {
        let mut job =
            LayoutJob::simple_singleline(text.to_owned(), FontId::new(size, family), colour);
        job.wrap = TextWrapping::truncate_at_width(widest - 60.0);
        ui.painter().layout_job(job)
    };
    let title = line(title, 14.0, theme::semibold(), theme::TEXT);
    let plain = FontFamily::Proportional;
    let detail = line(detail, 12.0, plain, theme::TEXT_WEAK);
    let width = title.size().x.max(detail.size().x) + 60.0;
    let (rect, response) = ui.allocate_exact_size(vec2(width, 52.0), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), label));
    let active = response.hovered() || response.has_focus();
    let fill = if active { theme::FIELD_HOVER } else { theme::SURFACE };
    let corner = CornerRadius::same(12);
    let edge = Stroke::new(1.0, theme::EDGE);
    ui.painter().rect(rect, corner, fill, edge, StrokeKind::Inside);
    let left = rect.left() + 14.0;
    ui.painter().galley(pos2(left, rect.center().y - title.size().y - 0.5), title, theme::TEXT);
    ui.painter().galley(pos2(left, rect.center().y + 2.5), detail, theme::TEXT_WEAK);
    let arrow =
        Rect::from_center_size(pos2(rect.right() - 20.0, rect.center().y), vec2(18.0, 18.0));
    let colour = if active { theme::ACCENT_HOVER } else { theme::TEXT_WEAK };
    Icon::Go.paint(ui.painter(), square(arrow, 16.0), colour, fill);
    widgets::focus_ring(ui, &response, rect, 12.0);
    response.on_hover_cursor(CursorIcon::PointingHand).clicked()
}
