//! Pictures for an OpenGL that runs in software: converted here, and brought to the window with
//! as little of OpenGL as there is. A picture in its own size is copied, any other goes through
//! the plainest of shaders, for which Mesa's rasterizer has a fast way that egui's shader, with
//! its colours and its blending, does not qualify for.
#![allow(unsafe_code)] // every OpenGL call is unsafe: the driver trusts its caller

use std::sync::Arc;

use eframe::egui::{PaintCallback, PaintCallbackInfo, Rect, Shape};
use eframe::egui_glow::{CallbackFn, Painter};
use eframe::glow::{self, HasContext as _};
use visavis_media::frame::Frame;

use super::convert::convert_bgra;
use super::made_once::MadeOnce;
use super::renderer::{ShownHook, say_failed};
use super::video_gl::{link, set_filters};

/// A stream's texture. Clones share it.
#[derive(Clone, Default)]
pub struct Copier {
    resources: MadeOnce<Resources>,
}

struct Resources {
    program: glow::Program,
    vertex_array: glow::VertexArray,
    texture: glow::Texture,
    /// To read the texture by, for copying.
    framebuffer: glow::Framebuffer,
    size: (u32, u32),
    generation: u64,
    /// Blue, green, red, anything: what Mesa's windows are made of.
    pixels: Vec<u8>,
}

/// Pixels from left and top of the picture to right and bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pixels {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Copier {
    /// A shape that paints `part` (0 to 1; mirrored where its corners are swapped) of `frame`
    /// into `rect`, square at the corners. A `generation` is uploaded once; then `hook` is called.
    pub fn shape(
        &self,
        frame: Arc<Frame>,
        generation: u64,
        rect: Rect,
        part: Rect,
        hook: Option<ShownHook>,
    ) -> Shape {
        let copier = self.clone();
        let callback = CallbackFn::new(move |info: PaintCallbackInfo, painter: &Painter| {
            copier.paint(painter.gl(), &info, &frame, generation, part);
            if let Some(hook) = &hook {
                hook(&frame);
            }
        });
        Shape::Callback(PaintCallback { rect, callback: Arc::new(callback) })
    }

    /// Frees texture and shader.
    pub fn destroy(&self, gl: &glow::Context) {
        if let Some(resources) = self.resources.take() {
            // SAFETY: called with the window's context current; the names are ours.
            unsafe {
                gl.delete_program(resources.program);
                gl.delete_vertex_array(resources.vertex_array);
                gl.delete_texture(resources.texture);
                gl.delete_framebuffer(resources.framebuffer);
            }
        }
    }

    fn paint(
        &self,
        gl: &glow::Context,
        info: &PaintCallbackInfo,
        frame: &Frame,
        generation: u64,
        part: Rect,
    ) {
        self.resources.with(
            || Resources::new(gl),
            say_failed,
            |resources| {
                resources.upload(gl, frame, generation);
                let viewport = info.viewport_in_pixels();
                let (width, height) = (viewport.width_px, viewport.height_px);
                match exact(part, (frame.width(), frame.height()), (width, height)) {
                    Some(pixels) if !is_clipped(info) => resources.copy(gl, info, pixels),
                    _ => resources.draw(gl, part),
                }
            },
        );
    }
}

/// Which pixels of a picture of `size` are shown, if each is to be one of the `width` x `height`
/// of the window's.
fn exact(part: Rect, size: (u32, u32), (width, height): (i32, i32)) -> Option<Pixels> {
    let place = |at: f32, side: u32| {
        let at = at * side as f32;
        ((at - at.round()).abs() < 0.05).then(|| at.round() as i32)
    };
    let pixels = Pixels {
        left: place(part.min.x, size.0)?,
        top: place(part.min.y, size.1)?,
        right: place(part.max.x, size.0)?,
        bottom: place(part.max.y, size.1)?,
    };
    let same = pixels.right - pixels.left == width && pixels.bottom - pixels.top == height;
    same.then_some(pixels)
}

/// Whether egui wants less than the whole rectangle painted.
fn is_clipped(info: &PaintCallbackInfo) -> bool {
    let (clip, viewport) = (info.clip_rect_in_pixels(), info.viewport_in_pixels());
    clip.left_px > viewport.left_px
        || clip.from_bottom_px > viewport.from_bottom_px
        || clip.left_px + clip.width_px < viewport.left_px + viewport.width_px
        || clip.from_bottom_px + clip.height_px < viewport.from_bottom_px + viewport.height_px
}

const VERTEX: &str = "
out vec2 place;
uniform vec4 part;
void main() {
    vec2 at = vec2(float(gl_VertexID & 1), float((gl_VertexID >> 1) & 1));
    place = mix(part.xy, part.zw, at);
    gl_Position = vec4(at.x * 2.0 - 1.0, 1.0 - at.y * 2.0, 0.0, 1.0);
}
";

// No more than this: else Mesa takes the general way.
const FRAGMENT: &str = "
in vec2 place;
out vec4 colour;
uniform sampler2D picture;
void main() {
    colour = texture(picture, place);
}
";

