//! Pictures as the whole program passes them on: I420, limited range, from a pool.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// How Y, Cb and Cr came from R, G and B (ITU-T H.273, table 4). Always limited range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matrix {
    /// BT.601: what cameras and browsers send unless they say otherwise.
    #[default]
    Bt601,
    /// BT.709.
    Bt709,
}

/// What matters in a picture when there is too little of everything (W3C mst-content-hint).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentHint {
    /// That it moves: faces.
    #[default]
    Motion,
    /// That it is sharp: text on a screen.
    Detail,
}

/// One I420 picture. Planes are packed: the luma stride is `width`, the chroma strides are
/// `chroma_width()`. The memory returns to its [`FramePool`] when the picture is dropped.
pub struct Frame {
    width: u32,
    height: u32,
    data: Vec<u8>,
    home: Weak<PoolInner>,
    /// When the picture was taken (sent pictures) or decoded (received ones).
    pub captured_at: Instant,
    /// What turns the planes back into colours.
    pub matrix: Matrix,
    /// What matters in it, for who encodes it.
    pub hint: ContentHint,
    /// The number its strip carries (see `strip`), where one was read.
    pub strip: Option<u32>,
}

impl Frame {
    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Width of the chroma planes: half the width, rounded up.
    pub fn chroma_width(&self) -> u32 {
        self.width.div_ceil(2)
    }

    /// Height of the chroma planes: half the height, rounded up.
    pub fn chroma_height(&self) -> u32 {
        self.height.div_ceil(2)
    }

    /// The planes Y, U, V.
    pub fn planes(&self) -> [&[u8]; 3] {
        let luma = self.luma_len();
        let chroma = self.chroma_len();
        let (y, uv) = self.data.split_at(luma);
        let (u, v) = uv.split_at(chroma);
        [y, u, v]
    }

    /// The planes Y, U, V, to be written.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let luma = self.luma_len();
        let chroma = self.chroma_len();
        let (y, uv) = self.data.split_at_mut(luma);
        let (u, v) = uv.split_at_mut(chroma);
        [y, u, v]
    }

    fn luma_len(&self) -> usize {
        self.width as usize * self.height as usize
    }

    fn chroma_len(&self) -> usize {
        self.chroma_width() as usize * self.chroma_height() as usize
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(pool) = self.home.upgrade() {
            pool.give_back(std::mem::take(&mut self.data));
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}x{}, strip {:?})", self.width, self.height, self.strip)
    }
}

/// Lends out picture memory and takes it back, so that a call at 30 frames a second allocates
/// nothing. Keeps at most a few buffers; asking never blocks and never fails.
#[derive(Clone, Default)]
pub struct FramePool {
    inner: Arc<PoolInner>,
}

#[derive(Default)]
struct PoolInner {
    free: Mutex<Vec<Vec<u8>>>,
}

/// More than a preview, an encoder and a window hold at once.
const KEPT: usize = 4;

impl PoolInner {
    fn give_back(&self, data: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(data);
        }
    }
}

impl FramePool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// A picture of `width` x `height` (each at least 1) with undefined contents.
    pub fn take(&self, width: u32, height: u32) -> Frame {
        let (width, height) = (width.max(1), height.max(1));
        let chroma = width.div_ceil(2) as usize * height.div_ceil(2) as usize;
        let len = width as usize * height as usize + 2 * chroma;
        let mut data = self
            .inner
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        data.resize(len, 0);
        Frame {
            width,
            height,
            data,
            home: Arc::downgrade(&self.inner),
            captured_at: now(),
            matrix: Matrix::default(),
            hint: ContentHint::default(),
            strip: None,
        }
    }

    /// A black picture.
    pub fn black(&self, width: u32, height: u32) -> Frame {
        let mut frame = self.take(width, height);
        let [y, u, v] = frame.planes_mut();
        y.fill(16);
        u.fill(128);
        v.fill(128);
        frame
    }
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_picture_lends_its_memory_to_the_next() {
        let pool = FramePool::new();
        let first = pool.take(64, 48);
        let address = first.planes()[0].as_ptr();
        drop(first);
        assert_eq!(pool.take(64, 48).planes()[0].as_ptr(), address);
    }

    #[test]
    fn odd_sizes_round_chroma_up() {
        let frame = FramePool::new().black(5, 3);
        let [y, u, v] = frame.planes();
        assert_eq!((y.len(), u.len(), v.len()), (15, 6, 6));
    }

    #[test]
    fn a_picture_outlives_its_pool() {
        let frame = FramePool::new().black(2, 2);
        assert_eq!(frame.planes()[0], [16; 4]);
    }
}
