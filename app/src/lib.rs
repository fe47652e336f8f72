//! Visavis: face-to-face video calls in one program.

pub mod settings;
pub mod snapshot;
pub mod text;
pub mod ui;
