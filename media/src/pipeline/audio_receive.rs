//! Packets to sound: jitter buffer, Opus or concealment, the speaker's ring. The speaker owns
//! the clock: the thread refills the ring whenever a block was played. It lives as long as its
//! speaker, over any number of connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::audio_send::{Opened, SILENCE_DBFS, dbfs};
use super::{Stop, Worker, now};
use crate::codec::CodecError;
use crate::codec::opus::{LONGEST_PACKET_SAMPLES, OpusDecoder};
use crate::rtp::assemble::RtpPacket;
use crate::rtp::red;
use crate::sound::jitter::{JitterBuffer, Playout, Stretch};
use crate::sound::processing::Reference;
use crate::sound::stretch;
use crate::sound::{FRAME_SAMPLES, Playback, SoundError, Wake};
use crate::stats::Counters;

/// Sound comes out of Opus so much later than it went in (RFC 6716 section 2.1.2; its encoder's
/// OPUS_GET_LOOKAHEAD at 48 kHz).
const LOOKAHEAD: Duration = Duration::from_micros(6_500);

/// Opens the sink on the pipeline's own thread.
pub type OpenPlayback = Box<dyn FnOnce(Wake) -> Result<Playback, SoundError> + Send>;

/// One connection's received sound.
pub struct AudioInlet {
    buffer: Mutex<JitterBuffer>,
    counters: Arc<Counters>,
}

