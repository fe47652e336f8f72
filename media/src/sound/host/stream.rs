//! What keeps a stream alive: one thread that owns it, one that watches it.
//!
//! Opening, asking and closing can each block for ever in a sound system, so all of that happens
//! on the owner's thread, which nobody joins. The watcher never blocks: it turns what the
//! callbacks noticed into events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind};

use super::format::{self, Format};
use super::gaps::Gaps;
use super::{Direction, System};
use crate::sound::{SAMPLE_RATE, SoundError, SoundEvent, SoundEvents};
use crate::source::DeviceSelector;

/// How long opening may take. A server's handshake and its stream are each given 2 s within.
const OPEN_LIMIT: Duration = Duration::from_secs(6);
const BUILD_LIMIT: Duration = Duration::from_secs(2);

/// How often to ask whether the device is still there.
const PRESENCE: Duration = Duration::from_millis(500);

/// How often the watcher looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// What callbacks report to the watcher. A full channel drops the rest: one ALSA underrun was
/// seen to report 17,000 errors a second.
enum Trouble {
    Error(ErrorKind),
    Gone,
    Stop,
}

/// Counts a stream's callbacks, so that their absence is noticed.
#[derive(Clone, Default)]
pub(crate) struct Beats(Arc<AtomicU64>);

impl Beats {
    /// A callback ran. Neither locks nor allocates.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a stream's callbacks report to.
pub(crate) struct Keep {
    /// To be counted up in every data callback.
    pub(crate) beats: Beats,
    troubles: SyncSender<Trouble>,
}

impl Keep {
    /// The error callback.
    pub(crate) fn on_error(&self) -> impl FnMut(cpal::Error) + Send + 'static {
        let troubles = self.troubles.clone();
        move |error| {
            if is_fatal(error.kind()) {
                // Full only where the watcher has enough to tell already.
                let _ = troubles.try_send(Trouble::Error(error.kind()));
            }
        }
    }
}

/// The stream is dead after these; after others it goes on or stops calling, which is seen.
fn is_fatal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StreamInvalidated
            | ErrorKind::DeviceNotAvailable
            | ErrorKind::HostUnavailable
            | ErrorKind::PermissionDenied
    )
}

fn reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::DeviceNotAvailable => "it was unplugged",
        ErrorKind::PermissionDenied => "this program may not use it: allow it in the settings",
        _ => "the connection to the sound system ended",
    }
}

/// A running stream.
pub(crate) struct Started<T> {
    /// What `build` made for the caller.
    pub(crate) end: T,
    /// The device's name.
    pub(crate) name: String,
    /// Samples a callback, at 48 kHz.
    pub(crate) block: usize,
    /// Stops the stream when dropped, without waiting.
    pub(crate) guard: Guard,
}

/// Stops a stream when dropped.
pub(crate) struct Guard {
    troubles: SyncSender<Trouble>,
    /// Its end of the channel closes with the guard, and the owner ends.
    _owner: mpsc::Sender<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A full channel means that the watcher is about to end anyway.
        let _ = self.troubles.try_send(Trouble::Stop);
    }
}

/// Opens a device and starts it, best with so many channels. `build` runs on the owner's thread, at most twice (again with
/// the system's own buffer size where ours is refused).
///
/// # Errors
/// When there is no such device, it does not open, or the system does not answer in time.
pub(crate) fn start<T: Send + 'static>(
    direction: Direction,
    channels: u16,
    selector: &DeviceSelector,
    events: SoundEvents,
    build: impl Fn(&cpal::Device, Format, Duration, &Keep) -> Result<(cpal::Stream, T), cpal::Error>
    + Send
    + 'static,
) -> Result<Started<T>, SoundError> {
    let kind = direction.kind();
    let failed =
        |name: &str, reason: String| SoundError::Device { kind, name: name.into(), reason };
    let (opened_sender, opened) = mpsc::sync_channel(1);
    let (owner, stop) = mpsc::channel();
    let (troubles, reported) = mpsc::sync_channel(8);
    let beats = Beats::default();
    let keep = Keep { beats: beats.clone(), troubles: troubles.clone() };

    let wanted = crate::devices::wanted(selector);
    let selector = selector.clone();
    let spawned = thread::Builder::new().name(format!("{kind}-own")).spawn(move || {
        match open(direction, channels, &selector, &keep, build) {
            Ok(open) => {
                let (name, id) = (open.name, open.id);
                // A caller that gave up has closed `stop` as well.
                let _ = opened_sender.send(Ok((open.end, name, open.block)));
                hold(&open.system, &id, open.stream, &stop, &keep);
            }
            Err(error) => {
                let _ = opened_sender.send(Err(error));
            }
        }
    });
    spawned.map_err(|error| failed(&wanted, error.to_string()))?;

    let (end, name, block) = opened.recv_timeout(OPEN_LIMIT).unwrap_or_else(|_| {
        Err(failed(&wanted, "the sound system does not answer: restart it".into()))
    })?;
    let watcher = Watcher { kind, name: name.clone(), events, beats };
    let watched = name.clone();
    thread::Builder::new()
        .name(kind.into())
        .spawn(move || watcher.run(&reported))
        .map_err(|error| failed(&watched, error.to_string()))?;
    Ok(Started { end, name, block, guard: Guard { troubles, _owner: owner } })
}

