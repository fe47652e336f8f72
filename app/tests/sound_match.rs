//! The matcher that the calls' tests judge sound by.

mod common;

use common::sound_match::{RATE, compare};
use common::speech::generate;

#[test]
fn the_same_sound_later_is_the_same_sound() {
    let source = generate(1, 6);
    let mut heard = vec![0.0; RATE / 2 + 77];
    heard.extend(source.iter().cycle().skip(RATE).take(9 * RATE).map(|s| 0.5 * s));
    let likeness = compare(&source, &heard);
    assert!(likeness.windows.len() >= 8, "{likeness}");
    assert!(likeness.median() > 0.999 && likeness.share_above(0.7) == 1.0, "{likeness}");
    assert!(likeness.spread_ms() < 0.1, "{likeness}");
}

#[test]
fn other_speech_is_not_alike() {
    let likeness = compare(&generate(1, 6), &generate(2, 6));
    assert!(likeness.windows.len() >= 5, "{likeness}");
    assert!(likeness.median() < 0.5 && likeness.share_above(0.7) == 0.0, "{likeness}");
    assert!(compare(&generate(1, 6), &vec![0.0; 5 * RATE]).windows.is_empty());
}

#[test]
fn a_clock_that_runs_fast_is_seen_as_drift() {
    let source = generate(3, 10);
    // 0.2 %: 20 ms in ten seconds.
    let heard: Vec<f32> = (0..source.len() - 2 * RATE).map(|at| source[at + at / 500]).collect();
    let likeness = compare(&source, &heard);
    let drift = likeness.drift_ms();
    assert!((-16.0..-8.0).contains(&drift), "{likeness}");
}

#[test]
fn a_hole_costs_its_windows_and_no_others() {
    let source = generate(4, 10);
    let mut heard = source.clone();
    heard[3 * RATE..5 * RATE].fill(0.0);
    // And 40 ms were put in, as a buffer that runs dry does.
    heard.splice(3 * RATE..3 * RATE, vec![0.0; RATE / 25]);
    let likeness = compare(&source, &heard);
    assert!(likeness.median() > 0.99, "{likeness}");
    let poor = likeness.windows.iter().filter(|window| window.correlation < 0.9).count();
    assert!((2..=3).contains(&poor), "{likeness}");
    assert!((39.0..41.0).contains(&likeness.drift_ms()), "{likeness}");
}

#[test]
fn a_pause_of_the_source_is_left_out() {
    let mut source = generate(5, 9);
    source[3 * RATE..6 * RATE].fill(0.0);
    let mut random = 1_u32;
    let noise = |_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(random) / f64::from(u32::MAX) - 0.5) as f32 * 0.002
    };
    let heard: Vec<f32> = source.iter().map(noise).zip(&source).map(|(n, s)| n + s).collect();
    let likeness = compare(&source, &heard);
    assert!(likeness.silent >= 2, "{likeness}");
    assert!(likeness.share_above(0.95) > 0.9, "{likeness}");
}