impl AudioInlet {
    /// An empty buffer.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { buffer: Mutex::new(JitterBuffer::new()), counters }
    }

    /// Takes a packet from the network; `red`: its payload is RED (RFC 2198).
    pub fn push(&self, now: Instant, packet: RtpPacket, red: bool) {
        let size = packet.payload.len();
        self.counters.audio_in(|flow| flow.bytes += size as u64);
        let (sequence_number, timestamp) = (packet.sequence_number, packet.timestamp);
        if !red {
            self.buffer().handle_packet(now, sequence_number, timestamp, packet.payload);
            return;
        }
        match red::parse(&packet.payload) {
            Ok(red) => {
                let mut buffer = self.buffer();
                buffer.handle_packet(now, sequence_number, timestamp, red.payload);
                for copy in red.copies.into_iter().rev() {
                    if copy.payload_type == red.payload_type {
                        buffer.handle_copy(now, copy.offset, copy.payload);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "a received sound packet"),
        }
    }

    pub(super) fn buffer(&self) -> MutexGuard<'_, JitterBuffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What others set while the thread runs. Outlives speakers.
pub struct AudioOut {
    inlet: Mutex<Option<Arc<AudioInlet>>>,
    reference: Arc<Reference>,
}

impl AudioOut {
    /// Plays nothing; what a speaker plays later goes into `reference` too.
    pub fn new(reference: Arc<Reference>) -> Self {
        Self { inlet: Mutex::default(), reference }
    }

    /// Whose sound is played from now on.
    pub fn connect(&self, inlet: Option<Arc<AudioInlet>>) {
        *self.inlet.lock().unwrap_or_else(PoisonError::into_inner) = inlet;
    }

    /// Plays nothing any more, if `inlet` is what plays.
    pub fn disconnect(&self, inlet: &Arc<AudioInlet>) {
        let mut playing = self.inlet.lock().unwrap_or_else(PoisonError::into_inner);
        if playing.as_ref().is_some_and(|playing| Arc::ptr_eq(playing, inlet)) {
            *playing = None;
        }
    }

    fn inlet(&self) -> Option<Arc<AudioInlet>> {
        self.inlet.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Plays until dropped.
pub struct AudioReceiver {
    worker: Worker,
}

impl AudioReceiver {
    /// Opens the sink and starts; `heard`: it is a speaker, which a microphone may hear.
    pub fn start(open: OpenPlayback, opened: Opened, out: Arc<AudioOut>, heard: bool) -> Self {
        let worker = Worker::spawn("audio-receive", move |stop| {
            let thread = std::thread::current();
            match open(Arc::new(move || thread.unpark())) {
                Ok(playback) => {
                    opened(Ok(playback.name.clone()));
                    run(stop, playback, &out, heard);
                }
                Err(error) => opened(Err(error)),
            }
        });
        Self { worker }
    }

    /// Stops without waiting.
    pub fn signal(&self) {
        self.worker.signal();
    }

    /// Whether the sink has ended.
    pub fn is_finished(&self) -> bool {
        self.worker.is_finished()
    }

    /// Stops and waits for the sink's end, so that a file is whole.
    pub fn finish(self, limit: Duration) {
        self.worker.finish(limit);
    }
}

fn run(stop: &Stop, mut playback: Playback, out: &AudioOut, heard: bool) {
    let channels = playback.channels;
    let mut player = match Player::new(channels == 2) {
        Ok(player) => player,
        Err(error) => {
            tracing::error!(%error, "received sound cannot be played");
            return;
        }
    };
    let capacity = playback.samples.buffer().capacity();
    while !stop.is_set() {
        player.follow(out.inlet());
        loop {
            let waiting = capacity - playback.samples.slots();
            if waiting >= playback.target_fill {
                break;
            }
            let waiting = millis((waiting / channels) as f64 / 48.0);
            let sound = player.next_frame(now(), waiting);
            let frames = (playback.samples.slots() / channels).min(sound.frames());
            let Ok(chunk) = playback.samples.write_chunk_uninit(frames * channels) else {
                break;
            };
            let written = if sound.channels < channels {
                chunk.fill_from_iter(sound.samples.iter().flat_map(|sample| [*sample; 2]))
            } else {
                chunk.fill_from_iter(sound.samples.iter().copied())
            };
            if written == 0 {
                break;
            }
            if heard {
                out.reference.push(sound.mono().take(frames));
            }
        }
        // Woken by the sink after each block; the limit is for one that fell silent.
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// What is played next, in one channel or two by turns.
struct Sound<'a> {
    samples: &'a [f32],
    channels: usize,
}

impl Sound<'_> {
    fn frames(&self) -> usize {
        self.samples.len() / self.channels
    }

    /// What an echo canceller of one channel has to take out.
    fn mono(&self) -> impl Iterator<Item = f32> {
        let share = 1.0 / self.channels as f32;
        self.samples.chunks(self.channels).map(move |frame| frame.iter().sum::<f32>() * share)
    }
}

/// Turns one connection's packets into sound.
struct Player {
    inlet: Option<Arc<AudioInlet>>,
    /// The sink has two channels.
    wide: bool,
    decoder: OpusDecoder,
    level: LevelMeter,
    sound: Vec<f32>,
    /// Of `sound`, by turns.
    channels: usize,
}

impl Player {
    fn new(wide: bool) -> Result<Self, CodecError> {
        Ok(Self {
            inlet: None,
            wide,
            decoder: decoder(wide)?,
            level: LevelMeter::default(),
            sound: Vec::with_capacity(LONGEST_PACKET_SAMPLES),
            channels: 1,
        })
    }

    /// Another connection begins with a decoder that remembers nothing.
    fn follow(&mut self, inlet: Option<Arc<AudioInlet>>) {
        if inlet.as_ref().map(Arc::as_ptr) == self.inlet.as_ref().map(Arc::as_ptr) {
            return;
        }
        self.inlet = inlet;
        match decoder(self.wide) {
            Ok(decoder) => self.decoder = decoder,
            Err(error) => tracing::warn!(%error, "the old decoder is used on"),
        }
    }

    /// The next 20 ms; more where the other end sends longer packets, a little more or less
    /// where the buffer wants to grow or shrink; `waiting` before it in the sink. Never empty.
    fn next_frame(&mut self, now: Instant, waiting: Duration) -> Sound<'_> {
        let Some(inlet) = self.inlet.clone() else {
            self.silence();
            return self.sound();
        };
        let (playout, stats, timestamp) = {
            let mut buffer = inlet.buffer();
            buffer.set_round_trip(inlet.counters.rtt().unwrap_or_default());
            let playout = buffer.poll_frame(now);
            (playout, buffer.stats(), buffer.played_timestamp())
        };
        if let (Playout::Play { .. }, Some(timestamp)) = (&playout, timestamp) {
            let heard = now + waiting + LOOKAHEAD;
            inlet.counters.sync(|sync| sync.handle_audio_played(heard, timestamp));
        }
        if let Err(error) = self.decode(&playout) {
            tracing::debug!(%error, "a received sound packet");
            self.conceal();
        }
        if let Playout::Play { stretch, .. } = playout {
            match stretch {
                Stretch::Accelerate => {
                    stretch::accelerate(&mut self.sound, self.channels);
                }
                Stretch::Expand => {
                    stretch::expand(&mut self.sound, self.channels);
                }
                Stretch::None => {}
            }
        }
        let loudness = self.level.handle(dbfs(&self.sound));
        inlet.counters.audio_in(|flow| {
            flow.lost = stats.lost;
            flow.concealed = Duration::from_millis(stats.concealed_ms);
            flow.recovered = Duration::from_millis(stats.recovered_ms);
            flow.jitter = Some(millis(stats.jitter_ms));
            flow.buffer = Some(millis(stats.buffer_ms));
            flow.level_dbfs = Some(loudness);
        });
        if self.sound.is_empty() {
            self.silence();
        }
        self.sound()
    }

    fn sound(&self) -> Sound<'_> {
        Sound { samples: &self.sound, channels: self.channels }
    }

    fn decode(&mut self, playout: &Playout) -> Result<(), CodecError> {
        match playout {
            Playout::Play { payload, .. } => {
                self.decoder.follow(payload);
                self.make_room(LONGEST_PACKET_SAMPLES);
                let len = self.decoder.decode(payload, &mut self.sound)?;
                self.sound.truncate(len);
            }
            Playout::Fec { payload, samples } => {
                self.decoder.follow(payload);
                self.make_room((*samples).min(LONGEST_PACKET_SAMPLES));
                self.decoder.decode_fec(payload, &mut self.sound)?;
            }
            Playout::Conceal | Playout::Comfort => self.conceal(),
            Playout::Silence => self.silence(),
        }
        Ok(())
    }

    fn conceal(&mut self) {
        self.make_room(FRAME_SAMPLES);
        if self.decoder.conceal(&mut self.sound).is_err() {
            self.sound.fill(0.0);
        }
    }

    fn silence(&mut self) {
        self.make_room(FRAME_SAMPLES);
        self.sound.fill(0.0);
    }

    /// For so many samples of each channel that the decoder has now.
    fn make_room(&mut self, samples: usize) {
        self.channels = self.decoder.channels();
        self.sound.resize(samples * self.channels, 0.0);
    }
}

fn decoder(wide: bool) -> Result<OpusDecoder, CodecError> {
    if wide { OpusDecoder::stereo() } else { OpusDecoder::new() }
}

fn millis(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}

/// The loudest 20 ms of the last second.
#[derive(Default)]
struct LevelMeter {
    recent: std::collections::VecDeque<f32>,
}

impl LevelMeter {
    fn handle(&mut self, level: f32) -> f32 {
        if self.recent.len() == 50 {
            self.recent.pop_front();
        }
        self.recent.push_back(level);
        self.recent.iter().copied().fold(SILENCE_DBFS, f32::max)
    }
}

#[cfg(test)]
mod tests;
