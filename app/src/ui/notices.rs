//! Sentences for the user, as small cards at the top.

use std::collections::HashMap;
use std::time::Duration;

use eframe::egui::{
    Align, Align2, Area, CornerRadius, CursorIcon, Frame, Id, Label, Layout, Margin, Order, Role,
    Sense, Stroke, Ui, WidgetInfo, vec2,
};

use super::icons::{Icon, square};
use super::{Local, theme, widgets};
use crate::snapshot::{Command, Notice, Snapshot};

/// News goes by itself after this long, seconds; errors stay until dismissed.
const NEWS_STAYS: f64 = 8.0;

/// How many cards are shown at once; the newest win.
const SHOWN: usize = 3;

/// When each notice was first seen, in the window's time.
#[derive(Default)]
pub struct Toasts {
    seen: HashMap<u64, f64>,
}

/// Draws the notices over everything else.
pub fn notices_ui(ui: &mut Ui, snapshot: &Snapshot, local: &mut Local) -> Vec<Command> {
    let mut commands = Vec::new();
    let now = ui.input(|input| input.time);
    let toasts = &mut local.toasts;
    toasts.seen.retain(|id, _| snapshot.notices.iter().any(|notice| notice.id == *id));
    for notice in &snapshot.notices {
        let since = *toasts.seen.entry(notice.id).or_insert(now);
        if !notice.error && since.is_finite() {
            let left = NEWS_STAYS - (now - since);
            if left <= 0.0 {
                // Once: it stays in sight until the engine has heard.
                toasts.seen.insert(notice.id, f64::INFINITY);
                commands.push(Command::Dismiss(notice.id));
            } else {
                ui.ctx().request_repaint_after(Duration::from_secs_f64(left + 0.01));
            }
        }
    }
    let hidden = snapshot.notices.len().saturating_sub(SHOWN);
    let shown = snapshot.notices.get(hidden..).unwrap_or_default();
    if shown.is_empty() {
        return commands;
    }
    let room = ui.max_rect().width();
    Area::new(Id::unique("notices"))
        .order(Order::Foreground)
        .anchor(Align2::CENTER_TOP, vec2(0.0, 18.0))
        .show(ui.ctx(), |ui| {
            ui.spacing_mut().item_spacing.y = 8.0;
            for notice in shown {
                if card(ui, notice, (room - 48.0).min(460.0), local.words.dismiss) {
                    commands.push(Command::Dismiss(notice.id));
                }
            }
        });
    commands
}

/// Whether the card was dismissed.
fn card(ui: &mut Ui, notice: &Notice, width: f32, dismiss: &str) -> bool {
    let edge = if notice.error { theme::RED } else { theme::EDGE };
    let frame = Frame::NONE
        .fill(theme::SURFACE)
        .stroke(Stroke::new(1.0, edge.gamma_multiply(if notice.error { 0.7 } else { 1.0 })))
        .corner_radius(CornerRadius::same(14))
        .shadow(theme::SHADOW)
        .inner_margin(Margin { left: 16, right: 8, top: 8, bottom: 8 });
    let shown = frame.show(ui, |ui| {
        ui.set_width(width - 24.0);
        ui.horizontal(|ui| {
            let (dot, _) = ui.allocate_exact_size(vec2(14.0, 32.0), Sense::hover());
            let colour = if notice.error { theme::RED } else { theme::ACCENT };
            ui.painter().circle_filled(dot.center(), 4.5, colour);
            let text_width = ui.available_width() - 44.0;
            ui.allocate_ui_with_layout(
                vec2(text_width, 32.0),
                Layout::left_to_right(Align::Center),
                |ui| {
                    ui.set_width(text_width);
                    ui.add(Label::new(theme::plain(&notice.text, 14.5)).wrap());
                },
            );
            let (rect, response) = ui.allocate_exact_size(vec2(32.0, 32.0), Sense::click());
            response.widget_info(|| WidgetInfo::labeled(Role::Button, true, dismiss));
            if response.hovered() {
                ui.painter().circle_filled(rect.center(), 15.0, theme::FIELD_HOVER);
            }
            let place = square(rect, 18.0);
            Icon::Close.paint(ui.painter(), place, theme::TEXT_WEAK, theme::SURFACE);
            widgets::focus_ring(ui, &response, rect.shrink(3.0), 13.0);
            response.on_hover_cursor(CursorIcon::PointingHand).on_hover_text(dismiss).clicked()
        })
        .inner
    });
    // Read out as it appears.
    let node = shown.response.id;
    ui.ctx().accesskit_node_builder(node, |node| {
        node.set_role(if notice.error { Role::Alert } else { Role::Status });
    });
    shown.inner
}
