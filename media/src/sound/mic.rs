//! A microphone: whatever it delivers becomes 48 kHz in a ring, of one channel or two.

use std::sync::Arc;
use std::time::Duration;

use cpal::traits::DeviceTrait;
use cpal::{ErrorKind, FromSample, SampleFormat, SizedSample};

use super::host::{self, Beats, Direction, Format, Keep, Resampler};
use super::{Capture, SAMPLE_RATE, SoundError, SoundEvents, Wake};
use crate::source::DeviceSelector;

/// Frames in the ring, 200 ms: more than a reader is ever late.
const RING: usize = SAMPLE_RATE as usize / 5;

/// Frames taken at a time.
const PIECE: usize = 480;

/// Opens a microphone at 48 kHz, in blocks of about 5 ms: its channels mixed to one, or its first
/// two (`channels`) where it has as many. `wake` runs in the callback after each.
/// Blocks up to 6 s where the sound system does not answer. What happens later comes through
/// `events`; dropping the capture never blocks.
///
/// # Errors
/// When there is no microphone, none of this name, or it does not open.
pub fn open(
    selector: &DeviceSelector,
    channels: u16,
    wake: Wake,
    events: SoundEvents,
) -> Result<Capture, SoundError> {
    let started = host::start(
        Direction::Input,
        channels,
        selector,
        events,
        move |device, format, limit, keep| {
            let channels = usize::from(channels.min(format.config.channels).clamp(1, 2));
            let (producer, samples) = rtrb::RingBuffer::new(RING * channels);
            let (wake, beats) = (Arc::clone(&wake), keep.beats.clone());
            let intake = Intake::new(producer, channels, format, wake, beats)?;
            let stream = match format.sample {
                SampleFormat::F32 => build::<f32>(device, format, limit, keep, intake),
                SampleFormat::I16 => build::<i16>(device, format, limit, keep, intake),
                SampleFormat::I32 => build::<i32>(device, format, limit, keep, intake),
                _ => Err(ErrorKind::UnsupportedConfig.into()),
            }?;
            Ok((stream, (samples, channels)))
        },
    )?;
    let (samples, channels) = started.end;
    Ok(Capture { samples, channels, name: started.name, guard: Box::new(started.guard) })
}

fn build<T>(
    device: &cpal::Device,
    format: Format,
    limit: Duration,
    keep: &Keep,
    mut intake: Intake,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    device.build_input_stream::<T, _, _>(
        format.config,
        move |data, _| intake.take(data),
        keep.on_error(),
        Some(limit),
    )
}

/// The callback's state.
struct Intake {
    ring: rtrb::Producer<f32>,
    channels: usize,
    /// The device's.
    inputs: usize,
    resampler: Option<Resampler>,
    piece: [f32; 2 * PIECE],
    wake: Wake,
    beats: Beats,
}

impl Intake {
    fn new(
        ring: rtrb::Producer<f32>,
        channels: usize,
        format: Format,
        wake: Wake,
        beats: Beats,
    ) -> Result<Self, cpal::Error> {
        let rate = format.config.sample_rate;
        let resampler = (rate != SAMPLE_RATE)
            .then(|| Resampler::new(rate, SAMPLE_RATE, channels))
            .transpose()?;
        let inputs = usize::from(format.config.channels).max(1);
        Ok(Self { ring, channels, inputs, resampler, piece: [0.0; 2 * PIECE], wake, beats })
    }

