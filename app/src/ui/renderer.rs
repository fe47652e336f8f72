//! Which way pictures come to the screen, and what the ways have in common.
#![allow(unsafe_code)] // every OpenGL call is unsafe: the driver trusts its caller

use std::sync::Arc;

use eframe::egui_glow::ShaderVersion;
use eframe::glow::{self, HasContext as _};
use visavis_media::frame::Frame;

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
        if !supported(gl) {
            return Self::Rgba;
        }
        let name = renderer_name(gl);
        let forced = std::env::var(RENDERER_VARIABLE).ok();
        match Self::of(&name, forced.as_deref()) {
            // Embedded OpenGL knows no BGRA.
            Self::Copy if is_embedded(gl) => Self::Rgba,
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

/// Whether this OpenGL has one-byte textures and shaders without vertex buffers (GL 3.1, ES 3.0).
fn supported(gl: &glow::Context) -> bool {
    ShaderVersion::get(gl).is_new_shader_interface()
}

/// Whether it is OpenGL ES.
fn is_embedded(gl: &glow::Context) -> bool {
    ShaderVersion::get(gl).is_embedded()
}

/// What the driver calls itself.
fn renderer_name(gl: &glow::Context) -> String {
    // SAFETY: the context is current while the window is made; the query has no other condition.
    unsafe { gl.get_parameter_string(glow::RENDERER) }
}

/// Says that a driver does not do what it should, and what to do.
pub fn say_failed(reason: &str) {
    tracing::error!(
        "pictures cannot be shown with this graphics driver ({reason}): start with {}=rgba",
        RENDERER_VARIABLE
    );
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
}