impl Resources {
    fn new(gl: &glow::Context) -> Result<Self, String> {
        let program = link(gl, VERTEX, FRAGMENT)?;
        // SAFETY: the context is current inside a paint callback.
        unsafe {
            Ok(Self {
                program,
                vertex_array: gl.create_vertex_array()?,
                texture: gl.create_texture()?,
                framebuffer: gl.create_framebuffer()?,
                size: (0, 0),
                generation: 0,
                pixels: Vec::new(),
            })
        }
    }

    fn upload(&mut self, gl: &glow::Context, frame: &Frame, generation: u64) {
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        convert_bgra(frame, &mut self.pixels);
        let size = (frame.width(), frame.height());
        let fresh = std::mem::replace(&mut self.size, size) != size;
        let (width, height) = (size.0 as i32, size.1 as i32);
        let (target, format, kind) = (glow::TEXTURE_2D, glow::BGRA, glow::UNSIGNED_BYTE);
        let data = glow::PixelUnpackData::Slice(Some(&self.pixels));
        // SAFETY: `pixels` holds four bytes for each of width x height; the names are ours.
        unsafe {
            gl.bind_texture(target, Some(self.texture));
            gl.pixel_store_i32(glow::UNPACK_ALIGNMENT, 1);
            if fresh {
                set_filters(gl);
                // Only to an unsized format does Mesa give the order of `format`; with RGBA8 it
                // swaps every pixel of every upload.
                let inside = glow::RGBA as i32;
                gl.tex_image_2d(target, 0, inside, width, height, 0, format, kind, data);
                gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(self.framebuffer));
                let place = glow::COLOR_ATTACHMENT0;
                let texture = Some(self.texture);
                gl.framebuffer_texture_2d(glow::READ_FRAMEBUFFER, place, target, texture, 0);
                gl.bind_framebuffer(glow::READ_FRAMEBUFFER, None);
            } else {
                gl.tex_sub_image_2d(target, 0, 0, 0, width, height, format, kind, data);
            }
            gl.bind_texture(target, None);
        }
    }

    /// Copies `pixels` to the window, upside down as it counts its rows.
    fn copy(&self, gl: &glow::Context, info: &PaintCallbackInfo, pixels: Pixels) {
        let Pixels { left, top, right, bottom } = pixels;
        let viewport = info.viewport_in_pixels();
        let (x, y) = (viewport.left_px, viewport.from_bottom_px);
        let (to_right, to_top) = (x + viewport.width_px, y + viewport.height_px);
        let (what, how) = (glow::COLOR_BUFFER_BIT, glow::NEAREST);
        // SAFETY: the context is current inside a paint callback and the name is ours. egui sets
        // its own state again afterwards; what it does not, the framebuffer, is put back.
        unsafe {
            gl.disable(glow::SCISSOR_TEST);
            gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(self.framebuffer));
            gl.blit_framebuffer(left, bottom, right, top, x, y, to_right, to_top, what, how);
            gl.bind_framebuffer(glow::READ_FRAMEBUFFER, None);
            gl.enable(glow::SCISSOR_TEST);
        }
    }

    fn draw(&self, gl: &glow::Context, part: Rect) {
        let (min, max) = (part.min, part.max);
        // SAFETY: as in `copy`; blending is put back, too.
        unsafe {
            gl.use_program(Some(self.program));
            gl.bind_vertex_array(Some(self.vertex_array));
            let at = |name| gl.get_uniform_location(self.program, name);
            gl.active_texture(glow::TEXTURE0);
            gl.bind_texture(glow::TEXTURE_2D, Some(self.texture));
            gl.uniform_1_i32(at("picture").as_ref(), 0);
            gl.uniform_4_f32(at("part").as_ref(), min.x, min.y, max.x, max.y);
            gl.disable(glow::BLEND);
            gl.draw_arrays(glow::TRIANGLE_STRIP, 0, 4);
            gl.enable(glow::BLEND);
            gl.bind_texture(glow::TEXTURE_2D, None);
            gl.bind_vertex_array(None);
            gl.use_program(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui::pos2;

    use super::*;

    #[test]
    fn only_a_picture_in_its_own_size_is_copied() {
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        let all = Pixels { left: 0, top: 0, right: 1280, bottom: 720 };
        assert_eq!(exact(whole, (1280, 720), (1280, 720)), Some(all));
        assert_eq!(exact(whole, (640, 360), (1280, 720)), None);
        // A row is cut off above and below; half a row cannot be.
        let inner = Rect::from_min_max(pos2(0.0, 0.1), pos2(1.0, 0.9));
        let rows = Pixels { left: 0, top: 1, right: 16, bottom: 9 };
        assert_eq!(exact(inner, (16, 10), (16, 8)), Some(rows));
        assert_eq!(exact(inner, (16, 15), (16, 12)), None);
        let mirrored = Rect::from_min_max(pos2(1.0, 0.0), pos2(0.0, 1.0));
        assert_eq!(exact(mirrored, (1280, 720), (1280, 720)), None);
    }
}