    fn take<T: SizedSample>(&mut self, data: &[T])
    where
        f32: FromSample<T>,
    {
        let channels = self.channels;
        for piece in data.chunks(PIECE * self.inputs) {
            let mut len = 0;
            let taken = self.piece.chunks_exact_mut(channels);
            for (taken, frame) in taken.zip(piece.chunks_exact(self.inputs)) {
                match taken {
                    [mono] => {
                        let sum: f32 = frame.iter().map(|sample| f32::from_sample_(*sample)).sum();
                        *mono = sum / self.inputs as f32;
                    }
                    first_two => {
                        for (taken, sample) in first_two.iter_mut().zip(frame) {
                            *taken = f32::from_sample_(*sample);
                        }
                    }
                }
                len += channels;
            }
            let taken = &self.piece[..len];
            match &mut self.resampler {
                // A full ring drops the newest piece: the reader is gone or hopelessly late.
                None => {
                    let _ = self.ring.push_entire_slice(taken);
                }
                Some(resampler) => {
                    for frame in taken.chunks_exact(channels) {
                        if let Some(block) = resampler.push(frame) {
                            let _ = self.ring.push_entire_slice(block);
                        }
                    }
                }
            }
        }
        self.beats.beat();
        (self.wake)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpal::{BufferSize, StreamConfig};
    use std::sync::atomic::{AtomicU32, Ordering};

    fn intake(channels: u16, sample_rate: u32) -> (Intake, rtrb::Consumer<f32>, Arc<AtomicU32>) {
        intake_of(1, channels, sample_rate)
    }

    fn intake_of(
        wanted: usize,
        channels: u16,
        sample_rate: u32,
    ) -> (Intake, rtrb::Consumer<f32>, Arc<AtomicU32>) {
        let (producer, consumer) = rtrb::RingBuffer::new(RING);
        let wakes = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&wakes);
        let wake: Wake = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let config = StreamConfig { channels, sample_rate, buffer_size: BufferSize::Default };
        let format = Format { config, sample: SampleFormat::F32 };
        let intake = Intake::new(producer, wanted, format, wake, Beats::default()).expect("intake");
        (intake, consumer, wakes)
    }

    fn drain(ring: &mut rtrb::Consumer<f32>) -> Vec<f32> {
        std::iter::from_fn(|| ring.pop().ok()).collect()
    }

    #[test]
    fn channels_are_averaged_and_the_reader_is_woken_once_a_block() {
        let (mut intake, mut ring, wakes) = intake(2, SAMPLE_RATE);
        intake.take(&[0.5f32, 0.25, -1.0, 1.0]);
        assert_eq!(drain(&mut ring), [0.375, 0.0]);
        intake.take(&[i16::MIN, i16::MIN, 16384, 16384]);
        assert_eq!(drain(&mut ring), [-1.0, 0.5]);
        intake.take(&[i32::MIN, i32::MIN]);
        assert_eq!(drain(&mut ring), [-1.0]);
        assert_eq!(wakes.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn of_many_channels_the_first_two_stay_apart() {
        let (mut intake, mut ring, _) = intake_of(2, 3, SAMPLE_RATE);
        intake.take(&[0.5f32, 0.25, 0.9, -1.0, 1.0, 0.9]);
        assert_eq!(drain(&mut ring), [0.5, 0.25, -1.0, 1.0]);
        let (mut intake, mut ring, _) = intake_of(2, 2, 44_100);
        for _ in 0..20 {
            intake.take(&[0.5f32, -0.25].repeat(441));
        }
        let heard = drain(&mut ring);
        for frame in heard[2000..].as_chunks::<2>().0 {
            assert!((frame[0] - 0.5).abs() < 0.01 && (frame[1] + 0.25).abs() < 0.01, "{frame:?}");
        }
    }

    #[test]
    fn a_block_larger_than_usual_passes_in_order() {
        let (mut intake, mut ring, _) = intake(1, SAMPLE_RATE);
        let block: Vec<f32> = (0..4000u16).map(|n| f32::from(n) / 4000.0).collect();
        intake.take(&block);
        assert_eq!(drain(&mut ring), block);
    }

    #[test]
    fn a_full_ring_keeps_the_oldest() {
        let (mut intake, mut ring, _) = intake(1, SAMPLE_RATE);
        intake.take(&vec![0.25f32; RING]);
        intake.take(&[0.75f32; 480]);
        let heard = drain(&mut ring);
        assert_eq!((heard.len(), heard.iter().all(|s| *s == 0.25)), (RING, true));
    }

    #[test]
    fn another_rate_becomes_48_khz() {
        let (mut intake, mut ring, _) = intake(2, 44_100);
        let mut total = 0;
        for _ in 0..100 {
            intake.take(&[0.5f32; 882]);
            total += drain(&mut ring).len();
        }
        assert!(total.abs_diff(48_000) < 300, "{total}");
    }
}
