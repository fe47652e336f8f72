//! Captured pictures to packets: newest picture, budget, size, encode, packetize.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::thin::Thinner;
use super::{Worker, now};
use crate::adapt::{Adapter, Decision, Encoding, Source};
use crate::codec::CodecError;
use crate::codec::h264::Reference;
use crate::codec::video::{EncoderConfig, VideoEncoder};
use crate::frame::{ContentHint, Frame, FramePool};
use crate::frame_log::{FrameEvent, FrameLog};
use crate::peer::{MAX_PAYLOAD, OutgoingPacket, Outlet, VideoOutlet};
use crate::picture::cut::CutDetector;
use crate::picture::scale;
use crate::rtp::app_message::PictureFeedback;
use crate::rtp::payload::Packetizer;
use crate::slot::Slot;
use crate::stats::Counters;
use crate::sync::Stream;
use crate::units::Bitrate;
use crate::video_codec::VideoCodec;

/// What waits for the wire may take this long to leave; above, no picture is encoded.
const MAX_BACKLOG: Duration = Duration::from_millis(80);

/// A key frame may take the link for so long: nothing else arrives meanwhile, and from about
/// twice this on it is a freeze.
const KEY_FRAME_TIME: Duration = Duration::from_millis(120);

/// Before congestion control has said anything.
const UNKNOWN_BUDGET: Bitrate = Bitrate::from_kbps(140);

/// No sound for so long: there is none.
const SOUND_WINDOW: Duration = Duration::from_secs(2);

/// A peer that asks for key frames faster gets no more than this: each costs several pictures.
const KEY_FRAME_SPACING: Duration = Duration::from_millis(300);

/// Nor does a scene that changes faster than this: flashing lights are no cuts.
const CUT_SPACING: Duration = Duration::from_secs(1);

/// After a pause this long (camera off and on) the other end gets a fresh start.
const PAUSE: Duration = Duration::from_secs(1);

/// Told when pictures stop because the link carries sound alone (`true`), and when they go on.
/// Called on the sender's thread; must not block.
pub type PauseHook = Box<dyn Fn(bool) + Send>;

/// The first picture of a call need not wait for the camera: one of just now will do.
const FRESH: Duration = Duration::from_millis(70);

/// How often a screen is looked at.
const SCREEN_FPS: f64 = 30.0;

/// Sends pictures until dropped.
pub struct VideoSender {
    _worker: Worker,
}

impl VideoSender {
    /// Starts sending what comes into `frames`.
    pub fn start(
        frames: Arc<Slot<Arc<Frame>>>,
        outlet: VideoOutlet,
        paused: PauseHook,
        counters: Arc<Counters>,
        log: Arc<FrameLog>,
    ) -> Self {
        let worker = Worker::spawn("video-send", move |stop| {
            let mut sender = Loop::new(outlet, paused, counters, log);
            // One from long before the call is not the call's.
            let mut next = frames.take().filter(|frame| frame.captured_at.elapsed() < FRESH);
            while !stop.is_set() {
                let frame = next.take().or_else(|| frames.wait(Duration::from_millis(100)));
                if frame.is_some_and(|frame| !sender.send(now(), &frame)) {
                    return;
                }
            }
        });
        Self { _worker: worker }
    }
}

struct Loop {
    outlet: Outlet,
    pause_hook: PauseHook,
    paused: bool,
    /// When the sound sent was last looked at, and its bytes by then.
    sound: (Instant, u64),
    counters: Arc<Counters>,
    log: Arc<FrameLog>,
    codec: VideoCodec,
    encoder: Option<VideoEncoder>,
    packetizer: Packetizer,
    adapter: Adapter,
    pool: FramePool,
    epoch: Instant,
    /// RFC 3550 section 5.1: timestamps start at random.
    timestamp_offset: u32,
    /// Smoothed time between captured pictures.
    interval: Duration,
    thinner: Thinner,
    cuts: CutDetector,
    last_captured: Option<Instant>,
    last_frame: Option<Instant>,
    last_key_frame: Option<Instant>,
    key_frame_due: bool,
    /// Bytes that one may have.
    key_frame_size: usize,
    failed: bool,
}

impl Loop {
    fn new(
        VideoOutlet { outlet, codec, limits }: VideoOutlet,
        pause_hook: PauseHook,
        counters: Arc<Counters>,
        log: Arc<FrameLog>,
    ) -> Self {
        let mut adapter = Adapter::new(Bitrate::ZERO);
        adapter.set_limits(limits);
        Self {
            outlet,
            pause_hook,
            paused: false,
            sound: (now(), 0),
            counters,
            log,
            codec,
            encoder: None,
            adapter,
            packetizer: Packetizer::new(codec, rand::random()),
            interval: Duration::from_millis(33),
            pool: FramePool::new(),
            // Before any picture that may be sent, or two would share a timestamp.
            epoch: now().checked_sub(PAUSE).unwrap_or_else(now),
            timestamp_offset: rand::random(),
            thinner: Thinner::default(),
            cuts: CutDetector::default(),
            last_captured: None,
            last_frame: None,
            last_key_frame: None,
            key_frame_due: true,
            key_frame_size: usize::MAX,
            failed: false,
        }
    }

