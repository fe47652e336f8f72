//! Pictures over a path that loses, in fake time: packetizer, forward error correction, NACKs,
//! retransmissions, assembler, key frame requests and the freeze meter in one loop. Only the
//! codec is left out: every picture that comes out is taken for undamaged.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::freeze::FreezeMeter;
use super::playout::Playout;
use crate::rtp::assemble::{Assembler, AssemblerEvent, RtpPacket};
use crate::rtp::fec::{FecDecoder, FecEncoder, Media, PathLoss, Recovered, strength};
use crate::rtp::h264_packetize::packetize;
use crate::rtp::losses::LossMeter;
use crate::rtp::nack::NackGenerator;
use crate::units::Bitrate;

const SSRC: u32 = 1;
const US: Duration = Duration::from_micros(1);

/// One way of the path; times in milliseconds.
#[derive(Clone, Copy)]
struct Profile {
    delay: f64,
    jitter: f64,
    loss: f64,
    run: f64,
    /// What pictures and repairs may take, in bits a second.
    rate: f64,
}

const LOSSY5: Profile = Profile { delay: 50.0, jitter: 5.0, loss: 0.05, run: 1.0, rate: 2.5e6 };
const LOSSY10: Profile = Profile { delay: 50.0, jitter: 10.0, loss: 0.10, run: 3.0, rate: 2.5e6 };
const SATELLITE: Profile =
    Profile { delay: 300.0, jitter: 10.0, loss: 0.01, run: 3.0, rate: 2.5e6 };

enum Event {
    Picture,
    Media(RtpPacket),
    Repair(Vec<u8>),
    /// At the sender.
    Nack(Vec<u16>),
    KeyFrameWanted,
    Losses(u16, u16, u16),
    /// At the receiver.
    Report,
    Look,
}

/// Loses by Gilbert's model, and keeps the order.
struct Way {
    profile: Profile,
    random: StdRng,
    bad: bool,
    last: u64,
}

impl Way {
    fn new(profile: Profile, seed: u64) -> Self {
        Self { profile, random: StdRng::seed_from_u64(seed), bad: false, last: 0 }
    }

    /// When, in microseconds, what leaves at `at` arrives, if it does.
    fn arrival(&mut self, at: u64) -> Option<u64> {
        let Profile { delay, jitter, loss, run, .. } = self.profile;
        let leave = 1.0 / run;
        let enter = loss * leave / (1.0 - loss);
        let chance = if self.bad && run > 1.0 { 1.0 - leave } else { enter };
        let chance = if run > 1.0 { chance } else { loss };
        self.bad = self.random.random_bool(chance);
        let normal: f64 = (0..12).map(|_| self.random.random::<f64>()).sum::<f64>() - 6.0;
        let arrival = at + ((delay + normal.abs() * jitter / 2.0) * 1000.0) as u64;
        self.last = self.last.max(arrival);
        (!self.bad).then_some(self.last)
    }
}

#[derive(Debug, Default)]
struct Outcome {
    delays: Vec<f64>,
    freezes: u32,
    frozen_ms: f64,
    pictures: u32,
    key_frames: u32,
    retransmitted: u32,
    /// Packets.
    media: u32,
    repairs: u32,
}

impl Outcome {
    fn delay(&self, share: f64) -> f64 {
        let mut sorted = self.delays.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share) as usize]
    }
}

struct Simulation {
    begin: Instant,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    there: Way,
    back: Way,
    fec: bool,
    // The sender.
    encoder: FecEncoder,
    path: PathLoss,
    share: f64,
    sequence_number: u16,
    timestamp: u32,
    sent: HashMap<u16, RtpPacket>,
    key_frame_due: bool,
    last_key_frame: u64,
    free_at: u64,
    // The receiver.
    decoder: FecDecoder,
    meter: LossMeter,
    nack: NackGenerator,
    assembler: Assembler,
    playout: Playout,
    freezes: FreezeMeter,
    asked_at: u64,
    repaired_at: Option<u64>,
    shown_at: u64,
    look_at: u64,
    outcome: Outcome,
}

impl Simulation {
    fn new(profile: Profile, seed: u64, fec: bool) -> Self {
        Self {
            begin: Instant::now(),
            events: BTreeMap::new(),
            order: 0,
            there: Way::new(profile, seed),
            back: Way::new(profile, seed + 1000),
            fec,
            encoder: FecEncoder::new(SSRC),
            path: PathLoss::default(),
            share: 0.0,
            sequence_number: 65_000,
            timestamp: 0,
            sent: HashMap::new(),
            key_frame_due: true,
            last_key_frame: 0,
            free_at: 0,
            decoder: FecDecoder::new(SSRC),
            meter: LossMeter::new(),
            nack: NackGenerator::new(),
            assembler: Assembler::new(),
            playout: Playout::default(),
            freezes: FreezeMeter::default(),
            asked_at: 0,
            repaired_at: None,
            shown_at: 0,
            look_at: u64::MAX,
            outcome: Outcome::default(),
        }
    }

