//! Colours, fonts and sizes.

use std::sync::Arc;

use eframe::egui::epaint::text::{FallbackRequest, FontInsert, FontProvider};
use eframe::egui::{
    self, Color32, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, RichText,
    Shadow, Stroke, TextStyle, vec2,
};
use egui_system_font_provider::SystemFontProvider;

/// The window's ground.
pub const BACKGROUND: Color32 = Color32::from_rgb(15, 17, 22);
/// Cards and popups.
pub const SURFACE: Color32 = Color32::from_rgb(24, 27, 33);
/// Fields and pickers.
pub const FIELD: Color32 = Color32::from_rgb(36, 40, 49);
/// Fields and pickers under the pointer.
pub const FIELD_HOVER: Color32 = Color32::from_rgb(45, 50, 61);
/// Edges of fields and cards.
pub const EDGE: Color32 = Color32::from_rgb(52, 57, 69);
/// What one is meant to press.
pub const ACCENT: Color32 = Color32::from_rgb(74, 139, 255);
/// The same under the pointer.
pub const ACCENT_HOVER: Color32 = Color32::from_rgb(104, 160, 255);
/// Good news, and the level meter.
pub const GREEN: Color32 = Color32::from_rgb(61, 214, 140);
/// Hanging up, things switched off, bad news.
pub const RED: Color32 = Color32::from_rgb(229, 72, 77);
/// The same under the pointer.
pub const RED_HOVER: Color32 = Color32::from_rgb(240, 98, 102);
/// Words.
pub const TEXT: Color32 = Color32::from_rgb(240, 242, 246);
/// Lesser words: labels, hints (at least 4.5 to 1 on [`BACKGROUND`] and [`FIELD`]).
pub const TEXT_WEAK: Color32 = Color32::from_rgb(160, 168, 182);

/// Corners of fields and buttons.
pub const RADIUS: u8 = 10;

const SEMIBOLD: &str = "semibold";

/// The heavier cut of the font, for headings and buttons.
pub fn semibold() -> FontFamily {
    FontFamily::Name(SEMIBOLD.into())
}

/// Words in the heavier cut.
pub fn strong(text: impl Into<String>, size: f32) -> RichText {
    RichText::new(text).font(FontId::new(size, semibold())).color(TEXT)
}

/// Words in the plain cut.
pub fn plain(text: impl Into<String>, size: f32) -> RichText {
    RichText::new(text).size(size).color(TEXT)
}

/// Lesser words.
pub fn weak(text: impl Into<String>, size: f32) -> RichText {
    RichText::new(text).size(size).color(TEXT_WEAK)
}

/// Brings fonts, colours and sizes into force.
pub fn apply(ctx: &egui::Context) {
    ctx.set_fonts(fonts());
    ctx.set_theme(egui::Theme::Dark);
    ctx.style_mut_of(egui::Theme::Dark, style);
}

/// The system's fonts for what ours lack (Chinese, emoji), unhinted: at small sizes hinting
/// merges the many horizontal strokes of a character into a line that looks struck through.
pub struct SystemFonts(SystemFontProvider);

impl SystemFonts {
    /// Starts looking for fonts, in the background. `locale` picks the shapes of characters
    /// that several languages share.
    pub fn new(locale: &str) -> Self {
        Self(SystemFontProvider::new().with_locale(Some(locale)))
    }
}

impl FontProvider for SystemFonts {
    fn font_for(&self, request: &FallbackRequest<'_>) -> Option<FontInsert> {
        let mut found = self.0.font_for(request)?;
        found.data.tweak.hinting = Some(false);
        Some(found)
    }
}

fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let cuts: [(&str, &'static [u8]); 2] = [
        ("Inter", include_bytes!("../../assets/Inter-Regular.otf")),
        ("Inter SemiBold", include_bytes!("../../assets/Inter-SemiBold.otf")),
    ];
    let fallback = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    for ((name, bytes), family) in cuts.into_iter().zip([FontFamily::Proportional, semibold()]) {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
        let mut order = vec![name.to_owned()];
        order.extend(fallback.iter().cloned());
        fonts.families.insert(family, order);
    }
    fonts
}

fn style(style: &mut egui::Style) {
    style.text_styles.insert(TextStyle::Body, FontId::proportional(15.0));
    style.text_styles.insert(TextStyle::Button, FontId::proportional(15.0));
    style.text_styles.insert(TextStyle::Small, FontId::proportional(12.5));
    style.text_styles.insert(TextStyle::Heading, FontId::new(28.0, semibold()));
    style.spacing.item_spacing = vec2(8.0, 0.0);
    style.spacing.button_padding = vec2(14.0, 8.0);
    style.spacing.menu_margin = Margin::same(6);
    style.spacing.scroll = egui::style::ScrollStyle::floating();
    style.animation_time = 0.12;

    let visuals = &mut style.visuals;
    visuals.override_text_color = Some(TEXT);
    visuals.weak_text_color = Some(TEXT_WEAK);
    visuals.panel_fill = BACKGROUND;
    visuals.window_fill = SURFACE;
    visuals.window_stroke = Stroke::new(1.0, EDGE);
    visuals.window_corner_radius = CornerRadius::same(16);
    visuals.menu_corner_radius = CornerRadius::same(12);
    visuals.extreme_bg_color = FIELD;
    visuals.text_edit_bg_color = Some(FIELD);
    visuals.selection.bg_fill = ACCENT.gamma_multiply(0.45);
    visuals.selection.stroke = Stroke::new(1.5, ACCENT_HOVER);
    visuals.popup_shadow = SHADOW;
    visuals.window_shadow = SHADOW;
    let corner_radius = CornerRadius::same(RADIUS);
    let widgets = &mut visuals.widgets;
    for (look, fill, edge) in [
        (&mut widgets.inactive, FIELD, EDGE),
        (&mut widgets.hovered, FIELD_HOVER, EDGE),
        (&mut widgets.active, FIELD_HOVER, ACCENT),
        (&mut widgets.open, FIELD_HOVER, ACCENT),
    ] {
        look.bg_fill = fill;
        look.weak_bg_fill = fill;
        look.bg_stroke = Stroke::new(1.0, edge);
        look.fg_stroke = Stroke::new(1.5, TEXT);
        look.corner_radius = corner_radius;
        look.expansion = 0.0;
    }
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, EDGE);
    widgets.noninteractive.fg_stroke = Stroke::new(1.0, TEXT);
}

/// Under what floats.
pub const SHADOW: Shadow =
    Shadow { offset: [0, 8], blur: 28, spread: 0, color: Color32::from_black_alpha(140) };
