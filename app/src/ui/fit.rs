//! How pictures of one shape meet places of another.

use eframe::egui::{Rect, Vec2, pos2, vec2};

/// How a picture meets a rectangle of another shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Fill it; what sticks out is cut off.
    Cover,
    /// Show all; what is left stays empty.
    Contain,
}

impl Fit {
    /// Cover, but a portrait picture in a landscape place (a phone's) is shown whole.
    pub fn for_call(picture: Vec2, place: Vec2) -> Self {
        let portrait = picture.y > picture.x;
        if portrait && place.x > place.y { Self::Contain } else { Self::Cover }
    }

    /// Where to paint a picture of `picture`'s shape in `place`, and which part of it (0 to 1).
    pub fn layout(self, picture: Vec2, place: Rect) -> (Rect, Rect) {
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        if picture.x < 1.0 || picture.y < 1.0 || !place.is_positive() {
            return (place, whole);
        }
        let ratio = (picture.x / picture.y) / (place.width() / place.height());
        match self {
            Self::Cover => {
                let part = if ratio > 1.0 { vec2(1.0 / ratio, 1.0) } else { vec2(1.0, ratio) };
                (place, Rect::from_center_size(whole.center(), part))
            }
            Self::Contain => {
                let share = if ratio > 1.0 { vec2(1.0, 1.0 / ratio) } else { vec2(ratio, 1.0) };
                (Rect::from_center_size(place.center(), place.size() * share), whole)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landscape_covers_and_a_phone_is_shown_whole() {
        let window = vec2(1280.0, 760.0);
        assert_eq!(Fit::for_call(vec2(1280.0, 720.0), window), Fit::Cover);
        assert_eq!(Fit::for_call(vec2(640.0, 480.0), window), Fit::Cover);
        assert_eq!(Fit::for_call(vec2(720.0, 1280.0), window), Fit::Contain);
        assert_eq!(Fit::for_call(vec2(720.0, 1280.0), vec2(480.0, 900.0)), Fit::Cover);
    }

    #[test]
    fn covering_cuts_the_longer_side_evenly() {
        let place = Rect::from_min_size(pos2(0.0, 0.0), vec2(100.0, 100.0));
        let (rect, part) = Fit::Cover.layout(vec2(200.0, 100.0), place);
        assert_eq!(rect, place);
        assert_eq!(part, Rect::from_min_max(pos2(0.25, 0.0), pos2(0.75, 1.0)));
    }

    #[test]
    fn containing_leaves_bars() {
        let place = Rect::from_min_size(pos2(10.0, 0.0), vec2(100.0, 100.0));
        let (rect, part) = Fit::Contain.layout(vec2(100.0, 200.0), place);
        assert_eq!(rect, Rect::from_min_size(pos2(35.0, 0.0), vec2(50.0, 100.0)));
        assert_eq!(part.size(), vec2(1.0, 1.0));
    }
}
