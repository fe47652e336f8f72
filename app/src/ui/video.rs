//! Moving pictures: the newest frame of a slot, painted by the graphics card from its Y, U and V
//! planes, or, where OpenGL runs in software, from pixels converted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eframe::egui::epaint::RectShape;
use eframe::egui::{
    self, Color32, ColorImage, CornerRadius, ImageData, Rect, TextureHandle, TextureOptions, Vec2,
    pos2, vec2,
};
use eframe::glow;
use visavis_media::frame::{Frame, FramePool, Matrix};
use visavis_media::picture::scale;
use visavis_media::slot::Slot;
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix};

use super::video_copy::Copier;
use super::video_gl::Planes;

/// Forces a renderer: `yuv`, `copy` or `rgba`.
pub const RENDERER_VARIABLE: &str = "VISAVIS_RENDERER";

/// Called with each frame when it is first handed to the screen. Must not block.
pub type ShownHook = Arc<dyn Fn(&Frame) + Send + Sync>;

/// How frames become pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renderer {
    /// Three planes and a shader.
    Yuv,
    /// Converted by the processor, and large ones copied: the cheapest where OpenGL runs there too.
    Copy,
    /// Converted by the processor and drawn by egui.
    Rgba,
}

impl Renderer {
    /// The one that suits this OpenGL (`None`: there is none, as in tests), unless
    /// [`RENDERER_VARIABLE`] says otherwise.
    pub fn choose(gl: Option<&glow::Context>) -> Self {
        let Some(gl) = gl else { return Self::Rgba };
        if !super::video_gl::supported(gl) {
            return Self::Rgba;
        }
        let name = super::video_gl::renderer_name(gl);
        let forced = std::env::var(RENDERER_VARIABLE).ok();
        match Self::of(&name, forced.as_deref()) {
            // Embedded OpenGL knows no BGRA.
            Self::Copy if super::video_gl::is_embedded(gl) => Self::Rgba,
            chosen => chosen,
        }
    }

    fn of(gl_renderer: &str, forced: Option<&str>) -> Self {
        match forced {
            Some("yuv") => return Self::Yuv,
            Some("copy") => return Self::Copy,
            Some("rgba") => return Self::Rgba,
            Some(other) if !other.is_empty() => {
                tracing::warn!("{RENDERER_VARIABLE} is \"{other}\": it knows yuv, copy and rgba");
            }
            _ => {}
        }
        let software = ["llvmpipe", "softpipe", "swiftshader", "software rasterizer"];
        let name = gl_renderer.to_lowercase();
        if software.iter().any(|known| name.contains(known)) { Self::Copy } else { Self::Yuv }
    }
}

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

/// How to paint a frame.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    /// How it meets its place.
    pub fit: Fit,
    /// Left and right swapped, as in a mirror.
    pub mirror: bool,
    /// Rounded corners, points.
    pub radius: f32,
}

/// One stream of pictures on the screen.
pub struct Picture {
    slot: Arc<Slot<Arc<Frame>>>,
    renderer: Renderer,
    name: &'static str,
    newest: Option<Arc<Frame>>,
    /// Counts frames taken from the slot, so that each is uploaded and told once.
    generation: u64,
    told: u64,
    shown: Arc<AtomicU64>,
    on_shown: Option<ShownHook>,
    planes: Planes,
    copier: Copier,
    rgba: Option<Rgba>,
    /// For halved frames.
    pool: FramePool,
}

struct Rgba {
    texture: TextureHandle,
    image: Arc<ColorImage>,
    generation: u64,
}

impl Picture {
    /// Shows what arrives in `slot`; `name` tells textures apart in debugging tools.
    pub fn new(name: &'static str, slot: Arc<Slot<Arc<Frame>>>, renderer: Renderer) -> Self {
        Self {
            slot,
            renderer,
            name,
            newest: None,
            generation: 0,
            told: 0,
            shown: Arc::default(),
            on_shown: None,
            planes: Planes::default(),
            copier: Copier::default(),
            rgba: None,
            pool: FramePool::new(),
        }
    }

    /// Sets who is told of each frame shown.
    pub fn set_on_shown(&mut self, hook: Option<ShownHook>) {
        self.on_shown = hook;
    }

    /// How many different frames reached the screen.
    pub fn shown(&self) -> u64 {
        self.shown.load(Ordering::Relaxed)
    }

