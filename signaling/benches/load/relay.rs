//! Pairs that exchange messages by a schedule.

use std::{
    cell::{Cell, RefCell},
    fmt,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, sleep},
};

use crate::{
    figures::{millis, percentile},
    rig::{
        usage,
        wire::{Dialect, Wire},
    },
};

/// Of so many messages one is a session description, the others are candidates: as in a call.
const DESCRIPTION_EVERY: usize = 8;

/// What was sent may be under way for so long when the measuring is over.
const DRAIN: Duration = Duration::from_secs(3);

/// Follows the key, `"t":"`.
const STAMP_DIGITS: usize = 12;
const STAMP_KEY: &[u8] = br#""t":""#;

pub struct Plan {
    pub address: SocketAddr,
    pub dialect: Dialect,
    pub pairs: usize,
    /// Messages a second, all pairs together.
    pub rate: u32,
    /// Not counted.
    pub warm_up: Duration,
    pub length: Duration,
}

#[derive(Debug, Clone)]
pub struct Figures {
    pub rate: u32,
    /// Messages a second that arrived.
    pub delivered: f64,
    /// From the scheduled time.
    pub p50: Duration,
    pub p99: Duration,
    pub worst: Duration,
    /// Sent, but never arrived.
    pub lost: usize,
    /// Arrived after a later one of the same sender.
    pub swapped: usize,
    /// The server's CPU time for a message, in microseconds.
    pub cpu_us: f64,
    /// How late the load itself was in sending; counts as latency.
    pub late_p99: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages/s: {:.0} delivered, {:.1} us of CPU each, p50 {:.2} ms, p99 {:.2} ms \
             (worst {:.1}, sent late by {:.2} at p99), {} lost, {} swapped",
            self.rate,
            self.delivered,
            self.cpu_us,
            millis(self.p50),
            millis(self.p99),
            millis(self.worst),
            millis(self.late_p99),
            self.lost,
            self.swapped
        )
    }
}

/// What the readers have seen.
#[derive(Default)]
struct Seen {
    /// Microseconds from the scheduled time, of messages scheduled within the measured time.
    latencies: RefCell<Vec<u32>>,
    arrived: Cell<usize>,
    swapped: Cell<usize>,
}

/// Sends between `wires` by the schedule and counts what arrives. `server` is the process whose
/// CPU time counts.
pub async fn measure(plan: &Plan, wires: &[Rc<Wire>], server: Option<u32>) -> Result<Figures> {
    let cpu = || server.map_or(Ok(Duration::ZERO), usage::cpu);
    let start = Instant::now();
    let from = plan.warm_up;
    let until = plan.warm_up + plan.length;
    let seen = Rc::new(Seen::default());
    let mut readers = JoinSet::new();
    for wire in wires {
        let (wire, seen) = (Rc::clone(wire), Rc::clone(&seen));
        let (from, until) = (micros(from), micros(until));
        readers.spawn_local(read(wire, seen, start, from..until));
    }

    let mut templates = Templates::new(plan.dialect);
    let gap = Duration::from_secs(1) / plan.rate;
    let mut due = Duration::ZERO;
    let (mut sent, mut number) = (0, 0);
    let mut late = Vec::new();
    let mut stuck: Vec<Rc<Wire>> = Vec::new();
    let mut before = None;
    while due < until {
        let now = start.elapsed();
        if before.is_none() && due >= from {
            before = Some((cpu()?, seen.arrived.get(), Instant::now()));
        }
        if now < due {
            yield_now().await;
            stuck.retain(|wire| wire.flush().is_ok() && !wire.is_flushed());
            continue;
        }
        // Everybody in turn; what a connection says alternates.
        let wire = &wires[number % wires.len()];
        let round = number / wires.len();
        let text =
            templates.message((number + round).is_multiple_of(DESCRIPTION_EVERY), micros(due));
        wire.send(text).context("a well-behaved connection was closed")?;
        if !wire.is_flushed() {
            stuck.push(Rc::clone(wire));
        }
        if due >= from {
            sent += 1;
            late.push(u32::try_from(micros(now - due)).unwrap_or(u32::MAX));
        }
        number += 1;
        due += gap;
        // However far behind: what arrives is taken note of in between.
        if number.is_multiple_of(16) {
            yield_now().await;
        }
    }
    let (cpu_before, arrived_before, measured_from) = before.context("nothing was measured")?;
    let cpu_used = cpu()?.saturating_sub(cpu_before);
    let arrived = seen.arrived.get() - arrived_before;
    let length = measured_from.elapsed();
    let drained = Instant::now();
    while seen.latencies.borrow().len() < sent && drained.elapsed() < DRAIN {
        stuck.retain(|wire| wire.flush().is_ok() && !wire.is_flushed());
        sleep(Duration::from_millis(2)).await;
    }
    anyhow::ensure!(readers.try_join_next().is_none(), "a well-behaved connection was closed");
    readers.abort_all();
    let mut latencies = seen.latencies.take();
    let lost = sent - latencies.len();
    // A message that never came was late in any case.
    latencies.extend(std::iter::repeat_n(u32::MAX, lost));
    Ok(Figures {
        rate: plan.rate,
        delivered: arrived as f64 / length.as_secs_f64(),
        p50: percentile(&mut latencies, 0.5).context("nothing was sent")?,
        p99: percentile(&mut latencies, 0.99).unwrap_or_default(),
        worst: percentile(&mut latencies, 1.0).unwrap_or_default(),
        lost,
        swapped: seen.swapped.get(),
        cpu_us: cpu_used.as_secs_f64() * 1e6 / arrived.max(1) as f64,
        late_p99: percentile(&mut late, 0.99).unwrap_or_default(),
    })
}

