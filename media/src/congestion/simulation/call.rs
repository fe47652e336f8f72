//! The events of a call: capture, encoding, pacing, arrival, feedback.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::path::{Fate, Path, normal};
use super::receiver::{Media, Receiver};
use super::scenario::{LIMITS, Logged, MOST_VIDEO, OVERHEAD, Sample, Scenario};
use super::tcp::{SEGMENT, Tcp};
use crate::rtp::pacer::Class;
use crate::rtp::send_history::Status;
use crate::rtp::sender::{Agreed, Kind, Outgoing, Sender};

const AUDIO_BYTES: usize = 100 + OVERHEAD;
const MAX_PAYLOAD: usize = 1150;
const FRAME: f64 = 1.0 / 30.0;

/// As the real writer and the real sender do.
const WRITE_AHEAD: usize = 3 * 1200;
const MAX_BACKLOG: f64 = 0.080;

enum Event {
    Audio,
    Frame,
    Pace,
    Arrive(u64, Media),
    Feedback,
    Hear(Vec<(u64, Option<f64>)>),
    Nack(Vec<u16>),
    Key,
    Tick,
    TcpSend,
    TcpTimer,
    TcpHear(u64, f64),
}

struct Due(u64, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

pub struct Call {
    scenario: Scenario,
    begin: Instant,
    events: BinaryHeap<Due>,
    order: u64,
    random: StdRng,
    pub path: Path,
    pub sender: Sender<Media>,
    pub receiver: Receiver,
    pub tcp: Option<Tcp>,
    /// Packets of encoded frames that the pacer has no room for, not numbered.
    outlet: VecDeque<(Media, usize)>,
    outlet_bytes: usize,
    next_number: u16,
    sizes: HashMap<u16, usize>,
    next_sequence: u64,
    paced_at: Option<u64>,
    frame: u64,
    last_frame: f64,
    wants_key: bool,
    last_key: f64,
    first_key: bool,
    flushed: bool,
    surplus: f64,
    /// When.
    pub flushes: Vec<f64>,
    pub padding_bytes: usize,
    pub log: Vec<Logged>,
    pub samples: Vec<Sample>,
}

impl Call {
    pub fn run(scenario: Scenario, seed: u64) -> Self {
        let begin = Instant::now();
        let mut sender = Sender::new(begin, LIMITS);
        sender.set_has_fec(true); // one of our own, to which nothing is sent twice
        sender.set_agreed(Agreed { feedback: true, rtx: true });
        let mut call = Self {
            begin,
            events: BinaryHeap::new(),
            order: 0,
            random: StdRng::seed_from_u64(seed + 1000),
            path: Path::new(scenario.path.clone(), seed),
            sender,
            receiver: Receiver::default(),
            tcp: scenario.tcp.map(|(start, stop)| Tcp::new(start, stop)),
            outlet: VecDeque::new(),
            outlet_bytes: 0,
            next_number: 65_000,
            sizes: HashMap::new(),
            next_sequence: 0,
            paced_at: None,
            frame: 0,
            last_frame: -9.0,
            wants_key: true,
            last_key: -9.0,
            first_key: true,
            flushed: false,
            surplus: 0.0,
            flushes: Vec::new(),
            padding_bytes: 0,
            log: Vec::new(),
            samples: Vec::new(),
            scenario,
        };
        call.at(0.0, Event::Audio);
        call.at(0.005, Event::Frame);
        call.at(call.scenario.feedback_interval, Event::Feedback);
        call.at(0.010, Event::Tick);
        if let Some(tcp) = &call.tcp {
            let start = tcp.start;
            call.at(start, Event::TcpSend);
            call.at(start, Event::TcpTimer);
        }
        let end = nanos(call.scenario.seconds);
        while let Some(Due(due, _, event)) = call.events.pop() {
            if due > end {
                break;
            }
            call.handle(due as f64 / 1e9, event);
        }
        call
    }

    fn at(&mut self, t: f64, event: Event) {
        self.order += 1;
        self.events.push(Due(nanos(t), self.order, event));
    }

    fn now(&self, t: f64) -> Instant {
        self.begin + Duration::from_nanos(nanos(t))
    }

    fn handle(&mut self, t: f64, event: Event) {
        match event {
            Event::Audio => {
                self.at(t + 0.020, Event::Audio);
                self.sender.push(Outgoing {
                    class: Class::Audio,
                    number: None,
                    bytes: AUDIO_BYTES,
                    overhead: OVERHEAD,
                    numbered: true,
                    packet: Media::Audio { born: t },
                });
            }
            Event::Frame => {
                self.at(t + FRAME, Event::Frame);
                self.encode(t);
            }
            Event::Pace => self.paced_at = None,
            Event::Arrive(sequence, media) => {
                let clock = t * (1.0 + self.scenario.drift) + 5000.0;
                self.receiver.fresh.push((sequence, clock));
                self.receiver.handle_packet(t, media);
                return;
            }
            Event::Feedback => {
                self.at(t + self.scenario.feedback_interval, Event::Feedback);
                self.report(t);
                return;
            }
            Event::Hear(report) => self.hear(t, &report),
            Event::Nack(numbers) => drop(self.sender.handle_nack(self.now(t), numbers)),
            Event::Key => self.wants_key = true,
            Event::Tick => {
                self.at(t + 0.010, Event::Tick);
                self.sender.handle_timeout(self.now(t));
                let target = self.sender.target().bps() as f64;
                let (queue, state) = (self.path.queue(t), self.sender.state());
                self.samples.push(Sample { at: t, target, queue, state });
            }
            Event::TcpSend => self.tcp_send(t),
            Event::TcpTimer => {
                if let Some(tcp) = &mut self.tcp
                    && t < tcp.stop
                {
                    tcp.handle_timer(t);
                    self.at(t + 0.2, Event::TcpTimer);
                    self.tcp_send(t);
                }
            }
            Event::TcpHear(segment, sent) => {
                if let Some(tcp) = &mut self.tcp {
                    tcp.handle_acknowledged(t, segment, sent);
                }
                self.tcp_send(t);
            }
        }
        self.pump(t);
    }

    fn way_back(&self, t: f64) -> f64 {
        let fullness =
            if self.scenario.mirrored { self.path.detour(t) + self.path.queue(t) } else { 0.0 };
        self.scenario.way_back + fullness
    }

    fn tcp_send(&mut self, t: f64) {
        let Some(tcp) = &mut self.tcp else {
            return;
        };
        let mut heard = Vec::new();
        while let Some(segment) = tcp.poll_send(t) {
            match self.path.send(t, SEGMENT) {
                Fate::Arrives { at, .. } => heard.push((at, segment)),
                Fate::Lost { .. } => tcp.handle_lost(segment),
            }
        }
        let back = self.way_back(t);
        heard.into_iter().for_each(|(at, segment)| self.at(at + back, Event::TcpHear(segment, t)));
    }

    /// A captured picture becomes packets, or not: as much as the budget has room for.
    fn encode(&mut self, t: f64) {
        let wanted = match self.scenario.quiet {
            Some((from, to, rate)) if (from..to).contains(&t) => rate,
            _ => MOST_VIDEO,
        };
        let video = (self.sender.video_budget().bps() as f64).min(wanted);
        let pace = self.sender.pacing_rate().bps() as f64;
        let backlog = 8.0 * (self.outlet_bytes + self.sender.backlog()) as f64 / pace;
        if !self.sender.may_encode(self.now(t)) || backlog > MAX_BACKLOG || video < 20e3 {
            self.surplus = (self.surplus - video * FRAME).max(-2.0 * video * FRAME);
            return;
        }
        let interval = if video > 120e3 { FRAME } else { 2.0 * FRAME };
        if t - self.last_frame < interval - 0.005 {
            return;
        }
        self.last_frame = t;
        let base = video * interval;
        let key = self.wants_key && t - self.last_key > 0.25;
        let bits = if key {
            let budget = if self.first_key {
                0.1
            } else if self.flushed {
                0.08
            } else {
                0.18
            };
            (self.last_key, self.wants_key, self.first_key, self.flushed) =
                (t, false, false, false);
            (5.0 * base).min(budget * video)
        } else {
            (base - 0.3 * self.surplus).max(0.35 * base) * (0.15 * normal(&mut self.random)).exp()
        };
        self.surplus = (self.surplus + bits - base).clamp(-2.0 * base, 6.0 * base);
        let bytes = ((bits / 8.0) as usize).max(60);
        let count = bytes.div_ceil(MAX_PAYLOAD);
        for index in 0..count {
            let media = Media::Video {
                number: 0,
                frame: self.frame,
                index: index as u32,
                count: count as u32,
                key,
                born: t,
            };
            let size = bytes / count + OVERHEAD;
            self.outlet.push_back((media, size));
            self.outlet_bytes += size;
        }
        self.frame += 1;
    }

    /// Writer, pacer, wire.
    fn pump(&mut self, t: f64) {
        let now = self.now(t);
        if self.sender.take_flush() {
            self.flushes.push(t);
            self.outlet.clear();
            self.outlet_bytes = 0;
            (self.wants_key, self.flushed) = (true, true);
        }
        loop {
            while self.sender.backlog() < WRITE_AHEAD
                && let Some((media, bytes)) = self.outlet.pop_front()
            {
                self.outlet_bytes -= bytes;
                self.write(media, bytes);
            }
            self.sender.set_upstream(self.outlet_bytes);
            let Some(sent) = self.sender.poll(now) else {
                break;
            };
            self.next_sequence += 1;
            let sequence = self.next_sequence - 1;
            assert_eq!(sent.number, Some(sequence as u16));
            let bytes = match sent.packet {
                Media::Audio { .. } => AUDIO_BYTES,
                Media::Video { number, .. } => {
                    let repeated = sent.kind != Kind::First;
                    self.sizes.get(&number).copied().unwrap_or(0) + if repeated { 2 } else { 0 }
                }
            };
            if sent.kind == Kind::Padding {
                self.padding_bytes += bytes;
            }
            let fate = self.path.send(t, bytes);
            let (arrived, queued, overflow) = match fate {
                Fate::Arrives { at, queued } => (Some(at), Some(queued), false),
                Fate::Lost { overflow } => (None, None, overflow),
            };
            if let Some(at) = arrived {
                self.at(at, Event::Arrive(sequence, sent.packet));
            }
            let (media, kind) = (sent.packet, sent.kind);
            self.log.push(Logged { at: t, bytes, media, kind, arrived, queued, overflow });
        }
        if let Some(due) = self.sender.poll_timeout(now) {
            let due = due.max(now + Duration::from_micros(20)) - self.begin;
            let due = due.as_nanos() as u64;
            if self.paced_at.is_none_or(|at| due < at) {
                self.paced_at = Some(due);
                self.at(due as f64 / 1e9, Event::Pace);
            }
        }
    }

    fn write(&mut self, mut media: Media, bytes: usize) {
        if let Media::Video { number, .. } = &mut media {
            *number = self.next_number;
        }
        self.sizes.insert(self.next_number, bytes);
        let number = Some(self.next_number);
        self.next_number = self.next_number.wrapping_add(1);
        let class = Class::Video;
        let (overhead, numbered, packet) = (OVERHEAD, true, media);
        self.sender.push(Outgoing { class, number, bytes, overhead, numbered, packet });
    }

    fn report(&mut self, t: f64) {
        let rtt = self.scenario.way_back + self.path.delay();
        if self.receiver.wants_key(t, 2.0 * rtt) {
            self.at(t + self.way_back(t), Event::Key);
        }
        let nacks = self.receiver.nacks(t, rtt + 0.030);
        if !nacks.is_empty() {
            self.at(t + self.way_back(t), Event::Nack(nacks));
        }
        let mut fresh = std::mem::take(&mut self.receiver.fresh);
        fresh.sort_by_key(|(sequence, _)| *sequence);
        let (Some(first), Some(last)) = (fresh.first(), fresh.last()) else {
            return;
        };
        let from = self.receiver.next_feedback.min(first.0);
        self.receiver.next_feedback = last.0 + 1;
        let mut arrivals = fresh.iter().peekable();
        let statuses = (from..=last.0).map(|sequence| {
            let found = arrivals.next_if(|(arrived, _)| *arrived == sequence);
            (sequence, found.map(|(_, at)| *at))
        });
        let report = statuses.collect();
        let deaf = self.scenario.deaf.is_some_and(|(from, to)| (from..to).contains(&t));
        if !deaf && !self.random.random_bool(self.scenario.feedback_loss) {
            self.at(t + self.way_back(t), Event::Hear(report));
        }
    }

    fn hear(&mut self, t: f64, report: &[(u64, Option<f64>)]) {
        let Some((base, _)) = report.first() else {
            return;
        };
        let statuses = report.iter().map(|(_, arrived)| match arrived {
            // As coarse as the feedback message is.
            Some(at) => Status::Arrived(Duration::from_micros((at * 4000.0) as u64 * 250)),
            None => Status::Lost,
        });
        self.sender.handle_feedback(self.now(t), *base as u16, statuses);
    }
}

fn nanos(t: f64) -> u64 {
    (t * 1e9).round() as u64
}
