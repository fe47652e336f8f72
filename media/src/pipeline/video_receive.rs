//! Packets to pictures: assemble, decode, hand on. A damaged picture is never shown.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use super::freeze::FreezeMeter;
use super::playout::{Gap, Playout, slowed};
use super::recovery::{Recovery, Remedy};
use super::{Worker, now};
use crate::codec::Decoded;
use crate::codec::h264::Reference;
use crate::codec::video::VideoDecoder;
use crate::frame::{Frame, FramePool};
use crate::frame_log::{FrameEvent, FrameLog};
use crate::rtp::app_message::PictureFeedback;
use crate::rtp::assemble::{AssembledFrame, Assembler, AssemblerEvent, RtpPacket};
use crate::stats::Counters;
use crate::strip;
use crate::video_codec::VideoCodec;

/// Packets that wait for the thread: more than two key frames.
const QUEUE: usize = 1024;

/// A key frame not come after this long, and after a round trip and a bit, is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(400);
const ANSWER_RESERVE: Duration = Duration::from_millis(100);

/// Receives every decoded picture, on the decoder's thread. Must not block.
pub type PictureSink = Arc<dyn Fn(Arc<Frame>) + Send + Sync>;

/// Tells the other end what its pictures need.
pub type FeedbackSender = Arc<dyn Fn(PictureFeedback) + Send + Sync>;

/// Pictures that wait to be shown: those of the longest hold at 60 a second, and a few.
const MOST_HELD: usize = 16;

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
        feedback: FeedbackSender,
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
                playout: Playout::default(),
                held: VecDeque::new(),
                shown_at: None,
                decoded_at: None,
                gap: None,
                recovery: Recovery::default(),
                pictures,
                feedback,
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

struct Held {
    /// When it is to be shown,
    at: Instant,
    /// and when it would be if nothing behind it were missing.
    due: Instant,
    frame: Frame,
    key_frame: bool,
}