    fn run(mut self, seconds: u64) -> Outcome {
        self.put(0, Event::Picture);
        self.put(200_000, Event::Report);
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > seconds * 1_000_000 {
                break;
            }
            self.handle(at, event);
        }
        self.outcome
    }

    fn put(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn rtt(&self) -> Duration {
        Duration::from_secs_f64(self.there.profile.delay * 2.0 / 1000.0)
    }

    fn handle(&mut self, at: u64, event: Event) {
        match event {
            Event::Picture => self.send_picture(at),
            Event::Nack(numbers) => {
                for number in numbers {
                    if let Some(packet) = self.sent.get(&number).cloned() {
                        self.outcome.retransmitted += 1;
                        if let Some(arrival) = self.there.arrival(at) {
                            self.put(arrival, Event::Media(packet));
                        }
                    }
                }
            }
            Event::KeyFrameWanted => self.key_frame_due = true,
            Event::Losses(expected, lost, runs) => self.path.handle_report(expected, lost, runs),
            Event::Media(packet) => self.receive(at, packet),
            Event::Repair(payload) => {
                self.repaired_at = Some(at);
                let recovered = self.decoder.handle_repair(&payload);
                self.restore(at, recovered);
                self.look(at);
            }
            Event::Report => {
                let losses = self.meter.take();
                let said = Event::Losses(losses.expected, losses.lost, losses.runs);
                self.answer(at, said);
                self.put(at + 200_000, Event::Report);
            }
            Event::Look => {
                self.look_at = u64::MAX;
                self.look(at);
            }
        }
    }

    fn send_picture(&mut self, at: u64) {
        let spaced = self.outcome.key_frames == 0 || at >= self.last_key_frame + 300_000;
        let key = self.key_frame_due && spaced;
        if key {
            (self.key_frame_due, self.last_key_frame) = (false, at);
            self.outcome.key_frames += 1;
        }
        let rate = self.there.profile.rate * (1.0 - self.share);
        // A key frame takes what the link carries in 150 ms.
        let bytes = (rate / 8.0 * if key { 0.150 } else { 1.0 / 30.0 }) as usize;
        let mut data = Vec::with_capacity(bytes + 20);
        if key {
            data.extend([0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 4, 5]);
        }
        data.extend([0, 0, 0, 1, if key { 0x65 } else { 0x41 }]);
        data.resize(data.len() + bytes, 0x55);
        let payloads = packetize(&data, 1150);
        let last = payloads.len() - 1;
        for (index, payload) in payloads.into_iter().enumerate() {
            let packet = RtpPacket {
                sequence_number: self.sequence_number,
                timestamp: self.timestamp,
                marker: index == last,
                payload,
            };
            self.sequence_number = self.sequence_number.wrapping_add(1);
            self.encoder.handle_media(&media(&packet));
            self.outcome.media += 1;
            let leaves = self.pace(at, packet.payload.len());
            self.sent.insert(packet.sequence_number, packet.clone());
            self.sent.remove(&packet.sequence_number.wrapping_sub(2000));
            if let Some(arrival) = self.there.arrival(leaves) {
                self.put(arrival, Event::Media(packet));
            }
            if index == last || self.encoder.open_packets() == 32 {
                self.send_repairs(at, key);
            }
        }
        self.timestamp = self.timestamp.wrapping_add(3000);
        self.put(at + 33_333, Event::Picture);
    }

    fn send_repairs(&mut self, at: u64, key: bool) {
        let packets = self.encoder.open_packets();
        let target = Bitrate::from_bps(self.there.profile.rate as u64);
        let mut strength = strength(packets, key, false, &self.path, Some(self.rtt()), target);
        if !self.fec {
            strength.repairs = 0;
        }
        let repairs = self.encoder.finish_frame(strength);
        self.outcome.repairs += repairs.len() as u32;
        let share = repairs.len() as f64 / (repairs.len() + packets) as f64;
        self.share += 0.05 * (share - self.share);
        for payload in repairs {
            let leaves = self.pace(at, payload.len());
            if let Some(arrival) = self.there.arrival(leaves) {
                self.put(arrival, Event::Repair(payload));
            }
        }
    }

    fn pace(&mut self, at: u64, bytes: usize) -> u64 {
        let leaves = self.free_at.max(at);
        self.free_at = leaves + (bytes as f64 * 8e6 / (self.there.profile.rate * 2.5)) as u64;
        leaves
    }

    fn receive(&mut self, at: u64, packet: RtpPacket) {
        self.meter.handle_received(packet.sequence_number);
        let recovered = self.decoder.handle_media(&media(&packet));
        self.deliver(at, packet);
        self.restore(at, recovered);
        self.look(at);
    }

    fn restore(&mut self, at: u64, recovered: Vec<Recovered>) {
        for Recovered { sequence_number, timestamp, marker, payload, .. } in recovered {
            self.deliver(at, RtpPacket { sequence_number, timestamp, marker, payload });
        }
    }

    fn deliver(&mut self, at: u64, packet: RtpPacket) {
        let now = self.begin + at as u32 * US;
        self.nack.handle_received(packet.sequence_number, now);
        self.assembler.handle_packet(now, packet);
    }

    fn look(&mut self, at: u64) {
        let now = self.begin + at as u32 * US;
        self.assembler.set_rtt(self.rtt());
        while let Some(frame) = self.assembler.poll_frame(now) {
            self.playout.handle_rtt(now, Some(self.rtt()));
            let show = self.playout.handle_ready(
                now,
                frame.last_arrival,
                frame.rtp_timestamp,
                Duration::ZERO,
            );
            let show = (show - self.begin).as_micros() as u64;
            self.shown_at = self.shown_at.max(show);
            let captured = f64::from(frame.rtp_timestamp) / 90.0;
            self.outcome.delays.push(self.shown_at as f64 / 1000.0 - captured);
            self.outcome.pictures += 1;
            if let Some(frozen) = self.freezes.handle_shown(self.begin + self.shown_at as u32 * US)
            {
                self.outcome.freezes += 1;
                self.outcome.frozen_ms += frozen.as_secs_f64() * 1000.0;
            }
        }
        let wanted = matches!(self.assembler.poll_event(), Some(AssemblerEvent::KeyFrameNeeded));
        if wanted && at > self.asked_at + 400_000 {
            self.asked_at = at;
            self.answer(at, Event::KeyFrameWanted);
        }
        let coming = self.repaired_at.is_some_and(|last| at < last + 1_000_000);
        self.nack.set_repairs_coming(coming);
        let missing = self.nack.poll(now, Some(self.rtt()));
        if !missing.is_empty() {
            self.answer(at, Event::Nack(missing));
        }
        let due = [self.nack.poll_timeout(), self.assembler.poll_timeout()];
        if let Some(due) = due.into_iter().flatten().min() {
            let due = ((due - self.begin).as_micros() as u64 + 1).max(at + 100);
            if due < self.look_at {
                self.look_at = due;
                self.put(due, Event::Look);
            }
        }
    }

    fn answer(&mut self, at: u64, event: Event) {
        if let Some(arrival) = self.back.arrival(at) {
            self.put(arrival, event);
        }
    }
}

