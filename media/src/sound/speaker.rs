//! A speaker: plays 48 kHz from a ring, two channels on its first two, or one where it has no more.

use std::sync::Arc;
use std::time::Duration;

use cpal::traits::DeviceTrait;
use cpal::{ErrorKind, FromSample, SampleFormat, SizedSample};

use super::host::{self, BLOCK, Beats, Direction, Format, Keep, Resampler};
use super::{Playback, SAMPLE_RATE, SoundError, SoundEvents, Wake};
use crate::source::DeviceSelector;

/// Frames in the ring, 200 ms: room for the largest block a server asks for at once.
const RING: usize = SAMPLE_RATE as usize / 5;

/// Opens a speaker at 48 kHz, in blocks of about 5 ms; `wake` runs in the callback after each.
/// Blocks up to 6 s where the sound system does not answer. What happens later comes through
/// `events`; dropping the playback never blocks.
///
/// # Errors
/// When there is no speaker, none of this name, or it does not open.
pub fn open(
    selector: &DeviceSelector,
    wake: Wake,
    events: SoundEvents,
) -> Result<Playback, SoundError> {
    let started =
        host::start(Direction::Output, 2, selector, events, move |device, format, limit, keep| {
            let channels = channels(format);
            let (samples, consumer) = rtrb::RingBuffer::new(RING * channels);
            let outlet = Outlet::new(consumer, format, Arc::clone(&wake), keep.beats.clone())?;
            let stream = match format.sample {
                SampleFormat::F32 => build::<f32>(device, format, limit, keep, outlet),
                SampleFormat::I16 => build::<i16>(device, format, limit, keep, outlet),
                SampleFormat::I32 => build::<i32>(device, format, limit, keep, outlet),
                _ => Err(ErrorKind::UnsupportedConfig.into()),
            }?;
            Ok((stream, (samples, channels)))
        })?;
    let (samples, channels) = started.end;
    Ok(Playback {
        samples,
        channels,
        target_fill: target_fill(started.block) * channels,
        name: started.name,
        guard: Box::new(started.guard),
    })
}

/// How many channels are in the ring: what is stereo is mixed down before, as decoders do it best.
fn channels(format: Format) -> usize {
    usize::from(format.config.channels).clamp(1, 2)
}

/// Frames: one block for the next callback and one in reserve, 10 ms at the usual 5.
fn target_fill(block: usize) -> usize {
    (2 * block).clamp(2 * BLOCK as usize, RING / 2)
}

fn build<T: SizedSample + FromSample<f32>>(
    device: &cpal::Device,
    format: Format,
    limit: Duration,
    keep: &Keep,
    mut outlet: Outlet,
) -> Result<cpal::Stream, cpal::Error> {
    device.build_output_stream::<T, _, _>(
        format.config,
        move |data, _| outlet.fill(data),
        keep.on_error(),
        Some(limit),
    )
}

/// The callback's state.
struct Outlet {
    ring: rtrb::Consumer<f32>,
    channels: usize,
    /// The device's.
    outputs: usize,
    resampling: Option<Resampling>,
    wake: Wake,
    beats: Beats,
}

/// Converted samples that were not played yet.
struct Resampling {
    resampler: Resampler,
    ready: Vec<f32>,
    next: usize,
}

impl Outlet {
    fn new(
        ring: rtrb::Consumer<f32>,
        format: Format,
        wake: Wake,
        beats: Beats,
    ) -> Result<Self, cpal::Error> {
        let rate = format.config.sample_rate;
        let channels = channels(format);
        let resampling = (rate != SAMPLE_RATE)
            .then(|| {
                let resampler = Resampler::new(SAMPLE_RATE, rate, channels)?;
                // A block is 10 ms; its length varies by a few samples.
                let ready = Vec::with_capacity((rate as usize / 50 + 64) * channels);
                Ok::<_, cpal::Error>(Resampling { resampler, ready, next: 0 })
            })
            .transpose()?;
        let outputs = usize::from(format.config.channels).max(1);
        Ok(Self { ring, channels, outputs, resampling, wake, beats })
    }

    fn fill<T: SizedSample + FromSample<f32>>(&mut self, data: &mut [T]) {
        for frame in data.chunks_mut(self.outputs) {
            let [left, right] = self.next().map(T::from_sample_);
            // Front left and right come first; the others are for sounds from elsewhere.
            match frame {
                [first, second, rest @ ..] => {
                    (*first, *second) = (left, right);
                    rest.fill(T::EQUILIBRIUM);
                }
                only => only.fill(left),
            }
        }
        self.beats.beat();
        (self.wake)();
    }

