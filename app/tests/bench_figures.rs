//! The arithmetic of the benchmark of calls: delays, freezes, sizes and rates from what two ends wrote down,
//! likeness of pictures, and what the goals say of the result.

// The benchmark uses more of them.
#[allow(dead_code)]
#[path = "../benches/calls/goals.rs"]
mod goals;
#[allow(dead_code)]
#[path = "../benches/calls/picture.rs"]
mod picture;
#[path = "../benches/calls/steps.rs"]
mod steps;
#[allow(dead_code)]
#[path = "../benches/calls/trace.rs"]
mod trace;

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use goals::{Way, verdicts};
use picture::{Clip, similarity};
use trace::{Counters, Figures, SAMPLE_EVERY, Sample, Trace, Us, Window, delays, figures, freezes};
use visavis_media::frame::FramePool;
use visavis_media::strip;

/// 30 a second, or so.
const STEP: Us = 33_333;

/// Numbers from 0, over and over.
fn captured(count: u32, period: u32) -> Vec<(Us, u32)> {
    (0..count).map(|index| (1_000_000 + Us::from(index) * STEP, index % period)).collect()
}

#[test]
fn a_delay_counts_from_the_newest_capture_of_the_same_number() {
    let captured = captured(30, 10);
    // The 25th picture, which carries a 5 like the 5th and the 15th, 90 ms later; and one without a strip.
    let at = captured[25].0 + 90_000;
    let period = Duration::from_micros(10 * STEP);
    let late = |shown: &[(Us, Option<u32>)]| delays(&captured, shown, period);
    assert_eq!(late(&[(at, Some(5)), (at, None)]), [(at, Some(90.0)), (at, None)]);
    // Shown before it was ever captured: another clip, or a wrong clock.
    assert_eq!(late(&[(0, Some(5)), (at, Some(77))]), [(0, None), (at, None)]);
    // The capture of this one was not seen; the one of the round before is not meant.
    let next = captured[25].0 + 10 * STEP + 1;
    assert_eq!(late(&[(next, Some(5))]), [(next, None)]);
}

#[test]
fn freezes_count_as_far_as_they_lie_in_the_measured_time() {
    let even = |from: Us, to: Us| (from..to).step_by(STEP as usize).map(|us| (us, Some(0)));
    let window = Window { begin: 3_000_000, end: 10_000_000 };
    let all: Vec<_> = even(0, 10_100_000).collect();
    assert_eq!(freezes(&all, window), (0.0, 0.0));
    let gap: Vec<_> = even(0, 5_000_000).chain(even(6_000_000, 10_100_000)).collect();
    let (count, sum) = freezes(&gap, window);
    assert!(count == 1.0 && (sum - 1.0).abs() < 0.04, "{count} {sum}");
    // Begun before, and never ended.
    let early: Vec<_> = even(0, 2_000_000).chain(even(3_500_000, 10_100_000)).collect();
    let (count, sum) = freezes(&early, window);
    assert!(count == 1.0 && (sum - 0.5).abs() < 0.04, "{count} {sum}");
    let for_ever: Vec<_> = even(0, 8_000_000).collect();
    let (count, sum) = freezes(&for_ever, window);
    assert!(count == 1.0 && (sum - 2.0).abs() < 0.04, "{count} {sum}");
}

