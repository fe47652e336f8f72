//! Visavis: face-to-face video calls in one program.
#![allow(dead_code)] // until the window lands

mod settings;
mod snapshot;
mod text;
mod ui;

fn main() {}
