//! VP8 through libvpx, the system's.

mod decoder;
mod encoder;
pub(crate) mod header;

pub use decoder::Vp8Decoder;
pub use encoder::Vp8Encoder;

#[cfg(test)]
mod tests;
