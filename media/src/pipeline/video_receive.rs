//! Packets to pictures: assemble, decode, hand on. A damaged picture is never shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use super::freeze::FreezeMeter;
use super::{Worker, now};
use crate::codec::Decoded;
use crate::codec::video::VideoDecoder;
use crate::frame::{Frame, FramePool};
use crate::frame_log::{FrameEvent, FrameLog};
use crate::rtp::assemble::{AssembledFrame, Assembler, AssemblerEvent, RtpPacket, repair_time_for};
use crate::stats::Counters;
use crate::strip;
use crate::video_codec::VideoCodec;

/// Packets that wait for the thread: more than two key frames.
const QUEUE: usize = 1024;

/// A key frame not come after this long is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(400);

/// Receives every decoded picture, on the decoder's thread. Must not block.
pub type PictureSink = Arc<dyn Fn(Arc<Frame>) + Send + Sync>;

/// Asks the other end for a key frame.
pub type KeyFrameRequester = Arc<dyn Fn() + Send + Sync>;

/// The network's end of the pipeline.
pub struct VideoInlet {
    packets: SyncSender<(Instant, VideoCodec, RtpPacket)>,
    overflow: Arc<AtomicU64>,
}

impl VideoInlet {
    /// Takes a packet; drops it when the decoder is far behind. Never blocks.
    pub fn push(&self, now: Instant, codec: VideoCodec, packet: RtpPacket) {
        if self.packets.try_send((now, codec, packet)).is_err() {
            self.overflow.fetch_add(1, Relaxed);
        }
    }
}

/// Receives pictures until dropped.
pub struct VideoReceiver {
    peer_sends: Arc<AtomicBool>,
    _worker: Worker,
}

/// The pipeline's halves before they are joined to a connection.
pub struct VideoReceiverParts {
    packets: Receiver<(Instant, VideoCodec, RtpPacket)>,
}

/// The inlet, to be given to a connection, and what becomes the receiver.
pub fn channel() -> (VideoInlet, VideoReceiverParts) {
    let (sender, packets) = sync_channel(QUEUE);
    (VideoInlet { packets: sender, overflow: Arc::default() }, VideoReceiverParts { packets })
}

impl VideoReceiver {
    /// Starts decoding.
    pub fn start(
        parts: VideoReceiverParts,
        pictures: PictureSink,
        ask_key_frame: KeyFrameRequester,
        counters: Arc<Counters>,
        log: Arc<FrameLog>,
    ) -> Self {
        let peer_sends = Arc::new(AtomicBool::new(true));
        let sends = Arc::clone(&peer_sends);
        let worker = Worker::spawn("video-receive", move |stop| {
            let mut receiver = Loop {
                codec: VideoCodec::default(),
                assembler: Assembler::new(),
                decoders: Default::default(),
                pool: FramePool::new(),
                freezes: FreezeMeter::default(),
                pictures,
                ask_key_frame,
                counters,
                log,
                wanting: false,
                asked: None,
                refused: false,
            };
            while !stop.is_set() {
                if !receiver.turn(&parts.packets, sends.load(Relaxed)) {
                    return;
                }
            }
        });
        Self { peer_sends, _worker: worker }
    }

    /// Whether the other end says its camera is on: a gap while it is off is no freeze.
    pub fn set_peer_sends(&self, sends: bool) {
        self.peer_sends.store(sends, Relaxed);
    }
}

struct Loop {
    codec: VideoCodec,
    assembler: Assembler,
    /// One for each codec that came, in the order of [`VideoCodec::ALL`]: a sender may change.
    decoders: [Option<VideoDecoder>; VideoCodec::ALL.len()],
    pool: FramePool,
    freezes: FreezeMeter,
    pictures: PictureSink,
    ask_key_frame: KeyFrameRequester,
    counters: Arc<Counters>,
    log: Arc<FrameLog>,
    /// Nothing but a key frame is of use.
    wanting: bool,
    asked: Option<Instant>,
    refused: bool,
}

