//! Seven kinds of network and two clocks, in fake time: what they cost in delay and in holes.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::tests::Call;

/// Sound of two minutes, of which the first ten seconds, in which everything is learned, do not
/// count.
const FRAMES: u32 = 6000;
const LEARNED: u32 = 500;

/// Half of a normal distribution.
fn half_normal(random: &mut StdRng, sigma: f64) -> f64 {
    let (u, v): (f64, f64) = (random.random_range(f64::MIN_POSITIVE..1.0), random.random());
    ((-2.0 * u.ln()).sqrt() * (v * std::f64::consts::TAU).cos()).abs() * sigma
}

/// Packets of one path do not overtake each other.
fn in_order(mut delay: impl FnMut(u32) -> f64) -> impl FnMut(u32) -> Option<f64> {
    let mut latest = 0.0f64;
    move |n| {
        let sent = f64::from(n) * 20.0;
        latest = latest.max(sent + delay(n));
        Some(latest - sent)
    }
}

/// Delay behind the fastest packet, milliseconds, and share concealed, percent.
fn cost(delay: impl FnMut(u32) -> Option<f64>, base: f64) -> (f64, f64) {
    let mut call = Call::new(FRAMES, delay);
    call.run(10);
    let learning = call.buffer.stats().concealed_ms;
    call.run(i64::from(FRAMES) / 50);
    let delays: Vec<f64> = call
        .delays()
        .into_iter()
        .filter_map(|(n, delay)| (n >= LEARNED).then_some(delay - base))
        .collect();
    let mean = delays.iter().sum::<f64>() / delays.len() as f64;
    let concealed = (call.buffer.stats().concealed_ms - learning) as f64;
    (mean, concealed / f64::from(FRAMES - LEARNED) / 20.0 * 100.0)
}

fn check(name: &str, (delay, concealed): (f64, f64), most_delay: f64, most_concealed: f64) {
    println!("{name}: {delay:.0} ms, {concealed:.2} % concealed");
    assert!(delay <= most_delay, "{name}: {delay:.0} ms");
    assert!(concealed <= most_concealed, "{name}: {concealed:.2} % concealed");
}

#[test]
fn a_quiet_network_costs_next_to_no_delay() {
    let mut random = StdRng::seed_from_u64(1);
    let lan = in_order(move |_| half_normal(&mut random, 0.3));
    check("lan", cost(lan, 0.0), 32.0, 0.0);
    let mut random = StdRng::seed_from_u64(2);
    let satellite = in_order(move |_| 300.0 + half_normal(&mut random, 5.0));
    check("satellite", cost(satellite, 300.0), 45.0, 0.05);
}

#[test]
fn radio_that_repeats_and_waits_is_followed() {
    // A station that is busy now and then: 20 to 70 ms, about every second.
    let mut random = StdRng::seed_from_u64(3);
    let wifi = in_order(move |_| {
        let busy =
            if random.random_range(0..50) == 0 { random.random_range(20.0..70.0) } else { 0.0 };
        5.0 + half_normal(&mut random, 2.0) + busy
    });
    check("wifi", cost(wifi, 5.0), 80.0, 0.1);
    // Scheduled every 10 ms, repeated in one case of ten.
    let mut random = StdRng::seed_from_u64(4);
    let lte = in_order(move |_| {
        let repeated = if random.random_range(0..10) == 0 { 16.0 } else { 0.0 };
        35.0 + random.random_range(0.0..10.0) + half_normal(&mut random, 8.0) + repeated
    });
    check("lte", cost(lte, 35.0), 75.0, 0.1);
}

#[test]
fn wide_jitter_is_followed() {
    let mut random = StdRng::seed_from_u64(5);
    let jittery = in_order(move |_| 60.0 + half_normal(&mut random, 40.0));
    check("jittery", cost(jittery, 60.0), 160.0, 0.1);
    // A queue that fills and empties, and stops now and then.
    let mut random = StdRng::seed_from_u64(6);
    let slow = in_order(move |n| {
        let queue = 100.0 * (f64::from(n) / 250.0).sin().max(0.0);
        let stop =
            if random.random_range(0..100) == 0 { random.random_range(100.0..300.0) } else { 0.0 };
        100.0 + queue + half_normal(&mut random, 20.0) + stop
    });
    check("3g", cost(slow, 100.0), 370.0, 0.3);
}

#[test]
fn stops_of_300_ms_every_few_seconds_are_heard_rarely() {
    let mut random = StdRng::seed_from_u64(7);
    let spikes = in_order(move |_| {
        if random.random_range(0..150) == 0 { 300.0 } else { half_normal(&mut random, 3.0) }
    });
    check("spikes", cost(spikes, 0.0), 330.0, 0.1);
}

