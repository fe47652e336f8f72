use std::time::Duration;

use super::*;
use crate::units::Bitrate;

const LIMITS: Limits = Limits {
    min: Bitrate::from_kbps(60),
    start: Bitrate::from_kbps(200),
    max: Bitrate::from_kbps(3200),
};

/// Departure, arrival (ms) and size of each packet; `None`: lost.
type Packets<'a> = &'a [(f64, Option<f64>, usize)];

fn reports(begin: Instant, id: u32, packets: Packets<'_>) -> Vec<PacketReport> {
    let at = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
    let report =
        |(sequence, &(sent, arrival, size)): (usize, &(f64, Option<f64>, usize))| PacketReport {
            sequence: sequence as u64 + 100,
            size,
            departure: begin + at(sent),
            arrival: arrival.map(|ms| at(ms + 7000.0)),
            probe: Some(id),
        };
    packets.iter().enumerate().map(report).collect()
}

/// A prober that has sent the first probe: 600 kbit/s, five packets of 500 bytes.
fn probing() -> (Prober, u32, Instant) {
    let mut prober = Prober::new(LIMITS);
    prober.start(0.0, 200_000.0);
    let probe = prober.poll().expect("a probe");
    assert_eq!((probe.rate, probe.bytes, probe.packets), (600_000.0, 2500, 5));
    prober.start(1.0, 200_000.0);
    assert_eq!(prober.poll(), None, "only one first probe");
    (prober, probe.id, Instant::now())
}

fn kbps(outcome: Option<Outcome>) -> Option<f64> {
    outcome.expect("complete").result.map(|received| received.rate / 1000.0)
}

/// Five packets that leave every 6.7 ms and arrive that far apart.
fn even(apart: f64) -> Vec<(f64, Option<f64>, usize)> {
    let leaves = |n: usize| 6.667 * n as f64;
    (0..5).map(|n| (leaves(n), Some(30.0 + apart * n as f64), 500)).collect()
}

#[test]
fn the_slower_of_sent_and_received_counts() {
    let (mut prober, id, begin) = probing();
    let found = kbps(prober.handle_reports(&reports(begin, id, &even(6.667)), begin));
    assert!((found.expect("a rate") - 600.0).abs() < 2.0, "{found:?}");
    let (mut prober, id, begin) = probing();
    let found = kbps(prober.handle_reports(&reports(begin, id, &even(20.0)), begin));
    // 2000 bytes in 80 ms, less a margin for what is full.
    assert!((found.expect("a rate") - 190.0).abs() < 2.0, "{found:?}");
    let (mut prober, id, begin) = probing();
    let found = kbps(prober.handle_reports(&reports(begin, id, &even(4.0)), begin));
    assert!((found.expect("a rate") - 600.0).abs() < 2.0, "clumped a little: {found:?}");
}

#[test]
fn clumped_arrivals_are_no_result() {
    let (mut prober, id, begin) = probing();
    assert!(prober.handle_reports(&reports(begin, id, &even(1.0)), begin).is_none());
    let (mut prober, id, begin) = probing();
    assert!(prober.handle_reports(&reports(begin, id, &even(0.0)), begin).is_none());
}

#[test]
fn unequal_sizes_do_not_bias_the_result() {
    // A large first packet, paid for at 600 kbit/s, and a small last one.
    let sizes = [1200, 300, 600, 900, 100];
    let (mut sent, mut through, mut packets) = (0.0, 0.0_f64, Vec::new());
    for size in sizes {
        // A bottleneck of 400 kbit/s.
        through = through.max(sent) + 8.0 * size as f64 / 400.0;
        packets.push((sent, Some(through + 30.0), size));
        sent += 8.0 * size as f64 / 600.0;
    }
    let (mut prober, id, begin) = probing();
    let found = kbps(prober.handle_reports(&reports(begin, id, &packets), begin));
    let found = found.expect("a rate");
    assert!((0.75 * 400.0..=600.0).contains(&found), "{found}");
    // Without a bottleneck it is what was sent.
    let free: Vec<_> = packets.iter().map(|&(at, _, size)| (at, Some(at + 30.0), size)).collect();
    let (mut prober, id, begin) = probing();
    let found = kbps(prober.handle_reports(&reports(begin, id, &free), begin));
    assert!((found.expect("a rate") - 600.0).abs() < 5.0, "{found:?}");
}

#[test]
fn a_probe_split_across_reports_is_one() {
    let (mut prober, id, begin) = probing();
    let all = reports(begin, id, &even(6.667));
    assert!(prober.handle_reports(&all[..2], begin).is_none());
    assert!(prober.handle_reports(&all[2..4], begin).is_none());
    let found = kbps(prober.handle_reports(&all[4..], begin));
    assert!((found.expect("a rate") - 600.0).abs() < 2.0);
    assert!(prober.handle_reports(&all, begin).is_none(), "not again");
}

#[test]
fn a_fifth_may_be_lost_and_no_more() {
    let mut packets = even(6.667);
    packets[2].1 = None;
    let (mut prober, id, begin) = probing();
    assert!(kbps(prober.handle_reports(&reports(begin, id, &packets), begin)).is_some());
    packets[3].1 = None;
    let (mut prober, id, begin) = probing();
    assert!(kbps(prober.handle_reports(&reports(begin, id, &packets), begin)).is_none());
}

