//! What the codecs' tests encode.

use crate::frame::{Frame, FramePool};
use crate::strip;
use std::time::{Duration, Instant};

pub(crate) const FPS: f32 = 30.0;

/// A camera that pans over a textured wall, numbered by the strip.
pub(crate) struct Scene {
    pub pool: FramePool,
    base: Instant,
    number: u32,
}

impl Scene {
    pub fn new() -> Self {
        Self { pool: FramePool::new(), base: Instant::now(), number: 0 }
    }

    pub fn next(&mut self, width: u32, height: u32) -> Frame {
        let mut frame = self.pool.take(width, height);
        frame.captured_at = self.base + Duration::from_secs(1).mul_f32(self.number as f32 / FPS);
        let shift = self.number as usize * 3;
        let mut noise = self.number | 0x100;
        let [y, u, v] = frame.planes_mut();
        for (row, line) in y.chunks_exact_mut(width as usize).enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                let (x, y) = (column + shift, row + shift / 4);
                let texture = (x * x / 64 + y * y / 48 + (x ^ y)) & 0x7f;
                noise ^= noise << 13;
                noise ^= noise >> 17;
                noise ^= noise << 5;
                *value = 60 + texture as u8 + (noise & 7) as u8;
            }
        }
        u.fill(110);
        v.fill(140);
        strip::write(&mut frame, self.number);
        self.number += 1;
        frame
    }
}
