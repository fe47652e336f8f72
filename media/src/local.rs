//! This end's camera, microphone and speaker. They outlive connections: a new peer gets the
//! devices as they are, and the lobby uses them without any.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::frame::Frame;
use crate::frame_log::{FrameEvent, FrameLog};
use crate::pipeline::audio_receive::{AudioOut, AudioReceiver, OpenPlayback};
use crate::pipeline::audio_send::{AudioFeed, AudioSender, OpenCapture};
use crate::slot::Slot;
use crate::sound::processing::{Processing, Reference};
use crate::sound::wav::ClockSkew;
use crate::sound::{AudioSinkSpec, AudioSourceSpec, SoundError, SoundEvent, mic, speaker, wav};
use crate::source::{
    FrameSink, SourceEvent, SourceEvents, VideoSource, VideoSourceSpec, camera, file, screen,
    testcard,
};

/// What the devices tell. Comes from their threads.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalEvent {
    /// About the picture source.
    Video(SourceEvent),
    /// The microphone (or what stands for it) delivers; its name.
    MicrophoneStarted(String),
    /// There is no microphone, or none any more.
    MicrophoneLost(SoundError),
    /// The speaker (or what stands for it) plays; its name.
    SpeakerStarted(String),
    /// There is no speaker, or none any more.
    SpeakerLost(SoundError),
}

/// Receives [`LocalEvent`]s. Must not block.
pub type LocalEvents = Arc<dyn Fn(LocalEvent) + Send + Sync>;

/// The test picture's size and rate, and what a camera is asked for.
const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
const FPS: u32 = 30;

/// The devices. Switching one drops the old one first, which closes it.
pub struct LocalMedia {
    events: LocalEvents,
    log: Arc<FrameLog>,
    preview: Arc<Slot<Arc<Frame>>>,
    outgoing: Arc<Slot<Arc<Frame>>>,
    feed: Arc<AudioFeed>,
    out: Arc<AudioOut>,
    /// Of what stands for sound devices, in millionths.
    skew: AtomicI32,
    video: Mutex<Option<Running<VideoSource>>>,
    microphone: Mutex<Option<Running<AudioSender>>>,
    speaker: Mutex<Option<Running<AudioReceiver>>>,
    /// Speakers that still complete their file.
    closing: Mutex<Vec<AudioReceiver>>,
}

/// A device and whether it is still the one in use: events of one that was switched off come
/// late and must not be taken for its successor's.
struct Running<T> {
    device: T,
    _current: Current,
}

struct Current(Arc<AtomicBool>);

impl Drop for Current {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl<T> Running<T> {
    fn new(current: Arc<AtomicBool>, device: T) -> Self {
        Self { device, _current: Current(current) }
    }
}

impl LocalMedia {
    /// Everything off. Pictures for the window come into `preview`.
    pub fn new(preview: Arc<Slot<Arc<Frame>>>, log: Arc<FrameLog>, events: LocalEvents) -> Self {
        let reference = Arc::<Reference>::default();
        Self {
            events,
            log,
            preview,
            outgoing: Arc::default(),
            feed: Arc::new(AudioFeed::new(Arc::clone(&reference))),
            out: Arc::new(AudioOut::new(reference)),
            skew: AtomicI32::new(0),
            video: Mutex::default(),
            microphone: Mutex::default(),
            speaker: Mutex::default(),
            closing: Mutex::default(),
        }
    }

    /// Switches the picture source; `label` is written on a test picture. How it went comes as
    /// [`LocalEvent::Video`].
    pub fn set_video(&self, spec: &VideoSourceSpec, label: &str) {
        replace(&self.video, None);
        // What the old source left must neither be shown nor sent any more.
        drop((self.preview.take(), self.outgoing.take()));
        let current = Arc::new(AtomicBool::new(true));
        let frames = self.frame_sink(&current);
        let events = self.source_events(&current);
        let device = match spec {
            VideoSourceSpec::Camera(selector) => {
                let wish = camera::CameraFormatWish { width: WIDTH, height: HEIGHT, fps: FPS };
                camera::open(selector, wish, frames, events)
            }
            VideoSourceSpec::Screen(selector) => screen::open(selector.clone(), frames, events),
            VideoSourceSpec::File(path) => match file::open(path, frames, events) {
                Ok(device) => device,
                Err(error) => return (self.events)(LocalEvent::Video(SourceEvent::Lost(error))),
            },
            VideoSourceSpec::Testcard => testcard::open(WIDTH, HEIGHT, FPS, label, frames, events),
            VideoSourceSpec::None => return,
        };
        replace(&self.video, Some(Running::new(current, device)));
    }

    /// Switches the sound source, to two channels where [`Processing::stereo`] wants them. Its name or its failure comes as a [`LocalEvent`].
    pub fn set_microphone(&self, spec: &AudioSourceSpec) {
        replace(&self.microphone, None);
        let current = Arc::new(AtomicBool::new(true));
        let lost = self.sound_events(&current, LocalEvent::MicrophoneLost, "microphone");
        let clock = self.clock();
        let channels = if self.processing().stereo { 2 } else { 1 };
        let open: OpenCapture = match spec.clone() {
            AudioSourceSpec::Mic(selector) => {
                Box::new(move |wake| mic::open(&selector, channels, wake, lost))
            }
            AudioSourceSpec::File(path) => {
                Box::new(move |wake| wav::open_source(&path, channels, clock, wake, lost))
            }
            AudioSourceSpec::Testcard => Box::new(move |wake| wav::open_testcard(clock, wake)),
            AudioSourceSpec::None => return,
        };
        let opened =
            self.opened(&current, LocalEvent::MicrophoneStarted, LocalEvent::MicrophoneLost);
        let live = matches!(spec, AudioSourceSpec::Mic(_));
        let device = AudioSender::start(open, opened, Arc::clone(&self.feed), live);
        replace(&self.microphone, Some(Running::new(current, device)));
    }

