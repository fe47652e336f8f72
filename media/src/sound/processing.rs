//! What is done to a microphone's sound before it is sent: echo cancelling, noise suppression,
//! automatic gain. The only user of the crate `sonora`, WebRTC's audio processing in Rust.
//!
//! The echo canceller compares with what the speaker plays. The pipelines meet in [`Reference`]:
//! the speaker's thread puts in what it hands to the device, the microphone's takes out a block
//! for each one captured, so that both run at one pace. The fixed rest of the delay (ring,
//! device, room) is found by the canceller itself.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sonora::config::{
    AdaptiveDigital, EchoCanceller, GainController2, HighPassFilter, MaxProcessingRate,
    NoiseSuppression, NoiseSuppressionLevel, Pipeline,
};
use sonora::{AudioProcessing, Config, StreamConfig};

use super::SAMPLE_RATE;

/// Samples processed at a time, 10 ms.
pub const BLOCK: usize = SAMPLE_RATE as usize / 100;

/// What waits longer is of no use to the canceller: 200 ms.
const MOST_WAITING: usize = 20 * BLOCK;

/// The two clocks drift apart: above this a block more is taken, so that the delay the canceller
/// learned stays near.
const WAITING: usize = 6 * BLOCK;

/// About what lies between a block's being taken from the reference and its being heard.
const DELAY_MS: i32 = 40;

/// Which parts are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Processing {
    /// Takes the speaker's sound out of the microphone's.
    pub echo_cancel: bool,
    /// Lowers steady noise.
    pub noise_suppression: bool,
    /// Brings voices to one loudness.
    pub auto_gain: bool,
    /// For music: two channels as they are, so that all the other parts are off.
    pub stereo: bool,
}

impl Default for Processing {
    fn default() -> Self {
        Self { echo_cancel: true, noise_suppression: true, auto_gain: true, stereo: false }
    }
}

impl Processing {
    /// Nothing: for files and test tones.
    pub const OFF: Self =
        Self { echo_cancel: false, noise_suppression: false, auto_gain: false, stereo: false };

    /// What is left of it for the processor: nothing with music.
    #[must_use]
    pub fn parts(self) -> Self {
        if self.stereo { Self::OFF } else { self }
    }

    fn config(self) -> Config {
        Config {
            pipeline: Pipeline {
                // Full band.
                maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
                multi_channel_render: false,
                multi_channel_capture: false,
                ..Pipeline::default()
            },
            high_pass_filter: (self != Self::OFF).then(HighPassFilter::default),
            echo_canceller: self.echo_cancel.then(EchoCanceller::default),
            noise_suppression: self.noise_suppression.then(|| NoiseSuppression {
                level: NoiseSuppressionLevel::Moderate,
                ..NoiseSuppression::default()
            }),
            gain_controller2: self.auto_gain.then(|| GainController2 {
                adaptive_digital: Some(AdaptiveDigital {
                    // A microphone that is already loud is not made louder to begin with.
                    initial_gain_db: 6.0,
                    max_gain_db: 30.0,
                    ..AdaptiveDigital::default()
                }),
                ..GainController2::default()
            }),
            ..Config::default()
        }
    }
}

/// Processes one microphone's sound.
pub struct Processor {
    library: AudioProcessing,
    on: Processing,
    scratch: Box<[f32; BLOCK]>,
}

impl Processor {
    /// A processor that has heard nothing.
    pub fn new(on: Processing) -> Self {
        let on = on.parts();
        let format = StreamConfig::new(SAMPLE_RATE, 1);
        let mut library = AudioProcessing::builder()
            .config(on.config())
            .capture_config(format)
            .render_config(format)
            .build();
        if let Err(error) = library.set_stream_delay_ms(DELAY_MS) {
            tracing::debug!(?error, "sound processing");
        }
        Self { library, on, scratch: Box::new([0.0; BLOCK]) }
    }

