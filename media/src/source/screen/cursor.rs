//! The pointer's picture, laid over a screen's. Pure.

/// Where a screen's pixels lie: four bytes each, blue first.
pub(super) struct Canvas<'a> {
    /// The bytes.
    pub pixels: &'a mut [u8],
    /// Width in pixels.
    pub width: usize,
    /// Bytes from row to row.
    pub stride: usize,
}

/// A pointer's picture.
pub(super) struct Cursor<'a> {
    /// One word a pixel: alpha, red, green, blue from the top; colours multiplied by alpha.
    pub pixels: &'a [u32],
    /// Width in pixels.
    pub width: usize,
    /// Where its left upper corner is.
    pub left: i32,
    /// Where its left upper corner is.
    pub top: i32,
}

/// Lays it over; what sticks out is cut off.
pub(super) fn draw(canvas: &mut Canvas<'_>, cursor: &Cursor<'_>) {
    if cursor.width == 0 || canvas.stride == 0 {
        return;
    }
    for (row, line) in (0_i32..).zip(cursor.pixels.chunks(cursor.width)) {
        let Ok(y) = usize::try_from(cursor.top + row) else {
            continue;
        };
        let from = y.saturating_mul(canvas.stride);
        let Some(under) = canvas.pixels.get_mut(from..from + canvas.width * 4) else {
            return;
        };
        for (column, &over) in (0_i32..).zip(line) {
            let Ok(x) = usize::try_from(cursor.left + column) else {
                continue;
            };
            let Some(pixel) = under.get_mut(x * 4..x * 4 + 3) else {
                break;
            };
            let left = 255 - (over >> 24);
            for (part, value) in pixel.iter_mut().enumerate() {
                let colour = over >> (8 * part) & 0xff;
                *value = (colour + (u32::from(*value) * left + 127) / 255).min(255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(left: i32, top: i32, pixels: &[u32]) -> Vec<u8> {
        // 3x2 pixels of grey, rows of 16 bytes.
        let mut screen = vec![100; 32];
        let mut canvas = Canvas { pixels: &mut screen, width: 3, stride: 16 };
        draw(&mut canvas, &Cursor { pixels, width: 2, left, top });
        screen
    }

    #[test]
    fn opaque_covers_transparent_does_not_and_half_mixes() {
        let screen = drawn(0, 0, &[0xff01_0203, 0x0000_0000, 0x8040_0000, 0xffff_ffff]);
        assert_eq!(screen[..3], [3, 2, 1], "blue first");
        assert_eq!(screen[4..7], [100, 100, 100]);
        assert_eq!(screen[16..19], [50, 50, 114]);
        assert_eq!(screen[20..23], [255, 255, 255]);
        assert_eq!(screen[3], 100, "the fourth byte stays");
    }

    #[test]
    fn what_sticks_out_is_cut_off() {
        let white = [0xffff_ffff; 4];
        assert_eq!(drawn(-1, -1, &white)[..8], [255, 255, 255, 100, 100, 100, 100, 100]);
        let screen = drawn(2, 1, &white);
        assert_eq!(screen[24..28], [255, 255, 255, 100]);
        assert!(screen[28..].iter().all(|&value| value == 100), "padding is no pixel");
        for (left, top) in [(3, 0), (0, 2), (-2, 0), (0, -2), (i32::MAX - 9, 0), (0, i32::MAX - 9)]
        {
            assert!(drawn(left, top, &white).iter().all(|&value| value == 100), "{left},{top}");
        }
    }
}
