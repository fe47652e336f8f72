//! What every end plays unless told otherwise: a clip as hard to encode as a person before a wall of
//! shelves, filmed by a hand, and a voice-like sound. Every picture carries its number.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use visavis_media::frame::{Frame, FramePool};
use visavis_media::strip;

use crate::picture::Clip;

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
const FPS: u32 = 30;
const SECONDS: u32 = 6;
/// Around the picture, for the hand that holds the camera.
const MARGIN: usize = 64;

/// The files, in a folder that lives as long as this.
pub struct Scene {
    folder: tempfile::TempDir,
    voice: crate::common::clip::Media,
}

impl Scene {
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-calls-").tempdir()?;
        Ok(Self { folder, voice: crate::common::clip::Media::generate()? })
    }

    /// A generated clip.
    pub fn clip(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("clip.y4m");
        write_clip(&path)?;
        Ok(path)
    }

    /// A copy of a clip whose pictures carry numbers.
    pub fn numbered(&self, clip: &mut Clip) -> Result<PathBuf> {
        let path = self.folder.path().join("numbered.y4m");
        let mut file = BufWriter::new(File::create(&path)?);
        writeln!(file, "YUV4MPEG2 W{} H{} F{FPS}:1 Ip A1:1 C420jpeg", clip.width, clip.height)?;
        for number in 0..clip.pictures {
            let mut frame = clip.frame(number)?;
            strip::write(&mut frame, number);
            write_picture(&mut file, &frame)?;
        }
        file.flush()?;
        Ok(path)
    }

    pub fn speech(&self) -> PathBuf {
        self.voice.microphone()
    }
}

fn write_clip(path: &Path) -> Result<()> {
    let mut chance = StdRng::seed_from_u64(4);
    let (wide, high) = (WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN);
    let wall = texture(&mut chance, wide, high, 110.0, 70.0);
    let face = texture(&mut chance, wide, high, 170.0, 40.0);
    // A sensor's noise, read from another place for each row.
    let noise: Vec<i8> = (0..1 << 16).map(|_| chance.random_range(-2..=2)).collect();
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FPS}:1 Ip A1:1 C420jpeg")?;
    let mut frame = FramePool::new().take(WIDTH as u32, HEIGHT as u32);
    for number in 0..FPS * SECONDS {
        let time = f64::from(number) / f64::from(FPS);
        // The hand sways and trembles; the person leans and nods. All return where they began.
        let turn = std::f64::consts::TAU * time / f64::from(SECONDS);
        let sway = |of: f64, by: f64| ((of * turn).sin() * by) as isize;
        let hand = (sway(1.0, 40.0) + sway(7.0, 3.0), sway(2.0, 16.0) + sway(9.0, 2.0));
        let person = (sway(2.0, 90.0) + sway(5.0, 20.0), sway(4.0, 24.0));
        let middle = (WIDTH as isize / 2 + person.0, HEIGHT as isize / 2 + 40 + person.1);
        let [y_plane, u_plane, v_plane] = frame.planes_mut();
        for (y, row) in y_plane.chunks_exact_mut(WIDTH).enumerate() {
            let from = (y as isize + MARGIN as isize + hand.1) as usize * wide;
            let from = from + (MARGIN as isize + hand.0) as usize;
            row.copy_from_slice(&wall[from..from + WIDTH]);
            if let Some((begin, end)) = across(y as isize - middle.1, middle.0) {
                let row_of_face = (y as isize - person.1).clamp(0, high as isize - 1) as usize;
                let first = row_of_face * wide + (begin as isize - person.0).max(0) as usize;
                row[begin..end].copy_from_slice(&face[first..first + end - begin]);
            }
            let grain = chance.random_range(0..noise.len() - WIDTH);
            for (pixel, grain) in row.iter_mut().zip(&noise[grain..]) {
                *pixel = pixel.saturating_add_signed(*grain);
            }
        }
        for (plane, (of_wall, of_face)) in [(u_plane, (118, 108)), (v_plane, (124, 152))] {
            for (y, row) in plane.chunks_exact_mut(WIDTH / 2).enumerate() {
                row.fill(of_wall);
                if let Some((begin, end)) = across(2 * y as isize - middle.1, middle.0) {
                    row[begin / 2..end / 2].fill(of_face);
                }
            }
        }
        strip::write(&mut frame, number);
        write_picture(&mut file, &frame)?;
    }
    Ok(file.flush()?)
}

fn write_picture(file: &mut impl Write, frame: &Frame) -> Result<()> {
    file.write_all(b"FRAME\n")?;
    for plane in frame.planes() {
        file.write_all(plane)?;
    }
    Ok(())
}

/// Where the person is, `dy` from the middle of their head: an ellipse, and shoulders below it.
fn across(dy: isize, middle: isize) -> Option<(usize, usize)> {
    let ellipse = |dy: f64, width: f64, height: f64| {
        let inside = 1.0 - (dy / height).powi(2);
        (inside > 0.0).then(|| width * inside.sqrt())
    };
    let half = match dy {
        210.. => ellipse((dy - 420) as f64, 330.0, 210.0).or((dy > 420).then_some(330.0)),
        _ => ellipse(dy as f64, 160.0, 215.0),
    }? as isize;
    let clamp = |x: isize| x.clamp(0, WIDTH as isize) as usize & !1;
    Some((clamp(middle - half), clamp(middle + half)))
}

/// Noise of many scales, most of it coarse, with the hard edges that things have.
fn texture(chance: &mut StdRng, wide: usize, high: usize, level: f64, contrast: f64) -> Vec<u8> {
    let mut sum = vec![0.0_f32; wide * high];
    for (cell, strength) in [(160, 1.0), (64, 0.6), (24, 0.35), (8, 0.18), (3, 0.1)] {
        let columns = wide / cell + 2;
        let grid: Vec<f32> =
            (0..columns * (high / cell + 2)).map(|_| chance.random_range(-1.0..1.0)).collect();
        for (y, row) in sum.chunks_exact_mut(wide).enumerate() {
            let (cy, fy) = (y / cell, (y % cell) as f32 / cell as f32);
            for (x, value) in row.iter_mut().enumerate() {
                let (cx, fx) = (x / cell, (x % cell) as f32 / cell as f32);
                let at = cy * columns + cx;
                let above = grid[at] * (1.0 - fx) + grid[at + 1] * fx;
                let below = grid[at + columns] * (1.0 - fx) + grid[at + columns + 1] * fx;
                *value += strength * (above * (1.0 - fy) + below * fy);
            }
        }
    }
    let edge = |value: f32| f64::from(value) + if value > 0.25 { 0.5 } else { 0.0 };
    sum.iter().map(|&v| (level + contrast * edge(v)).clamp(20.0, 230.0) as u8).collect()
}
