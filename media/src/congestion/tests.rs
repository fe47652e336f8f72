use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const LIMITS: Limits = Limits {
    min: Bitrate::from_kbps(60),
    start: Bitrate::from_kbps(1000),
    max: Bitrate::from_kbps(2500),
};

/// A bottleneck with a drop-tail queue, in steps of a millisecond. Video at 30 frames a second
/// and audio go in, each frame paced at 1.5 times the target.
struct Path {
    controller: Controller,
    begin: Instant,
    random: StdRng,
    ms: u64,
    capacity: f64,
    one_way_ms: f64,
    jitter_ms: f64,
    loss: f64,
    /// Of the peer's clock.
    drift: f64,
    queue_limit_ms: f64,
    /// What the encoder produces at most.
    application: f64,
    /// Feedback does not come back.
    deaf: bool,
    backlog: VecDeque<usize>,
    budget: f64,
    /// When the bottleneck is free, in ms.
    free_at: f64,
    sequence: u64,
    on_the_way: Vec<PacketReport>,
    queue_ms: Vec<f64>,
    sent_bits: f64,
}

impl Path {
    fn new(kbps: f64) -> Self {
        Self {
            controller: Controller::new(LIMITS),
            begin: Instant::now(),
            random: StdRng::seed_from_u64(1),
            ms: 0,
            capacity: kbps,
            one_way_ms: 20.0,
            jitter_ms: 0.0,
            loss: 0.0,
            drift: 0.0,
            queue_limit_ms: 300.0,
            application: f64::INFINITY,
            deaf: false,
            backlog: VecDeque::new(),
            budget: 0.0,
            free_at: 0.0,
            sequence: 0,
            on_the_way: Vec::new(),
            queue_ms: Vec::new(),
            sent_bits: 0.0,
        }
    }

    fn kbps(&self) -> f64 {
        self.controller.target().kbps()
    }

    fn send(&mut self, size: usize) {
        let now = self.ms as f64;
        self.sequence += 1;
        self.sent_bits += 8.0 * size as f64;
        let queue = (self.free_at - now).max(0.0);
        let full = queue > self.queue_limit_ms;
        let mut arrival = None;
        if !full {
            self.free_at = now + queue + 8.0 * size as f64 / self.capacity;
            if !self.random.random_bool(self.loss) {
                let jitter = self.random.random_range(0.0..=self.jitter_ms);
                // The peer's clock is an hour off.
                let ms = self.free_at + self.one_way_ms + jitter;
                let ms = 3_600_000.0 + ms * (1.0 + self.drift);
                arrival = Some(Duration::from_secs_f64(ms / 1000.0));
            }
        }
        let departure = Duration::from_millis(self.ms);
        self.on_the_way.push(PacketReport { sequence: self.sequence, size, departure, arrival });
    }

    fn step(&mut self) {
        let now = self.begin + Duration::from_millis(self.ms);
        if self.ms.is_multiple_of(33) {
            let video = (self.kbps() - 50.0).min(self.application).max(20.0);
            let mut bytes = (video * 33.0 / 8.0) as usize;
            while bytes > 0 {
                let size = bytes.min(1100);
                self.backlog.push_back(size + 60);
                bytes -= size;
            }
        }
        if self.ms.is_multiple_of(20) {
            self.send(140);
        }
        self.budget = (self.budget + 1.5 * self.kbps() / 8.0).min(1200.0);
        while let Some(&size) = self.backlog.front()
            && self.budget >= size as f64
        {
            self.backlog.pop_front();
            self.budget -= size as f64;
            self.send(size);
        }
        if self.ms.is_multiple_of(10) {
            self.queue_ms.push((self.free_at - self.ms as f64).max(0.0));
        }
        if self.ms.is_multiple_of(500) {
            let bps = (self.sent_bits / 0.5) as u64;
            self.sent_bits = 0.0;
            self.controller.handle_application_rate(now, Bitrate::from_bps(bps.max(1)));
        }
        if self.ms.is_multiple_of(75) && !self.deaf {
            self.feedback(now);
        }
        if self.controller.poll_timeout().is_some_and(|due| now >= due) {
            self.controller.handle_no_feedback(now);
        }
        self.ms += 1;
    }

    /// Everything that arrived one way ago, and the losses before the newest of it.
    fn feedback(&mut self, now: Instant) {
        let heard = (self.ms as f64 - self.one_way_ms) * (1.0 + self.drift) + 3_600_000.0;
        let heard = Duration::from_secs_f64(heard.max(0.0) / 1000.0);
        let arrived = |packet: &PacketReport| packet.arrival.is_some_and(|at| at <= heard);
        let newest = self.on_the_way.iter().filter(|p| arrived(p)).map(|p| p.sequence).max();
        let reports: Vec<PacketReport> = self
            .on_the_way
            .extract_if(.., |p| arrived(p) || (p.arrival.is_none() && Some(p.sequence) < newest))
            .collect();
        self.controller.set_rtt(Duration::from_secs_f64(2.0 * self.one_way_ms / 1000.0));
        self.controller.handle_reports(now, &reports);
    }

    /// Runs on and returns the mean target in kbit/s.
    fn run(&mut self, seconds: f64) -> f64 {
        self.queue_ms.clear();
        let steps = (seconds * 1000.0) as u64;
        let mut sum = 0.0;
        for _ in 0..steps {
            self.step();
            sum += self.kbps();
        }
        sum / steps as f64
    }

    /// The queue that 95 % of the time was not exceeded in the last run.
    fn queue_p95(&self) -> f64 {
        let mut sorted = self.queue_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() * 95 / 100]
    }

    fn queue_max(&self) -> f64 {
        self.queue_ms.iter().copied().fold(0.0, f64::max)
    }
}