    /// False when the connection is gone.
    fn send(&mut self, now: Instant, frame: &Frame) -> bool {
        self.key_frame_due |= self.counters.take_key_frame_request()
            || self.last_frame.is_none_or(|last| now.duration_since(last) > PAUSE);
        self.look_at_sound(now);
        let Some(target) = self.budget() else {
            self.counters.video_out(|flow| flow.dropped += 1);
            return true;
        };
        let source = Source {
            width: frame.width(),
            height: frame.height(),
            fps: self.frame_rate(frame),
            hint: frame.hint,
        };
        let decision = self.adapter.decide(now, target, source);
        self.tell_paused(decision == Decision::Pause);
        let Decision::Encode(decision) = decision else {
            return true;
        };
        if !self.thinner.takes(frame.captured_at, source.fps, decision.fps) {
            return true; // fewer frames a second were decided
        }
        self.last_frame = Some(now);
        // A screen keeps most of its pixels when a window opens.
        let cut = frame.hint == ContentHint::Motion && self.cuts.is_cut(frame);
        self.key_frame_due |=
            cut && self.last_key_frame.is_none_or(|last| now.duration_since(last) >= CUT_SPACING);
        let scaled;
        let picture = if (decision.width, decision.height) == (frame.width(), frame.height()) {
            frame
        } else {
            scaled = scale::resize(frame, decision.width, decision.height, &self.pool);
            &scaled
        };
        match self.encode(now, picture, &decision) {
            Ok(alive) => {
                self.failed = false;
                alive
            }
            Err(error) => {
                // Once, not thirty times a second.
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(%error, "the picture cannot be encoded");
                }
                self.counters.video_out(|flow| flow.dropped += 1);
                // What a peer says about references can confuse the library: start afresh.
                (self.encoder, self.key_frame_due) = (None, true);
                true
            }
        }
    }

    /// What sound and pictures may take now; `None` while a picture encoded now would only grow
    /// old.
    fn budget(&mut self) -> Option<Bitrate> {
        let Some(sending) = self.counters.sending() else {
            return Some(UNKNOWN_BUDGET);
        };
        let waiting = self.outlet.backlog() as f64 * 8.0 / sending.pace.bps().max(1) as f64;
        let free = sending.may_encode && waiting <= MAX_BACKLOG.as_secs_f64();
        // Packets leave faster than the target, but only half of that is sure to pass as fast.
        let rate = sending.target.max(Bitrate::from_bps(sending.pace.bps() / 2));
        self.key_frame_size = (rate.bps() as f64 / 8.0 * KEY_FRAME_TIME.as_secs_f64()) as usize;
        // Sound, repairs and headers, as measured.
        self.adapter.set_audio(sending.target.saturating_sub(sending.video));
        free.then_some(sending.target)
    }

    /// Without sound there is nothing to pause pictures for.
    fn look_at_sound(&mut self, now: Instant) {
        let (since, before) = self.sound;
        if now.saturating_duration_since(since) < SOUND_WINDOW {
            return;
        }
        let mut sent = before;
        self.counters.audio_out(|flow| sent = flow.bytes);
        self.adapter.set_sounds(sent != before);
        self.sound = (now, sent);
    }

    /// Coming back, pictures start with a key frame: the pause was long.
    fn tell_paused(&mut self, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) != paused {
            (self.pause_hook)(paused);
        }
    }

    /// Frames a second that the source delivers, or may at any moment.
    fn frame_rate(&mut self, frame: &Frame) -> f64 {
        if frame.hint == ContentHint::Detail {
            return SCREEN_FPS; // a screen delivers when something changes
        }
        let captured_at = frame.captured_at;
        if let Some(last) = self.last_captured.replace(captured_at) {
            let interval = captured_at.saturating_duration_since(last);
            if interval < PAUSE {
                self.interval = (self.interval * 15 + interval) / 16;
            }
        }
        (1.0 / self.interval.as_secs_f64().max(0.001)).clamp(1.0, 60.0)
    }

    fn encode(
        &mut self,
        now: Instant,
        picture: &Frame,
        decision: &Encoding,
    ) -> Result<bool, CodecError> {
        let bitrate = decision.bitrate;
        let max_fps = decision.fps as f32;
        let quantizer_floor = decision.quantizer_floor;
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let (width, height) = (picture.width(), picture.height());
                let config = EncoderConfig { width, height, max_fps, bitrate, quantizer_floor };
                none.insert(VideoEncoder::new(self.codec, config)?)
            }
        };
        if changed_by_more_than(encoder.bitrate(), bitrate, 0.02) {
            encoder.set_bitrate(bitrate)?;
        }
        if (encoder.max_fps() - max_fps).abs() > 0.15 * max_fps {
            encoder.set_frame_rate(max_fps)?;
        }
        encoder.set_quantizer_floor(quantizer_floor)?;
        for said in self.counters.take_picture_feedback() {
            match said {
                PictureFeedback::KeyFrame => self.key_frame_due = true,
                PictureFeedback::ReferenceMarked { idr, frame } => {
                    encoder.confirm_reference(Reference { idr, frame })?;
                }
                PictureFeedback::ReferenceWanted { idr, good, damaged } => {
                    encoder.recover(Reference { idr, frame: good }, damaged)?;
                }
            }
        }
        encoder.set_key_frame_size(self.key_frame_size);
        let spaced =
            self.last_key_frame.is_none_or(|last| now.duration_since(last) >= KEY_FRAME_SPACING);
        let force = self.key_frame_due && spaced;
        let begun = super::now();
        let encoded = encoder.encode(picture, force)?;
        let spent = begun.elapsed();
        self.adapter.handle_encode_time(spent);
        let Some(encoded) = encoded else {
            self.counters.video_out(|flow| flow.dropped += 1);
            return Ok(true);
        };
        if encoded.key_frame {
            self.last_key_frame = Some(now);
            self.key_frame_due = false;
        }
        self.log.note(FrameEvent::Encoded, picture.strip);
        self.counters.video_out(|flow| {
            flow.frames += 1;
            flow.key_frames += u64::from(encoded.key_frame);
            flow.bytes += encoded.data.len() as u64;
            flow.codec_time += spent;
            flow.codec = Some(self.codec);
            flow.size = Some((encoded.width, encoded.height));
        });
        let timestamp = self.timestamp(picture.captured_at);
        self.counters.capture(|clocks| {
            clocks.handle_captured(Stream::Video, picture.captured_at, timestamp);
        });
        let payloads = self.packetizer.packetize(&encoded.data, MAX_PAYLOAD);
        let last = payloads.len().saturating_sub(1);
        for (index, payload) in payloads.into_iter().enumerate() {
            let packet =
                OutgoingPacket { timestamp, marker: index == last, payload_type: None, payload };
            if !self.outlet.send(packet) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The capture clock at 90 kHz, so that sound and pictures keep one time.
    fn timestamp(&self, captured_at: Instant) -> u32 {
        let since = captured_at.saturating_duration_since(self.epoch);
        let ticks = since.as_nanos() * 90_000 / 1_000_000_000;
        self.timestamp_offset.wrapping_add(ticks as u32)
    }
}