struct Open<T> {
    system: System,
    stream: cpal::Stream,
    end: T,
    name: String,
    id: String,
    block: usize,
}

fn open<T>(
    direction: Direction,
    channels: u16,
    selector: &DeviceSelector,
    keep: &Keep,
    build: impl Fn(&cpal::Device, Format, Duration, &Keep) -> Result<(cpal::Stream, T), cpal::Error>,
) -> Result<Open<T>, SoundError> {
    let kind = direction.kind();
    let wanted = || crate::devices::wanted(selector);
    let system =
        System::connect().map_err(|reason| SoundError::Device { kind, name: wanted(), reason })?;
    let endpoint = system.choose(direction, selector)?;
    let name = endpoint.info.name;
    let failed = |reason: String| SoundError::Device { kind, name: name.clone(), reason };
    let ranges: Result<Vec<_>, _> = match direction {
        Direction::Input => endpoint.device.supported_input_configs().map(Iterator::collect),
        Direction::Output => endpoint.device.supported_output_configs().map(Iterator::collect),
    };
    let ranges = ranges.map_err(|error| failed(explain(&error)))?;
    let format = format::choose(ranges, channels)
        .ok_or_else(|| failed("it offers no sample format that is understood".into()))?;
    let built = build(&endpoint.device, format, BUILD_LIMIT, keep).or_else(|error| {
        let refused =
            matches!(error.kind(), ErrorKind::UnsupportedConfig | ErrorKind::InvalidInput);
        if !refused {
            return Err(error);
        }
        let mut format = format;
        format.config.buffer_size = BufferSize::Default;
        build(&endpoint.device, format, BUILD_LIMIT, keep)
    });
    let (stream, end) = built.map_err(|error| failed(explain(&error)))?;
    let frames = stream.buffer_size().unwrap_or(super::BLOCK).min(SAMPLE_RATE);
    let scaled = u64::from(frames) * u64::from(SAMPLE_RATE) / u64::from(format.config.sample_rate);
    tracing::info!("{kind} \"{name}\" opened: {format:?}, {frames} frames a block");
    Ok(Open { system, stream, end, name, id: endpoint.info.id, block: scaled as usize })
}

fn explain(error: &cpal::Error) -> String {
    match error.kind() {
        ErrorKind::DeviceBusy => "another program uses it: close that program".into(),
        ErrorKind::PermissionDenied => reason(ErrorKind::PermissionDenied).into(),
        _ => error.to_string(),
    }
}

/// Starts the stream and keeps it until the guard is dropped.
fn hold(system: &System, id: &str, stream: cpal::Stream, stop: &Receiver<()>, keep: &Keep) {
    // Waits for the first sample, which a sleeping device delivers after seconds.
    if let Err(error) = stream.play() {
        tracing::warn!("sound does not start: {error}");
        let _ = keep.troubles.try_send(Trouble::Error(ErrorKind::StreamInvalidated));
    }
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(PRESENCE) {
        if !system.still_has(id) {
            let _ = keep.troubles.try_send(Trouble::Gone);
            break;
        }
    }
    drop(stream);
}

struct Watcher {
    kind: &'static str,
    name: String,
    events: SoundEvents,
    beats: Beats,
}

impl Watcher {
    fn run(self, reported: &Receiver<Trouble>) {
        let mut gaps = Gaps::new(Instant::now());
        loop {
            match reported.recv_timeout(TICK) {
                Ok(Trouble::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Trouble::Error(kind)) => return self.lost(reason(kind)),
                Ok(Trouble::Gone) => return self.lost(reason(ErrorKind::DeviceNotAvailable)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if gaps.poll(self.beats.count(), Instant::now()) {
                (self.events)(SoundEvent::Stalled);
            }
        }
    }

    fn lost(&self, reason: &str) {
        let (kind, name, reason) = (self.kind, self.name.clone(), reason.to_owned());
        (self.events)(SoundEvent::Lost(SoundError::Device { kind, name, reason }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glitches_do_not_end_a_stream() {
        for kind in [ErrorKind::Xrun, ErrorKind::DeviceChanged, ErrorKind::RealtimeDenied] {
            assert!(!is_fatal(kind), "{kind:?}");
        }
        assert!(is_fatal(ErrorKind::StreamInvalidated));
        assert!(is_fatal(ErrorKind::DeviceNotAvailable));
    }
}
