//! Pixel arithmetic.

pub mod convert;
pub mod scale;