fn changed_by_more_than(old: Bitrate, new: Bitrate, part: f64) -> bool {
    (new.bps() as f64 - old.bps() as f64).abs() > old.bps() as f64 * part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::Limits;
    use crate::congestion::State;
    use crate::stats::Sending;

    #[test]
    fn a_flood_of_requests_gets_at_most_one_key_frame_every_300_ms() {
        let (outlet, mut packets) = Outlet::new(4096);
        let counters = Arc::new(Counters::new());
        let rate = Bitrate::from_kbps(1_000);
        counters.set_sending(Sending {
            target: rate,
            video: rate,
            pace: rate,
            may_encode: true,
            queue: Duration::ZERO,
            state: State::Normal,
        });
        let outlet = VideoOutlet { outlet, codec: VideoCodec::H264, limits: Limits::NONE };
        let log = Arc::new(FrameLog::off());
        let mut sender = Loop::new(outlet, Box::new(|_| {}), Arc::clone(&counters), log);
        let (pool, begin) = (FramePool::new(), now());
        let mut key_frames_at = Vec::new();
        for number in 0..100u32 {
            let at = begin + number * Duration::from_millis(33);
            (0..50).for_each(|_| counters.request_key_frame());
            (0..50).for_each(|_| counters.add_picture_feedback(PictureFeedback::KeyFrame));
            let mut frame = pool.take(320, 180);
            frame.planes_mut().into_iter().for_each(|plane| plane.fill(number as u8));
            frame.captured_at = at;
            let count = |counters: &Counters| {
                let mut key_frames = 0;
                counters.video_out(|flow| key_frames = flow.key_frames);
                key_frames
            };
            let before = count(&counters);
            assert!(sender.send(at, &frame));
            if count(&counters) > before {
                key_frames_at.push(at);
            }
            while packets.try_recv().is_ok() {}
            sender.outlet.forget_backlog();
        }
        assert!(key_frames_at.len() > 5, "{}", key_frames_at.len());
        assert!(key_frames_at.windows(2).all(|pair| pair[1] - pair[0] >= KEY_FRAME_SPACING));
    }
}