/// Connects the pairs and takes their seats.
pub async fn seat(plan: &Plan) -> Result<Vec<Rc<Wire>>> {
    let mut wires = Vec::new();
    for pair in 0..plan.pairs {
        for _ in 0..2 {
            let wire = Wire::open(plan.address, None, plan.dialect).await?;
            wire.join(&format!("load-{}-{pair}", std::process::id())).await?;
            wires.push(Rc::new(wire));
        }
    }
    Ok(wires)
}

async fn read(wire: Rc<Wire>, seen: Rc<Seen>, start: Instant, measured: std::ops::Range<u64>) {
    let mut last = 0;
    let mut on = |text: &[u8]| {
        let Some(stamp) = stamp_of(text) else {
            return;
        };
        seen.arrived.set(seen.arrived.get() + 1);
        if stamp < last {
            seen.swapped.set(seen.swapped.get() + 1);
        }
        last = stamp;
        if measured.contains(&stamp) {
            let latency = micros(start.elapsed()).saturating_sub(stamp);
            seen.latencies.borrow_mut().push(u32::try_from(latency).unwrap_or(u32::MAX));
        }
    };
    while wire.read(&mut on).await.is_ok() {}
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// When the message was due, in microseconds since the start.
fn stamp_of(text: &[u8]) -> Option<u64> {
    // Near the end, whatever the order of the fields has become on the way.
    let at = text.windows(STAMP_KEY.len()).rposition(|window| window == STAMP_KEY)?;
    let digits = text.get(at + STAMP_KEY.len()..)?.get(..STAMP_DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Messages ready to be stamped: descriptions of 2 to 4 KB, candidates of 150 bytes.
struct Templates {
    descriptions: Vec<Vec<u8>>,
    candidate: Vec<u8>,
    next: usize,
}

impl Templates {
    fn new(dialect: Dialect) -> Self {
        let stamp = format!(r#""t":"{}""#, "0".repeat(STAMP_DIGITS));
        let line = "a=rtpmap:102 H264/90000\\r\\na=fmtp:102 packetization-mode=1\\r\\n";
        let description = |lines: usize| {
            let sdp = line.repeat(lines);
            dialect.message(&format!(r#"{{"type":"offer","sdp":"{sdp}",{stamp}}}"#)).into_bytes()
        };
        let candidate = format!(
            r#"{{"type":"candidate","label":0,"id":"0","candidate":"candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx",{stamp}}}"#
        );
        Self {
            descriptions: vec![description(32), description(48), description(62)],
            candidate: dialect.message(&candidate).into_bytes(),
            next: 0,
        }
    }

    fn message(&mut self, description: bool, stamp: u64) -> &[u8] {
        let text = if description {
            self.next = (self.next + 1) % self.descriptions.len();
            &mut self.descriptions[self.next]
        } else {
            &mut self.candidate
        };
        if let Some(at) = text.windows(STAMP_KEY.len()).rposition(|window| window == STAMP_KEY) {
            let digits = format!("{stamp:0STAMP_DIGITS$}");
            text[at + STAMP_KEY.len()..][..STAMP_DIGITS].copy_from_slice(digits.as_bytes());
        }
        text
    }
}