    /// Switches parts on and off.
    pub fn set(&mut self, on: Processing) {
        let on = on.parts();
        if self.on != on {
            self.on = on;
            self.library.apply_config(on.config());
        }
    }

    /// What the speaker is about to play.
    pub fn handle_played(&mut self, block: &[f32; BLOCK]) {
        if self.on.echo_cancel
            && let Err(error) =
                self.library.process_render_f32(&[&block[..]], &mut [&mut self.scratch[..]])
        {
            tracing::debug!(?error, "sound processing");
        }
    }

    /// Processes what the microphone heard.
    pub fn process(&mut self, block: &mut [f32; BLOCK]) {
        if self.on == Processing::OFF {
            return;
        }
        let done = self.library.process_capture_f32(&[&block[..]], &mut [&mut self.scratch[..]]);
        match done {
            Ok(()) => block.copy_from_slice(&self.scratch[..]),
            Err(error) => tracing::debug!(?error, "sound processing"),
        }
    }
}

/// What the speaker plays, on its way to the canceller. Bounded: where nobody takes it, the
/// oldest is forgotten.
#[derive(Debug, Default)]
pub struct Reference {
    samples: Mutex<VecDeque<f32>>,
}

impl Reference {
    /// Adds what was handed to the speaker.
    pub fn push(&self, samples: impl IntoIterator<Item = f32>) {
        let mut waiting = self.lock();
        waiting.extend(samples);
        let excess = waiting.len().saturating_sub(MOST_WAITING);
        waiting.drain(..excess);
    }

    /// Gives `take` what belongs to one captured block: mostly one block, none while the speaker
    /// is behind, two where it ran ahead.
    pub fn take(&self, mut take: impl FnMut(&[f32; BLOCK])) {
        let mut block = [0.0; BLOCK];
        for least in [BLOCK, WAITING] {
            let mut waiting = self.lock();
            if waiting.len() < least {
                return;
            }
            for (to, from) in block.iter_mut().zip(waiting.drain(..BLOCK)) {
                *to = from;
            }
            drop(waiting);
            take(&block);
        }
    }

    /// Another microphone or speaker: what waits belongs to the old one.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<f32>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::f32::consts::TAU;

