//! Counters that every part of a call adds to, and the statistics object made of them once a
//! second. The object's fields are part of the command line's contract (`docs/testing.md`).

mod sending;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::rtp::app_message::PictureFeedback;
use crate::rtp::loss_runs::Loss;
use crate::sync::{CaptureClocks, Sync};
use crate::units::Bitrate;
use crate::video_codec::VideoCodec;
pub use sending::Sending;

/// What a peer can make us remember.
const MOST_FEEDBACK: usize = 16;

/// What a running call counts. Shared by its threads; every field only ever grows, except for
/// the gauges, which say so.
#[derive(Default)]
pub struct Counters {
    key_frame_wanted: AtomicBool,
    /// Gauge: round trip, microseconds; 0 is unknown.
    rtt_us: AtomicU64,
    /// The same of the quickest check of a path, which is known sooner.
    check_us: AtomicU64,
    /// Gauge: the other end sends repairs ahead now.
    fec_coming: AtomicBool,
    /// The other end is one of ours: it keeps long-term references.
    peer_is_ours: AtomicBool,
    /// What the other end said about our pictures and nobody has read yet; the oldest is dropped.
    picture_feedback: Mutex<VecDeque<PictureFeedback>>,
    /// Gauge: what the network does to the sound we send, by transport-wide feedback and by
    /// receiver reports.
    audio_loss: Mutex<[Option<Loss>; 2]>,
    /// Gauge: what congestion control allows.
    sending: Mutex<Option<Sending>>,
    sync: Mutex<Sync>,
    capture: Mutex<CaptureClocks>,
    /// Gauge: how far pictures are shown ahead of their sound.
    av_offset_ms: Mutex<Option<f64>>,
    detail: Mutex<Detail>,
}

#[derive(Default)]
struct Detail {
    video_out: VideoFlow,
    video_in: VideoFlow,
    audio_out: AudioFlow,
    audio_in: AudioFlow,
}

/// Counted for pictures in one direction.
#[derive(Clone, Debug, Default)]
pub struct VideoFlow {
    /// Encoded or decoded pictures.
    pub frames: u64,
    /// Of these, key frames.
    pub key_frames: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Captured but not sent, or received but not shown.
    pub dropped: u64,
    /// RTP packets lost.
    pub lost: u64,
    /// RTP packets sent, or received, again.
    pub retransmitted: u64,
    /// Lost RTP packets that were restored from forward error correction.
    pub recovered: u64,
    /// Gaps between shown pictures long enough to be seen (W3C webrtc-stats, `freezeCount`).
    pub freezes: u64,
    /// Their sum (`totalFreezesDuration`).
    pub frozen: Duration,
    /// CPU time in the codec.
    pub codec_time: Duration,
    /// Gauge: codec of the newest picture.
    pub codec: Option<VideoCodec>,
    /// Gauge: size of the newest picture.
    pub size: Option<(u32, u32)>,
}