/// Lost packets whose copies come with the next one, on a path without jitter: the delay grows
/// until copies come in time, and then nearly nothing is concealed.
#[test]
fn copies_of_lost_packets_are_waited_for() {
    for (fec, most) in [(true, 0.3), (false, 0.3)] {
        let mut random = StdRng::seed_from_u64(8);
        let lost: Vec<bool> = (0..FRAMES).map(|_| random.random_range(0..20) == 0).collect();
        let mut call = Call::new(FRAMES, |n| (!lost[n as usize]).then_some(50.0));
        (call.fec, call.red) = (fec, !fec);
        call.run(120);
        let stats = call.buffer.stats();
        let concealed = stats.concealed_ms as f64 / f64::from(FRAMES) / 20.0 * 100.0;
        println!("FEC {fec}: {concealed:.2} % concealed; {stats:?}");
        assert!(concealed <= most, "FEC {fec}: {concealed:.2} %");
        assert!((4.0..5.5).contains(&(stats.recovered_ms as f64 / 1200.0)), "{stats:?}");
        let (_, delay) = *call.delays().last().expect("sound");
        assert!((50.0..105.0).contains(&delay), "{delay} ms");
        assert!(call.frames().is_sorted_by(|a, b| a < b));
    }
}

/// Half a percent lost, at random: on a short way that is not worth 20 ms of delay for all the rest,
/// on a long one it is.
#[test]
fn few_losses_are_waited_for_on_a_long_way_only() {
    let concealed = [50u64, 600].map(|rtt| {
        let concealed = (0..20).map(|phase| {
            let mut random = StdRng::seed_from_u64(10);
            let lost: Vec<bool> = (0..FRAMES).map(|_| random.random_range(0..200) == 0).collect();
            let delay = 50.0 + f64::from(phase);
            let mut call = Call::new(FRAMES, |n| (!lost[n as usize]).then_some(delay));
            call.buffer.set_round_trip(Duration::from_millis(rtt));
            call.run(120);
            call.buffer.stats().concealed_ms
        });
        concealed.sum::<u64>() as f64 / 20.0 / f64::from(FRAMES) / 20.0 * 100.0
    });
    println!("{concealed:?} % concealed");
    assert!(concealed[0] > 0.1 && concealed[1] < 0.05, "{concealed:?}");
}

/// A wide link becomes a narrow one: the delay rises by 300 ms within 400, and stays for a while.
/// What is there is made longer, as far as it goes, instead of being followed by a hole.
#[test]
fn a_queue_that_fills_at_once_is_heard_as_little_as_can_be() {
    let mut concealed = Vec::new();
    for phase in 0..20 {
        let step = in_order(move |n| {
            let since = f64::from(n) * 20.0 + f64::from(phase) - 20_000.0;
            3.0 + (since * 3.0).clamp(0.0, 300.0) * if since > 1500.0 { 0.0 } else { 1.0 }
        });
        let mut call = Call::new(1500, step);
        call.run(29);
        concealed.push(call.buffer.stats().concealed_ms);
    }
    let mean = concealed.iter().sum::<u64>() as f64 / concealed.len() as f64;
    println!("{mean} ms: {concealed:?}");
    assert!(mean <= 275.0, "{concealed:?}");
}

/// The two sound cards of a call are 300 ppm off, one fast and one slow: in two hours that makes
/// more than four seconds.
#[test]
fn two_hours_with_sound_cards_that_differ_neither_drift_nor_stutter() {
    for ppm in [-600.0, 600.0] {
        let frames = 2 * 3600 * 50;
        let mut random = StdRng::seed_from_u64(9);
        let mut latest = 0.0f64;
        // The sender's 20 ms are not ours.
        let mut call = Call::new(frames, |n| {
            let (nominal, sent) = (f64::from(n) * 20.0, f64::from(n) * 20.0 * (1.0 + ppm / 1e6));
            latest = latest.max(5000.0 + sent + half_normal(&mut random, 2.0));
            Some(latest - nominal)
        });
        let mut delays = Vec::new();
        for minute in 1..120 {
            call.run(minute * 60);
            // Behind the moment at which the fastest packet could have come.
            let (n, delay) = *call.delays().last().expect("sound");
            delays.push(delay - 5000.0 - f64::from(n) * 20.0 * ppm / 1e6);
            call.played.clear();
        }
        let stats = call.buffer.stats();
        let (least, most) =
            delays.iter().fold((f64::MAX, f64::MIN), |(a, b), d| (a.min(*d), b.max(*d)));
        println!("{ppm} ppm: {least:.0} to {most:.0} ms; {stats:?}");
        assert!(least > 0.0 && most < 90.0, "{least:.0} to {most:.0} ms");
        assert!(stats.concealed_ms <= 200 && stats.skipped == 0, "{stats:?}");
        // Waits for the fastest packet's clock too: what is buffered does not grow.
        assert!(stats.buffer_ms < 120.0, "{stats:?}");
    }
}
