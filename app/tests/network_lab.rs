//! The emulated network that benchmarks and tests call through: its one-way link with fake time and seeded
//! chance, and the whole of it between two real hosts.
#![cfg(target_os = "linux")]

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::netlab::link::Link;
use common::netlab::profile::{PROFILES, Profile, Step};
use common::netlab::{LEFT, NetLab, RIGHT, on};
use common::netns::if_possible;

fn profile(name: &str) -> Profile {
    name.parse().expect("a profile")
}

/// Sends packets of 1000 bytes at this interval; when each arrived after it was sent.
fn run(profile: Profile, seed: u64, count: usize, interval: Duration) -> Vec<Option<Duration>> {
    let start = Instant::now();
    let mut link = Link::new(profile, seed);
    let mut arrived = vec![None; count];
    let mut take = |link: &mut Link, now: Instant| {
        while let Some(packet) = link.poll_packet(now) {
            let index = u64::from_be_bytes(packet[..8].try_into().expect("8 bytes")) as usize;
            arrived[index] = Some(now - (start + interval * index as u32));
        }
    };
    for index in 0..count {
        let now = start + interval * index as u32;
        while let Some(due) = link.poll_timeout().filter(|due| *due <= now) {
            take(&mut link, due);
        }
        let mut packet = vec![0; 1000];
        packet[..8].copy_from_slice(&(index as u64).to_be_bytes());
        link.handle_packet(now, packet);
    }
    while let Some(due) = link.poll_timeout() {
        take(&mut link, due);
    }
    arrived
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_link_without_limits_delays_nothing() {
    assert!(run(profile("lan"), 1, 100, MS).iter().all(|late| *late == Some(Duration::ZERO)));
}

#[test]
fn a_bottleneck_passes_its_rate_and_drops_what_finds_its_queue_full() {
    // 1000 bytes a millisecond are 8 Mbit/s into 500 kbit/s, which takes 16 ms a packet.
    let narrow = Profile { jitter: Duration::ZERO, ..profile("narrow500") };
    let arrived = run(narrow, 1, 1000, MS);
    assert_eq!(arrived[0], Some(Duration::from_millis(30 + 16)));
    let passed = arrived.iter().flatten().count();
    // One second and the queue's 300 ms at 62.5 packets a second.
    assert!((79..=83).contains(&passed), "{passed} passed");
    let longest = arrived.iter().flatten().max().expect("some");
    assert!(*longest <= Duration::from_millis(300 + 16 + 30), "{longest:?}");
    assert!(*longest > Duration::from_millis(300), "{longest:?}");
}

#[test]
fn losses_come_as_often_and_in_such_runs_as_the_profile_says() {
    for (name, loss, burst) in
        [("lossy5", 0.05, 1.05), ("lossy10", 0.1, 3.0), ("lossy20", 0.2, 3.0)]
    {
        let arrived = run(profile(name), 7, 100_000, MS);
        let lost = arrived.iter().filter(|late| late.is_none()).count() as f64;
        let share = lost / arrived.len() as f64;
        assert!((share - loss).abs() < loss / 10.0, "{name}: {share} lost");
        let begins =
            arrived.windows(2).filter(|pair| pair[0].is_some() && pair[1].is_none()).count();
        let mean = lost / begins as f64;
        assert!((mean - burst).abs() < burst / 10.0, "{name}: runs of {mean}");
    }
}

#[test]
fn jitter_keeps_the_order() {
    let interval = Duration::from_millis(5);
    let arrived = run(profile("jittery"), 3, 10_000, interval);
    let at: Vec<Duration> = arrived
        .iter()
        .enumerate()
        .filter_map(|(index, late)| Some(interval * index as u32 + (*late)?))
        .collect();
    assert!(at.is_sorted());
    let mut late: Vec<Duration> = arrived.into_iter().flatten().collect();
    late.sort();
    assert!(
        late[0] >= Duration::from_millis(60) && late[late.len() / 2] > Duration::from_millis(80)
    );
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let run = |seed| run(profile("lossy10"), seed, 1000, MS);
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_dead_network_passes_nothing_until_it_is_changed() {
    let mut link = Link::new(profile("dead"), 1);
    let now = Instant::now();
    assert!(link.handle_packet(now, vec![0; 100]).is_some());
    assert_eq!(link.poll_timeout(), None);
    link.set(profile("lan"));
    assert!(link.handle_packet(now, vec![0; 100]).is_none());
    assert_eq!(link.poll_packet(now), Some(vec![0; 100]));
    assert_eq!((link.counters().lost, link.counters().passed), (1, 1));
}

#[test]
fn profiles_and_steps_are_read_by_name() {
    for profile in PROFILES {
        assert_eq!(profile.name.parse(), Ok(profile));
    }
    assert!("adsl".parse::<Profile>().expect_err("none").contains("narrow500"));
    let step: Step = "2.5:3g".parse().expect("a step");
    assert_eq!((step.at, step.profile.name), (Duration::from_millis(2500), "3g"));
    for wrong in ["3g", ":3g", "-1:3g", "x:3g", "1:"] {
        assert!(wrong.parse::<Step>().is_err(), "{wrong}");
    }
}

#[test]
fn two_hosts_reach_each_other_through_it() -> Result<()> {
    let Some(lab) = if_possible(NetLab::new(profile("lan"), 1))? else { return Ok(()) };
    let bind = |address| {
        move || {
            let socket = UdpSocket::bind((address, 0))?;
            socket.set_read_timeout(Some(Duration::from_secs(20)))?;
            Ok(socket)
        }
    };
    let left = on(&lab.left, bind(LEFT))?;
    let right = on(&lab.right, bind(RIGHT))?;
    let mut buffer = [0; 64];
    for turn in 0..20_u8 {
        left.send_to(&[turn; 40], right.local_addr()?)?;
        let (length, from) = right.recv_from(&mut buffer).context("to the right")?;
        assert_eq!((&buffer[..length], from), (&[turn; 40][..], left.local_addr()?));
        right.send_to(&[turn], from)?;
        assert_eq!(left.recv_from(&mut buffer).context("to the left")?.0, 1);
    }
    // A delay is never shorter than asked for.
    lab.set(Profile { delay: Duration::from_millis(40), ..profile("lan") })?;
    let mut one_way = || -> Result<Duration> {
        let sent = Instant::now();
        left.send_to(&[1], right.local_addr()?)?;
        right.recv_from(&mut buffer)?;
        Ok(sent.elapsed())
    };
    // The first ones may be ahead of the change.
    let end = Instant::now() + common::SOON;
    while one_way()? < Duration::from_millis(40) {
        ensure!(Instant::now() < end, "the network never changed");
    }
    assert!(one_way()? >= Duration::from_millis(40));
    let counters = lab.counters();
    assert!(counters.left_to_right.passed >= 20 && counters.right_to_left.passed >= 20);
    assert_eq!((counters.left_to_right.lost, counters.left_to_right.overflowed), (0, 0));
    Ok(())
}