/// Counted for sound in one direction.
#[derive(Clone, Debug, Default)]
pub struct AudioFlow {
    /// Payload bytes.
    pub bytes: u64,
    /// RTP packets lost.
    pub lost: u64,
    /// Sound made up to bridge gaps.
    pub concealed: Duration,
    /// Lost sound recovered from copies in later packets.
    pub recovered: Duration,
    /// Gauge: variation of packet arrival (RFC 3550 section 6.4.1).
    pub jitter: Option<Duration>,
    /// Gauge: sound waiting in the jitter buffer.
    pub buffer: Option<Duration>,
    /// Gauge: loudness of the last second, dBFS.
    pub level_dbfs: Option<f32>,
}

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The other end wants a key frame.
    pub fn request_key_frame(&self) {
        self.key_frame_wanted.store(true, Relaxed);
    }

    /// Whether a key frame was asked for since the last call.
    pub fn take_key_frame_request(&self) -> bool {
        self.key_frame_wanted.swap(false, Relaxed)
    }

    /// Newest measured round trip.
    pub fn set_rtt(&self, rtt: Duration) {
        self.rtt_us.store((rtt.as_micros() as u64).max(1), Relaxed);
    }

    /// A check of a path was answered after so long (RFC 8445 section 7.2.5).
    pub fn handle_check_answered(&self, rtt: Duration) {
        let us = (rtt.as_micros() as u64).max(1);
        let quicker = |known: u64| (known == 0 || us < known).then_some(us);
        let _ = self.check_us.fetch_update(Relaxed, Relaxed, quicker);
    }

    /// Newest measured round trip, if any: before media's first report that of the path's checks.
    pub fn rtt(&self) -> Option<Duration> {
        let known = |us: u64| (us != 0).then(|| Duration::from_micros(us));
        known(self.rtt_us.load(Relaxed)).or_else(|| known(self.check_us.load(Relaxed)))
    }

    /// How things stand on the way out.
    pub fn set_sending(&self, sending: Sending) {
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending);
    }

    /// Whether the other end sends repairs ahead now.
    pub(crate) fn set_fec_coming(&self, coming: bool) {
        self.fec_coming.store(coming, Relaxed);
    }

    /// Whether the other end sends repairs ahead now.
    pub(crate) fn fec_coming(&self) -> bool {
        self.fec_coming.load(Relaxed)
    }

    /// The other end speaks our dialect of RTCP.
    pub(crate) fn set_peer_is_ours(&self) {
        self.peer_is_ours.store(true, Relaxed);
    }

    /// Whether the other end has spoken our dialect of RTCP.
    pub(crate) fn peer_is_ours(&self) -> bool {
        self.peer_is_ours.load(Relaxed)
    }

    /// The other end said this about our pictures.
    pub(crate) fn add_picture_feedback(&self, feedback: PictureFeedback) {
        let mut waiting = self.picture_feedback.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MOST_FEEDBACK {
            waiting.pop_front();
        }
        waiting.push_back(feedback);
    }

    /// What the other end said about our pictures since the last call, in order.
    pub(crate) fn take_picture_feedback(&self) -> VecDeque<PictureFeedback> {
        let mut waiting = self.picture_feedback.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut waiting)
    }

    /// What happened lately to the sound we sent.
    pub fn set_audio_loss(&self, loss: Loss) {
        let [feedback, _] = &mut *self.audio_loss.lock().unwrap_or_else(PoisonError::into_inner);
        *feedback = Some(loss);
    }

    /// What happened lately to the sound we sent, where the other end tells. Receiver reports
    /// know nothing of runs, and count only where there is no transport-wide feedback.
    pub fn audio_loss(&self) -> Option<Loss> {
        let [feedback, reports] = *self.audio_loss.lock().unwrap_or_else(PoisonError::into_inner);
        feedback.or(reports)
    }

    /// How things stand on the way out, once there is one.
    pub fn sending(&self) -> Option<Sending> {
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The two streams' common time line.
    pub(crate) fn sync<R>(&self, act: impl FnOnce(&mut Sync) -> R) -> R {
        act(&mut self.sync.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When what is sent was captured.
    pub(crate) fn capture<R>(&self, act: impl FnOnce(&mut CaptureClocks) -> R) -> R {
        act(&mut self.capture.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How far, in milliseconds, the newest picture was shown ahead of its sound, if known.
    pub(crate) fn set_av_offset_ms(&self, offset: Option<f64>) {
        *self.av_offset_ms.lock().unwrap_or_else(PoisonError::into_inner) = offset;
    }

    /// How far, in milliseconds, the newest picture was shown ahead of its sound, if known.
    pub fn av_offset_ms(&self) -> Option<f64> {
        *self.av_offset_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What congestion control allows now, audio and video together, if known.
    pub fn target(&self) -> Option<Bitrate> {
        self.sending().map(|sending| sending.target)
    }

    pub(crate) fn add_retransmitted_out(&self, packets: u64) {
        self.video_out(|flow| flow.retransmitted += packets);
    }

    pub(crate) fn add_retransmitted_in(&self, packets: u64) {
        self.video_in(|flow| flow.retransmitted += packets);
    }

    pub(crate) fn set_video_loss_out(&self, _fraction_256: u8, total: u32) {
        self.video_out(|flow| flow.lost = u64::from(total));
    }

    pub(crate) fn set_audio_loss_out(&self, fraction_256: u8, total: u32) {
        let loss = Loss { rate: f64::from(fraction_256) / 256.0, mean_run: 1.0 };
        let [_, reports] = &mut *self.audio_loss.lock().unwrap_or_else(PoisonError::into_inner);
        *reports = Some(loss);
        self.audio_out(|flow| flow.lost = u64::from(total));
    }

    /// Changes what is counted for sent pictures.
    pub fn video_out(&self, change: impl FnOnce(&mut VideoFlow)) {
        self.with(|detail| change(&mut detail.video_out));
    }

    /// Changes what is counted for received pictures.
    pub fn video_in(&self, change: impl FnOnce(&mut VideoFlow)) {
        self.with(|detail| change(&mut detail.video_in));
    }

    /// Changes what is counted for sent sound.
    pub fn audio_out(&self, change: impl FnOnce(&mut AudioFlow)) {
        self.with(|detail| change(&mut detail.audio_out));
    }

    /// Changes what is counted for received sound.
    pub fn audio_in(&self, change: impl FnOnce(&mut AudioFlow)) {
        self.with(|detail| change(&mut detail.audio_in));
    }

    fn with<R>(&self, act: impl FnOnce(&mut Detail) -> R) -> R {
        act(&mut self.detail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one end says about its call once a second. A figure not known is null.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // named by quantity and unit
pub struct Statistics {
    pub unix_ms: u64,
    pub state: String,
    pub role: Option<String>,
    pub pair: Option<String>,
    pub rtt_ms: Option<f64>,
    pub target_kbps: Option<f64>,
    pub queue_ms: Option<f64>,
    pub congestion: Option<&'static str>,
    pub connect_ms: Option<f64>,
    pub first_frame_ms: Option<f64>,
    pub video_out: SentVideoStatistics,
    pub video_in: ReceivedVideoStatistics,
    pub audio_out: AudioStatistics,
    pub audio_in: AudioStatistics,
    pub av_offset_ms: Option<f64>,
    pub process: ProcessStatistics,
}

/// Pictures sent.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // named by quantity and unit
pub struct SentVideoStatistics {
    #[serde(flatten)]
    pub flow: VideoStatistics,
    pub encode_ms: Option<f64>,
}

/// Pictures received.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // named by quantity and unit
pub struct ReceivedVideoStatistics {
    #[serde(flatten)]
    pub flow: VideoStatistics,
    pub decode_ms: Option<f64>,
}

/// Pictures in either direction.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // named by quantity and unit
pub struct VideoStatistics {
    pub codec: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub fps: f64,
    pub kbps: f64,
    pub frames: u64,
    pub dropped: u64,
    pub key_frames: u64,
    pub lost: u64,
    pub retransmitted: u64,
    pub recovered: u64,
    pub freezes: u64,
    pub frozen_ms: f64,
}

/// Sound in one direction.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // named by quantity and unit
pub struct AudioStatistics {
    pub kbps: f64,
    pub lost: u64,
    pub jitter_ms: Option<f64>,
    pub buffer_ms: Option<f64>,
    pub concealed_ms: f64,
    pub recovered_ms: f64,
    pub level_dbfs: Option<f32>,
}

/// The whole process.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // named by quantity and unit
pub struct ProcessStatistics {
    pub cpu_cores: Option<f64>,
    pub rss_mib: Option<f64>,
}

/// Turns counters into rates between two readings.
#[derive(Default)]
pub struct Meter {
    last: Option<Reading>,
}

struct Reading {
    at: Instant,
    video_out: VideoFlow,
    video_in: VideoFlow,
    audio_out: AudioFlow,
    audio_in: AudioFlow,
}

impl Meter {
    /// Starts counting anew: the first reading has rates of zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills in what the counters know: rates since the previous call, totals since the start.
    pub fn read(&mut self, now: Instant, counters: &Counters, into: &mut Statistics) {
        let reading = counters.with(|detail| Reading {
            at: now,
            video_out: detail.video_out.clone(),
            video_in: detail.video_in.clone(),
            audio_out: detail.audio_out.clone(),
            audio_in: detail.audio_in.clone(),
        });
        into.rtt_ms = counters.rtt().map(ms);
        let sending = counters.sending();
        into.target_kbps = sending.map(|sending| sending.target.kbps());
        into.queue_ms = sending.map(|sending| ms(sending.queue));
        into.congestion = sending.as_ref().map(Sending::state_name);
        into.av_offset_ms = counters.av_offset_ms();
        let last = self.last.as_ref();
        let seconds = last.map_or(0.0, |last| now.duration_since(last.at).as_secs_f64());
        let video = |new: &VideoFlow, old: Option<&VideoFlow>| video(new, old, seconds);
        let (flow, encode_ms) = video(&reading.video_out, last.map(|last| &last.video_out));
        into.video_out = SentVideoStatistics { flow, encode_ms };
        let (flow, decode_ms) = video(&reading.video_in, last.map(|last| &last.video_in));
        into.video_in = ReceivedVideoStatistics { flow, decode_ms };
        into.audio_out = audio(&reading.audio_out, last.map(|last| &last.audio_out), seconds);
        into.audio_in = audio(&reading.audio_in, last.map(|last| &last.audio_in), seconds);
        self.last = Some(reading);
    }
}

fn video(new: &VideoFlow, old: Option<&VideoFlow>, seconds: f64) -> (VideoStatistics, Option<f64>) {
    let rate = |new: u64, old: u64| per_second(new.saturating_sub(old) as f64, seconds);
    let old = old.cloned().unwrap_or_default();
    let frames = new.frames.saturating_sub(old.frames);
    let statistics = VideoStatistics {
        codec: new.codec.map(|codec| codec.name().to_owned()),
        width: new.size.map(|(width, _)| width),
        height: new.size.map(|(_, height)| height),
        fps: rate(new.frames, old.frames),
        kbps: rate(new.bytes, old.bytes) * 8.0 / 1000.0,
        frames: new.frames,
        dropped: new.dropped,
        key_frames: new.key_frames,
        lost: new.lost,
        retransmitted: new.retransmitted,
        recovered: new.recovered,
        freezes: new.freezes,
        frozen_ms: ms(new.frozen),
    };
    let spent = new.codec_time.saturating_sub(old.codec_time);
    (statistics, (frames > 0).then(|| ms(spent) / frames as f64))
}

fn audio(new: &AudioFlow, old: Option<&AudioFlow>, seconds: f64) -> AudioStatistics {
    let old_bytes = old.map_or(0, |old| old.bytes);
    AudioStatistics {
        kbps: per_second(new.bytes.saturating_sub(old_bytes) as f64, seconds) * 8.0 / 1000.0,
        lost: new.lost,
        jitter_ms: new.jitter.map(ms),
        buffer_ms: new.buffer.map(ms),
        concealed_ms: ms(new.concealed),
        recovered_ms: ms(new.recovered),
        level_dbfs: new.level_dbfs,
    }
}

fn per_second(amount: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { amount / seconds } else { 0.0 }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What the process costs: CPU since the previous call, memory now.
#[derive(Default)]
pub struct ProcessMeter {
    last: Option<(Instant, Duration)>,
}

impl ProcessMeter {
    /// Reads `/proc/self`; where there is none, both figures stay unknown.
    pub fn read(&mut self, now: Instant) -> ProcessStatistics {
        let cpu = cpu_time();
        let cpu_cores = match (self.last, cpu) {
            (Some((at, before)), Some(cpu)) if now > at => Some(
                cpu.saturating_sub(before).as_secs_f64() / now.duration_since(at).as_secs_f64(),
            ),
            _ => None,
        };
        self.last = cpu.map(|cpu| (now, cpu));
        ProcessStatistics { cpu_cores, rss_mib: resident_mib() }
    }
}

/// User and system time of all threads so far: fields 14 and 15 of `/proc/self/stat` (proc(5)),
/// in ticks of 10 ms.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_between_two_readings() {
        let counters = Counters::new();
        let mut meter = Meter::new();
        let start = Instant::now();
        let mut first = Statistics::default();
        meter.read(start, &counters, &mut first);
        assert_eq!(first.video_out.flow.fps, 0.0);
        counters.video_out(|flow| {
            flow.frames += 60;
            flow.bytes += 250_000;
            flow.codec_time += Duration::from_millis(180);
            flow.size = Some((1280, 720));
        });
        let mut second = Statistics::default();
        meter.read(start + Duration::from_secs(2), &counters, &mut second);
        assert_eq!(second.video_out.flow.fps, 30.0);
        assert_eq!(second.video_out.flow.kbps, 1000.0);
        assert_eq!(second.video_out.encode_ms, Some(3.0));
        assert_eq!(second.video_out.flow.width, Some(1280));
        assert_eq!(second.video_in.decode_ms, None);
    }

    #[test]
    fn an_unknown_figure_is_null() {
        let json = serde_json::to_value(Statistics::default()).expect("serialises");
        let has_null = |flow: &str, figure: &str| {
            json[flow].get(figure).is_some_and(serde_json::Value::is_null)
        };
        assert!(has_null("video_out", "encode_ms") && has_null("video_in", "decode_ms"));
        assert!(has_null("video_out", "codec"));
        assert!(json["rtt_ms"].is_null());
        assert!(json["process"]["rss_mib"].is_null());
        assert!(json["audio_in"]["jitter_ms"].is_null());
    }

    #[test]
    fn checks_tell_the_round_trip_until_reports_do() {
        let counters = Counters::new();
        assert_eq!(counters.rtt(), None);
        for (ms, known) in [(700, 700), (600, 600), (650, 600)] {
            counters.handle_check_answered(Duration::from_millis(ms));
            assert_eq!(counters.rtt(), Some(Duration::from_millis(known)));
        }
        counters.set_rtt(Duration::from_millis(620));
        counters.handle_check_answered(Duration::from_millis(500));
        assert_eq!(counters.rtt(), Some(Duration::from_millis(620)));
    }

    #[test]
    fn reports_tell_of_lost_sound_until_there_is_feedback() {
        let counters = Counters::new();
        assert_eq!(counters.audio_loss(), None);
        counters.set_audio_loss_out(64, 9);
        assert_eq!(counters.audio_loss(), Some(Loss { rate: 0.25, mean_run: 1.0 }));
        let feedback = Loss { rate: 0.1, mean_run: 3.0 };
        counters.set_audio_loss(feedback);
        counters.set_audio_loss_out(0, 9);
        assert_eq!(counters.audio_loss(), Some(feedback));
    }

    #[test]
    fn a_key_frame_request_is_taken_once() {
        let counters = Counters::new();
        counters.request_key_frame();
        assert!(counters.take_key_frame_request());
        assert!(!counters.take_key_frame_request());
    }
}
