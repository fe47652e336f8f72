//! Captured sound to packets: 20 ms frames, loudness, mute, Opus. The thread lives as long as
//! its microphone, over any number of connections.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Stop, Worker, now};
use crate::codec::opus::OpusEncoder;
use crate::peer::{OutgoingPacket, Outlet};
use crate::sound::{Capture, FRAME_SAMPLES, SoundError, Wake};
use crate::stats::Counters;
use crate::units::Bitrate;

/// Opens the source on the pipeline's own thread.
pub type OpenCapture = Box<dyn FnOnce(Wake) -> Result<Capture, SoundError> + Send>;

/// Told once, on the pipeline's thread: the source's name, or why there is none.
pub type Opened = Box<dyn FnOnce(Result<String, SoundError>) + Send>;

/// Voice at full band (RFC 7587 section 3.1.1 recommends 28 to 40 kbit/s), copies for lost
/// packets included.
const BITRATE: Bitrate = Bitrate::from_kbps(40);

/// A first loss always comes unannounced: some of the rate goes into copies from the start.
const ASSUMED_LOSS_PERCENT: u8 = 5;

/// Quieter counts as silence.
pub const SILENCE_DBFS: f32 = -100.0;

/// What others set and read while the thread runs. Outlives microphones.
pub struct AudioFeed {
    muted: AtomicBool,
    level: AtomicU32,
    outlet: Mutex<Option<(Outlet, Arc<Counters>)>>,
    /// The stream's clock (RFC 3550 section 5.1): one for all microphones of a call.
    epoch: Instant,
    timestamp_offset: u32,
}

impl Default for AudioFeed {
    fn default() -> Self {
        Self {
            muted: AtomicBool::new(false),
            level: AtomicU32::new(SILENCE_DBFS.to_bits()),
            outlet: Mutex::new(None),
            epoch: now(),
            timestamp_offset: rand::random(),
        }
    }
}

impl AudioFeed {
    /// A muted feed sends silence: the stream, and the other end's buffer, go on.
    pub fn set_muted(&self, muted: bool) {
        self.muted.store(muted, Relaxed);
    }

    /// Loudness of the newest 20 ms, dBFS.
    pub fn level_dbfs(&self) -> f32 {
        f32::from_bits(self.level.load(Relaxed))
    }

    /// Where packets go from now on.
    pub fn connect(&self, outlet: Outlet, counters: Arc<Counters>) {
        *self.lock() = Some((outlet, counters));
    }

    /// Packets go nowhere any more, if it was this connection they went to.
    pub fn disconnect(&self, counters: &Arc<Counters>) {
        let mut outlet = self.lock();
        if outlet.as_ref().is_some_and(|(_, of)| Arc::ptr_eq(of, counters)) {
            *outlet = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Outlet, Arc<Counters>)>> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The RTP timestamp of a microphone that starts now.
    fn timestamp(&self) -> u32 {
        let samples = self.epoch.elapsed().as_micros() * 48 / 1000;
        self.timestamp_offset.wrapping_add(samples as u32)
    }

    fn outlet(&self) -> Option<(Outlet, Arc<Counters>)> {
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
    /// Opens the source and starts.
    pub fn start(open: OpenCapture, opened: Opened, feed: Arc<AudioFeed>) -> Self {
        let worker = Worker::spawn("audio-send", move |stop| {
            let thread = std::thread::current();
            match open(Arc::new(move || thread.unpark())) {
                Ok(capture) => {
                    opened(Ok(capture.name.clone()));
                    run(stop, capture, &feed);
                }
                Err(error) => opened(Err(error)),
            }
            feed.set_level(SILENCE_DBFS);
        });
        Self { _worker: worker }
    }
}

fn run(stop: &Stop, mut capture: Capture, feed: &AudioFeed) {
    let mut encoder = match OpusEncoder::new(BITRATE) {
        Ok(encoder) => encoder,
        Err(error) => {
            tracing::error!(%error, "sound cannot be sent");
            return;
        }
    };
    if let Err(error) = encoder.set_packet_loss_perc(ASSUMED_LOSS_PERCENT) {
        tracing::warn!(%error, "lost packets will be heard");
    }
    let mut frame = [0.0_f32; FRAME_SAMPLES];
    let mut timestamp = feed.timestamp();
    let mut failed = false;
    while !stop.is_set() {
        let Ok(chunk) = capture.samples.read_chunk(FRAME_SAMPLES) else {
            // Woken by the source after each block; the limit is for one that fell silent.
            std::thread::park_timeout(Duration::from_millis(50));
            continue;
        };
        let (first, second) = chunk.as_slices();
        frame[..first.len()].copy_from_slice(first);
        frame[first.len()..].copy_from_slice(second);
        chunk.commit_all();
        if feed.muted.load(Relaxed) {
            frame.fill(0.0);
        }
        let level = dbfs(&frame);
        feed.set_level(level);
        timestamp = timestamp.wrapping_add(FRAME_SAMPLES as u32);
        let Some((outlet, counters)) = feed.outlet() else {
            continue;
        };
        match encoder.encode(&frame) {
            Ok(payload) => {
                failed = false;
                counters.audio_out(|flow| {
                    flow.bytes += payload.len() as u64;
                    flow.level_dbfs = Some(level);
                });
                let packet = OutgoingPacket { timestamp, marker: false, payload };
                if !outlet.send(packet) {
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