#[test]
fn failures_lengthen_the_wait_to_a_limit() {
    let mut prober = Prober::new(LIMITS);
    (0..20).for_each(|_| prober.fail());
    // Longer would miss a rise that is to be found within 8 s.
    assert_eq!(prober.wait, 6.0);
}

/// Asks for what is due at `t`, sends it in packets of 1000 bytes and has them arrive at `arrives`
/// bits a second.
fn look_for_room(prober: &mut Prober, t: f64, arrives: f64) -> Option<f64> {
    let measured = Measurements::new();
    prober.schedule(t, 3_200_000.0, 0.030, 0, f64::INFINITY, false, &measured);
    let probe = prober.poll()?;
    let every = |rate: f64| 8_000_000.0 / rate;
    let packets: Vec<_> = (0..probe.bytes / 1000 + 1)
        .map(|n| (n as f64 * every(probe.rate), Some(30.0 + n as f64 * every(arrives)), 1000))
        .collect();
    let begin = Instant::now();
    let outcome = prober.handle_reports(&reports(begin, probe.id, &packets), begin)?;
    prober.handle_room(t, outcome.rate, outcome.result.as_ref());
    Some(probe.rate)
}

#[test]
fn a_wide_link_is_known_to_be_one_in_three_bursts() {
    let mut prober = Prober::new(LIMITS);
    assert_eq!(look_for_room(&mut prober, 1.0, 8_000_000.0), Some(8_000_000.0));
    assert_eq!(prober.room(1.1), Some(8_000_000.0));
    assert_eq!(look_for_room(&mut prober, 1.1, 16_000_000.0), None, "not at once");
    assert_eq!(look_for_room(&mut prober, 1.5, 16_000_000.0), Some(16_000_000.0));
    assert_eq!(look_for_room(&mut prober, 2.0, 25_600_000.0), Some(25_600_000.0));
    assert_eq!(prober.room(2.1), Some(25_600_000.0));
    assert_eq!(look_for_room(&mut prober, 31.0, 25_600_000.0), None);
    assert_eq!(look_for_room(&mut prober, 33.0, 25_600_000.0), Some(25_600_000.0), "renewed");
    assert_eq!(prober.room(80.0), None, "what was not renewed is not believed for ever");
}

#[test]
fn a_burst_that_jitter_smeared_is_sent_again_and_longer() {
    let mut prober = Prober::new(LIMITS);
    assert_eq!(look_for_room(&mut prober, 1.0, 5_000_000.0), Some(8_000_000.0));
    let room = prober.room(1.1).expect("more than the largest rate");
    assert!(room < 5_000_000.0, "{room}");
    assert_eq!(look_for_room(&mut prober, 1.5, 8_000_000.0), None);
    assert_eq!(look_for_room(&mut prober, 1.8, 8_000_000.0), Some(8_000_000.0));
    assert_eq!(prober.room(1.9), Some(8_000_000.0));
    // The next rate in clumps that say nothing, then less than before: the better is kept.
    let measured = Measurements::new();
    prober.schedule(2.3, 3_200_000.0, 0.030, 0, f64::INFINITY, false, &measured);
    let first = prober.poll().expect("16 Mbit/s");
    prober.schedule(3.0, 3_200_000.0, 0.030, 0, f64::INFINITY, false, &measured);
    assert_eq!(prober.poll(), None, "its outcome may still come");
    prober.schedule(4.4, 3_200_000.0, 0.030, 0, f64::INFINITY, false, &measured);
    assert_eq!(look_for_room(&mut prober, 5.2, 9_000_000.0), Some(first.rate));
    assert_eq!(prober.room(5.3), Some(8_000_000.0));
}

#[test]
fn a_burst_that_cost_losses_or_made_a_queue_is_not_sent_again_soon() {
    let mut prober = Prober::new(LIMITS);
    let measured = Measurements::new();
    prober.schedule(1.0, 3_200_000.0, 0.030, 0, f64::INFINITY, false, &measured);
    let asked = prober.poll().expect("8 Mbit/s").rate;
    prober.handle_room(1.1, asked, None);
    assert_eq!(look_for_room(&mut prober, 15.0, 8_000_000.0), None);
    assert_eq!(look_for_room(&mut prober, 22.0, 8_000_000.0), Some(8_000_000.0));
}

#[test]
fn the_end_of_the_room_is_found_and_a_cut_forgets_all_of_it() {
    let mut prober = Prober::new(LIMITS);
    look_for_room(&mut prober, 1.0, 8_000_000.0);
    for t in [1.5, 2.3] {
        assert_eq!(look_for_room(&mut prober, t, 10_000_000.0), Some(16_000_000.0), "at {t}");
    }
    let room = prober.room(2.4).expect("some");
    assert!((7_500_000.0..=8_600_000.0).contains(&room), "{room}");
    assert_eq!(look_for_room(&mut prober, 10.0, 10_000_000.0), None, "it need not be asked again");
    prober.handle_cut(11.0);
    assert_eq!(prober.room(11.0), None);
    let late = Received { rate: 16_000_000.0, sent_rate: 16_000_000.0, duration: 0.015 };
    prober.handle_room(11.1, 16_000_000.0, Some(&late));
    assert_eq!(prober.room(11.2), None, "from before the cut");
    assert_eq!(look_for_room(&mut prober, 30.0, 8_000_000.0), None, "nor soon after a cut");
    assert!(look_for_room(&mut prober, 32.0, 4_000_000.0).is_some());
    assert_eq!(prober.room(33.0), None, "there is none");
}