#[test]
fn a_good_link_is_at_the_maximum_within_two_seconds_and_stays() {
    let mut path = Path::new(50_000.0);
    path.run(2.0);
    assert_eq!(path.kbps(), 2500.0);
    assert_eq!(path.run(60.0), 2500.0);
}

#[test]
fn a_narrow_link_is_used_without_a_queue() {
    let mut path = Path::new(500.0);
    path.run(3.0);
    let mean = path.run(60.0);
    println!("mean {mean}, queue p95 {} max {}", path.queue_p95(), path.queue_max());
    assert!((350.0..500.0).contains(&mean), "{mean}");
    assert!(path.queue_p95() < 100.0, "{}", path.queue_p95());
    assert!(path.queue_max() < 200.0, "{}", path.queue_max());
}

#[test]
fn loss_on_a_good_link_is_no_reason_to_send_less() {
    for loss in [0.02, 0.05, 0.10] {
        let mut path = Path::new(50_000.0);
        path.loss = loss;
        path.run(5.0);
        let mean = path.run(60.0);
        println!("{loss}: {mean}");
        assert!(mean > 0.8 * 2500.0, "{mean} at {loss}");
    }
}

#[test]
fn jitter_is_no_queue() {
    let mut path = Path::new(50_000.0);
    path.jitter_ms = 40.0;
    path.run(6.0);
    let mean = path.run(60.0);
    assert!(mean > 0.8 * 2500.0, "{mean}");
}

#[test]
fn a_drop_is_met_within_a_second_and_a_half_and_a_rise_is_found_again() {
    let mut path = Path::new(50_000.0);
    path.run(10.0);
    path.capacity = 500.0;
    path.run(1.5);
    let mean = path.run(20.0);
    println!("after the drop {mean}, queue p95 {} max {}", path.queue_p95(), path.queue_max());
    assert!((330.0..500.0).contains(&mean), "{mean}");
    assert!(path.queue_max() < 200.0, "{}", path.queue_max());
    path.capacity = 50_000.0;
    path.run(12.0);
    assert!(path.kbps() > 2000.0, "{}", path.kbps());
}

#[test]
fn an_application_that_sends_little_proves_little() {
    let mut path = Path::new(50_000.0);
    path.controller = Controller::new(Limits { start: Bitrate::from_kbps(300), ..LIMITS });
    path.application = 150.0;
    path.run(30.0);
    assert!((250.0..450.0).contains(&path.kbps()), "{}", path.kbps());
}

#[test]
fn a_policer_is_told_from_a_lossy_path() {
    // No queue at all: what is too much is dropped.
    let mut path = Path::new(800.0);
    path.queue_limit_ms = 18.0;
    path.run(10.0);
    let mean = path.run(30.0);
    println!("policer {mean}");
    assert!(mean < 1100.0, "{mean}");
}

#[test]
fn a_longer_route_is_no_queue() {
    let mut path = Path::new(50_000.0);
    path.run(5.0);
    path.one_way_ms += 80.0;
    path.run(6.0);
    let mean = path.run(20.0);
    println!("longer route {mean}");
    assert!(mean > 0.9 * 2500.0, "{mean}");
    path.one_way_ms -= 80.0;
    path.run(2.0);
    assert_eq!(path.run(20.0), 2500.0);
}

#[test]
fn clocks_that_drift_apart_are_no_queue() {
    for drift in [-200e-6, 200e-6] {
        let mut path = Path::new(50_000.0);
        path.drift = drift;
        path.run(5.0);
        let mean = path.run(120.0);
        assert!(mean > 0.95 * 2500.0, "{mean} at {drift}");
    }
}

#[test]
fn silence_backs_off_and_its_end_restores() {
    let mut path = Path::new(50_000.0);
    path.run(5.0);
    path.deaf = true;
    path.run(2.0);
    assert!(path.kbps() < 800.0, "{}", path.kbps());
    path.deaf = false;
    path.run(0.2);
    assert!(path.kbps() >= 0.75 * 2500.0, "{}", path.kbps());
    // Who sends nothing hears nothing, and that says nothing.
    let now = path.begin + Duration::from_millis(path.ms);
    path.controller.handle_application_rate(now, Bitrate::ZERO);
    assert_eq!(path.controller.poll_timeout(), None);
    let before = path.kbps();
    path.controller.handle_no_feedback(now + Duration::from_secs(10));
    assert_eq!(path.kbps(), before);
}

#[test]
fn any_report_keeps_the_target_within_its_limits() {
    let mut random = StdRng::seed_from_u64(12);
    let mut controller = Controller::new(LIMITS);
    let mut now = Instant::now();
    for _ in 0..20_000 {
        let reports: Vec<PacketReport> = (0..random.random_range(0..20))
            .map(|_| PacketReport {
                sequence: random.random(),
                size: random.random_range(0..70_000),
                departure: Duration::from_millis(random.random_range(0..1 << 40)),
                arrival: random.random_bool(0.8).then(|| {
                    Duration::from_micros(random.random::<u64>() >> random.random_range(0..40))
                }),
            })
            .collect();
        controller.handle_reports(now, &reports);
        if random.random_bool(0.1) {
            controller.handle_application_rate(now, Bitrate::from_bps(random.random()));
            controller.set_rtt(Duration::from_millis(random.random_range(0..1 << 40)));
        }
        controller.handle_no_feedback(now);
        assert!((LIMITS.min..=LIMITS.max).contains(&controller.target()));
        now += Duration::from_millis(random.random_range(0..200));
    }
}
