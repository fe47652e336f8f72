//! Cameras, sound, codecs and the transport of a call between two people.
//!
//! Pictures flow through latest-wins [`slot`]s, sound through lock-free rings; the pure parts
//! (`rtp`, `congestion`, `sound::jitter`) take `now` and do no I/O. Only [`peer`] knows the
//! `webrtc` crate. `docs/architecture.md` draws the whole.

pub mod adapt;
pub mod annexb;
#[cfg(test)]
#[path = "../fuzz/checks/mod.rs"]
mod checks;
pub mod codec;
pub mod congestion;
pub mod devices;
pub mod frame;
pub mod frame_log;
pub mod local;
mod paced;
pub mod peer;
pub mod picture;
pub mod pipeline;
pub mod rtp;
pub mod session;
pub mod slot;
pub mod sound;
pub mod source;
pub mod stats;
pub mod strip;
pub mod sync;
pub mod units;
pub mod video_codec;