#[test]
fn figures_come_from_the_measured_time_alone() {
    let sender = Trace { captured: captured(300, 150), ..Trace::default() };
    let late = |index: usize| if index < 100 { 500_000 } else { 40_000 };
    let shown = sender.captured.iter().enumerate();
    let shown = shown.map(|(index, (us, number))| (us + late(index), Some(*number))).collect();
    let window = Window { begin: 1_000_000 + 120 * STEP, end: 1_000_000 + 240 * STEP };
    let counters =
        |at, video, concealed, played| Counters { at, video, audio: 0.0, concealed, played };
    let receiver = Trace {
        shown,
        sizes: vec![
            (0, 1, 1),
            (window.begin, 640, 360),
            (window.begin, 640, 360),
            (window.begin, 1280, 720),
        ],
        counters: vec![
            counters(window.begin, 1e6, 1.0, 10.0),
            counters(window.end, 2e6, 1.2, 14.0),
        ],
        ..Trace::default()
    };
    let figures = figures(&sender, &receiver, window, Duration::from_secs(5));
    assert_eq!((figures.p50_ms, figures.p95_ms), (Some(40.0), Some(40.0)));
    assert!((figures.fps - 30.0).abs() < 0.3, "{}", figures.fps);
    assert_eq!((figures.width, figures.height), (640, 360));
    assert_eq!(figures.freezes, 0.0);
    assert!((figures.kbps - 2000.0).abs() < 1.0, "{}", figures.kbps);
    assert!((figures.concealed_percent.unwrap_or_default() - 5.0).abs() < 1e-6);
    assert_eq!(figures.seconds.len(), 4);
}

/// A clip of 160x90 with waves, that move by a pixel from picture to picture.
fn clip() -> Result<(tempfile::TempDir, Clip, Vec<Vec<u8>>)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("clip.y4m");
    let mut file = std::fs::File::create(&path)?;
    writeln!(file, "YUV4MPEG2 W160 H90 F30:1 Ip A1:1 C420jpeg")?;
    let mut lumas = Vec::new();
    for number in 0..100_u32 {
        let mut frame = FramePool::new().black(160, 90);
        for (index, pixel) in frame.planes_mut()[0].iter_mut().enumerate() {
            *pixel =
                (60 + ((index as u32 % 160 + number) * 7 + index as u32 / 160 * 3) % 150) as u8;
        }
        strip::write(&mut frame, number);
        file.write_all(b"FRAME\n")?;
        for plane in frame.planes() {
            file.write_all(plane)?;
        }
        lumas.push(frame.planes()[0].to_vec());
    }
    let clip = Clip::open(&path)?;
    Ok((folder, clip, lumas))
}

const ALL: Window = Window { begin: 0, end: 60_000_000 };

#[test]
fn a_picture_is_like_itself_and_less_like_another() -> Result<()> {
    let (_folder, mut clip, lumas) = clip()?;
    assert!(clip.is_numbered()? && clip.pictures == 100);
    let mut likeness = |luma: &[u8], stands_for| {
        let luma = luma.to_vec();
        let sample =
            Sample { at: 1, shown: 3, stands_for: vec![stands_for], width: 160, height: 90, luma };
        similarity(&mut clip, &[sample], &[], ALL)
    };
    assert!(likeness(&lumas[3], 3)?.is_some_and(|same| same > 0.9999));
    let frozen = likeness(&lumas[3], 9)?.unwrap_or(1.0);
    assert!(frozen < 0.7, "{frozen}");
    let grey = likeness(&[128; 160 * 90], 3)?.unwrap_or(1.0);
    assert!(grey < 0.3, "{grey}");
    let noisy: Vec<u8> = lumas[3].iter().zip(0_u8..=255).map(|(p, i)| p + i % 3 * 8).collect();
    let mut noisy_whole = lumas[3].clone();
    noisy_whole[8000..8000 + noisy.len()].copy_from_slice(&noisy);
    let noisy = likeness(&noisy_whole, 3)?.unwrap_or(1.0);
    assert!(noisy < 0.9999 && noisy > frozen, "{noisy}");
    Ok(())
}

#[test]
fn a_smaller_picture_is_compared_at_the_clips_size() -> Result<()> {
    let (_folder, mut clip, _) = clip()?;
    let full = clip.frame(3)?;
    let [luma, ..] = full.planes();
    let half: Vec<u8> =
        (0..45 * 80).map(|index| luma[index / 80 * 2 * 160 + index % 80 * 2]).collect();
    let sample = Sample { at: 1, shown: 3, stands_for: vec![3], width: 80, height: 45, luma: half };
    let likeness = similarity(&mut clip, &[sample], &[], ALL)?.unwrap_or_default();
    assert!((0.2..0.99).contains(&likeness), "{likeness}");
    Ok(())
}

