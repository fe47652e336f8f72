//! Pixel arithmetic.

pub mod convert;
pub(crate) mod cut;
pub mod scale;
