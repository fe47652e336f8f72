//! Scripted traces: reports as a path of some kind would give them.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::simulation::call::Call;
use super::simulation::path::{Jitter, Loss, PathModel, normal};
use super::simulation::receiver::Media;
use super::simulation::scenario::{LIMITS, OVERHEAD, Sample, Scenario};
use super::*;
use crate::rtp::sender::Kind;

/// One way, and back.
const DELAY: f64 = 0.030;

/// Sends packets of 1000 bytes at the rate told; `way` says how long each takes or that it is lost.
struct Trace<'a> {
    controller: Controller,
    begin: Instant,
    t: f64,
    sequence: u64,
    on_the_way: Vec<(u64, f64, Option<f64>)>,
    way: Box<dyn FnMut(f64) -> Option<f64> + 'a>,
    last_arrival: f64,
    next_feedback: f64,
    /// Of the peer's clock.
    drift: f64,
    offset: f64,
    deaf: bool,
}

impl<'a> Trace<'a> {
    fn new(way: impl FnMut(f64) -> Option<f64> + 'a) -> Self {
        let begin = Instant::now();
        Self {
            controller: Controller::new(begin, LIMITS),
            begin,
            t: 0.0,
            sequence: 0,
            on_the_way: Vec::new(),
            way: Box::new(way),
            last_arrival: 0.0,
            next_feedback: 0.05,
            drift: 0.0,
            offset: 1000.0,
            deaf: false,
        }
    }

    fn now(&self) -> Instant {
        self.begin + Duration::from_secs_f64(self.t)
    }

    fn in_flight(&self) -> usize {
        1000 * self.on_the_way.len()
    }

    fn kbps(&self) -> f64 {
        self.controller.target().kbps()
    }

    /// Runs on, sending what is allowed up to `wanted` bits per second; the smallest target.
    fn run(&mut self, seconds: f64, wanted: f64) -> f64 {
        let (until, mut least) = (self.t + seconds, f64::INFINITY);
        while self.t < until {
            let rate = wanted.min(self.controller.target().bps() as f64);
            self.t += 8000.0 / rate;
            while self.next_feedback <= self.t {
                let at = self.next_feedback;
                self.next_feedback += 0.05;
                if !self.deaf {
                    self.feedback(at);
                }
                let now = self.begin + Duration::from_secs_f64(at);
                self.controller.handle_timeout(now, self.in_flight());
                least = least.min(self.kbps());
            }
            let arrival = (self.way)(self.t).map(|takes| (self.t + takes).max(self.last_arrival));
            self.last_arrival = arrival.unwrap_or(self.last_arrival);
            self.on_the_way.push((self.sequence, self.t, arrival));
            self.sequence += 1;
            let now = self.now();
            self.controller.handle_sent(now, 1000, false);
        }
        least
    }

    fn feedback(&mut self, t: f64) {
        let heard = t - DELAY;
        let arrived = |p: &(u64, f64, Option<f64>)| p.2.is_some_and(|at| at <= heard);
        let newest = self.on_the_way.iter().filter(|p| arrived(p)).map(|p| p.0).max();
        let covered =
            self.on_the_way.extract_if(.., |p| arrived(p) || (p.2.is_none() && Some(p.0) < newest));
        let clock = |at: f64| Duration::from_secs_f64(at * (1.0 + self.drift) + self.offset);
        let reports: Vec<PacketReport> = covered
            .map(|(sequence, sent, arrival)| PacketReport {
                sequence,
                size: 1000,
                departure: self.begin + Duration::from_secs_f64(sent),
                arrival: arrival.map(clock),
                probe: None,
            })
            .collect();
        let now = self.begin + Duration::from_secs_f64(t);
        self.controller.handle_reports(now, &reports, self.in_flight());
    }
}

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

fn lossy(loss: Loss) -> Scenario {
    Scenario::new(PathModel { loss, ..path(100e3, 30.0, 300.0) })
}

fn mean_target(call: &Call, from: f64, to: f64) -> f64 {
    let samples = call.samples.iter().filter(|sample| (from..to).contains(&sample.at));
    let (sum, count) = samples.fold((0.0, 0.0), |(s, c), sample| (s + sample.target, c + 1.0));
    sum / count / 1000.0
}

fn any(call: &Call, what: impl Fn(&Sample) -> bool) -> bool {
    call.samples.iter().any(what)
}

#[test]
fn jitter_in_order_is_no_queue() {
    for seed in 1..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut trace = Trace::new(|_| Some(DELAY + (0.040 * normal(&mut random)).abs()));
        trace.run(5.0, 1.5e6);
        trace.run(60.0, 1.5e6);
        assert_eq!(trace.controller.cuts, 0, "seed {seed}");
        assert!(trace.kbps() > 1500.0, "{}", trace.kbps());
    }
}