    /// Closes the microphone.
    pub fn close_microphone(&self) {
        replace(&self.microphone, None);
    }

    /// Switches where sound goes. Its name or its failure comes as a [`LocalEvent`].
    pub fn set_speaker(&self, spec: &AudioSinkSpec) {
        self.close_speaker();
        let current = Arc::new(AtomicBool::new(true));
        let lost = self.sound_events(&current, LocalEvent::SpeakerLost, "speaker");
        let clock = self.clock();
        let open: OpenPlayback = match spec.clone() {
            AudioSinkSpec::Speaker(selector) => {
                Box::new(move |wake| speaker::open(&selector, wake, lost))
            }
            AudioSinkSpec::File(path) => Box::new(move |wake| wav::open_sink(&path, clock, wake)),
            AudioSinkSpec::None => Box::new(move |wake| wav::open_null(clock, wake)),
        };
        let opened = self.opened(&current, LocalEvent::SpeakerStarted, LocalEvent::SpeakerLost);
        let heard = matches!(spec, AudioSinkSpec::Speaker(_));
        let device = AudioReceiver::start(open, opened, Arc::clone(&self.out), heard);
        replace(&self.speaker, Some(Running::new(current, device)));
    }

    /// Closes the speaker without waiting; [`LocalMedia::finish`] does.
    pub fn close_speaker(&self) {
        if let Some(speaker) = take(&self.speaker) {
            speaker.device.signal();
            let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
            closing.retain(|device| !device.is_finished());
            closing.push(speaker.device);
        }
    }

    /// What is done to a microphone's sound from now on; files and test tones stay as they are. How many
    /// channels there are counts from the next [`LocalMedia::set_microphone`] on.
    pub fn set_processing(&self, processing: Processing) {
        self.feed.set_processing(processing);
    }

    /// What is done to a microphone's sound.
    pub fn processing(&self) -> Processing {
        self.feed.processing()
    }

    /// Sound files and test tones opened from now on have clocks that run so many millionths faster
    /// than the system's, as sound cards do.
    pub fn set_sound_clock(&self, ppm: i32) {
        self.skew.store(ppm, Relaxed);
    }

    fn clock(&self) -> ClockSkew {
        ClockSkew::new(self.skew.load(Relaxed))
    }

    /// Sends silence instead of the microphone.
    pub fn set_muted(&self, muted: bool) {
        self.feed.set_muted(muted);
    }

    /// Loudness of the microphone now, dBFS.
    pub fn microphone_dbfs(&self) -> f32 {
        self.feed.level_dbfs()
    }

    /// Closes everything and waits, at most about `limit`, until a sound file is whole.
    pub fn finish(&self, limit: Duration) {
        replace(&self.video, None);
        replace(&self.microphone, None);
        self.close_speaker();
        let closing =
            std::mem::take(&mut *self.closing.lock().unwrap_or_else(PoisonError::into_inner));
        for device in closing {
            device.finish(limit);
        }
        self.log.flush();
    }

    /// The frame log that the sources write to.
    pub fn log(&self) -> &Arc<FrameLog> {
        &self.log
    }

    pub(crate) fn outgoing(&self) -> &Arc<Slot<Arc<Frame>>> {
        &self.outgoing
    }

    pub(crate) fn feed(&self) -> &Arc<AudioFeed> {
        &self.feed
    }

    pub(crate) fn out(&self) -> &Arc<AudioOut> {
        &self.out
    }

    fn frame_sink(&self, current: &Arc<AtomicBool>) -> FrameSink {
        let current = Arc::clone(current);
        let (preview, outgoing) = (Arc::clone(&self.preview), Arc::clone(&self.outgoing));
        let log = Arc::clone(&self.log);
        Arc::new(move |frame: Arc<Frame>| {
            if current.load(Relaxed) {
                log.note(FrameEvent::Captured, frame.strip);
                preview.put(Arc::clone(&frame));
                outgoing.put(frame);
            }
        })
    }

    fn source_events(&self, current: &Arc<AtomicBool>) -> SourceEvents {
        let (current, events) = (Arc::clone(current), Arc::clone(&self.events));
        Arc::new(move |event| {
            if current.load(Relaxed) {
                events(LocalEvent::Video(event));
            }
        })
    }

    fn sound_events(
        &self,
        current: &Arc<AtomicBool>,
        lost: fn(SoundError) -> LocalEvent,
        kind: &'static str,
    ) -> crate::sound::SoundEvents {
        let (current, events) = (Arc::clone(current), Arc::clone(&self.events));
        Arc::new(move |event| {
            if !current.load(Relaxed) {
                return;
            }
            match event {
                SoundEvent::Lost(error) => events(lost(error)),
                SoundEvent::Stalled => {
                    tracing::warn!(kind, "the sound device has stopped answering");
                }
            }
        })
    }

    fn opened(
        &self,
        current: &Arc<AtomicBool>,
        started: fn(String) -> LocalEvent,
        lost: fn(SoundError) -> LocalEvent,
    ) -> Box<dyn FnOnce(Result<String, SoundError>) + Send> {
        let (current, events) = (Arc::clone(current), Arc::clone(&self.events));
        Box::new(move |outcome| {
            if current.load(Relaxed) {
                events(match outcome {
                    Ok(name) => started(name),
                    Err(error) => lost(error),
                });
            }
        })
    }
}

/// Puts `new` in the place of what runs, which ends outside the lock.
fn replace<T>(place: &Mutex<Option<T>>, new: Option<T>) {
    let old = std::mem::replace(&mut *place.lock().unwrap_or_else(PoisonError::into_inner), new);
    drop(old);
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}
