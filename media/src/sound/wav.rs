//! Sound from and to WAV files, the test tone, and the sink that forgets.
//!
//! Threads of their own stand in for a device's clock: 10 ms blocks at absolute deadlines.

mod reader;
mod writer;

use super::{Capture, Playback, SAMPLE_RATE, SoundError, SoundEvent, SoundEvents, Wake};
use crate::paced::{PacedThread, Schedule};
use reader::WavReader;
use rtrb::{Consumer, Producer, RingBuffer};
use std::f32::consts::TAU;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use writer::WavSink;

/// Frames (one sample a channel) in 10 ms.
const BLOCK: usize = SAMPLE_RATE as usize / 100;

/// Frames in a ring: 200 ms.
const RING: usize = 20 * BLOCK;

/// How fast these clocks run, against the system's: sound cards are up to some 300 millionths off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSkew(i32);

impl ClockSkew {
    /// So many millionths faster, at most 10,000 either way.
    pub fn new(ppm: i32) -> Self {
        Self(ppm.clamp(-10_000, 10_000))
    }

    /// Blocks of 10 ms, and in how many seconds they come.
    fn rate(self) -> (u32, u32) {
        let blocks = 100 * (1_000_000 + i64::from(self.0));
        (u32::try_from(blocks).unwrap_or(100_000_000), 1_000_000)
    }
}

/// How long a sink waits for sound that is not there, at most. A sound card cannot wait, but it
/// also has a clock that a busy machine does not hold up: a sink that is late by several blocks
/// would otherwise take them all before the other thread gets to run.
const PATIENCE: Duration = Duration::from_millis(200);

/// Amplitude of the test tone.
const TONE: f32 = 0.5;

/// Plays the file at `path` over and over: its channels mixed to one, or its first two (`channels`)
/// where it has as many. Its header is checked before this returns.
pub fn open_source(
    path: &Path,
    channels: u16,
    clock: ClockSkew,
    wake: Wake,
    events: SoundEvents,
) -> Result<Capture, SoundError> {
    let mut wav = WavReader::open(path, channels)?;
    let name = path.display().to_string();
    capture(name, wav.channels(), clock, wake, move |_, block| match wav.read(block) {
        Ok(()) => true,
        Err(error) => {
            events(SoundEvent::Lost(error));
            false
        }
    })
}

/// A 1 kHz burst in the first 100 ms of every second of Unix time, silence between.
pub fn open_testcard(clock: ClockSkew, wake: Wake) -> Result<Capture, SoundError> {
    capture("testcard".into(), 1, clock, wake, |lateness_samples, block| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = now.as_nanos() * u128::from(SAMPLE_RATE) / 1_000_000_000;
        tone(first.saturating_sub(lateness_samples), block);
        true
    })
}

/// Writes what is played to `path`, 48 kHz 16 bit, in real time: mono, or stereo once the two
/// channels differ. The file is readable at any time, also after the process was killed.
pub fn open_sink(path: &Path, clock: ClockSkew, wake: Wake) -> Result<Playback, SoundError> {
    let mut sink = WavSink::create(path)?;
    let name = path.display().to_string();
    playback(name, 2, clock, wake, move |block| match sink.write(block) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("{error}; the recording ends here");
            false
        }
    })
}

/// Consumes what is played in real time and forgets it.
pub fn open_null(clock: ClockSkew, wake: Wake) -> Result<Playback, SoundError> {
    playback("none".into(), 1, clock, wake, |_| true)
}

/// Samples counted from the Unix epoch, so that bursts meet the testcard's white square.
fn tone(first: u128, block: &mut [f32]) {
    let rate = SAMPLE_RATE as usize;
    for (at, sample) in block.iter_mut().enumerate() {
        let within = (first % u128::from(SAMPLE_RATE)) as usize + at;
        let within = within % rate;
        let phase = (within % 48) as f32 / 48.0;
        *sample = if within < rate / 10 { TONE * (phase * TAU).sin() } else { 0.0 };
    }
}

/// `fill` gets how many frames ago the block's deadline was; false ends the stream.
fn capture(
    name: String,
    channels: usize,
    clock: ClockSkew,
    wake: Wake,
    mut fill: impl FnMut(u128, &mut [f32]) -> bool + Send + 'static,
) -> Result<Capture, SoundError> {
    let (mut producer, samples) = RingBuffer::new(RING * channels);
    let thread = PacedThread::spawn("sound source", move |stop| {
        let mut schedule = Schedule::new(Instant::now(), clock.rate());
        let mut block = vec![0.0; BLOCK * channels];
        // Microphones deliver a block when it is over: so does this.
        schedule.advance();
        while stop.sleep_until(schedule.deadline()) {
            let late = Instant::now().saturating_duration_since(schedule.deadline());
            let late = late.as_nanos() * u128::from(SAMPLE_RATE) / 1_000_000_000;
            if !fill(late + BLOCK as u128, &mut block) {
                return;
            }
            push(&mut producer, &block, channels);
            wake();
            schedule.advance();
            schedule.forget_standstill(Instant::now());
        }
    })
    .map_err(|error| failed(&name, &error))?;
    Ok(Capture { samples, channels, name, guard: Box::new(thread) })
}

/// As many whole frames as fit: a reader that stands still loses the newest.
fn push(producer: &mut Producer<f32>, block: &[f32], channels: usize) {
    let room = producer.slots().min(block.len()) / channels * channels;
    if let Ok(chunk) = producer.write_chunk_uninit(room) {
        chunk.fill_from_iter(block.iter().copied());
    }
}

fn playback(
    name: String,
    channels: usize,
    clock: ClockSkew,
    wake: Wake,
    mut consume: impl FnMut(&[f32]) -> bool + Send + 'static,
) -> Result<Playback, SoundError> {
    let (samples, mut consumer) = RingBuffer::new(RING * channels);
    let thread = PacedThread::spawn("sound sink", move |stop| {
        let mut schedule = Schedule::new(Instant::now(), clock.rate());
        let mut block = vec![0.0; BLOCK * channels];
        while stop.sleep_until(schedule.deadline()) {
            let patient_until = Instant::now() + PATIENCE;
            while consumer.slots() < block.len() && Instant::now() < patient_until {
                wake();
                if !stop.sleep_until(Instant::now() + Duration::from_millis(1)) {
                    return;
                }
            }
            pull(&mut consumer, &mut block);
            if !consume(&block) {
                return;
            }
            wake();
            schedule.advance();
            schedule.forget_standstill(Instant::now());
        }
    })
    .map_err(|error| failed(&name, &error))?;
    // No reserve: this clock waits for a late thread.
    Ok(Playback { samples, channels, target_fill: BLOCK * channels, name, guard: Box::new(thread) })
}

/// One block; silence where the ring has run dry.
fn pull(consumer: &mut Consumer<f32>, block: &mut [f32]) {
    let ready = consumer.slots().min(block.len());
    let mut taken = 0;
    if let Ok(chunk) = consumer.read_chunk(ready) {
        for (to, from) in block.iter_mut().zip(chunk) {
            *to = from;
            taken += 1;
        }
    }
    if let Some(rest) = block.get_mut(taken..) {
        rest.fill(0.0);
    }
}

fn failed(name: &str, error: &std::io::Error) -> SoundError {
    SoundError::File { path: name.into(), reason: format!("no thread could be started: {error}") }
}

#[cfg(test)]
mod tests;
