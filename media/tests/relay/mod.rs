//! A lossy path between two ends on one machine: each end is given an address of the relay in
//! place of the other's, so that every packet of theirs passes through here.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use visavis_media::peer::Candidate;

/// Drops a share of what passes, by a seeded die.
pub struct Relay {
    /// Where to send what is meant for the first end, and for the second.
    stands_for: [SocketAddr; 2],
    /// Of 1000 packets.
    loss: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Between two ends at these addresses, without loss so far.
    pub async fn between(ends: [SocketAddr; 2], seed: u64) -> Self {
        let mut sockets = Vec::new();
        for end in ends {
            let socket = UdpSocket::bind((end.ip(), 0)).await.expect("a socket");
            sockets.push(Arc::new(socket));
        }
        let stands_for = [0, 1].map(|end: usize| sockets[end].local_addr().expect("bound"));
        let (loss, dropped) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let tasks = [0, 1].map(|end: usize| {
            // What comes here is meant for this end, and to it comes from the other's address.
            let (inward, outward) = (Arc::clone(&sockets[end]), Arc::clone(&sockets[1 - end]));
            let (loss, dropped) = (Arc::clone(&loss), Arc::clone(&dropped));
            let mut die = StdRng::seed_from_u64(seed + end as u64);
            let to = ends[end];
            tokio::spawn(async move {
                let mut packet = [0; 2048];
                while let Ok((size, _)) = inward.recv_from(&mut packet).await {
                    if die.random_range(0..1000) < loss.load(Relaxed) {
                        dropped.fetch_add(1, Relaxed);
                    } else {
                        let _ = outward.send_to(&packet[..size], to).await;
                    }
                }
            })
        });
        Self { stands_for, loss, dropped, tasks: tasks.into() }
    }

    /// From now on so many of 1000 packets are dropped.
    pub fn set_loss(&self, of_1000: u64) {
        self.loss.store(of_1000, Relaxed);
    }

    /// Packets dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The first or second end's candidate as the other end is to see it.
    pub fn candidate(&self, end: usize) -> Candidate {
        let address = self.stands_for[end];
        Candidate {
            candidate: format!(
                "candidate:1 1 udp 2130706431 {} {} typ host",
                address.ip(),
                address.port()
            ),
            mid: Some("0".to_owned()),
            mline_index: Some(0),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The address in a UDP host candidate of IPv4.
pub fn host_address(candidate: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = candidate.split_ascii_whitespace().collect();
    let is = |at: usize, word: &str| words.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word));
    if !is(2, "udp") || !is(7, "host") {
        return None;
    }
    let ip: IpAddr = words.get(4)?.parse().ok()?;
    let port = words.get(5)?.parse().ok()?;
    ip.is_ipv4().then(|| SocketAddr::new(ip, port))
}

/// A description without candidates: those come through the relay.
pub fn without_candidates(sdp: &str) -> String {
    let kept = sdp
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("a=candidate") && !line.starts_with("a=end-of-cand"));
    kept.collect()
}
