//! Carries packets between the two interfaces. One thread sleeps in `ppoll` until a packet comes or is due.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Both;
use super::link::{Counters, Link};
use super::profile::Profile;

/// Longer than any packet over an interface with the usual MTU of 1500.
const LONGEST: usize = 2048;
/// Packets read in one go, before those that are due are looked after again.
const BATCH: usize = 64;
/// Memory kept for packets to come.
const SPARE: usize = 256;
/// So that a busy machine does not make the network worse than it is meant to be. Only root may.
const PRIORITY: i32 = -15;

/// The thread's end.
pub struct Forwarder {
    interfaces: [File; 2],
    /// `links[i]` leads away from `interfaces[i]`.
    links: [Link; 2],
    spare: Vec<Vec<u8>>,
    shared: Arc<Mutex<Shared>>,
    woken: UnixStream,
}

/// The other end.
pub struct Control {
    shared: Arc<Mutex<Shared>>,
    wake: UnixStream,
}

#[derive(Default)]
struct Shared {
    steps: VecDeque<(Instant, Profile)>,
    counters: [Counters; 2],
    stop: bool,
}

impl Control {
    pub fn set(&self, profile: Profile) -> Result<()> {
        self.steps(vec![(Instant::now(), profile)])
    }

    /// Replaces what was to come.
    pub fn steps(&self, mut steps: Vec<(Instant, Profile)>) -> Result<()> {
        steps.sort_by_key(|(at, _)| *at);
        lock(&self.shared).steps = steps.into();
        self.wake()
    }

    pub fn counters(&self) -> Both {
        let [left_to_right, right_to_left] = lock(&self.shared).counters;
        Both { left_to_right, right_to_left }
    }

    pub fn stop(&self) {
        lock(&self.shared).stop = true;
        // A thread that is gone needs no waking.
        let _ = self.wake();
    }

    fn wake(&self) -> Result<()> {
        (&self.wake).write_all(&[0]).context("the emulated network has stopped")
    }
}

impl Forwarder {
    pub fn new(interfaces: [File; 2], profile: Profile, seed: u64) -> Result<(Self, Control)> {
        let shared = Arc::default();
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let forwarder = Self {
            interfaces,
            links: [0, 1].map(|way| Link::new(profile, seed.wrapping_mul(2).wrapping_add(way))),
            spare: Vec::new(),
            shared: Arc::clone(&shared),
            woken,
        };
        Ok((forwarder, Control { shared, wake }))
    }

    /// Until stopped.
    pub fn run(mut self) -> Result<()> {
        // Of this thread alone. Refused, it runs like any other.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        loop {
            let Some(next) = self.keep_up() else { return Ok(()) };
            self.wait(next)?;
            for from in 0..2 {
                self.read(from)?;
            }
            // However often it was woken, once is enough.
            let _ = rustix::io::read(&self.woken, &mut [0; 16]);
        }
    }

    /// Delivers what is due and does what was asked; when there is more to do, or nothing once stopped.
    fn keep_up(&mut self) -> Option<Option<Instant>> {
        let now = Instant::now();
        let mut shared = lock(&self.shared);
        if shared.stop {
            return None;
        }
        while let Some((_, profile)) = shared.steps.pop_front_if(|(at, _)| *at <= now) {
            for link in &mut self.links {
                link.set(profile);
            }
        }
        let step = shared.steps.front().map(|(at, _)| *at);
        shared.counters = [self.links[0].counters(), self.links[1].counters()];
        drop(shared);
        for from in 0..2 {
            while let Some(packet) = self.links[from].poll_packet(now) {
                // An interface that is down or full loses packets like any other.
                let _ = rustix::io::write(&self.interfaces[1 - from], &packet);
                self.keep(packet);
            }
        }
        let due = self.links.iter().filter_map(Link::poll_timeout);
        Some(due.chain(step).min())
    }

    fn wait(&self, until: Option<Instant>) -> Result<()> {
        let timeout = until.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        let [left, right] = &self.interfaces;
        let mut watched = [
            PollFd::new(left, PollFlags::IN),
            PollFd::new(right, PollFlags::IN),
            PollFd::new(&self.woken, PollFlags::IN),
        ];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&mut self, from: usize) -> Result<()> {
        for _ in 0..BATCH {
            let mut packet = self.spare.pop().unwrap_or_default();
            packet.resize(LONGEST, 0);
            match (&self.interfaces[from]).read(&mut packet) {
                Ok(length) => {
                    packet.truncate(length);
                    if let Some(dropped) = self.links[from].handle_packet(Instant::now(), packet) {
                        self.keep(dropped);
                    }
                }
                Err(error) => {
                    self.keep(packet);
                    return match error.kind() {
                        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
                        _ => Err(error.into()),
                    };
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, packet: Vec<u8>) {
        if self.spare.len() < SPARE {
            self.spare.push(packet);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
