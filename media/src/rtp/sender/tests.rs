use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const MS: Duration = Duration::from_millis(1);

const LIMITS: Limits = Limits {
    min: Bitrate::from_kbps(60),
    start: Bitrate::from_kbps(200),
    max: Bitrate::from_kbps(3200),
};

fn video(number: u16, bytes: usize) -> Outgoing<u16> {
    let (class, number, packet) = (Class::Video, Some(number), number);
    Outgoing { class, number, bytes, overhead: 58, numbered: true, packet }
}

fn sound() -> Outgoing<u16> {
    let (class, number, packet) = (Class::Audio, None, 0);
    Outgoing { class, number, bytes: 150, overhead: 58, numbered: true, packet }
}

fn sender(feedback: bool) -> (Sender<u16>, Instant) {
    let now = Instant::now();
    let mut sender = Sender::new(now, LIMITS);
    sender.set_agreed(Agreed { feedback, rtx: true });
    (sender, now)
}

/// Feedback that comes at once; the queue then grows until it is cut, with losses.
fn overfill(sender: &mut Sender<u16>, mut now: Instant) -> Instant {
    let mut queue = Duration::ZERO;
    for number in 0..400 {
        now += 10 * MS;
        sender.push(video(number, 500));
        while let Some(sent) = sender.poll(now) {
            queue += if number > 100 { 3 * MS } else { Duration::ZERO };
            let status = if number > 150 && number % 3 == 0 {
                Status::Lost
            } else {
                Status::Arrived(Duration::from_secs(9) + 10 * u32::from(number) * MS + queue)
            };
            sender.handle_feedback(now, sent.number.expect("numbered"), [status]);
        }
        if sender.take_flush() {
            return now;
        }
    }
    panic!("no flush");
}

#[test]
fn after_a_flush_nothing_from_before_is_repaired() {
    let (mut sender, now) = sender(true);
    let now = overfill(&mut sender, now);
    assert_eq!(sender.handle_nack(now, 0..400), 0);
    assert!(!sender.take_flush(), "told once");
}

#[test]
fn without_feedback_nothing_is_in_flight_and_nothing_probed() {
    let (mut sender, mut now) = sender(false);
    let mut left = 0;
    for number in 0..300 {
        now += 33 * MS;
        sender.push(video(number, 600));
        while let Some(sent) = sender.poll(now) {
            assert_eq!(sent.kind, Kind::First);
            left += 1;
        }
        sender.handle_timeout(now);
    }
    assert_eq!(left, 300);
    assert_eq!(sender.target(), LIMITS.start);
    assert!(sender.may_encode(now));
}

#[test]
fn a_limit_from_elsewhere_holds() {
    let (mut sender, _) = sender(true);
    sender.set_limit(Some(Bitrate::from_kbps(100)));
    assert_eq!(sender.target(), Bitrate::from_kbps(100));
    sender.set_limit(Some(Bitrate::from_kbps(9000)));
    assert_eq!(sender.target(), LIMITS.start);
}

#[test]
fn whatever_the_peer_says_sound_leaves_at_once_and_memory_is_bounded() {
    let mut random = StdRng::seed_from_u64(4);
    let (mut sender, mut now) = sender(true);
    let mut number = 0;
    for _ in 0..20_000 {
        now += random.random_range(0..20) * MS;
        if sender.backlog() < 3600 {
            sender.push(video(number, random.random_range(60..1300)));
            number = number.wrapping_add(1);
        }
        sender.push(sound());
        let first = sender.poll(now).expect("sound");
        assert_eq!(first.packet, 0);
        let mut burst = 0;
        while sender.poll(now).is_some() {
            burst += 1;
            assert!(burst < 100, "a burst");
        }
        if random.random_bool(0.3) {
            let count = random.random_range(0..300);
            let statuses: Vec<Status> = (0..count)
                .map(|_| match random.random_range(0..3) {
                    0 => Status::Lost,
                    1 => Status::Unknown,
                    _ => Status::Arrived(Duration::from_micros(random.random::<u64>() >> 20)),
                })
                .collect();
            sender.handle_feedback(now, random.random(), statuses);
        }
        if random.random_bool(0.3) {
            let from = random.random::<u16>();
            let near = number.wrapping_sub(random.random_range(0..50));
            sender.handle_nack(now, (0..100).map(|n| from.wrapping_add(n)));
            sender.handle_nack(now, (0..50).map(|n| near.wrapping_add(n)));
        }
        sender.handle_timeout(now);
        assert!(sender.backlog() < 3600 + 1300 + MAX_REPAIR_BACKLOG + 1300);
        assert!((LIMITS.min..=LIMITS.max).contains(&sender.target()));
        if let Some(due) = sender.poll_timeout(now) {
            assert!(due > now - Duration::from_secs(1));
        }
        _ = (sender.take_flush(), sender.video_budget(), sender.may_encode(now), sender.queue());
    }
}

/// Two minutes over a path of 100 ms that loses every twentieth packet: the share of packets that left
/// a second time without being asked for.
fn repeated_ahead(has_fec: bool, rtx: bool) -> f64 {
    let (mut sender, begin) = sender(true);
    sender.set_agreed(Agreed { feedback: true, rtx });
    sender.set_has_fec(has_fec);
    let mut on_the_way: std::collections::VecDeque<(Instant, u16)> = Default::default();
    let (mut first, mut ahead, mut number) = (0, 0, 0);
    for ms in 0..120_000 {
        let now = begin + ms * MS;
        if ms % 33 == 0 {
            let video_rate = sender.video_budget().bps().min(1_500_000);
            for _ in 0..(video_rate / 30 / 8_000).max(1) {
                sender.push(video(number, 1000));
                number = number.wrapping_add(1);
            }
        }
        while let Some(sent) = sender.poll(now) {
            first += i32::from(sent.kind == Kind::First && ms > 60_000);
            ahead += i32::from(sent.kind == Kind::Ahead && ms > 60_000);
            on_the_way.extend(sent.number.map(|number| (now + 100 * MS, number)));
        }
        while let Some((at, number)) = on_the_way.front().copied().filter(|(at, _)| now >= *at) {
            on_the_way.pop_front();
            let arrived = at.duration_since(begin) + Duration::from_secs(9);
            let status = if number % 20 == 7 { Status::Lost } else { Status::Arrived(arrived) };
            sender.handle_feedback(now, number, [status]);
        }
        sender.handle_timeout(now);
    }
    f64::from(ahead) / f64::from(first)
}

#[test]
fn towards_a_browser_with_losses_most_packets_leave_twice() {
    let share = repeated_ahead(false, true);
    assert!((0.8..=1.0).contains(&share), "{share}");
    assert_eq!(repeated_ahead(true, true), 0.0, "one of our own restores them");
    assert_eq!(repeated_ahead(false, false), 0.0, "a packet sent twice would be an attack's");
}