fn media(packet: &RtpPacket) -> Media<'_> {
    Media {
        sequence_number: packet.sequence_number,
        timestamp: packet.timestamp,
        marker: packet.marker,
        payload_type: 102,
        payload: &packet.payload,
    }
}

/// Sums over calls of 30 s.
fn calls(profile: Profile, fec: bool) -> Outcome {
    let mut all = Outcome::default();
    for seed in 0..CALLS {
        let one = Simulation::new(profile, u64::from(seed) * 7 + 1, fec).run(30);
        all.delays.extend(one.delays);
        all.freezes += one.freezes;
        all.frozen_ms += one.frozen_ms;
        all.pictures += one.pictures;
        all.key_frames += one.key_frames;
        all.retransmitted += one.retransmitted;
        all.media += one.media;
        all.repairs += one.repairs;
    }
    let calls = f64::from(CALLS);
    println!(
        "fec {fec}: p50 {:.0} p95 {:.0} ms; a call: {:.2} freezes, {:.0} ms frozen, {:.0} pictures, \
         {:.1} key frames; {:.0} % repairs, {:.1} % sent again",
        all.delay(0.5),
        all.delay(0.95),
        f64::from(all.freezes) / calls,
        all.frozen_ms / calls,
        f64::from(all.pictures) / calls,
        f64::from(all.key_frames) / calls,
        100.0 * f64::from(all.repairs) / f64::from(all.repairs + all.media),
        100.0 * f64::from(all.retransmitted) / f64::from(all.media),
    );
    all
}

const CALLS: u32 = 6;

#[test]
fn five_percent_lost_is_hardly_seen() {
    let with = calls(LOSSY5, true);
    assert!(with.delay(0.5) < 100.0 && with.delay(0.95) < 160.0);
    assert!(with.freezes <= 2 * CALLS, "{}", with.freezes);
    let without = calls(LOSSY5, false);
    assert!(without.delay(0.5) > 1.3 * with.delay(0.5));
}

#[test]
fn ten_percent_in_bursts_is_mostly_repaired_in_time() {
    let with = calls(LOSSY10, true);
    assert!(with.delay(0.5) < 140.0 && with.delay(0.95) < 250.0);
    assert!(with.freezes <= 3 * CALLS, "{}", with.freezes);
    let without = calls(LOSSY10, false);
    assert!(with.frozen_ms < without.frozen_ms);
}

#[test]
fn over_a_satellite_bursts_cost_next_to_nothing() {
    let with = calls(SATELLITE, true);
    assert!(with.frozen_ms <= 150.0 * f64::from(CALLS), "{}", with.frozen_ms);
    let without = calls(SATELLITE, false);
    assert!(with.frozen_ms < without.frozen_ms / 80.0);
}