#[test]
fn a_freeze_to_the_end_is_judged_by_what_it_covers() -> Result<()> {
    let (_folder, mut clip, lumas) = clip()?;
    let captured = captured(200, 100);
    let at = captured[10].0 + 50_000;
    let last = Sample {
        at,
        shown: 10,
        stands_for: Vec::new(),
        width: 160,
        height: 90,
        luma: lumas[10].clone(),
    };
    let end = captured[199].0;
    let likeness = similarity(&mut clip, &[last], &captured, Window { begin: 0, end })?;
    // 189 pictures less those of the last second: the first of each 47 counts.
    assert!(SAMPLE_EVERY == 47 && likeness.is_some_and(|likeness| likeness < 0.9), "{likeness:?}");
    Ok(())
}

#[test]
fn a_goal_holds_or_is_missed() {
    let of = |p50_ms, freezes| Figures {
        p50_ms: Some(p50_ms),
        p95_ms: Some(100.0),
        freezes,
        fps: 29.0,
        height: 720,
        ssim: Some(0.9),
        concealed_percent: Some(0.0),
        ..Figures::default()
    };
    let there = of(200.0, 2.0);
    let missed = |network, figures: &Figures| -> Vec<String> {
        let verdicts = verdicts(network, Way::Ours, figures, Some(&there));
        assert!(!verdicts.is_empty());
        verdicts.into_iter().filter(|v| !v.holds).map(|v| v.text).collect()
    };
    assert_eq!(missed("lte", &of(100.0, 0.0)), Vec::<String>::new());
    assert_eq!(missed("lte", &of(101.0, 1.0)).len(), 2);
    assert!(missed("lte", &of(101.0, 0.0))[0].contains("at most 100.0"));
    let slow = Figures { fps: 27.9, height: 360, ..of(100.0, 0.0) };
    assert_eq!(missed("lte", &slow).len(), 2);
    // Unknown is not good enough.
    let unknown = Figures { ssim: None, ..of(100.0, 0.0) };
    assert_eq!(missed("lte", &unknown).len(), 1);
}

#[test]
fn a_call_has_followed_when_its_delay_stays_low_for_a_second() {
    let span = Window { begin: 1_000_000, end: 9_000_000 };
    let high =
        |us: Us| if us < 3_000_000 || (3_500_000..3_600_000).contains(&us) { 400.0 } else { 40.0 };
    let delays: trace::Delays =
        (0..9_000_000).step_by(STEP as usize).map(|us| (us, Some(high(us)))).collect();
    let settled = steps::settled(&delays, span, 250.0).unwrap_or_default();
    assert!((settled - 2.6).abs() < 0.1, "{settled}");
    assert_eq!(steps::settled(&delays, span, 30.0), None);
    // No pictures are no low delay.
    assert_eq!(steps::settled(&vec![(2_000_000, Some(1.0))], span, 250.0), None);
}

#[test]
fn a_step_is_judged_by_freeze_delay_and_rate() {
    let window = Window { begin: 0, end: 30_000_000 };
    let rate = |second: usize| if second < 14 { 300.0 } else { 2000.0 };
    let second =
        |second| trace::Second { video_kbps: Some(rate(second)), ..trace::Second::default() };
    let delays = (0..30_000_000).step_by(STEP as usize).map(|us| (us, Some(40.0))).collect();
    let call = Figures {
        window,
        delays,
        seconds: (0..30).map(second).collect(),
        concealed_percent: Some(0.1),
        ..Figures::default()
    };
    let change = |at, before_kbps, after_kbps| steps::Change {
        at: Duration::from_secs(at),
        before_kbps,
        after_kbps,
    };
    let changes = [change(5, 0, 500), change(10, 500, 0)];
    let text = steps::report("ours", &[&call], &changes, true);
    assert!(!text.contains("MISSED"), "{text}");
    assert!(text.contains("1500 kbit/s 5 s after the rise"), "{text}");
    let stuck = Figures { frozen_s: 2.0, seconds: Vec::new(), ..call };
    let text = steps::report("ours", &[&stuck], &changes, true);
    assert_eq!(text.matches("MISSED").count(), 2, "{text}");
}