struct Loop {
    codec: VideoCodec,
    assembler: Assembler,
    /// One for each codec that came, in the order of [`VideoCodec::ALL`]: a sender may change.
    decoders: [Option<VideoDecoder>; VideoCodec::ALL.len()],
    pool: FramePool,
    freezes: FreezeMeter,
    playout: Playout,
    /// Decoded, and when each is to be shown.
    held: VecDeque<Held>,
    shown_at: Option<Instant>,
    decoded_at: Option<Instant>,
    /// Since when something is missing behind them.
    gap: Option<Instant>,
    recovery: Recovery,
    pictures: PictureSink,
    feedback: FeedbackSender,
    counters: Arc<Counters>,
    log: Arc<FrameLog>,
    /// A key frame was asked for, and no picture was shown since.
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
        let due = [
            self.assembler.poll_timeout(),
            self.recovery.poll_timeout(),
            self.held.front().map(|held| held.at),
        ];
        let longest = Duration::from_millis(100);
        let wait = due
            .into_iter()
            .flatten()
            .min()
            .map_or(longest, |at| at.saturating_duration_since(now()).min(longest));
        match packets.recv_timeout(wait) {
            Ok((at, codec, packet)) => self.take(at, codec, packet),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        while let Ok((at, codec, packet)) = packets.try_recv() {
            self.take(at, codec, packet);
        }
        if let Some(rtt) = self.counters.rtt() {
            self.assembler.set_rtt(rtt);
        }
        if !peer_sends {
            self.freezes.pause();
        }
        self.slow_down();
        while let Some(frame) = self.assembler.poll_frame(now()) {
            self.decode(&frame);
        }
        self.slow_down();
        if self.recovery.is_overdue(now()) {
            self.remedy(false);
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
        let (position, marked) = (decoder.position(), decoder.marked_reference());
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
                // Whatever was asked for: pictures go on, by a key frame or by repairs.
                self.wanting = false;
                self.handle_good(position, marked);
                self.hold(frame, unit);
            }
            Ok(Decoded::Nothing) => {}
            Ok(Decoded::Damaged) => {
                self.counters.video_in(|flow| flow.dropped += 1);
                self.remedy(false);
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

    /// Confirms what the picture just decoded told to keep.
    fn handle_good(&mut self, position: Option<Reference>, marked: Option<Reference>) {
        self.recovery.handle_good(position);
        if let Some(Reference { idr, frame }) = marked
            && self.counters.peer_is_ours()
        {
            (self.feedback)(PictureFeedback::ReferenceMarked { idr, frame });
        }
    }

    /// Pictures are damaged, or a `gap` stays that will make them so.
    fn remedy(&mut self, gap: bool) {
        if self.codec != VideoCodec::H264 {
            // Its decoder does not tell pictures with missing references from whole ones.
            match gap {
                true => self.wanting = true,
                false => self.assembler.require_key_frame(now()),
            }
            return;
        }
        let (rtt, ours) = (self.counters.rtt(), self.counters.peer_is_ours());
        match self.recovery.handle_damage(now(), rtt, ours) {
            Remedy::Wait => self.assembler.skip_gap(),
            Remedy::Reference { good: Reference { idr, frame: good }, damaged } => {
                self.assembler.skip_gap();
                (self.feedback)(PictureFeedback::ReferenceWanted { idr, good, damaged });
            }
            // While a gap is open, its repair may still come before the key frame does.
            Remedy::KeyFrame if gap => self.wanting = true,
            Remedy::KeyFrame => self.assembler.require_key_frame(now()),
        }
    }

    /// Shows the picture now or keeps it until its time has come.
    fn hold(&mut self, frame: Frame, unit: &AssembledFrame) {
        let now = now();
        let (sync, lead) =
            self.counters.sync(|sync| (sync.hold(now, unit.rtp_timestamp), sync.lead_ms()));
        self.playout.handle_rtt(now, self.counters.rtt());
        let at = self.playout.handle_ready(now, unit.last_arrival, unit.rtp_timestamp, sync);
        let at = self.held.back().map_or(at, |last| at.max(last.due));
        let held = at.saturating_duration_since(now).as_secs_f64() * 1000.0;
        self.counters.set_av_offset_ms(lead.map(|lead| lead - held));
        self.decoded_at = Some(now);
        self.held.push_back(Held { at, due: at, frame, key_frame: unit.key_frame });
        self.show_due();
    }

    /// While something is missing behind them, pictures wait for longer; not once it is there.
    fn slow_down(&mut self) {
        let since = self.assembler.gap_since();
        if let Some(before) = std::mem::replace(&mut self.gap, since).filter(|_| since.is_none()) {
            self.playout.handle_stall(now(), now().saturating_duration_since(before));
        }
        let count = self.held.len();
        if count == 0 {
            return;
        }
        let rtt = self.counters.rtt().unwrap_or_default();
        // One that is overdue may be missing, although nothing behind it tells so yet.
        let overdue_at = self.decoded_at.zip(self.playout.overdue_after(now()));
        let overdue_at = overdue_at.map(|(at, after)| at + after);
        let since = since.or(overdue_at.filter(|at| now() >= *at));
        for (before, held) in self.held.iter_mut().enumerate() {
            held.at = match (since, self.shown_at) {
                (Some(since), Some(shown)) => {
                    held.due.max(slowed(shown, Gap { since, rtt }, before + 1, count))
                }
                _ if before + 1 == count => overdue_at.map_or(held.due, |at| held.due.max(at)),
                _ => held.due,
            };
        }
        self.show_due();
    }

    fn show_due(&mut self) {
        while self.held.len() > MOST_HELD || self.held.front().is_some_and(|held| held.at <= now())
        {
            if let Some(held) = self.held.pop_front() {
                self.show(held.frame, held.key_frame);
            }
        }
    }

    fn show(&mut self, frame: Frame, key_frame: bool) {
        self.shown_at = Some(now());
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

    /// Asks at once, and again while no picture comes that can be shown; never in quick
    /// succession, whatever arrives.
    fn ask_if_needed(&mut self, peer_sends: bool) {
        if matches!(self.assembler.poll_event(), Some(AssemblerEvent::KeyFrameNeeded)) {
            if self.assembler.is_awaiting_key() {
                self.wanting = true;
            } else {
                self.remedy(true);
            }
        }
        let answer = self.counters.rtt().unwrap_or_default() + ANSWER_RESERVE;
        let again = ASK_AGAIN.max(answer.min(Duration::from_secs(2)));
        let lately = self.asked.is_some_and(|at| now().saturating_duration_since(at) < again);
        if self.wanting && peer_sends && !lately {
            (self.feedback)(PictureFeedback::KeyFrame);
            self.asked = Some(now());
        }
    }
}

#[cfg(test)]
mod tests;
