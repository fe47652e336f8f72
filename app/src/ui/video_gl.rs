//! The OpenGL half of [`super::video`]: three one-byte textures and a shader.
#![allow(unsafe_code)] // every OpenGL call is unsafe: the driver trusts its caller

use std::sync::Arc;

use eframe::egui::{PaintCallback, PaintCallbackInfo, Rect, Shape};
use eframe::egui_glow::{CallbackFn, Painter, ShaderVersion};
use eframe::glow::{self, HasContext as _};
use visavis_media::frame::{Frame, Matrix};

use super::made_once::MadeOnce;
use super::renderer::{ShownHook, say_failed};

/// A stream's textures. Clones share them.
#[derive(Clone, Default)]
pub struct Planes {
    resources: MadeOnce<Resources>,
}

struct Resources {
    program: glow::Program,
    vertex_array: glow::VertexArray,
    textures: [glow::Texture; 3],
    size: (u32, u32),
    generation: u64,
}

/// One painting of one frame.
struct Job {
    frame: Arc<Frame>,
    generation: u64,
    part: Rect,
    radius: f32,
}

impl Planes {
    /// A shape that paints `part` (0 to 1; mirrored where its corners are swapped) of `frame`
    /// into `rect`. Planes are uploaded once a `generation`; then `hook` is called.
    pub fn shape(
        &self,
        frame: Arc<Frame>,
        generation: u64,
        rect: Rect,
        part: Rect,
        radius: f32,
        hook: Option<ShownHook>,
    ) -> Shape {
        let planes = self.clone();
        let job = Job { frame, generation, part, radius };
        let callback = CallbackFn::new(move |info: PaintCallbackInfo, painter: &Painter| {
            planes.paint(painter.gl(), &info, &job);
            if let Some(hook) = &hook {
                hook(&job.frame);
            }
        });
        Shape::Callback(PaintCallback { rect, callback: Arc::new(callback) })
    }

    /// Frees textures and shader.
    pub fn destroy(&self, gl: &glow::Context) {
        if let Some(resources) = self.resources.take() {
            // SAFETY: called with the window's context current; the names are ours.
            unsafe {
                gl.delete_program(resources.program);
                gl.delete_vertex_array(resources.vertex_array);
                for texture in resources.textures {
                    gl.delete_texture(texture);
                }
            }
        }
    }

    fn paint(&self, gl: &glow::Context, info: &PaintCallbackInfo, job: &Job) {
        self.resources.with(
            || Resources::new(gl),
            say_failed,
            |resources| {
                resources.upload(gl, job);
                resources.draw(gl, info, job);
            },
        );
    }
}

const VERTEX: &str = "
out vec2 place;
void main() {
    place = vec2(float(gl_VertexID & 1), float((gl_VertexID >> 1) & 1));
    gl_Position = vec4(place.x * 2.0 - 1.0, 1.0 - place.y * 2.0, 0.0, 1.0);
}
";

// The colours stay as they are encoded (gamma space), which is what egui blends in.
const FRAGMENT: &str = "
in vec2 place;
out vec4 colour;
uniform sampler2D y_plane;
uniform sampler2D u_plane;
uniform sampler2D v_plane;
uniform vec4 part;
uniform vec2 chroma_scale;
uniform vec2 size;
uniform float radius;
uniform vec4 matrix;
void main() {
    vec2 at = mix(part.xy, part.zw, place);
    float y = (texture(y_plane, at).r - 16.0 / 255.0) * (255.0 / 219.0);
    vec2 c = vec2(texture(u_plane, at * chroma_scale).r, texture(v_plane, at * chroma_scale).r);
    c = (c - 128.0 / 255.0) * (255.0 / 224.0);
    vec3 rgb = vec3(y + matrix.x * c.y, y - matrix.y * c.x - matrix.z * c.y, y + matrix.w * c.x);
    vec2 corner = abs(place * size - size * 0.5) - size * 0.5 + radius;
    float outside = length(max(corner, 0.0)) + min(max(corner.x, corner.y), 0.0) - radius;
    float cover = radius > 0.0 ? clamp(0.5 - outside, 0.0, 1.0) : 1.0;
    colour = vec4(clamp(rgb, 0.0, 1.0) * cover, cover);
}
";

/// A program of a vertex and a fragment shader. A context must be current.
pub(super) fn link(
    gl: &glow::Context,
    vertex: &str,
    fragment: &str,
) -> Result<glow::Program, String> {
    let version = ShaderVersion::get(gl);
    let head = version.version_declaration();
    let precision = if version.is_embedded() {
        "precision highp float;\nprecision mediump sampler2D;\n"
    } else {
        ""
    };
    // GL 3.1 keeps bit operations on gl_VertexID behind GLSL 1.30, which 1.40 includes.
    // SAFETY: the caller's context is current; every name passed was made here.
    unsafe {
        let program = gl.create_program()?;
        let mut shaders = Vec::new();
        for (kind, body) in [(glow::VERTEX_SHADER, vertex), (glow::FRAGMENT_SHADER, fragment)] {
            let shader = gl.create_shader(kind)?;
            gl.shader_source(shader, &format!("{head}{precision}{body}"));
            gl.compile_shader(shader);
            if !gl.get_shader_compile_status(shader) {
                return Err(gl.get_shader_info_log(shader));
            }
            gl.attach_shader(program, shader);
            shaders.push(shader);
        }
        gl.link_program(program);
        if !gl.get_program_link_status(program) {
            return Err(gl.get_program_info_log(program));
        }
        for shader in shaders {
            gl.detach_shader(program, shader);
            gl.delete_shader(shader);
        }
        Ok(program)
    }
}

