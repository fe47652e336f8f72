//! Visavis: face-to-face video calls in one program. `docs/architecture.md` draws the whole.

pub mod awake;
pub mod call;
pub mod cli;
pub mod engine;
pub mod headless;
pub mod host;
pub mod negotiation;
pub mod news;
pub mod peer_message;
pub use visavis_signaling::proposal;
pub mod samples;
pub mod settings;
pub mod snapshot;
pub mod text;
pub mod ui;
pub mod window;