#[test]
fn a_drop_to_a_quarter_is_met_at_once_with_one_recovery_frame() {
    for seed in 1..6 {
        let mut scenario = Scenario::new(path(2000.0, 30.0, 300.0));
        scenario.path.capacity = vec![(0.0, 2e6), (20.0, 500e3)];
        scenario.seconds = 30.0;
        let call = Call::run(scenario, seed);
        let cut = call.samples.iter().find(|sample| sample.at > 20.0 && sample.target < 700e3);
        let cut = cut.expect("a cut").at;
        assert!(cut < 20.3, "{cut}");
        let target = mean_target(&call, 20.8, 21.8);
        assert!((0.87 * 450.0..0.9 * 550.0).contains(&target), "{target}");
        let flushes: Vec<f64> = call.flushes.iter().copied().filter(|at| *at > 20.0).collect();
        assert!(flushes.len() <= 1, "{flushes:?}");
        for flush in flushes {
            let stale = call.log.iter().filter(|logged| {
                let Media::Video { born, .. } = logged.media else {
                    return false;
                };
                logged.kind == Kind::Repair && logged.at > flush && born < flush
            });
            assert_eq!(stale.count(), 0, "repairs from before the flush");
        }
    }
}

#[test]
fn the_gate_opens_where_what_is_in_flight_fits_the_path() {
    // The queue grows by 100 ms a second until the cut.
    let mut trace = Trace::new(|t| Some(DELAY + 0.1 * (t - 4.0).clamp(0.0, 3.0)));
    while trace.controller.drain.is_none() {
        trace.run(0.05, 1e6);
        assert!(trace.t < 10.0, "no cut");
    }
    let drain = trace.controller.drain.as_ref().expect("a drain");
    let measured = &trace.controller.measured;
    let delay = measured.min_rtt() + measured.feedback_interval() + 0.030 + measured.spread();
    let gate = drain.capacity * delay / 8.0;
    let now = trace.now() + Duration::from_millis(300);
    assert!(trace.controller.may_send(now, gate as usize - 1));
    assert!(!trace.controller.may_send(now, gate as usize + 1));
    assert!(!trace.controller.may_encode(now, gate as usize + 1));
}

#[test]
fn losses_in_runs_with_a_flat_delay_are_no_reason_to_send_less() {
    for seed in 1..6 {
        let call = Call::run(lossy(Loss::Runs(0.10, 3)), seed);
        let lowest = call.samples.iter().filter(|sample| sample.at > 6.0);
        let lowest = lowest.map(|sample| sample.target).fold(f64::INFINITY, f64::min);
        assert!(lowest > 0.8 * 2.5e6, "{lowest} with seed {seed}");
    }
}

#[test]
fn a_policer_is_told_from_a_lossy_path() {
    for seed in 1..6 {
        // Too short a queue to be seen: what is too much is dropped.
        let call = Call::run(Scenario::new(path(800.0, 30.0, 18.0)), seed);
        let mean = mean_target(&call, 20.0, 60.0);
        assert!((500.0..1000.0).contains(&mean), "{mean}");
        let call = Call::run(lossy(Loss::Random(0.2)), seed);
        let mean = mean_target(&call, 20.0, 60.0);
        assert!(mean > 2400.0, "{mean}");
        assert!(any(&call, |sample| sample.state == State::LossTest));
    }
}

#[test]
fn silence_backs_off_and_its_end_restores() {
    let mut trace = Trace::new(|_| Some(DELAY));
    trace.run(20.0, 2e6);
    let before = trace.kbps();
    assert!(before > 2000.0);
    trace.deaf = true;
    trace.run(0.3, 2e6);
    assert_eq!(trace.kbps(), before);
    trace.run(2.0, 2e6);
    assert_eq!(trace.controller.state(), State::Silent);
    assert!(trace.kbps() < 0.3 * before, "{}", trace.kbps());
    assert!(trace.controller.may_send(trace.now(), 1_000_000), "media trickles");
    // What was sent meanwhile is unknown, not lost.
    trace.on_the_way.clear();
    trace.deaf = false;
    trace.run(0.3, 2e6);
    assert_eq!(trace.controller.loss(), 0.0);
    assert!(trace.kbps() >= 0.75 * before, "{}", trace.kbps());
    // After a long silence nothing is known any more.
    trace.deaf = true;
    trace.run(10.0, 2e6);
    trace.deaf = false;
    trace.run(0.2, 2e6);
    assert!(trace.kbps() < 400.0, "{}", trace.kbps());
    // Who has sent nothing that could be heard of is not silenced.
    assert_eq!(trace.controller.poll_timeout(3000), None);
}

#[test]
fn a_longer_route_is_no_queue() {
    for kbps in [1000.0, 100e3] {
        let mut scenario = Scenario::new(path(kbps, 30.0, 300.0));
        scenario.path.detour = Some((20.0, f64::INFINITY, 0.080));
        let call = Call::run(scenario, 1);
        let (before, after) = (mean_target(&call, 10.0, 20.0), mean_target(&call, 40.0, 60.0));
        assert!(after > 0.85 * before, "{before} {after}");
    }
}