impl Loop {
    /// One round; false when the connection is gone.
    fn turn(
        &mut self,
        packets: &Receiver<(Instant, VideoCodec, RtpPacket)>,
        peer_sends: bool,
    ) -> bool {
        let wait = self
            .assembler
            .poll_timeout()
            .map_or(Duration::from_millis(100), |at| at.saturating_duration_since(now()))
            .min(Duration::from_millis(100));
        match packets.recv_timeout(wait) {
            Ok((at, codec, packet)) => self.take(at, codec, packet),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        while let Ok((at, codec, packet)) = packets.try_recv() {
            self.take(at, codec, packet);
        }
        if let Some(rtt) = self.counters.rtt() {
            self.assembler.set_repair_time(repair_time_for(rtt));
        }
        if !peer_sends {
            self.freezes.pause();
        }
        while let Some(frame) = self.assembler.poll_frame(now()) {
            self.decode(&frame);
        }
        self.ask_if_needed(peer_sends);
        let lost = self.assembler.stats().gaps_given_up;
        self.counters.video_in(|flow| flow.lost = lost);
        true
    }

    fn take(&mut self, at: Instant, codec: VideoCodec, packet: RtpPacket) {
        if codec != self.codec {
            self.codec = codec;
            self.assembler = Assembler::of(codec);
        }
        self.assembler.handle_packet(at, packet);
    }

    fn decode(&mut self, unit: &AssembledFrame) {
        let Some(decoder) = self.decoders.get_mut(self.codec as usize) else {
            return;
        };
        let decoder = match decoder {
            Some(decoder) => decoder,
            none => match VideoDecoder::new(self.codec) {
                Ok(decoder) => none.insert(decoder),
                Err(error) => {
                    if !std::mem::replace(&mut self.refused, true) {
                        tracing::error!(%error, "received pictures cannot be shown");
                    }
                    return;
                }
            },
        };
        let arrival = SystemTime::now() - now().saturating_duration_since(unit.last_arrival);
        let begun = now();
        let decoded = decoder.decode(&unit.data, &self.pool);
        let spent = now().saturating_duration_since(begun);
        self.counters.video_in(|flow| {
            flow.bytes += unit.data.len() as u64;
            flow.codec_time += spent;
        });
        match decoded {
            Ok(Decoded::Picture(mut frame)) => {
                if self.log.is_on() {
                    frame.strip = strip::read(&frame);
                    self.log.note_at(FrameEvent::Received, arrival, frame.strip);
                    self.log.note(FrameEvent::Decoded, frame.strip);
                }
                self.refused = false;
                self.wanting &= !unit.key_frame;
                self.show(frame, unit.key_frame);
            }
            Ok(Decoded::Nothing) => {}
            Ok(Decoded::Damaged) => {
                self.counters.video_in(|flow| flow.dropped += 1);
                self.assembler.require_key_frame(now());
            }
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::warn!(%error, "a received picture");
                }
                self.counters.video_in(|flow| flow.dropped += 1);
                self.assembler.require_key_frame(now());
            }
        }
    }

    fn show(&mut self, frame: Frame, key_frame: bool) {
        let frozen = self.freezes.handle_shown(now());
        let (codec, size) = (self.codec, (frame.width(), frame.height()));
        self.counters.video_in(|flow| {
            flow.frames += 1;
            flow.key_frames += u64::from(key_frame);
            flow.codec = Some(codec);
            flow.size = Some(size);
            if let Some(frozen) = frozen {
                flow.freezes += 1;
                flow.frozen += frozen;
            }
        });
        (self.pictures)(Arc::new(frame));
    }

    /// Asks at once, and again while none comes that can be shown; never in quick succession,
    /// whatever arrives.
    fn ask_if_needed(&mut self, peer_sends: bool) {
        let needed = matches!(self.assembler.poll_event(), Some(AssemblerEvent::KeyFrameNeeded));
        self.wanting |= needed;
        let lately = self.asked.is_some_and(|at| now().saturating_duration_since(at) < ASK_AGAIN);
        if self.wanting && peer_sends && !lately {
            (self.ask_key_frame)();
            self.asked = Some(now());
        }
    }
}
