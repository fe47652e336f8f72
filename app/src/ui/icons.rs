//! Icons, painted as vectors on a 24 by 24 grid: sharp at every scale, and without a font whose
//! private code points a screen reader would spell out.

use eframe::egui::{Color32, CornerRadius, Painter, Pos2, Rect, Shape, Stroke, pos2, vec2};
use std::f32::consts::{PI, TAU};

/// What can be painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icon {
    /// Microphone.
    Microphone,
    /// Microphone, struck out.
    MicrophoneOff,
    /// Camera.
    Camera,
    /// Camera, struck out.
    CameraOff,
    /// Speaker with sound coming out.
    Speaker,
    /// A receiver laid down.
    HangUp,
    /// A screen with an arrow going up.
    Screen,
    /// Cogwheel.
    Gear,
    /// Two sheets.
    Copy,
    /// Tick.
    Tick,
    /// Closed padlock.
    Lock,
    /// Arrow in a circle.
    Refresh,
    /// Corners outwards.
    FullScreen,
    /// Corners inwards.
    Window,
    /// Cross.
    Close,
    /// Arrow to the right.
    Go,
}

/// Paints on the grid.
struct Pen<'a> {
    painter: &'a Painter,
    rect: Rect,
    colour: Color32,
}

impl Icon {
    /// Paints the icon into `rect` (square). `ground` is what lies behind, for the gap beside
    /// the stroke of a struck-out icon.
    pub fn paint(self, painter: &Painter, rect: Rect, colour: Color32, ground: Color32) {
        let pen = Pen { painter, rect, colour };
        match self {
            Self::Microphone => pen.microphone(),
            Self::MicrophoneOff => {
                pen.microphone();
                pen.strike(ground);
            }
            Self::Camera => pen.camera(),
            Self::CameraOff => {
                pen.camera();
                pen.strike(ground);
            }
            Self::Speaker => pen.speaker(),
            Self::HangUp => pen.receiver(),
            Self::Screen => pen.screen(),
            Self::Gear => pen.gear(),
            Self::Copy => pen.sheets(ground),
            Self::Tick => pen.line(&[(5.0, 12.5), (10.0, 17.5), (19.5, 7.0)], 2.4),
            Self::Lock => pen.lock(),
            Self::Refresh => pen.refresh(),
            Self::FullScreen => pen.corners(4.5, 4.5),
            Self::Window => pen.corners(9.0, -4.5),
            Self::Close => {
                pen.line(&[(6.5, 6.5), (17.5, 17.5)], 2.0);
                pen.line(&[(17.5, 6.5), (6.5, 17.5)], 2.0);
            }
            Self::Go => {
                pen.line(&[(5.0, 12.0), (18.5, 12.0)], 2.0);
                pen.line(&[(13.0, 6.5), (18.5, 12.0), (13.0, 17.5)], 2.0);
            }
        }
    }
}

