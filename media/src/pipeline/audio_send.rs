//! Captured sound to packets: 20 ms frames, loudness, mute, Opus. The thread lives as long as
//! its microphone, over any number of connections.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::voice::{Path, Voice};
use super::{Stop, Worker, now};
use crate::peer::Outlet;
use crate::sound::processing::{Processing, Processor, Reference};
use crate::sound::{Capture, FRAME_SAMPLES, SoundError, Wake};
use crate::stats::Counters;
use crate::sync::Stream;

/// Opens the source on the pipeline's own thread.
pub type OpenCapture = Box<dyn FnOnce(Wake) -> Result<Capture, SoundError> + Send>;

/// Told once, on the pipeline's thread: the source's name, or why there is none.
pub type Opened = Box<dyn FnOnce(Result<String, SoundError>) + Send>;

/// Of one frame.
const FRAME: Duration = Duration::from_millis(20);

/// Quieter counts as silence.
pub const SILENCE_DBFS: f32 = -100.0;

/// What others set and read while the thread runs. Outlives microphones.
pub struct AudioFeed {
    muted: AtomicBool,
    processing: Mutex<Processing>,
    reference: Arc<Reference>,
    level: AtomicU32,
    way: Mutex<Option<Way>>,
    /// The stream's clock (RFC 3550 section 5.1): one for all microphones of a call.
    epoch: Instant,
    timestamp_offset: u32,
}

/// A connection's side of it.
#[derive(Clone)]
struct Way {
    outlet: Outlet,
    red: Option<u8>,
    stereo: bool,
    counters: Arc<Counters>,
}

impl AudioFeed {
    /// A feed without a microphone; `reference` is what the speaker plays.
    pub fn new(reference: Arc<Reference>) -> Self {
        Self {
            muted: AtomicBool::new(false),
            processing: Mutex::default(),
            reference,
            level: AtomicU32::new(SILENCE_DBFS.to_bits()),
            way: Mutex::new(None),
            epoch: now(),
            timestamp_offset: rand::random(),
        }
    }

    /// What is done to a microphone's sound from now on.
    pub fn set_processing(&self, processing: Processing) {
        *self.processing.lock().unwrap_or_else(PoisonError::into_inner) = processing;
    }

    /// What is done to a microphone's sound.
    pub fn processing(&self) -> Processing {
        *self.processing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A muted feed sends silence: the stream, and the other end's buffer, go on.
    pub fn set_muted(&self, muted: bool) {
        self.muted.store(muted, Relaxed);
    }

    /// Loudness of the newest 20 ms, dBFS.
    pub fn level_dbfs(&self) -> f32 {
        f32::from_bits(self.level.load(Relaxed))
    }

    /// Where packets go from now on; `red` is the payload type of RED, where it is taken, `stereo`
    /// whether two channels are liked.
    pub fn connect(&self, outlet: Outlet, red: Option<u8>, stereo: bool, counters: Arc<Counters>) {
        *self.lock() = Some(Way { outlet, red, stereo, counters });
    }

    /// Packets go nowhere any more, if it was this connection they went to.
    pub fn disconnect(&self, counters: &Arc<Counters>) {
        let mut way = self.lock();
        if way.as_ref().is_some_and(|way| Arc::ptr_eq(&way.counters, counters)) {
            *way = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Way>> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The RTP timestamp of a microphone that starts now.
    fn timestamp(&self) -> u32 {
        let samples = self.epoch.elapsed().as_micros() * 48 / 1000;
        self.timestamp_offset.wrapping_add(samples as u32)
    }

    fn way(&self) -> Option<Way> {
        self.lock().clone()
    }

    fn set_level(&self, dbfs: f32) {
        self.level.store(dbfs.to_bits(), Relaxed);
    }
}

/// Captures and sends until dropped.
pub struct AudioSender {
    _worker: Worker,
}

impl AudioSender {
    /// Opens the source and starts; `live` is a microphone, whose sound is processed.
    pub fn start(open: OpenCapture, opened: Opened, feed: Arc<AudioFeed>, live: bool) -> Self {
        let worker = Worker::spawn("audio-send", move |stop| {
            let thread = std::thread::current();
            match open(Arc::new(move || thread.unpark())) {
                Ok(capture) => {
                    opened(Ok(capture.name.clone()));
                    run(stop, capture, &feed, live);
                }
                Err(error) => opened(Err(error)),
            }
            feed.set_level(SILENCE_DBFS);
        });
        Self { _worker: worker }
    }
}

fn run(stop: &Stop, mut capture: Capture, feed: &AudioFeed, live: bool) {
    let channels = capture.channels;
    let mut voice = match Voice::new(now(), channels) {
        Ok(voice) => voice,
        Err(error) => {
            tracing::error!(%error, "sound cannot be sent");
            return;
        }
    };
    // Two channels are music, which stays as it is.
    let mut processor = (live && channels == 1).then(|| Processor::new(feed.processing()));
    feed.reference.clear();
    let mut frame = vec![0.0_f32; FRAME_SAMPLES * channels];
    let mut timestamp = feed.timestamp();
    let mut failed = false;
    while !stop.is_set() {
        let Ok(chunk) = capture.samples.read_chunk(frame.len()) else {
            // Woken by the source after each block; the limit is for one that fell silent.
            std::thread::park_timeout(Duration::from_millis(50));
            continue;
        };
        let (first, second) = chunk.as_slices();
        frame[..first.len()].copy_from_slice(first);
        frame[first.len()..].copy_from_slice(second);
        chunk.commit_all();
        // A muted one too: the canceller must not unlearn the room.
        if let Some(processor) = &mut processor {
            processor.set(feed.processing());
            for block in frame.as_chunks_mut().0 {
                feed.reference.take(|played| processor.handle_played(played));
                processor.process(block);
            }
        }
        if feed.muted.load(Relaxed) {
            frame.fill(0.0);
        }
        let level = dbfs(&frame);
        feed.set_level(level);
        timestamp = timestamp.wrapping_add(FRAME_SAMPLES as u32);
        let Some(Way { outlet, red, stereo, counters }) = feed.way() else {
            continue;
        };
        let target = counters.sending().map(|sending| sending.target);
        let path = Path { red, loss: counters.audio_loss(), target, stereo };
        let begun = now().checked_sub(FRAME).unwrap_or_else(now);
        counters.capture(|clocks| clocks.handle_captured(Stream::Audio, begun, timestamp));
        match voice.push(now(), &frame, timestamp, &path) {
            Ok(packet) => {
                failed = false;
                counters.audio_out(|flow| {
                    flow.bytes += packet.as_ref().map_or(0, |packet| packet.payload.len() as u64);
                    flow.level_dbfs = Some(level);
                });
                if packet.is_some_and(|packet| !outlet.send(packet)) {
                    feed.disconnect(&counters);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::error!(%error, "sound cannot be encoded");
                }
            }
        }
    }
}

/// Root mean square of samples in -1..1, in dB below full scale.
pub(crate) fn dbfs(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return SILENCE_DBFS;
    }
    let power = samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32;
    (10.0 * power.max(1e-10).log10()).max(SILENCE_DBFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loudness_is_measured_against_full_scale() {
        assert_eq!(dbfs(&[1.0, -1.0]), 0.0);
        assert!((dbfs(&[0.1; 100]) + 20.0).abs() < 0.01);
        assert_eq!(dbfs(&[0.0; 10]), SILENCE_DBFS);
        assert_eq!(dbfs(&[]), SILENCE_DBFS);
    }
}
