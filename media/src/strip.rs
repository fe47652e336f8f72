//! The strip of cells that numbers a picture: the top eighteenth, 40 cells across.
//!
//! Cell 0 is white and 1 black, 2-33 a number, 34-37 the XOR of its nibbles (most significant
//! bit first), 38 white and 39 black. It survives scaling to 320x180 and heavy compression.

use crate::frame::Frame;

const CELLS: usize = 40;
const WHITE: u8 = 235;
const BLACK: u8 = 16;
const LEAST_CONTRAST: u32 = 60;

/// Writes `number` into the top of the picture. Pictures below 40x18 are left as they are.
pub fn write(frame: &mut Frame, number: u32) {
    let Some(layout) = Layout::of(frame) else {
        return;
    };
    let bits = 0b10_u64 << 38 | u64::from(number) << 6 | u64::from(checksum(number)) << 2 | 0b10;
    let chroma_width = frame.chroma_width() as usize;
    let chroma_rows = layout.rows.div_ceil(2);
    let [y, u, v] = frame.planes_mut();
    let Some((first, others)) = y.split_at_mut_checked(layout.width) else {
        return;
    };
    for cell in 0..CELLS {
        let white = bits >> (CELLS - 1 - cell) & 1 == 1;
        if let Some(part) = first.get_mut(layout.edge(cell)..layout.edge(cell + 1)) {
            part.fill(if white { WHITE } else { BLACK });
        }
    }
    for row in others.chunks_exact_mut(layout.width).take(layout.rows - 1) {
        row.copy_from_slice(first);
    }
    for plane in [u, v] {
        let len = (chroma_rows * chroma_width).min(plane.len());
        plane[..len].fill(128);
    }
}

/// Reads the number, where there is a strip with enough contrast and a fitting checksum.
pub fn read(frame: &Frame) -> Option<u32> {
    let layout = Layout::of(frame)?;
    let [y, ..] = frame.planes();
    let sample = |cell| layout.sample(y, cell);
    let white = (sample(0)? + sample(38)?) / 2;
    let black = (sample(1)? + sample(39)?) / 2;
    if white < black + LEAST_CONTRAST {
        return None;
    }
    let middle = (white + black) / 2;
    let mut bits = 0_u64;
    for cell in 2..38 {
        bits = bits << 1 | u64::from(sample(cell)? > middle);
    }
    let number = (bits >> 4) as u32;
    (bits as u32 & 0xf == checksum(number)).then_some(number)
}

fn checksum(number: u32) -> u32 {
    (0..8).fold(0, |sum, nibble| sum ^ number >> (4 * nibble) & 0xf)
}

struct Layout {
    width: usize,
    rows: usize,
}

impl Layout {
    fn of(frame: &Frame) -> Option<Self> {
        let width = frame.width() as usize;
        let rows = frame.height() as usize / 18;
        (width >= CELLS && rows >= 1).then_some(Self { width, rows })
    }

    /// Where a cell begins; widths that 40 does not divide are spread evenly.
    fn edge(&self, cell: usize) -> usize {
        cell * self.width / CELLS
    }

    /// The mean of the cell's middle: half its width and height, away from what compression and
    /// scaling do to its borders.
    fn sample(&self, luma: &[u8], cell: usize) -> Option<u32> {
        let (left, right) = (self.edge(cell), self.edge(cell + 1));
        let margin = (right - left) / 4;
        let columns = left + margin..right - margin;
        let rows = self.rows / 4..self.rows - self.rows / 4;
        let mut sum = 0;
        let mut count = 0;
        for row in rows {
            let start = row * self.width;
            let part = luma.get(start + columns.start..start + columns.end)?;
            sum += part.iter().map(|&value| u32::from(value)).sum::<u32>();
            count += part.len() as u32;
        }
        sum.checked_div(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FramePool;

    #[test]
    fn what_is_written_is_read_at_any_size() {
        let pool = FramePool::new();
        for (width, height) in
            [(1280, 720), (640, 360), (320, 180), (322, 179), (641, 361), (40, 18)]
        {
            for number in [0, 1, 0xdead_beef, u32::MAX, 1 << 31] {
                let mut frame = pool.black(width, height);
                write(&mut frame, number);
                assert_eq!(read(&frame), Some(number), "{number} in {width}x{height}");
            }
        }
    }

    #[test]
    fn the_layout_is_the_published_one() {
        let mut frame = FramePool::new().black(80, 36);
        frame.planes_mut()[1].fill(7);
        write(&mut frame, 0x8000_0001);
        let [y, u, _] = frame.planes();
        let cells: Vec<u8> = y[..80].iter().step_by(2).copied().collect();
        let mut expected = vec![16; 40];
        // 8 ^ 1 is 1001.
        for white in [0, 2, 33, 34, 37, 38] {
            expected[white] = 235;
        }
        assert_eq!(cells, expected);
        assert_eq!(y[80..160], y[..80]);
        assert_eq!((y[160], u[0], u[40]), (16, 128, 7));
    }

    #[test]
    fn a_picture_without_a_strip_has_no_number() {
        let pool = FramePool::new();
        assert_eq!(read(&pool.black(1280, 720)), None);
        let mut low = pool.black(1280, 720);
        write(&mut low, 5);
        let [luma, ..] = low.planes_mut();
        for value in luma {
            *value = 100 + *value / 5;
        }
        assert_eq!(read(&low), None, "too little contrast");
        let mut broken = pool.black(1280, 720);
        write(&mut broken, 5);
        for row in 0..40 {
            broken.planes_mut()[0][row * 1280 + 64..row * 1280 + 96].fill(235);
        }
        assert_eq!(read(&broken), None, "the checksum does not fit");
        assert_eq!(read(&pool.black(39, 17)), None);
    }
}