    /// The counter behind [`Self::shown`], to be read from elsewhere.
    pub fn shown_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shown)
    }

    /// Takes the newest frame from the slot, if there is one.
    pub fn poll(&mut self) {
        if let Some(frame) = self.slot.take() {
            self.newest = Some(frame);
            self.generation += 1;
        }
    }

    /// Forgets the picture, so that none of an earlier call or camera flashes up later.
    pub fn clear(&mut self) {
        self.slot.take();
        self.newest = None;
    }

    /// Whether there is a picture.
    pub fn is_some(&self) -> bool {
        self.newest.is_some()
    }

    /// The picture's size in pixels.
    pub fn size(&self) -> Option<Vec2> {
        self.newest.as_ref().map(|frame| vec2(frame.width() as f32, frame.height() as f32))
    }

    /// Paints the newest frame into `place`; nothing if there is none.
    pub fn paint(&mut self, ui: &egui::Ui, place: Rect, paint: Paint) {
        let Some(frame) = self.newest.clone() else {
            return;
        };
        let size = vec2(frame.width() as f32, frame.height() as f32);
        let (rect, mut part) = paint.fit.layout(size, place);
        if paint.mirror {
            std::mem::swap(&mut part.min.x, &mut part.max.x);
        }
        let hook = self.news();
        match self.renderer {
            Renderer::Yuv => {
                let generation = self.generation;
                let shape = self.planes.shape(frame, generation, rect, part, paint.radius, hook);
                ui.painter().add(shape);
            }
            // egui has the round corners.
            Renderer::Copy if paint.radius == 0.0 => {
                let shape = self.copier.shape(frame, self.generation, rect, part, hook);
                ui.painter().add(shape);
            }
            Renderer::Copy | Renderer::Rgba => {
                let pixels = rect.size() * ui.pixels_per_point() / part.size().abs();
                let texture = self.upload_rgba(ui.ctx(), &frame, pixels);
                let radius = CornerRadius::from(paint.radius);
                let filled = RectShape::filled(rect, radius, Color32::WHITE);
                ui.painter().add(filled.with_texture(texture, part));
                if let Some(hook) = hook {
                    hook(&frame);
                }
            }
        }
    }

    /// What to call when this frame reaches the screen; `None` if it was there before.
    fn news(&mut self) -> Option<ShownHook> {
        if self.told == self.generation {
            return None;
        }
        self.told = self.generation;
        let (shown, hook) = (Arc::clone(&self.shown), self.on_shown.clone());
        Some(Arc::new(move |frame| {
            shown.fetch_add(1, Ordering::Relaxed);
            if let Some(hook) = &hook {
                hook(frame);
            }
        }))
    }

    /// Uploads `frame`, or as much smaller a one as still has the `pixels` it is to fill.
    fn upload_rgba(&mut self, ctx: &egui::Context, frame: &Frame, pixels: Vec2) -> egui::TextureId {
        let generation = self.generation;
        let halvings = halvings(frame, pixels);
        let mut size = [frame.width(), frame.height()];
        for _ in 0..halvings {
            size = size.map(|side| side / 2);
        }
        let size = size.map(|side| side as usize);
        let fresh = self.rgba.as_ref().is_none_or(|rgba| rgba.texture.size() != size);
        if fresh {
            let mut image = Arc::new(ColorImage::filled(size, Color32::BLACK));
            convert(frame, halvings, &self.pool, &mut image);
            let options = TextureOptions::LINEAR;
            let data = ImageData::Color(Arc::clone(&image));
            let texture = ctx.load_texture(self.name, data, options);
            let rgba = self.rgba.insert(Rgba { texture, image, generation });
            return rgba.texture.id();
        }
        let Some(rgba) = &mut self.rgba else {
            return egui::TextureId::default();
        };
        if rgba.generation != generation {
            rgba.generation = generation;
            convert(frame, halvings, &self.pool, &mut rgba.image);
            // A whole `set` would allocate the texture anew for each frame.
            let data = ImageData::Color(Arc::clone(&rgba.image));
            rgba.texture.set_partial([0, 0], data, TextureOptions::LINEAR);
        }
        rgba.texture.id()
    }

    /// Frees what the graphics card holds.
    pub fn destroy(&mut self, gl: &glow::Context) {
        self.planes.destroy(gl);
        self.copier.destroy(gl);
        self.rgba = None;
    }
}

/// How often `frame` can be halved and still has the `pixels` it is to fill.
fn halvings(frame: &Frame, pixels: Vec2) -> u32 {
    let fits = |side: u32, wanted: f32, halved: u32| (side >> halved) as f32 >= wanted.max(2.0);
    (1..=8)
        .take_while(|halved| {
            fits(frame.width(), pixels.x, *halved) && fits(frame.height(), pixels.y, *halved)
        })
        .count() as u32
}

/// Converts `frame`, `halvings` times halved, into `image` (of that size), whose memory is reused
/// once the painter has let go of it.
fn convert(frame: &Frame, halvings: u32, pool: &FramePool, image: &mut Arc<ColorImage>) {
    if halvings > 0 {
        let half = scale::resize(frame, frame.width() / 2, frame.height() / 2, pool);
        return convert(&half, halvings - 1, pool, image);
    }
    if Arc::get_mut(image).is_none() {
        *image = Arc::new(ColorImage::filled(image.size, Color32::BLACK));
    }
    let Some(pixels) = Arc::get_mut(image) else {
        return;
    };
    let stride = frame.width() * 4;
    let (planes, matrix) = planes(frame);
    let range = YuvRange::Limited;
    said(yuv::yuv420_to_rgba(&planes, pixels.as_raw_mut(), stride, range, matrix));
}

