//! Moving pictures: the newest frame of a slot, painted by the graphics card from its Y, U and V
//! planes, or, where OpenGL runs in software, from pixels converted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eframe::egui::epaint::RectShape;
use eframe::egui::{
    self, Color32, ColorImage, CornerRadius, ImageData, Rect, TextureHandle, TextureOptions, Vec2,
    vec2,
};
use eframe::glow;
use visavis_media::frame::{Frame, FramePool};
use visavis_media::slot::Slot;

use super::convert::{convert, halvings};
use super::fit::Fit;
use super::renderer::{Renderer, ShownHook};
use super::video_copy::Copier;
use super::video_gl::Planes;

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

#[cfg(test)]
mod tests {
    use super::*;

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