#[test]
fn clocks_that_drift_apart_are_neither_a_queue_nor_a_route() {
    for drift in [-200e-6, 200e-6] {
        let mut trace = Trace::new(|_| Some(DELAY));
        trace.drift = drift;
        trace.run(120.0, 2e6);
        assert_eq!(trace.controller.cuts, 0);
        assert!(trace.kbps() > 2000.0);
    }
}

#[test]
fn a_clock_that_jumps_starts_anew() {
    let mut trace = Trace::new(|_| Some(DELAY));
    trace.run(10.0, 2e6);
    for jump in [3600.0, -1800.0] {
        trace.offset += jump;
        trace.run(10.0, 2e6);
        assert_eq!(trace.controller.cuts, 0);
        assert_eq!(trace.controller.queue(), Duration::ZERO);
    }
}

fn beside_tcp(seed: u64) -> Call {
    let mut scenario = Scenario::new(path(2000.0, 25.0, 300.0));
    scenario.tcp = Some((20.0, 120.0));
    scenario.seconds = 150.0;
    Call::run(scenario, seed)
}

#[test]
fn a_share_is_held_beside_tcp_and_the_rest_found_again_when_alone() {
    for seed in 11..14 {
        let call = beside_tcp(seed);
        let samples = |from, to| call.samples.iter().filter(move |s| (from..to).contains(&s.at));
        let competing = samples(30.0, 120.0).filter(|s| s.state == State::Competing).count();
        // Most of the time: tests, and what follows, are the rest.
        assert!(competing > 6000, "{competing} of 9000 with seed {seed}");
        // Its queue is not taken for a path without one.
        let share = call.share(30.0);
        assert!((0.3..0.7).contains(&share), "{share} with seed {seed}");
        assert!(samples(135.0, 150.0).all(|s| s.state != State::Competing));
        let alone = mean_target(&call, 140.0, 150.0);
        assert!(alone > 1400.0, "{alone} with seed {seed}");
    }
}

#[test]
fn nobody_competes_on_a_narrow_link() {
    for seed in 11..16 {
        let call = Call::run(Scenario::new(path(200.0, 50.0, 500.0)), seed);
        assert!(!any(&call, |sample| sample.state == State::Competing), "seed {seed}");
    }
}

#[test]
fn an_application_that_sends_little_proves_little() {
    let mut trace = Trace::new(|_| Some(DELAY));
    trace.run(30.0, 150_000.0);
    // Without a probe: 1.4 times what arrives, and a reserve.
    let most = 1.4 * 150.0 + 20.0;
    assert!(trace.kbps() <= most * 1.1, "{}", trace.kbps());
    let probe = trace.controller.poll_probe().expect("a probe is the only way up");
    assert!(probe.rate > 1.5 * trace.controller.target().bps() as f64);
}

#[test]
fn any_report_keeps_the_target_within_its_limits() {
    let mut random = StdRng::seed_from_u64(12);
    let begin = Instant::now();
    let mut controller = Controller::new(begin, LIMITS);
    let mut now = begin;
    for _ in 0..20_000 {
        let reports: Vec<PacketReport> = (0..random.random_range(0..20))
            .map(|_| PacketReport {
                sequence: random.random(),
                size: random.random_range(0..70_000),
                departure: begin + Duration::from_millis(random.random_range(0..1 << 30)),
                arrival: random.random_bool(0.8).then(|| {
                    Duration::from_micros(random.random::<u64>() >> random.random_range(0..40))
                }),
                probe: random.random_bool(0.3).then(|| random.random_range(0..9)),
            })
            .collect();
        let in_flight = random.random_range(0..1 << 20);
        controller.handle_backlog(random.random_range(0..1 << 20));
        controller.handle_reports(now, &reports, in_flight);
        controller.handle_sent(now, random.random_range(0..2000), random.random());
        controller.start_probing(now);
        controller.handle_timeout(now, in_flight);
        _ = (controller.poll_probe(), controller.take_flush(), controller.state());
        _ = (controller.queue(), controller.rtt(), controller.poll_timeout(in_flight));
        assert!((LIMITS.min..=LIMITS.max).contains(&controller.target()));
        assert!(controller.pacing_rate() >= LIMITS.min);
        assert!((0.0..=1.0).contains(&controller.loss()));
        now += Duration::from_millis(random.random_range(0..200));
    }
}

#[test]
fn the_model_counts_headers_as_the_stack_does() {
    // 12 of RTP, 8 of the transport-wide number, 10 of SRTP, 28 of UDP and IPv4.
    assert_eq!(OVERHEAD, 12 + 8 + 10 + 28);
}