    /// Syllables of changing pitch with pauses and a little breath: what a canceller takes for a
    /// voice.
    fn speech(seed: u64, seconds: usize) -> Vec<f32> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut out = Vec::with_capacity(seconds * 48_000);
        while out.len() < seconds * 48_000 {
            let length = random.random_range(4_800..12_000);
            let pitch: f32 = random.random_range(90.0..250.0);
            let formant: f32 = random.random_range(500.0..2_500.0);
            let mut phase = 0.0f32;
            for at in 0..length {
                let within = at as f32 / length as f32;
                phase += pitch * (1.0 + 0.1 * within) / 48_000.0;
                let voiced: f32 = (1..25)
                    .map(|n| {
                        let frequency = pitch * n as f32;
                        let weight = 1.0 / (1.0 + ((frequency - formant) / 600.0).powi(2));
                        (phase * n as f32 * TAU).sin() * (0.1 + weight) / 6.0
                    })
                    .sum();
                let breath: f32 = random.random_range(-0.02..0.02);
                out.push((voiced + breath) * 0.25 * (within * std::f32::consts::PI).sin());
            }
            let pause = random.random_range(1_000..9_000);
            out.extend((0..pause).map(|_| random.random_range(-0.0005f32..0.0005)));
        }
        out.truncate(seconds * 48_000);
        out
    }

    fn power_db(samples: &[f32]) -> f32 {
        let power = samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32;
        10.0 * power.max(1e-12).log10()
    }

    /// What comes out where the room returns `far` at -10 dB after `delay_ms`, and `near` speaks.
    fn room(on: Processing, far: &[f32], near: &[f32], delay_ms: usize) -> (Vec<f32>, Vec<f32>) {
        let mut processor = Processor::new(on);
        let reference = Reference::default();
        let gain = 10f32.powf(-10.0 / 20.0);
        let delay = delay_ms * 48;
        let heard: Vec<f32> = (0..far.len())
            .map(|at| {
                let echo = at.checked_sub(delay).map_or(0.0, |from| far[from] * gain);
                echo + near.get(at).copied().unwrap_or(0.0)
            })
            .collect();
        let mut out = Vec::with_capacity(far.len());
        for (played, captured) in
            far.as_chunks::<BLOCK>().0.iter().zip(heard.as_chunks::<BLOCK>().0)
        {
            reference.push(played.iter().copied());
            reference.take(|block| processor.handle_played(block));
            let mut block = *captured;
            processor.process(&mut block);
            out.extend_from_slice(&block);
        }
        (heard, out)
    }

    #[test]
    fn the_speakers_echo_is_gone_after_two_seconds() {
        let far = speech(1, 12);
        for delay_ms in [25, 60, 140, 250] {
            let on = Processing { auto_gain: false, ..Processing::default() };
            let (heard, out) = room(on, &far, &[], delay_ms);
            let after = 2 * 48_000..;
            let down = power_db(&heard[after.clone()]) - power_db(&out[after]);
            println!("{delay_ms} ms: {down:.1} dB");
            assert!(down >= 35.0, "{down:.1} dB with {delay_ms} ms");
        }
    }

    #[test]
    fn a_voice_over_the_echo_keeps_its_loudness() {
        let far = speech(2, 14);
        let mut near = vec![0.0; 8 * 48_000];
        near.extend(speech(3, 6));
        let on = Processing { auto_gain: false, ..Processing::default() };
        let (_, out) = room(on, &far, &near, 60);
        let talk = 8 * 48_000 + 24_000..;
        let change = power_db(&out[talk.clone()]) - power_db(&near[talk]);
        println!("{change:.1} dB");
        assert!(change.abs() <= 3.0, "{change:.1} dB");
    }

    #[test]
    fn each_part_does_its_work_alone() {
        let far = speech(4, 6);
        let silent = vec![0.0; far.len()];
        let quiet: Vec<f32> = far.iter().map(|s| s * 0.02).collect();
        let off = room(Processing::OFF, &silent, &quiet, 60).1;
        assert_eq!(off, quiet, "off changes nothing");
        let music = Processing { stereo: true, ..Processing::default() };
        assert_eq!(room(music, &far, &quiet, 60).1, room(Processing::OFF, &far, &quiet, 60).1);
        let gain = Processing { auto_gain: true, ..Processing::OFF };
        let louder = room(gain, &silent, &quiet, 60).1;
        assert!(power_db(&louder[192_000..]) > power_db(&quiet[192_000..]) + 6.0);
        let mut random = StdRng::seed_from_u64(5);
        let noise: Vec<f32> = far.iter().map(|_| random.random_range(-0.02f32..0.02)).collect();
        let suppress = Processing { noise_suppression: true, ..Processing::OFF };
        let less = room(suppress, &silent, &noise, 60).1;
        assert!(power_db(&less[96_000..]) < power_db(&noise[96_000..]) - 8.0);
    }

    #[test]
    fn the_reference_forgets_what_nobody_takes_and_follows_a_faster_speaker() {
        let reference = Reference::default();
        reference.push(std::iter::repeat_n(1.0, 10 * MOST_WAITING));
        assert_eq!(reference.lock().len(), MOST_WAITING);
        let mut taken = 0;
        reference.take(|_| taken += 1);
        assert_eq!(taken, 2);
        reference.clear();
        reference.take(|_| taken += 1);
        assert_eq!(taken, 2, "nothing is there");
        reference.push(std::iter::repeat_n(1.0, 2 * BLOCK));
        reference.take(|_| taken += 1);
        assert_eq!((taken, reference.lock().len()), (3, BLOCK));
    }
}