    /// Left and right; the same where there is one channel.
    fn next(&mut self) -> [f32; 2] {
        let Some(resampling) = &mut self.resampling else {
            return pull(&mut self.ring, self.channels);
        };
        while resampling.next >= resampling.ready.len() {
            if let Some(block) = resampling.resampler.push(&pull(&mut self.ring, self.channels)) {
                resampling.ready.clear();
                resampling.ready.extend_from_slice(block);
                resampling.next = 0;
            }
        }
        let frame = &resampling.ready[resampling.next..];
        resampling.next += self.channels;
        [frame[0], frame[self.channels - 1]]
    }
}

/// The next frame; silence where the ring ran dry or holds nonsense.
fn pull(ring: &mut rtrb::Consumer<f32>, channels: usize) -> [f32; 2] {
    // A whole one or none: half of one would make left right from there on.
    if ring.slots() < channels {
        return [0.0; 2];
    }
    let mut sample =
        || ring.pop().ok().filter(|sample| sample.is_finite()).unwrap_or(0.0).clamp(-1.0, 1.0);
    let left = sample();
    [left, if channels == 2 { sample() } else { left }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpal::{BufferSize, StreamConfig};

    fn outlet(channels: u16, sample_rate: u32) -> (Outlet, rtrb::Producer<f32>) {
        let (producer, consumer) = rtrb::RingBuffer::new(2 * RING);
        let config = StreamConfig { channels, sample_rate, buffer_size: BufferSize::Default };
        let format = Format { config, sample: SampleFormat::F32 };
        let outlet = Outlet::new(consumer, format, Arc::new(|| {}), Beats::default());
        (outlet.expect("outlet"), producer)
    }

    #[test]
    fn left_and_right_stay_so_and_a_dry_ring_is_silence() {
        let (mut outlet, mut ring) = outlet(2, SAMPLE_RATE);
        // Half a frame more: it is not there yet.
        ring.push_entire_slice(&[0.5, -0.25, -0.5, 0.25, 0.75]).expect("room");
        let mut data = [9.0f32; 6];
        outlet.fill(&mut data);
        assert_eq!(data, [0.5, -0.25, -0.5, 0.25, 0.0, 0.0]);
        ring.push(0.125).expect("room");
        outlet.fill(&mut data[..2]);
        assert_eq!(data[..2], [0.75, 0.125]);
    }

    #[test]
    fn speakers_beyond_the_first_two_are_silent() {
        let (mut outlet, mut ring) = outlet(6, SAMPLE_RATE);
        ring.push_entire_slice(&[0.5, -0.5]).expect("room");
        let mut data = [9.0f32; 6];
        outlet.fill(&mut data);
        assert_eq!(data, [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn whole_numbers_are_scaled_and_never_wrap() {
        let (mut outlet, mut ring) = outlet(1, SAMPLE_RATE);
        ring.push_entire_slice(&[0.5, 1.5, -2.0, f32::NAN, f32::INFINITY]).expect("room");
        let mut data = [7i16; 5];
        outlet.fill(&mut data);
        assert_eq!(data, [16384, i16::MAX, i16::MIN, 0, 0]);
    }

    #[test]
    fn another_rate_takes_as_much_as_it_plays() {
        let (mut outlet, mut ring) = outlet(2, 44_100);
        let mut taken = 0;
        let mut data = [0.0f32; 882];
        for _ in 0..100 {
            let free = ring.slots();
            ring.push_entire_slice(&[0.5, -0.25].repeat(free / 2)).expect("room");
            outlet.fill(&mut data);
            taken += ring.slots() / 2;
        }
        assert!(taken.abs_diff(48_000) < 500, "{taken}");
        for frame in data.as_chunks::<2>().0 {
            assert!((frame[0] - 0.5).abs() < 0.01 && (frame[1] + 0.25).abs() < 0.01, "{frame:?}");
        }
    }

    #[test]
    fn the_reserve_is_one_block_within_reason() {
        assert_eq!(target_fill(480), 960);
        assert_eq!(target_fill(240), 480);
        assert_eq!(target_fill(16), 480);
        assert_eq!(target_fill(1024), 2048);
        assert_eq!(target_fill(48_000), RING / 2);
    }
}