impl Pen<'_> {
    fn at(&self, (x, y): (f32, f32)) -> Pos2 {
        self.rect.min + vec2(x, y) * self.unit()
    }

    fn unit(&self) -> f32 {
        self.rect.width() / 24.0
    }

    fn line(&self, points: &[(f32, f32)], width: f32) {
        self.line_in(points, width, self.colour);
    }

    /// A line with round ends and joints.
    fn line_in(&self, points: &[(f32, f32)], width: f32, colour: Color32) {
        let points: Vec<Pos2> = points.iter().map(|&point| self.at(point)).collect();
        let width = width * self.unit();
        for &point in &points {
            self.painter.circle_filled(point, width / 2.0, colour);
        }
        self.painter.add(Shape::line(points, Stroke::new(width, colour)));
    }

    /// An arc, in turns of a right-handed screen angle (0 right, a quarter down).
    fn arc(&self, centre: (f32, f32), radius: f32, from: f32, to: f32, width: f32) {
        let steps = 20;
        let points: Vec<Pos2> = (0..=steps)
            .map(|step| {
                let angle = from + (to - from) * step as f32 / steps as f32;
                self.at((centre.0 + radius * angle.cos(), centre.1 + radius * angle.sin()))
            })
            .collect();
        let width = width * self.unit();
        for end in [points.first(), points.last()].into_iter().flatten() {
            self.painter.circle_filled(*end, width / 2.0, self.colour);
        }
        self.painter.add(Shape::line(points, Stroke::new(width, self.colour)));
    }

    fn block(&self, min: (f32, f32), max: (f32, f32), radius: f32) {
        let radius = CornerRadius::from(radius * self.unit());
        self.painter.rect_filled(
            Rect::from_min_max(self.at(min), self.at(max)),
            radius,
            self.colour,
        );
    }

    fn polygon(&self, points: &[(f32, f32)]) {
        let points = points.iter().map(|&point| self.at(point)).collect();
        self.painter.add(Shape::convex_polygon(points, self.colour, Stroke::NONE));
    }

    fn microphone(&self) {
        self.block((8.6, 1.8), (15.4, 14.6), 3.4);
        self.arc((12.0, 11.4), 6.6, 0.0, PI, 2.0);
        self.line(&[(12.0, 18.0), (12.0, 21.6)], 2.0);
    }

    fn camera(&self) {
        self.block((2.2, 4.8), (16.6, 19.2), 2.8);
        self.polygon(&[(16.0, 10.6), (22.2, 5.8), (22.2, 18.2), (16.0, 13.4)]);
    }

    fn strike(&self, ground: Color32) {
        self.line_in(&[(5.6, 2.6), (22.4, 19.4)], 2.2, ground);
        self.line(&[(3.4, 3.4), (20.6, 20.6)], 2.0);
    }

    fn speaker(&self) {
        self.block((3.2, 9.0), (8.0, 15.0), 0.8);
        self.polygon(&[(6.4, 9.4), (12.2, 4.6), (12.2, 19.4), (6.4, 14.6)]);
        self.arc((12.4, 12.0), 3.6, -1.0, 1.0, 1.8);
        self.arc((12.4, 12.0), 7.4, -1.0, 1.0, 1.8);
    }

    fn receiver(&self) {
        let centre = (12.0, 20.4);
        self.arc(centre, 10.4, PI * 1.19, PI * 1.81, 3.9);
        for side in [-1.0, 1.0] {
            let x = |distance: f32| 12.0 + side * distance;
            let outer = [(x(10.9), 13.0), (x(9.7), 17.1), (x(5.2), 15.9), (x(5.6), 11.4)];
            self.polygon(&outer);
            self.line(&[(x(9.9), 13.6), (x(9.0), 16.2), (x(5.9), 15.3)], 1.9);
        }
    }

    fn screen(&self) {
        let stroke = Stroke::new(1.9 * self.unit(), self.colour);
        let frame = Rect::from_min_max(self.at((2.8, 4.2)), self.at((21.2, 16.8)));
        let radius = CornerRadius::from(2.2 * self.unit());
        self.painter.rect_stroke(frame, radius, stroke, eframe::egui::StrokeKind::Middle);
        self.line(&[(8.2, 20.2), (15.8, 20.2)], 1.9);
        self.line(&[(12.0, 13.8), (12.0, 7.6)], 1.8);
        self.line(&[(9.2, 10.2), (12.0, 7.4), (14.8, 10.2)], 1.8);
    }

    fn gear(&self) {
        self.painter.circle_stroke(
            self.at((12.0, 12.0)),
            4.75 * self.unit(),
            Stroke::new(3.5 * self.unit(), self.colour),
        );
        for tooth in 0..8 {
            let angle = TAU * tooth as f32 / 8.0;
            let (sin, cos) = angle.sin_cos();
            let turned = |(along, across): (f32, f32)| {
                (12.0 + along * cos - across * sin, 12.0 + along * sin + across * cos)
            };
            self.polygon(&[
                turned((5.6, -1.95)),
                turned((9.7, -1.35)),
                turned((9.7, 1.35)),
                turned((5.6, 1.95)),
            ]);
        }
    }

    fn sheets(&self, ground: Color32) {
        let stroke = Stroke::new(1.9 * self.unit(), self.colour);
        let radius = CornerRadius::from(2.4 * self.unit());
        let back = Rect::from_min_max(self.at((4.0, 4.0)), self.at((15.0, 15.0)));
        let front = Rect::from_min_max(self.at((8.6, 8.6)), self.at((20.0, 20.0)));
        self.painter.rect_stroke(back, radius, stroke, eframe::egui::StrokeKind::Middle);
        self.painter.rect_filled(front.expand(1.6 * self.unit()), radius, ground);
        self.painter.rect_stroke(front, radius, stroke, eframe::egui::StrokeKind::Middle);
    }

    fn lock(&self) {
        self.block((4.6, 10.2), (19.4, 21.4), 2.4);
        self.arc((12.0, 8.4), 4.1, PI, TAU, 2.1);
        self.line(&[(7.9, 8.4), (7.9, 11.0)], 2.1);
        self.line(&[(16.1, 8.4), (16.1, 11.0)], 2.1);
    }

    fn refresh(&self) {
        self.arc((12.0, 12.0), 7.0, 0.15, PI * 1.68, 2.0);
        self.polygon(&[(20.6, 3.2), (20.6, 10.4), (13.4, 10.4)]);
    }

    /// Four corners whose tips lie `inset` from the edge; their arms reach `arm` inwards.
    fn corners(&self, inset: f32, arm: f32) {
        for (x, sx) in [(inset, 1.0), (24.0 - inset, -1.0)] {
            for (y, sy) in [(inset, 1.0), (24.0 - inset, -1.0)] {
                self.line(&[(x + sx * arm, y), (x, y), (x, y + sy * arm)], 2.0);
            }
        }
    }
}

/// A square of `side` in the middle of `rect`.
pub fn square(rect: Rect, side: f32) -> Rect {
    Rect::from_center_size(pos2(rect.center().x, rect.center().y), vec2(side, side))
}
