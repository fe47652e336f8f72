//! A server that nobody vouches for: its fingerprint, and the user's decision.

use eframe::egui::{CornerRadius, FontId, Frame, Label, Margin, RichText, Stroke, Ui, vec2};

use super::theme;
use super::widgets::{self, Weight};
use crate::snapshot::{Command, Stranger};
use crate::text::Words;

/// Groups of the fingerprint on one line.
const GROUPS_A_LINE: usize = 4;

/// Draws the question in the place of the lobby's form.
pub fn stranger_ui(ui: &mut Ui, stranger: &Stranger, words: &Words) -> Vec<Command> {
    let mut commands = Vec::new();
    ui.add(Label::new(theme::strong(words.stranger_heading, 28.0)).wrap());
    ui.add_space(8.0);
    ui.add(Label::new(theme::weak(&stranger.server, 15.5)).wrap());
    ui.add_space(16.0);
    ui.add(Label::new(theme::plain(words.stranger_explained, 15.0)).wrap());
    ui.add_space(16.0);
    widgets::caption(ui, words.fingerprint);
    Frame::NONE
        .fill(theme::FIELD)
        .stroke(Stroke::new(1.0, theme::EDGE))
        .corner_radius(CornerRadius::same(12))
        .inner_margin(Margin::symmetric(16, 14))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            let text = RichText::new(in_lines(&stranger.fingerprint.grouped()))
                .font(FontId::monospace(17.0))
                .color(theme::TEXT);
            ui.add(Label::new(text).selectable(true));
        });
    ui.add_space(22.0);
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        let size = vec2(120.0, 48.0);
        if widgets::text_button(ui, words.cancel, Weight::Secondary, size, true).clicked() {
            commands.push(Command::DistrustStranger);
        }
        let size = vec2(ui.available_width(), 48.0);
        if widgets::text_button(ui, words.trust_and_join, Weight::Primary, size, true).clicked() {
            commands.push(Command::TrustStranger);
        }
    });
    commands
}

fn in_lines(grouped: &str) -> String {
    let groups: Vec<&str> = grouped.split(' ').collect();
    let lines: Vec<String> = groups.chunks(GROUPS_A_LINE).map(|line| line.join("  ")).collect();
    lines.join("\n")
}
