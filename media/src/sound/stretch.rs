//! Makes decoded sound a little shorter or longer without changing its pitch (WSOLA: one
//! period of the voice is left out or repeated, with a cross-fade).

/// Periods of voices: 2.5 ms to 15 ms, 400 Hz to 67 Hz.
const SHORTEST: usize = 120;
const LONGEST: usize = 720;

/// Samples that are compared and faded, 5 ms.
const OVERLAP: usize = 240;

/// Two periods must be this much alike.
const ALIKE: f32 = 0.9;

/// Below this (RMS, -54 dBFS) nobody hears a splice.
const QUIET: f32 = 0.002;

/// Leaves out one period of `samples` (48 kHz, so many channels by turns, best 20 ms or more), the
/// same of every channel. Returns how many samples fewer each has: 0 if the splice would be heard.
pub fn accelerate(samples: &mut Vec<f32>, channels: usize) -> usize {
    let Some(period) = find_period(samples, channels) else {
        return 0;
    };
    let faded = fade(samples, channels, 0, period);
    samples.drain(..period * channels);
    overwrite(samples, 0, &faded);
    period
}

/// Repeats one period of `samples` (as above). Returns how many samples more each channel has: 0 if
/// the splice would be heard.
pub fn expand(samples: &mut Vec<f32>, channels: usize) -> usize {
    let Some(period) = find_period(samples, channels) else {
        return 0;
    };
    let faded = fade(samples, channels, period, 0);
    let head: Vec<f32> = samples.iter().take(period * channels).copied().collect();
    samples.splice(..0, head);
    overwrite(samples, period * channels, &faded);
    period
}

/// From what begins at `from` over to what begins at `to`.
fn fade(samples: &[f32], channels: usize, from: usize, to: usize) -> Vec<f32> {
    let out = samples.iter().skip(from * channels);
    let into = samples.iter().skip(to * channels);
    let step = 1.0 / OVERLAP as f32;
    out.zip(into)
        .take(OVERLAP * channels)
        .enumerate()
        .map(|(i, (a, b))| a + (b - a) * ((i / channels) as f32 * step))
        .collect()
}

fn overwrite(samples: &mut [f32], at: usize, with: &[f32]) {
    for (sample, new) in samples.iter_mut().skip(at).zip(with) {
        *sample = *new;
    }
}

/// The lag at which the sound is most like its beginning, all channels together: one that moved
/// against another would move in the room.
fn find_period(samples: &[f32], channels: usize) -> Option<usize> {
    let overlap = OVERLAP * channels;
    let first = samples.get(..overlap)?;
    let longest = LONGEST.min((samples.len() / channels).checked_sub(OVERLAP)?);
    let energy = |part: &[f32]| part.iter().map(|s| s * s).sum::<f32>();
    let own = energy(first);
    let mut best: Option<(f32, usize)> = None;
    for lag in SHORTEST..=longest {
        let Some(second) = samples.get(lag * channels..lag * channels + overlap) else {
            break;
        };
        let product: f32 = first.iter().zip(second).map(|(a, b)| a * b).sum();
        let alike = product / (own * energy(second)).sqrt().max(f32::MIN_POSITIVE);
        if best.is_none_or(|(most, _)| alike > most) {
            best = Some((alike, lag));
        }
    }
    let (alike, lag) = best?;
    if alike > ALIKE {
        return Some(lag);
    }
    let quiet = energy(samples) < QUIET * QUIET * samples.len() as f32;
    quiet.then_some(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(hertz: f32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|i| {
                let turn = std::f32::consts::TAU * hertz * i as f32 / 48_000.0;
                0.3 * turn.sin() + 0.1 * (2.0 * turn).sin() + 0.05 * (3.0 * turn).sin()
            })
            .collect()
    }

    /// The largest step from one sample to the next.
    fn roughness(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_voice_loses_or_gains_whole_periods_without_a_click() {
        for hertz in [80.0, 110.0, 200.0, 350.0] {
            let original = voice(hertz, 960);
            let period = 48_000.0 / hertz;
            let mut shorter = original.clone();
            let removed = accelerate(&mut shorter, 1);
            let mut longer = original.clone();
            let added = expand(&mut longer, 1);
            for change in [removed, added] {
                let periods = change as f32 / period;
                assert!(change > 0 && (periods - periods.round()).abs() < 0.02, "{hertz} Hz");
            }
            assert_eq!(shorter.len(), 960 - removed);
            assert_eq!(longer.len(), 960 + added);
            for changed in [&shorter, &longer] {
                assert!(roughness(changed) < 1.1 * roughness(&original), "{hertz} Hz");
                assert_eq!(changed[0], original[0]);
                assert_eq!(changed.last(), original.last());
            }
        }
    }

    /// The right channel is the left one, turned over and half as loud: mixed down, little would be
    /// left to find a period in.
    #[test]
    fn both_channels_move_together() {
        let left = voice(110.0, 960);
        let both: Vec<f32> = left.iter().flat_map(|sample| [*sample, sample * -0.5]).collect();
        for change in [accelerate, expand] {
            let (mut one, mut two) = (left.clone(), both.clone());
            let moved = change(&mut one, 1);
            assert!(moved > 0);
            assert_eq!(change(&mut two, 2), moved);
            assert_eq!(two.len(), 2 * one.len());
            for (pair, sample) in two.as_chunks::<2>().0.iter().zip(&one) {
                assert!((pair[0] - sample).abs() < 1e-6 && (pair[1] + sample * 0.5).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn noise_is_left_alone_unless_it_is_quiet() {
        let mut state = 1u32;
        let mut noise: Vec<f32> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .take(960)
        .collect();
        let before = noise.clone();
        assert_eq!((accelerate(&mut noise, 1), expand(&mut noise, 1)), (0, 0));
        assert_eq!(noise, before);
        noise.iter_mut().for_each(|sample| *sample *= 0.001);
        assert_eq!(accelerate(&mut noise, 1), LONGEST);
        assert_eq!(noise.len(), 960 - LONGEST);
    }

    #[test]
    fn short_or_silent_pieces_are_fine() {
        for length in [0, 1, OVERLAP, OVERLAP + SHORTEST, 480, 5760] {
            for channels in [1, 2] {
                let mut silence = vec![0.0; length * channels];
                accelerate(&mut silence, channels);
                assert!(silence.len() <= length * channels);
                expand(&mut silence, channels);
                assert!(silence.len().is_multiple_of(channels));
            }
        }
    }
}
