//! The network profiles a call is judged on, and what it must reach on them.

use super::call::Call;
use super::path::{Jitter, Loss, PathModel};
use super::scenario::Scenario;

/// No bottleneck worth the name.
const WIDE: f64 = 100e6;

fn path(kbps: f64, delay_ms: f64, queue_ms: f64) -> PathModel {
    PathModel {
        capacity: vec![(0.0, kbps * 1e3)],
        delay: delay_ms / 1e3,
        queue: queue_ms / 1e3,
        jitter: Jitter::None,
        loss: Loss::None,
        detour: None,
    }
}

fn lossy(mut scenario: Scenario, loss: Loss, feedback_loss: f64) -> Scenario {
    scenario.path.loss = loss;
    scenario.feedback_loss = feedback_loss;
    scenario
}

fn profile(name: &str) -> Scenario {
    let plain = |kbps, delay, queue| Scenario::new(path(kbps, delay, queue));
    let jittery = |kbps, delay, queue, jitter| {
        Scenario::new(PathModel { jitter, ..path(kbps, delay, queue) })
    };
    let wide = WIDE / 1e3;
    match name {
        "lan" => plain(wide, 1.0, 300.0),
        "wifi" => {
            lossy(jittery(30e3, 5.0, 200.0, Jitter::Around(0.003)), Loss::Random(0.001), 0.001)
        }
        "narrow500" => plain(500.0, 30.0, 300.0),
        "narrow200" => plain(200.0, 50.0, 500.0),
        "3g" => {
            lossy(jittery(780.0, 100.0, 500.0, Jitter::Around(0.020)), Loss::Random(0.005), 0.005)
        }
        "lte" => {
            lossy(jittery(10e3, 35.0, 300.0, Jitter::Around(0.010)), Loss::Random(0.005), 0.005)
        }
        "jittery" => {
            lossy(jittery(5e3, 60.0, 300.0, Jitter::HalfNormal(0.040)), Loss::Random(0.01), 0.01)
        }
        "lossy5" => lossy(plain(wide, 50.0, 300.0), Loss::Random(0.05), 0.05),
        "lossy10" => lossy(plain(wide, 50.0, 300.0), Loss::Runs(0.10, 3), 0.10),
        "satellite" => lossy(plain(5e3, 300.0, 300.0), Loss::Runs(0.01, 3), 0.01),
        "spiky" => lossy(plain(4e3, 40.0, 300.0), Loss::Spikes, 0.0),
        "step" => {
            let mut scenario = plain(wide, 30.0, 300.0);
            scenario.path.capacity = vec![(0.0, WIDE), (20.0, 500e3), (40.0, WIDE)];
            scenario
        }
        // From a cable to a slow radio link and back, at both ends.
        "moved" => {
            let mut scenario = plain(wide, 1.0, 300.0);
            scenario.path.capacity = vec![(0.0, WIDE), (20.0, 500e3), (40.0, WIDE)];
            scenario.path.detour = Some((20.0, 40.0, 0.029));
            scenario.mirrored = true;
            scenario
        }
        _ => unreachable!("a profile of that name"),
    }
}

/// Seeds that no constant was chosen on.
const SEEDS: std::ops::Range<u64> = 101..104;

/// What a profile must reach with every seed: share of the link used, wait in the queue (ms), when
/// 85 % is reached (s), packets of sound late or lost in the queue.
struct Goal {
    name: &'static str,
    used: f64,
    queue_p95: f64,
    started: f64,
    audio_bad: usize,
}

/// As simulated at first, with some room: the seeds differ. Utilisation counts only what arrived
/// at once, so loss lowers it.
const GOALS: [Goal; 11] = [
    Goal { name: "lan", used: 0.97, queue_p95: 1.0, started: 1.0, audio_bad: 0 },
    Goal { name: "wifi", used: 0.97, queue_p95: 5.0, started: 1.5, audio_bad: 0 },
    Goal { name: "narrow500", used: 0.90, queue_p95: 75.0, started: 1.0, audio_bad: 0 },
    Goal { name: "narrow200", used: 0.88, queue_p95: 100.0, started: 1.5, audio_bad: 0 },
    Goal { name: "3g", used: 0.78, queue_p95: 95.0, started: 6.0, audio_bad: 30 },
    Goal { name: "lte", used: 0.96, queue_p95: 5.0, started: 6.0, audio_bad: 0 },
    Goal { name: "jittery", used: 0.85, queue_p95: 10.0, started: 14.0, audio_bad: 0 },
    Goal { name: "lossy5", used: 0.90, queue_p95: 5.0, started: 3.0, audio_bad: 0 },
    Goal { name: "lossy10", used: 0.80, queue_p95: 5.0, started: 6.0, audio_bad: 0 },
    Goal { name: "satellite", used: 0.93, queue_p95: 10.0, started: 6.0, audio_bad: 0 },
    Goal { name: "spiky", used: 0.90, queue_p95: 40.0, started: 3.0, audio_bad: 0 },
];

#[test]
fn every_profile_is_used_without_a_queue() {
    let mut missed = Vec::new();
    for goal in &GOALS {
        for seed in SEEDS {
            let scenario = profile(goal.name);
            let seconds = scenario.seconds;
            let score = Call::run(scenario, seed).score(seconds);
            println!("{} {seed}: {score:.2?}", goal.name);
            let reached = score.used >= goal.used
                && score.queue_p95 <= goal.queue_p95
                && score.started <= goal.started
                && score.audio_bad <= goal.audio_bad
                && score.padding < 0.03
                && score.longest_gap < 3.0
                && score.flushes <= 8
                && (score.played, score.audio) > (1000, 2000);
            if !reached {
                missed.push(format!("{} {seed}: {score:.2?}", goal.name));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_drop_freezes_for_a_moment_and_a_rise_is_found_soon() {
    for seed in SEEDS {
        let call = Call::run(profile("step"), seed);
        let (score, step) = (call.score(60.0), call.score_step(20.0, 40.0, 60.0));
        println!("{seed}: {step:.2?} {score:.2?}");
        assert!(step.frozen < 0.7, "{step:?}");
        assert!(step.short_after < 0.6, "{step:?}");
        assert!(step.risen_after < 8.0, "{step:?}");
        // 0.24 s of sound is in the queue before anyone can know of it.
        assert!(score.audio_bad <= 15, "{score:?}");
        assert!(score.used > 0.85, "{score:?}");
    }
}

#[test]
fn a_slower_and_longer_way_is_used_and_left_again() {
    for seed in SEEDS {
        let call = Call::run(profile("moved"), seed);
        let (score, step) = (call.score(60.0), call.score_step(20.0, 40.0, 60.0));
        let narrow =
            call.log.iter().filter(|l| l.arrived.is_some() && (25.0..40.0).contains(&l.at));
        let used = narrow.map(|l| 8 * l.bytes).sum::<usize>() as f64 / (15.0 * 500e3);
        println!("{seed}: used {used:.2} {step:.2?} {score:.2?}");
        // 0.6 s where pictures go on until feedback has come through both queues.
        assert!(step.frozen < 0.5, "{step:?}");
        assert!(step.short_after < 0.6, "{step:?}");
        assert!(step.risen_after < 8.0, "{step:?}");
        assert!(used > 0.8, "{used}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || Call::run(profile("3g"), 5);
    let (one, two) = (run(), run());
    assert_eq!(one.log.len(), two.log.len());
    assert!(one.samples.iter().zip(&two.samples).all(|(a, b)| a.target == b.target));
}
