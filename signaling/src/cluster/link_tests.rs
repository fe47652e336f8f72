use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn link(now: Instant) -> Link {
    Link::new(LinkTimes::default(), 7, true, now)
}

fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload.try_into().unwrap())
}

fn numbered(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn packets(link: &mut Link, now: Instant) -> Vec<Packet> {
    std::iter::from_fn(|| link.poll_transmit(now)).collect()
}

/// Both ways, without loss, until nobody has anything to say; what `b` was sent, and `a`.
fn settle(a: &mut Link, b: &mut Link, now: Instant) -> (Vec<u64>, Vec<u64>) {
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    loop {
        let (from_a, from_b) = (packets(a, now), packets(b, now));
        if from_a.is_empty() && from_b.is_empty() {
            return (at_b, at_a);
        }
        for packet in from_a {
            at_b.extend(b.handle_packet(packet, now).payloads.iter().map(|p| number(p)));
        }
        for packet in from_b {
            at_a.extend(a.handle_packet(packet, now).payloads.iter().map(|p| number(p)));
        }
    }
}

/// Loses, doubles and delays by chance.
struct Medium {
    rng: StdRng,
    under_way: Vec<(Instant, bool, Packet)>,
    loss: f64,
}

impl Medium {
    fn carry(&mut self, to_a: bool, packet: &Packet, now: Instant) {
        for _ in 0..if self.rng.random_bool(0.1) { 2 } else { 1 } {
            if !self.rng.random_bool(self.loss) {
                let due = now + MS * self.rng.random_range(0..50);
                self.under_way.push((due, to_a, packet.clone()));
            }
        }
    }

    fn arrived(&mut self, now: Instant) -> Vec<(bool, Packet)> {
        let due = self.under_way.extract_if(.., |(due, ..)| *due <= now);
        due.map(|(_, to_a, packet)| (to_a, packet)).collect()
    }
}

#[test]
fn through_loss_doubling_and_reordering_everything_arrives_once_and_in_order() {
    for seed in 0..30 {
        let mut now = Instant::now();
        let (mut a, mut b) = (link(now), link(now));
        let rng = StdRng::seed_from_u64(seed);
        let mut medium = Medium { rng, under_way: Vec::new(), loss: 0.3 };
        let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
        let mut sent = 0;
        for _ in 0..2_000_000 {
            while sent < 1_000 && medium.rng.random_bool(0.3) {
                sent += 1;
                a.send(numbered(sent)).unwrap();
                b.send(numbered(sent)).unwrap();
            }
            for packet in packets(&mut a, now) {
                medium.carry(false, &packet, now);
            }
            for packet in packets(&mut b, now) {
                medium.carry(true, &packet, now);
            }
            now += MS;
            for (to_a, packet) in medium.arrived(now) {
                let (link, list) = if to_a { (&mut a, &mut at_a) } else { (&mut b, &mut at_b) };
                let arrival = link.handle_packet(packet, now);
                assert!(!arrival.reset);
                list.extend(arrival.payloads.iter().map(|payload| number(payload)));
            }
            a.handle_timeout(now);
            b.handle_timeout(now);
            if sent == 1_000 && a.is_idle() && b.is_idle() {
                break;
            }
        }
        let all: Vec<u64> = (1..=1_000).collect();
        assert_eq!((&at_a, &at_b), (&all, &all), "seed {seed}");
    }
}

#[test]
fn what_the_medium_lost_while_it_was_down_is_sent_when_it_is_back() {
    let mut now = Instant::now();
    let (mut a, mut b) = (link(now), link(now));
    for n in 1..=10 {
        a.send(numbered(n)).unwrap();
    }
    assert_eq!(packets(&mut a, now).len(), 10, "all of which is lost");
    a.set_up(false, now);
    b.set_up(false, now);
    a.send(numbered(11)).unwrap();
    now += Duration::from_secs(60);
    a.watch(true, now - Duration::from_secs(50));
    assert_eq!(a.poll_timeout(), None);
    assert!(!a.is_silent(now), "a silent medium says nothing about the other node");
    assert_eq!(packets(&mut a, now), []);
    a.set_up(true, now);
    b.set_up(true, now);
    assert!(!a.is_silent(now));
    assert_eq!(settle(&mut a, &mut b, now).0, (1..=11).collect::<Vec<_>>());
    assert!(a.is_idle());
}

#[test]
fn a_lost_packet_is_sent_again_ever_more_rarely() {
    let start = Instant::now();
    let mut now = start;
    let mut a = link(now);
    a.send(numbered(1)).unwrap();
    let mut sent_at = Vec::new();
    while now < start + Duration::from_secs(20) {
        sent_at.extend(packets(&mut a, now).iter().map(|_| (now - start).as_millis()));
        now = a.poll_timeout().unwrap();
        a.handle_timeout(now);
    }
    assert_eq!(sent_at, [0, 500, 1500, 3500, 7500, 11500, 15500, 19500]);
}

#[test]
fn an_end_that_starts_afresh_is_noticed_and_nothing_old_mixes_in() {
    let now = Instant::now();
    let (mut a, mut b) = (link(now), link(now));
    for n in 1..=3 {
        a.send(numbered(n)).unwrap();
    }
    settle(&mut a, &mut b, now);
    a.send(numbered(4)).unwrap();
    let old = packets(&mut a, now);
    // `b` is gone and there again, and remembers nothing.
    let mut b = Link::new(LinkTimes::default(), 8, true, now);
    for packet in old.clone() {
        assert_eq!(b.handle_packet(packet, now), Arrival::default());
    }
    let answer = packets(&mut b, now);
    assert_eq!(answer.len(), 1);
    assert!(a.handle_packet(answer[0].clone(), now).reset);
    a.send(numbered(5)).unwrap();
    assert_eq!(settle(&mut a, &mut b, now).0, [5]);
    for packet in old {
        assert_eq!(b.handle_packet(packet, now), Arrival::default(), "late ones are dropped");
    }
}

#[test]
fn both_ends_may_give_up_at_once() {
    let now = Instant::now();
    let (mut a, mut b) = (link(now), link(now));
    a.send(numbered(1)).unwrap();
    settle(&mut a, &mut b, now);
    a.reset(now);
    b.reset(now);
    a.send(numbered(2)).unwrap();
    b.send(numbered(3)).unwrap();
    assert_eq!(settle(&mut a, &mut b, now), (vec![2], vec![3]));
}

#[test]
fn the_one_who_is_watched_is_asked_and_missed() {
    let start = Instant::now();
    let mut now = start;
    let (mut a, mut b) = (link(now), link(now));
    assert_eq!(a.poll_timeout(), None, "nobody waits for it");
    a.watch(true, now);
    while now < start + Duration::from_secs(30) {
        now = a.poll_timeout().unwrap();
        settle(&mut a, &mut b, now);
        assert!(!a.is_silent(now));
    }
    let last = now;
    while !a.is_silent(now) {
        now = a.poll_timeout().unwrap();
        packets(&mut a, now);
    }
    assert_eq!(now - last, LinkTimes::default().silence);
}

#[test]
fn two_who_watch_each_other_do_not_talk_all_the_time() {
    let now = Instant::now();
    let (mut a, mut b) = (link(now), link(now));
    a.watch(true, now);
    b.watch(true, now);
    let later = now + LinkTimes::default().ping_every;
    let asked: Vec<_> = packets(&mut a, later);
    assert_eq!(asked.len(), 1);
    b.handle_packet(asked[0].clone(), later);
    // Its own question and the answer are one.
    assert_eq!(packets(&mut b, later).len(), 1);
}

#[test]
fn more_than_may_wait_is_refused() {
    let now = Instant::now();
    let mut a = link(now);
    let taken = (0..).take_while(|_| a.send(vec![0; 1 << 20]).is_ok()).count();
    assert_eq!(taken, 64);
    assert_eq!(packets(&mut a, now).len(), 1, "no more than a mebibyte is under way");
    let mut b = link(now);
    let far = Packet { generation: 7, ack: 0, seq: 9_999, asks: false, payload: vec![1] };
    assert_eq!(b.handle_packet(far, now), Arrival::default());
    assert!(b.early.is_empty(), "what cannot have been sent yet is not kept");
}

#[test]
fn any_packets_in_any_order_are_survived() {
    let mut rng = StdRng::seed_from_u64(0x7ea);
    let now = Instant::now();
    for _ in 0..200 {
        let mut a = link(now);
        for n in 0..rng.random_range(0..20) {
            a.send(numbered(n)).unwrap();
        }
        for _ in 0..100 {
            let number = |rng: &mut StdRng| match rng.random_range(0..4) {
                0 => u64::MAX - rng.random_range(0..2),
                _ => rng.random_range(0..12),
            };
            let packet = Packet {
                generation: number(&mut rng),
                ack: number(&mut rng),
                seq: number(&mut rng),
                asks: rng.random(),
                payload: vec![0; rng.random_range(0..20)],
            };
            a.handle_packet(packet, now);
            packets(&mut a, now);
            a.handle_timeout(now + Duration::from_secs(1));
        }
    }
}
