//! Sound: 48 kHz `f32` in -1..1 everywhere between the devices and Opus, one channel or two by turns,
//! left first.
//!
//! A device, or the thread that stands in for one (files, the test tone), owns the clock. It
//! meets the pipelines in a lock-free ring and calls a wake hook after each block, so that the
//! pipelines poll nothing.

pub mod host;
pub mod jitter;
pub mod mic;
pub mod plan;
pub mod processing;
pub mod speaker;
pub mod stretch;
pub mod wav;

use std::path::PathBuf;
use std::sync::Arc;

use crate::source::DeviceSelector;

/// Samples a second, everywhere inside.
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples in one 20 ms Opus frame.
pub const FRAME_SAMPLES: usize = 960;

/// Called from a device's callback: must not block, lock or allocate (`Thread::unpark` is fine).
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Receives what a running stream has to tell, never from inside an audio callback.
pub type SoundEvents = Arc<dyn Fn(SoundEvent) + Send + Sync>;

/// Where sound comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioSourceSpec {
    /// A microphone.
    Mic(DeviceSelector),
    /// A WAV file, looped in real time.
    File(PathBuf),
    /// A 1 kHz burst in the first 100 ms of every second of Unix time.
    Testcard,
    /// Silence is not even sent.
    None,
}

/// Where sound goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioSinkSpec {
    /// A speaker.
    Speaker(DeviceSelector),
    /// A WAV file, 48 kHz 16 bit: mono, or stereo once the two channels differ.
    File(PathBuf),
    /// Consumed in real time and forgotten.
    None,
}

/// A running source of sound. Dropping it stops the device.
pub struct Capture {
    /// Newly captured samples, in whole frames. When it is full the source drops the newest block.
    pub samples: rtrb::Consumer<f32>,
    /// How many channels there are, 1 or 2.
    pub channels: usize,
    /// The device's or file's name, for people.
    pub name: String,
    /// Whatever keeps the stream alive.
    pub guard: Box<dyn Send>,
}

/// A running sink of sound. Dropping it stops the device.
pub struct Playback {
    /// Samples to be played next, in whole frames. Where it runs dry the sink plays silence.
    pub samples: rtrb::Producer<f32>,
    /// How many channels it takes, 1 or 2.
    pub channels: usize,
    /// How many samples should lie in the ring after each refill: the sink's block size with
    /// some reserve for a late thread, in all channels.
    pub target_fill: usize,
    /// The device's or file's name, for people.
    pub name: String,
    /// Whatever keeps the stream alive.
    pub guard: Box<dyn Send>,
}

/// What a running stream tells.
#[derive(Clone, Debug, PartialEq)]
pub enum SoundEvent {
    /// The device or the sound server went away; the stream is dead.
    Lost(SoundError),
    /// Callbacks stopped although the stream is open (a frozen server).
    Stalled,
}

/// Why there is no sound. Each message says what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SoundError {
    /// No sound server and no hardware.
    #[error("no {kind} was found: plug one in or start the sound server")]
    NoDevice {
        /// "microphone" or "speaker".
        kind: &'static str,
    },
    /// None of this name.
    #[error("there is no {kind} \"{wanted}\": `visavis devices` lists {available}")]
    UnknownDevice {
        /// "microphone" or "speaker".
        kind: &'static str,
        /// What was asked for.
        wanted: String,
        /// What there is instead.
        available: String,
    },
    /// The device exists but does not open or broke.
    #[error("the {kind} \"{name}\" cannot be used: {reason}")]
    Device {
        /// "microphone" or "speaker".
        kind: &'static str,
        /// The device's name.
        name: String,
        /// What the system said.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}
