//! The test picture: colour bars, a restless part, a clock, a label, and the strip with the
//! Unix time in milliseconds. In the first 100 ms of each second a white square is shown.

use super::{FrameSink, SourceError, SourceEvent, SourceEvents, VideoSource};
use crate::frame::{Frame, FramePool};
use crate::paced::{PacedThread, Schedule};
use crate::strip;
use font8x8::{BASIC_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, UnicodeFonts};
use std::f32::consts::TAU;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The smallest picture with room for everything.
const LEAST: (u32, u32) = (160, 90);

/// How long the white square (and the burst of sound) lasts, in milliseconds of each second.
pub const FLASH_MS: u64 = 100;

/// 75 % bars in BT.601: white, yellow, cyan, green, magenta, red, blue.
const BARS: [[u8; 3]; 7] = [
    [180, 128, 128],
    [162, 44, 142],
    [131, 156, 44],
    [112, 72, 58],
    [84, 184, 198],
    [65, 100, 212],
    [35, 212, 114],
];

/// Shown where the font has no glyph: a hollow box.
const UNKNOWN: [u8; 8] = [0x7e, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7e, 0];

/// Starts the testcard; sizes are rounded up to at least 160x90, the rate kept within 1..=120.
/// Says in `events` if it could not start.
pub fn open(
    width: u32,
    height: u32,
    fps: u32,
    label: &str,
    frames: FrameSink,
    events: SourceEvents,
) -> VideoSource {
    let card = Card::new(width, height, label);
    let fps = fps.clamp(1, 120);
    let failed = Arc::clone(&events);
    let thread = PacedThread::spawn("testcard", move |stop| {
        let (width, height) = (card.width, card.height);
        events(SourceEvent::Started { name: "testcard".into(), width, height, fps: fps as f32 });
        let pool = FramePool::new();
        let mut schedule = Schedule::new(Instant::now(), (fps, 1));
        while stop.sleep_until(schedule.deadline()) {
            let mut frame = pool.take(width, height);
            frame.captured_at = Instant::now();
            draw(&mut frame, unix_ms(SystemTime::now()), &card);
            frames(Arc::new(frame));
            schedule.advance();
            schedule.skip_missed(Instant::now());
        }
    });
    match thread {
        Ok(thread) => VideoSource::new(thread),
        Err(error) => {
            let reason = error.to_string();
            failed(SourceEvent::Lost(SourceError::Camera { name: "testcard".into(), reason }));
            VideoSource::new(())
        }
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The parts that do not move, drawn once.
pub struct Card {
    width: u32,
    height: u32,
    background: Frame,
    /// Rows of the restless part, each a texture twice as wide as the picture.
    texture: Vec<u8>,
    /// First row of the restless part, and the one after its last.
    restless: (usize, usize),
    /// Pixels a dot of the font takes.
    dot: usize,
    clock_top: usize,
}

impl Card {
    /// Draws bars and `label`; characters outside the font become boxes.
    pub fn new(width: u32, height: u32, label: &str) -> Self {
        let (width, height) = (width.max(LEAST.0), height.max(LEAST.1));
        let (columns, rows) = (width as usize, height as usize);
        let mut background = FramePool::new().black(width, height);
        let restless = ((rows * 56 / 100) & !1, (rows * 78 / 100) & !1);
        let (chroma_width, chroma_rows) = (background.chroma_width() as usize, restless.0 / 2);
        let [y, u, v] = background.planes_mut();
        for (plane, width, height, part) in [
            (y, columns, restless.0, 0),
            (u, chroma_width, chroma_rows, 1),
            (v, chroma_width, chroma_rows, 2),
        ] {
            for row in plane.chunks_exact_mut(width).take(height) {
                for (column, value) in row.iter_mut().enumerate() {
                    *value = BARS[column * BARS.len() / width][part];
                }
            }
        }
        // The two lines of text share the lowest 22 %, 9 dots each with a dot between them.
        let dot = ((rows - restless.1) / 20).min(columns / (17 * 8)).max(1);
        let label_top = restless.1 + dot;
        let room = columns / (8 * dot) - 1;
        draw_text(&mut background, label.chars().take(room), label_top, dot);
        Self {
            width,
            height,
            background,
            texture: texture(2 * columns, restless.1 - restless.0),
            restless,
            dot,
            clock_top: label_top + 9 * dot,
        }
    }
}

/// Draws the picture of the moment `unix_ms`; a frame of another size than the card's is left
/// as it is. About 0.2 ms at 720p.
pub fn draw(frame: &mut Frame, unix_ms: u64, card: &Card) {
    if (frame.width(), frame.height()) != (card.width, card.height) {
        return;
    }
    for (target, source) in frame.planes_mut().into_iter().zip(card.background.planes()) {
        target.copy_from_slice(source);
    }
    frame.matrix = card.background.matrix;
    draw_restless(frame, unix_ms, card);
    draw_ball(frame, unix_ms, card);
    draw_text(frame, clock(unix_ms).chars(), card.clock_top, card.dot);
    if unix_ms % 1000 < FLASH_MS {
        let side = card.height as usize / 4;
        let (left, top) = ((card.width as usize - side) / 2, (card.height as usize - side) / 2);
        fill_shape(frame, left, top, side, [235, 128, 128], |_, _| true);
    }
    let number = unix_ms as u32; // modulo 2^32, as the format says
    strip::write(frame, number);
    frame.strip = Some(number);
}

/// `HH:MM:SS.mmm UTC`
fn clock(unix_ms: u64) -> String {
    let (seconds, millis) = (unix_ms / 1000, unix_ms % 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03} UTC", seconds % 60)
}

/// Bands that slide at different speeds and sway: no single motion vector fits them.
fn draw_restless(frame: &mut Frame, unix_ms: u64, card: &Card) {
    let width = card.width as usize;
    let seconds = (unix_ms % 3_600_000) as f32 / 1000.0;
    let [y, ..] = frame.planes_mut();
    let rows = y.chunks_exact_mut(width).skip(card.restless.0);
    for (index, (row, texture)) in rows.zip(card.texture.chunks_exact(2 * width)).enumerate() {
        let band = index / 16;
        let speed = 0.05 + 0.03 * (band % 5) as f32;
        let direction = if band % 2 == 0 { 1.0 } else { -1.0 };
        let sway = 0.01 * (seconds * 2.0 + index as f32 * 0.08).sin();
        let offset = (seconds * speed * direction + sway).rem_euclid(1.0) * width as f32;
        let offset = (offset as usize).min(width);
        if let Some(part) = texture.get(offset..offset + width) {
            row.copy_from_slice(part);
        }
    }
}

/// Smooth noise that repeats after half its width, so that it can slide for ever.
fn texture(width: usize, rows: usize) -> Vec<u8> {
    let period = width / 2;
    let mut texture = vec![0; width * rows];
    let mut state = 0x2545_f491_u32;
    for (row, line) in texture.chunks_exact_mut(width).enumerate() {
        let (first, second) = line.split_at_mut(period);
        for (column, value) in first.iter_mut().enumerate() {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let turn = column as f32 / period as f32 * TAU;
            let waves =
                (turn * 23.0 + row as f32 * 0.21).sin() + (turn * 71.0 - row as f32 * 0.13).sin();
            *value = (118.0 + 38.0 * waves) as u8 + (state >> 24) as u8 / 16;
        }
        second.copy_from_slice(&first[..width - period]);
    }
    texture
}

/// A ball between strip and restless part.
fn draw_ball(frame: &mut Frame, unix_ms: u64, card: &Card) {
    let size = (card.height as usize / 6) & !1;
    let first_row = card.height as usize / 18 + 2;
    let (across, down) =
        (card.width as usize - size, card.restless.0.saturating_sub(first_row + size));
    let left = there_and_back(unix_ms, 3700, across);
    let top = first_row + there_and_back(unix_ms, 1900, down);
    let radius = size as f32 / 2.0;
    fill_shape(frame, left, top, size, [200, 60, 180], |column, row| {
        let (x, y) = (column as f32 + 0.5 - radius, row as f32 + 0.5 - radius);
        x * x + y * y <= radius * radius
    });
}

/// Goes from 0 to `span` and back in `period` milliseconds.
fn there_and_back(unix_ms: u64, period: u64, span: usize) -> usize {
    let phase = unix_ms % period;
    let distance = phase.min(period - phase);
    (2 * distance * span as u64 / period) as usize
}

/// Fills the pixels of a square for which `inside(column, row)` holds.
fn fill_shape(
    frame: &mut Frame,
    left: usize,
    top: usize,
    side: usize,
    colour: [u8; 3],
    inside: impl Fn(usize, usize) -> bool,
) {
    let widths = [frame.width(), frame.chroma_width(), frame.chroma_width()].map(|it| it as usize);
    for (index, plane) in frame.planes_mut().into_iter().enumerate() {
        let step = if index == 0 { 1 } else { 2 };
        let rows = plane.chunks_exact_mut(widths[index]).skip(top / step).take(side / step);
        for (row, line) in rows.enumerate() {
            for (column, value) in line.iter_mut().skip(left / step).take(side / step).enumerate() {
                if inside(column * step, row * step) {
                    *value = colour[index];
                }
            }
        }
    }
}

/// One line, centred; each dot of the 8x8 font is `dot` pixels wide and high.
fn draw_text(frame: &mut Frame, text: impl Iterator<Item = char>, top: usize, dot: usize) {
    let glyphs: Vec<[u8; 8]> = text.map(glyph).collect();
    let width = frame.width() as usize;
    let left = width.saturating_sub(glyphs.len() * 8 * dot) / 2;
    let [y, ..] = frame.planes_mut();
    for (row, line) in y.chunks_exact_mut(width).skip(top).take(8 * dot).enumerate() {
        let cells = line.get_mut(left..).unwrap_or_default().chunks_exact_mut(8 * dot);
        for (cell, glyph) in cells.zip(&glyphs) {
            let bits = glyph[row / dot];
            for (column, part) in cell.chunks_exact_mut(dot).enumerate() {
                part.fill(if bits >> column & 1 == 1 { 220 } else { 16 });
            }
        }
    }
}

fn glyph(character: char) -> [u8; 8] {
    BASIC_FONTS
        .get(character)
        .or_else(|| LATIN_FONTS.get(character))
        .or_else(|| GREEK_FONTS.get(character))
        .or_else(|| HIRAGANA_FONTS.get(character))
        .unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Slot;
    use std::time::Duration;

    const NOON: u64 = 1_700_049_600_000 - 1_700_049_600_000 % 86_400_000 + 12 * 3_600_000;

    fn drawn(unix_ms: u64, width: u32, height: u32, label: &str) -> Frame {
        let card = Card::new(width, height, label);
        let mut frame = FramePool::new().take(width, height);
        draw(&mut frame, unix_ms, &card);
        frame
    }

    #[test]
    fn the_strip_tells_the_time_modulo_two_to_the_32() {
        for (width, height) in [(1280, 720), (640, 360), (320, 180), (161, 91)] {
            let frame = drawn(NOON + 417, width, height, "room");
            assert_eq!(strip::read(&frame), Some((NOON + 417) as u32), "{width}x{height}");
            assert_eq!(frame.strip, Some((NOON + 417) as u32));
        }
    }

    #[test]
    fn the_square_stands_for_the_first_hundred_milliseconds() {
        let middle = |unix_ms| {
            let frame = drawn(unix_ms, 640, 360, "room");
            frame.planes()[0][180 * 640 + 320]
        };
        assert_eq!((middle(NOON), middle(NOON + 99)), (235, 235));
        assert_ne!(middle(NOON + 100), 235);
        assert_ne!(middle(NOON + 999), 235);
    }

    #[test]
    fn the_clock_reads_as_people_read_it() {
        assert_eq!(clock(NOON + 3_723_045), "13:02:03.045 UTC");
        let row = |frame: &Frame| frame.planes()[0][640 * 290..].to_vec();
        let (one, other) = (drawn(NOON + 200, 640, 360, "a"), drawn(NOON + 201, 640, 360, "a"));
        assert_ne!(row(&one), row(&other), "the last digit differs");
    }

    #[test]
    fn labels_of_any_language_and_length_are_drawn() {
        let ink = |label: &str| {
            let card = Card::new(640, 360, label);
            let y = card.background.planes()[0];
            y[640 * card.restless.1..].iter().filter(|&&value| value == 220).count()
        };
        assert_eq!(ink(""), 0);
        assert!(ink("会议室") > 0 && ink("Zoë's room") > ink("Zo"));
        assert!(ink(&"x".repeat(500)) > 0);
        drawn(0, 1, 1, &"\u{1f600}".repeat(99));
    }

    #[test]
    fn every_picture_differs_where_the_encoder_shall_work() {
        let (one, other) = (drawn(NOON + 500, 640, 360, "a"), drawn(NOON + 533, 640, 360, "a"));
        let changed = one.planes()[0]
            .iter()
            .zip(other.planes()[0])
            .filter(|(one, other)| one != other)
            .count();
        assert!(changed > 640 * 360 / 8, "{changed} pixels");
    }

    #[test]
    fn a_running_testcard_delivers_and_stops() {
        let slot = Arc::new(Slot::new());
        let sink = Arc::clone(&slot);
        let source =
            open(320, 180, 100, "a", Arc::new(move |frame| sink.put(frame)), Arc::new(|_| {}));
        let limit = Duration::from_secs(20);
        let first = slot.wait(limit).unwrap().strip.unwrap();
        let second = slot.wait(limit).unwrap().strip.unwrap();
        assert!(second.wrapping_sub(first) < 60_000 && second != first);
        drop(source);
        slot.take();
        assert_eq!(Arc::strong_count(&slot), 1, "the thread has ended");
    }
}