/// Converts `frame` into `pixels`, which takes its size: blue, green, red, 255.
pub(super) fn convert_bgra(frame: &Frame, pixels: &mut Vec<u8>) {
    let stride = frame.width() * 4;
    pixels.resize(stride as usize * frame.height() as usize, 0);
    let (planes, matrix) = planes(frame);
    said(yuv::yuv420_to_bgra(&planes, pixels, stride, YuvRange::Limited, matrix));
}

/// Planes and image have the same size by construction: only a fault of ours gets here.
fn said(result: Result<(), yuv::YuvError>) {
    if let Err(error) = result {
        tracing::error!("a picture cannot be shown: {error}");
    }
}

fn planes(frame: &Frame) -> (YuvPlanarImage<'_, u8>, YuvStandardMatrix) {
    let [y_plane, u_plane, v_plane] = frame.planes();
    let planes = YuvPlanarImage {
        y_plane,
        y_stride: frame.width(),
        u_plane,
        u_stride: frame.chroma_width(),
        v_plane,
        v_stride: frame.chroma_width(),
        width: frame.width(),
        height: frame.height(),
    };
    let matrix = match frame.matrix {
        Matrix::Bt601 => YuvStandardMatrix::Bt601,
        Matrix::Bt709 => YuvStandardMatrix::Bt709,
    };
    (planes, matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_opengl_gets_copies() {
        assert_eq!(Renderer::of("llvmpipe (LLVM 15.0.6, 256 bits)", None), Renderer::Copy);
        assert_eq!(Renderer::of("Google SwiftShader", Some("")), Renderer::Copy);
        assert_eq!(Renderer::of("Mesa Intel(R) UHD Graphics 620", None), Renderer::Yuv);
        assert_eq!(Renderer::of("llvmpipe", Some("yuv")), Renderer::Yuv);
        assert_eq!(Renderer::of("NVIDIA", Some("rgba")), Renderer::Rgba);
        assert_eq!(Renderer::of("NVIDIA", Some("vulkan")), Renderer::Yuv);
    }

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

    #[test]
    fn the_matrix_of_a_frame_decides_its_colours() {
        let pool = FramePool::new();
        let mut colours = Vec::new();
        for matrix in [Matrix::Bt601, Matrix::Bt709] {
            let mut frame = pool.take(4, 4);
            frame.matrix = matrix;
            let [y, u, v] = frame.planes_mut();
            y.fill(81);
            u.fill(90);
            v.fill(240);
            let mut image = Arc::new(ColorImage::filled([4, 4], Color32::BLACK));
            convert(&frame, 0, &pool, &mut image);
            colours.push(image.pixels[5]);
        }
        // BT.601's pure red (BT.601-7, limited range).
        assert!(colours[0].r() > 250 && colours[0].g() < 5 && colours[0].b() < 5);
        assert_ne!(colours[0], colours[1]);
    }

    #[test]
    fn a_large_picture_for_a_small_place_is_halved() {
        let pool = FramePool::new();
        let frame = pool.black(1280, 720);
        let halved = |width, height| halvings(&frame, vec2(width, height));
        assert_eq!(halved(1280.0, 720.0), 0);
        assert_eq!(halved(700.0, 300.0), 0);
        assert_eq!(halved(640.0, 360.0), 1);
        assert_eq!(halved(242.0, 136.0), 2);
        assert_eq!(halved(0.0, 0.0), 8);
        let mut image = Arc::new(ColorImage::filled([320, 180], Color32::WHITE));
        convert(&frame, 2, &pool, &mut image);
        assert_eq!(image.pixels[320 * 179 + 319], Color32::BLACK);
    }

    #[test]
    fn a_frame_is_told_once_however_often_it_is_painted() {
        let slot = Arc::new(Slot::new());
        let mut picture = Picture::new("test", Arc::clone(&slot), Renderer::Rgba);
        let told = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&told);
        picture.set_on_shown(Some(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        })));
        let pool = FramePool::new();
        let frame = pool.black(8, 8);
        for size in [(8, 8), (8, 8), (16, 8)] {
            slot.put(Arc::new(pool.black(size.0, size.1)));
            picture.poll();
            assert_eq!(picture.size(), Some(vec2(size.0 as f32, size.1 as f32)));
            for _ in 0..3 {
                picture.poll();
                if let Some(hook) = picture.news() {
                    hook(&frame);
                }
            }
        }
        assert_eq!((picture.shown(), told.load(Ordering::Relaxed)), (3, 3));
        picture.clear();
        assert!(!picture.is_some());
    }
}
