//! Visavis: face-to-face video calls in one program.

fn main() {}
