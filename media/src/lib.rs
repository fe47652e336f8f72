//! Cameras, sound, codecs and the transport of a call between two people.
//!
//! Pictures flow through latest-wins [`slot`]s, sound through lock-free rings; the pure parts
//! (`rtp`, `congestion`, `sound::jitter`) take `now` and do no I/O. Only [`peer`] knows the
//! `webrtc` crate. `docs/architecture.md` draws the whole.

pub mod adapt;
pub mod codec;
pub mod congestion;
pub mod devices;
pub mod frame;
pub mod picture;
pub mod rtp;
pub mod slot;
pub mod sound;
pub mod source;
pub mod strip;
pub mod sync;
pub mod units;
