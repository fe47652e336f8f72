//! What the end-to-end tests share: a real Chromium, our own programs, and media that can be told apart.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code)]

pub mod chromium;
pub mod clip;
pub mod devtools;
pub mod firefox;
pub mod headless;
#[cfg(target_os = "linux")]
pub mod lab;
#[cfg(target_os = "linux")]
pub mod netlab;
#[cfg(target_os = "linux")]
pub mod netns;
#[path = "../../../signaling/tests/common/npm.rs"]
pub mod npm;
pub mod page;
pub mod process;
pub mod pulse;
pub mod sound_match;
pub mod speech;
pub mod tutorial;

use std::time::Duration;

/// The limit for things that take well under a second on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);