/// Smooth between pixels, and nothing of the far side at the edges, for the texture bound.
pub(super) fn set_filters(gl: &glow::Context) {
    for (name, value) in [
        (glow::TEXTURE_MIN_FILTER, glow::LINEAR),
        (glow::TEXTURE_MAG_FILTER, glow::LINEAR),
        (glow::TEXTURE_WRAP_S, glow::CLAMP_TO_EDGE),
        (glow::TEXTURE_WRAP_T, glow::CLAMP_TO_EDGE),
    ] {
        // SAFETY: a call without pointers; without a texture it only sets GL's error.
        unsafe { gl.tex_parameter_i32(glow::TEXTURE_2D, name, value as i32) };
    }
}

impl Resources {
    fn new(gl: &glow::Context) -> Result<Self, String> {
        let program = link(gl, VERTEX, FRAGMENT)?;
        // SAFETY: the context is current inside a paint callback.
        unsafe {
            let vertex_array = gl.create_vertex_array()?;
            let textures = [gl.create_texture()?, gl.create_texture()?, gl.create_texture()?];
            Ok(Self { program, vertex_array, textures, size: (0, 0), generation: 0 })
        }
    }

    fn upload(&mut self, gl: &glow::Context, job: &Job) {
        if self.generation == job.generation {
            return;
        }
        self.generation = job.generation;
        let frame = &job.frame;
        let size = (frame.width(), frame.height());
        let fresh = std::mem::replace(&mut self.size, size) != size;
        let chroma = (frame.chroma_width(), frame.chroma_height());
        for ((texture, plane), (width, height)) in
            self.textures.iter().zip(frame.planes()).zip([size, chroma, chroma])
        {
            let (width, height) = (width as i32, height as i32);
            let data = glow::PixelUnpackData::Slice(Some(plane));
            // SAFETY: the plane holds width x height bytes (`Frame`'s invariant) and the
            // alignment is one byte, so the driver reads nothing beyond it.
            unsafe {
                gl.bind_texture(glow::TEXTURE_2D, Some(*texture));
                gl.pixel_store_i32(glow::UNPACK_ALIGNMENT, 1);
                if fresh {
                    set_filters(gl);
                    let (target, inside) = (glow::TEXTURE_2D, glow::R8 as i32);
                    let (format, kind) = (glow::RED, glow::UNSIGNED_BYTE);
                    gl.tex_image_2d(target, 0, inside, width, height, 0, format, kind, data);
                } else {
                    let (format, kind) = (glow::RED, glow::UNSIGNED_BYTE);
                    let target = glow::TEXTURE_2D;
                    gl.tex_sub_image_2d(target, 0, 0, 0, width, height, format, kind, data);
                }
            }
        }
    }

    fn draw(&self, gl: &glow::Context, info: &PaintCallbackInfo, job: &Job) {
        let frame = &job.frame;
        // Red from Cr, green from Cb and Cr, blue from Cb (ITU-R BT.601-7, BT.709-6).
        let (red, green_b, green_r, blue) = match frame.matrix {
            Matrix::Bt601 => (1.402, 0.344_136, 0.714_136, 1.772),
            Matrix::Bt709 => (1.5748, 0.187_324, 0.468_124, 1.8556),
        };
        let viewport = info.viewport_in_pixels();
        let (width, height) = (viewport.width_px as f32, viewport.height_px as f32);
        // Chroma planes of odd sizes reach half a pixel beyond the picture.
        let chroma_x = frame.width() as f32 / (frame.chroma_width() * 2) as f32;
        let chroma_y = frame.height() as f32 / (frame.chroma_height() * 2) as f32;
        let radius = (job.radius * info.pixels_per_point).min(width / 2.0).min(height / 2.0);
        let part = job.part;
        // SAFETY: the context is current inside a paint callback; program, textures and vertex
        // array are ours and alive. egui sets its own state again afterwards.
        unsafe {
            gl.use_program(Some(self.program));
            gl.bind_vertex_array(Some(self.vertex_array));
            let at = |name| gl.get_uniform_location(self.program, name);
            for (unit, name) in [(0, "y_plane"), (1, "u_plane"), (2, "v_plane")] {
                gl.active_texture(glow::TEXTURE0 + unit);
                gl.bind_texture(glow::TEXTURE_2D, Some(self.textures[unit as usize]));
                gl.uniform_1_i32(at(name).as_ref(), unit as i32);
            }
            let (min, max) = (part.min, part.max);
            gl.uniform_4_f32(at("part").as_ref(), min.x, min.y, max.x, max.y);
            gl.uniform_2_f32(at("chroma_scale").as_ref(), chroma_x, chroma_y);
            gl.uniform_2_f32(at("size").as_ref(), width, height);
            gl.uniform_1_f32(at("radius").as_ref(), radius);
            gl.uniform_4_f32(at("matrix").as_ref(), red, green_b, green_r, blue);
            gl.draw_arrays(glow::TRIANGLE_STRIP, 0, 4);
            for unit in (0..3).rev() {
                gl.active_texture(glow::TEXTURE0 + unit);
                gl.bind_texture(glow::TEXTURE_2D, None);
            }
            gl.bind_vertex_array(None);
            gl.use_program(None);
        }
    }
}
