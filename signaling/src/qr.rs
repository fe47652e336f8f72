//! A link as a picture in the terminal, for a telephone's camera.

use qrcode::{Color, EcLevel, QrCode};

/// Light around the code, in modules (ISO/IEC 18004 asks for four; two are enough on a screen
/// and fit more terminals).
const MARGIN: isize = 2;

/// `text` as a QR code of half blocks, two rows of modules a line, light on the terminal's
/// dark or drawn in its own colours: black on white. `None` where it is too long for one.
pub fn half_blocks(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = isize::try_from(code.width()).ok()?;
    let modules = code.to_colors();
    let dark = |x: isize, y: isize| {
        let inside = (0..width).contains(&x) && (0..width).contains(&y);
        inside && usize::try_from(y * width + x).is_ok_and(|at| modules[at] == Color::Dark)
    };
    let mut lines = String::new();
    for y in (-MARGIN..width + MARGIN).step_by(2) {
        // Black on white whatever the terminal's colours are: many readers want it so.
        lines.push_str("\u{1b}[30;107m");
        for x in -MARGIN..width + MARGIN {
            lines.push(match (dark(x, y), dark(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines.push_str("\u{1b}[0m\n");
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_becomes_a_square_that_fits_a_terminal() {
        let link = format!(
            "https://192.168.100.100:8443/room/lusab-babad-gutih-tugad#fp={}",
            "A".repeat(43)
        );
        let code = half_blocks(&link).unwrap();
        let widths: Vec<usize> = code
            .lines()
            .map(|line| {
                line.trim_start_matches("\u{1b}[30;107m")
                    .trim_end_matches("\u{1b}[0m")
                    .chars()
                    .count()
            })
            .collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width <= 80), "{widths:?}");
        assert!(widths.len().abs_diff(widths[0].div_ceil(2)) <= 1);
        // The finder pattern in the upper left corner begins after the margin.
        assert!(code.lines().nth(1).unwrap().contains("  █▀▀▀▀▀█"), "{code}");
    }

    #[test]
    fn what_is_too_long_is_none() {
        assert!(half_blocks(&"x".repeat(5_000)).is_none());
    }
}
