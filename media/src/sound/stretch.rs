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

/// Leaves out one period of `samples` (48 kHz mono, best 20 ms or more). Returns how many
/// samples fewer there are: 0 if the splice would be heard.
pub fn accelerate(samples: &mut Vec<f32>) -> usize {
    let Some(period) = find_period(samples) else {
        return 0;
    };
    let faded = fade(samples, 0, period);
    samples.drain(..period);
    overwrite(samples, 0, &faded);
    period
}

/// Repeats one period of `samples` (48 kHz mono, best 20 ms or more). Returns how many samples
/// more there are: 0 if the splice would be heard.
pub fn expand(samples: &mut Vec<f32>) -> usize {
    let Some(period) = find_period(samples) else {
        return 0;
    };
    let faded = fade(samples, period, 0);
    let head: Vec<f32> = samples.iter().take(period).copied().collect();
    samples.splice(..0, head);
    overwrite(samples, period, &faded);
    period
}

/// From what begins at `from` over to what begins at `to`.
fn fade(samples: &[f32], from: usize, to: usize) -> Vec<f32> {
    let out = samples.iter().skip(from);
    let into = samples.iter().skip(to);
    let step = 1.0 / OVERLAP as f32;
    out.zip(into)
        .take(OVERLAP)
        .enumerate()
        .map(|(i, (a, b))| a + (b - a) * (i as f32 * step))
        .collect()
}

fn overwrite(samples: &mut [f32], at: usize, with: &[f32]) {
    for (sample, new) in samples.iter_mut().skip(at).zip(with) {
        *sample = *new;
    }
}

/// The lag at which the sound is most like its beginning.
fn find_period(samples: &[f32]) -> Option<usize> {
    let first = samples.get(..OVERLAP)?;
    let longest = LONGEST.min(samples.len().checked_sub(OVERLAP)?);
    let energy = |part: &[f32]| part.iter().map(|s| s * s).sum::<f32>();
    let own = energy(first);
    let mut best: Option<(f32, usize)> = None;
    for lag in SHORTEST..=longest {
        let Some(second) = samples.get(lag..lag + OVERLAP) else {
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
            let removed = accelerate(&mut shorter);
            let mut longer = original.clone();
            let added = expand(&mut longer);
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
        assert_eq!((accelerate(&mut noise), expand(&mut noise)), (0, 0));
        assert_eq!(noise, before);
        noise.iter_mut().for_each(|sample| *sample *= 0.001);
        assert_eq!(accelerate(&mut noise), LONGEST);
        assert_eq!(noise.len(), 960 - LONGEST);
    }

    #[test]
    fn short_or_silent_pieces_are_fine() {
        for length in [0, 1, OVERLAP, OVERLAP + SHORTEST, 480, 5760] {
            let mut silence = vec![0.0; length];
            accelerate(&mut silence);
            assert!(silence.len() <= length);
            expand(&mut silence);
        }
    }
}
