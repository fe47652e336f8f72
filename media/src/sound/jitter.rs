//! The audio jitter buffer: packets in as they come, one answer for each 20 ms played.
//!
//! It keeps a timeline in RTP time and a target delay taken from how late packets are against
//! the fastest ones of the last seconds. On a steady network it neither drops nor stretches.

mod delay;

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use crate::rtp::sequence::{SequenceUnwrapper, Unwrapped};
use delay::{DelayEstimator, LevelFilter};

/// One frame of 20 ms in RTP time (48 kHz, RFC 7587).
const FRAME: i64 = 960;

/// Packets kept at most: two seconds of 20 ms frames.
const MAX_PACKETS: usize = 100;

/// After so many frames in a row without anything to play, the sender is taken to pause.
const MAX_CONCEALED: u32 = 6;

/// A longer hole in RTP time is a pause, whatever the sequence numbers say.
const MAX_GAP: i64 = 48_000;

/// Further above the target than this: shorten. The band is wider than one frame, so that a
/// correction never calls for the opposite one.
const ACCELERATE_ABOVE: i64 = ms(30);

/// Further below the target than this: lengthen.
const EXPAND_BELOW: i64 = ms(10);

/// Further above the target than this: skip packets instead.
const JUMP_ABOVE: i64 = ms(150);

const fn ms(ms: i64) -> i64 {
    ms * 48
}

/// What to play next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Playout {
    /// Decode this packet. The decoded sound may be of any Opus duration.
    Play {
        /// The packet's payload.
        payload: Bytes,
        /// What to do with the decoded sound.
        stretch: Stretch,
    },
    /// Decode the in-band FEC of this packet for exactly 20 ms: it describes the lost frame
    /// before it. The packet itself is played next.
    Fec(Bytes),
    /// Let the decoder conceal 20 ms.
    Conceal,
    /// Nothing has come yet, or the sender pauses.
    Silence,
}

/// How a decoded frame should change its length, if it can without being heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stretch {
    /// Play as it is.
    #[default]
    None,
    /// Leave out one period of the voice: too much is buffered.
    Accelerate,
    /// Repeat one period of the voice: too little is buffered.
    Expand,
}

/// Numbers for people and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JitterStats {
    /// Sound in the buffer, milliseconds.
    pub buffer_ms: f64,
    /// The delay aimed at, milliseconds above the fastest packets.
    pub target_ms: f64,
    /// Played in place of missing sound, milliseconds.
    pub concealed_ms: u64,
    /// Packets that were not there when their turn came.
    pub lost: u64,
    /// Packets that came after their turn.
    pub late: u64,
    /// Packets that were there already.
    pub duplicates: u64,
    /// Packets skipped to catch up.
    pub skipped: u64,
    /// Interarrival jitter, milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: f64,
}

struct Stored {
    timestamp: i64,
    payload: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waiting for the first packets, or for those after a pause.
    Buffering,
    Playing,
}

/// Buffers the audio of one SSRC.
pub struct JitterBuffer {
    sequence: SequenceUnwrapper,
    timestamps: Option<TimestampUnwrapper>,
    packets: BTreeMap<u64, Stored>,
    epoch: Option<Instant>,
    delay: DelayEstimator,
    level: LevelFilter,
    state: State,
    /// RTP time of the next sample to be played.
    next_timestamp: i64,
    /// RTP time of the last packet played.
    played: Option<i64>,
    /// The index behind the last packet played or given up.
    next_index: Option<u64>,
    /// Concealed while the buffer was empty: the timeline stood still meanwhile.
    extended: i64,
    /// Frames concealed in a row.
    concealed_run: u32,
    /// The packet whose FEC was used.
    fec_used: Option<u64>,
    stats: JitterStats,
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl JitterBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self {
            sequence: SequenceUnwrapper::new(),
            timestamps: None,
            packets: BTreeMap::new(),
            epoch: None,
            delay: DelayEstimator::new(),
            level: LevelFilter::default(),
            state: State::Buffering,
            next_timestamp: 0,
            played: None,
            next_index: None,
            extended: 0,
            concealed_run: 0,
            fec_used: None,
            stats: JitterStats::default(),
        }
    }

    /// Another stream begins (its SSRC changed): forgets everything but the counters.
    pub fn reset(&mut self) {
        *self = Self { stats: self.stats, ..Self::new() };
    }

    /// Takes one packet, in any order. Packets without payload only count.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        sequence_number: u16,
        rtp_timestamp: u32,
        payload: Bytes,
    ) {
        let index = match self.sequence.unwrap(sequence_number) {
            Unwrapped::Index(index) => index,
            Unwrapped::Suspect => return,
            Unwrapped::Restarted(index) => {
                let sequence = self.sequence.clone();
                self.reset();
                self.sequence = sequence;
                index
            }
        };
        let timestamp = match &mut self.timestamps {
            Some(timestamps) => timestamps.unwrap(rtp_timestamp),
            none => none.insert(TimestampUnwrapper(i64::from(rtp_timestamp))).0,
        };
        let newest = self.sequence.highest() == Some(index);
        let arrival = self.samples_since_epoch(now);
        if self.packets.contains_key(&index) {
            self.stats.duplicates += 1;
            return;
        }
        if self.next_index.is_some_and(|next| index < next) {
            self.stats.late += 1;
            return;
        }
        // Its turn was concealed although its sequence number was not passed yet.
        let overdue = timestamp < self.next_timestamp && self.state == State::Playing;
        if overdue && !newest {
            self.stats.late += 1;
            return;
        }
        self.delay.handle_packet(arrival, timestamp);
        if payload.is_empty() {
            return;
        }
        if self.extended > 0 && timestamp == self.next_timestamp {
            self.stats.late += 1;
        }
        self.packets.insert(index, Stored { timestamp, payload });
        if self.packets.len() > MAX_PACKETS {
            self.skip_first();
        }
    }

    /// What to play in the next 20 ms. Ask whenever less than 20 ms of decoded sound is left.
    pub fn poll_frame(&mut self, now: Instant) -> Playout {
        let now = self.samples_since_epoch(now);
        self.delay.poll(now);
        let played = match self.state {
            State::Buffering => self.poll_buffering(now),
            State::Playing => self.poll_playing(now),
        };
        match &played {
            Playout::Play { .. } => self.concealed_run = 0,
            Playout::Fec(_) | Playout::Conceal => {
                self.concealed_run += 1;
                self.stats.concealed_ms += 20;
            }
            Playout::Silence => {}
        }
        played
    }

    /// RTP timestamp of the packet that was played last: what to keep pictures in step with.
    pub fn played_timestamp(&self) -> Option<u32> {
        self.played.map(|timestamp| timestamp as u32)
    }

    /// Numbers so far.
    pub fn stats(&self) -> JitterStats {
        JitterStats {
            buffer_ms: self.span() as f64 / 48.0,
            target_ms: self.delay.target() as f64 / 48.0,
            jitter_ms: self.delay.jitter() / 48.0,
            ..self.stats
        }
    }

    fn poll_buffering(&mut self, now: i64) -> Playout {
        let Some((_, first)) = self.packets.first_key_value() else {
            return Playout::Silence;
        };
        let timestamp = first.timestamp;
        // Half a frame early, so that the delay comes out around the target and not above it.
        let age = self.delay.age(now, timestamp) + FRAME / 2;
        if age < self.delay.target() && self.packets.len() < MAX_PACKETS {
            return Playout::Silence;
        }
        self.state = State::Playing;
        self.next_timestamp = timestamp;
        self.next_index = None;
        self.extended = 0;
        self.level.clear();
        self.poll_playing(now)
    }

    fn poll_playing(&mut self, now: i64) -> Playout {
        self.catch_up(now);
        let Some((&index, first)) = self.packets.first_key_value() else {
            return self.run_dry();
        };
        let gap = first.timestamp - self.next_timestamp;
        let missing = index.saturating_sub(self.next_index.unwrap_or(index));
        if !(-FRAME..=MAX_GAP).contains(&gap) {
            // The sender's clock jumped: begin anew where it is now.
            return self.pause();
        }
        let uncovered = gap - self.extended;
        if uncovered < FRAME / 2 {
            return self.play_first(now);
        }
        if missing == 0 && self.next_index.is_some() {
            // Nothing is lost, the sender was silent: a free chance to meet the target.
            if self.delay.age(now, first.timestamp) >= self.delay.target() {
                return self.play_first(now);
            }
            return self.conceal_or_fall_silent();
        }
        if self.extended > 0 {
            // Part of the hole was concealed while it could not be seen.
            self.next_timestamp += self.extended;
            self.extended = 0;
        }
        if uncovered <= FRAME + FRAME / 2 && self.fec_used != Some(index) {
            let payload = first.payload.clone();
            self.next_timestamp = first.timestamp;
            self.fec_used = Some(index);
            return Playout::Fec(payload);
        }
        self.next_timestamp += FRAME;
        Playout::Conceal
    }

    /// Plays the oldest packet.
    fn play_first(&mut self, now: i64) -> Playout {
        let stretch = self.stretch(now);
        let Some((index, packet)) = self.packets.pop_first() else {
            return Playout::Silence;
        };
        if let Some(next) = self.next_index {
            self.stats.lost += index.saturating_sub(next);
        }
        self.next_index = Some(index + 1);
        self.played = Some(packet.timestamp);
        self.next_timestamp = packet.timestamp + i64::from(opus_samples(&packet.payload));
        self.extended = 0;
        Playout::Play { payload: packet.payload, stretch }
    }

    /// Nothing is there. Late or lost? The timeline waits, so that a late packet still plays.
    fn run_dry(&mut self) -> Playout {
        self.extended += FRAME;
        self.level.clear();
        self.conceal_or_fall_silent()
    }

    fn conceal_or_fall_silent(&mut self) -> Playout {
        if self.concealed_run < MAX_CONCEALED {
            return Playout::Conceal;
        }
        self.pause()
    }

    fn pause(&mut self) -> Playout {
        self.state = State::Buffering;
        self.concealed_run = 0;
        Playout::Silence
    }

    /// Skips packets when far too many wait, as after a stall of the network.
    fn catch_up(&mut self, now: i64) {
        let excess = self.excess(now);
        if excess <= JUMP_ABOVE {
            return;
        }
        let until = self.next_timestamp + excess;
        while self.packets.len() > 1
            && self.packets.first_key_value().is_some_and(|(_, p)| p.timestamp + FRAME <= until)
        {
            self.skip_first();
        }
    }

    fn skip_first(&mut self) {
        let Some((index, packet)) = self.packets.pop_first() else {
            return;
        };
        self.stats.skipped += 1;
        if self.state == State::Playing {
            self.next_index = Some(index + 1);
            self.next_timestamp = packet.timestamp + i64::from(opus_samples(&packet.payload));
            self.extended = 0;
            self.level.clear();
        }
    }

    /// How far the buffered sound is above the target. What has not arrived cannot be skipped,
    /// so a delay without packets waiting counts for nothing.
    fn excess(&self, now: i64) -> i64 {
        let target = self.delay.target();
        (self.delay.age(now, self.next_timestamp) - target).min(self.span() - target)
    }

    fn stretch(&mut self, now: i64) -> Stretch {
        let Some((_, first)) = self.packets.first_key_value() else {
            return Stretch::None;
        };
        let age = self.delay.age(now, first.timestamp);
        let Some(level) = self.level.add(age, age.min(self.span())) else {
            return Stretch::None;
        };
        let target = self.delay.target();
        let stretch = if level.waiting > target + ACCELERATE_ABOVE {
            Stretch::Accelerate
        } else if level.age < target - EXPAND_BELOW {
            Stretch::Expand
        } else {
            return Stretch::None;
        };
        self.level.clear();
        stretch
    }

    /// Sound in the buffer, in samples.
    fn span(&self) -> i64 {
        match (self.packets.first_key_value(), self.packets.last_key_value()) {
            (Some((_, first)), Some((_, last))) => {
                (last.timestamp - first.timestamp).clamp(0, 10 * MAX_GAP) + FRAME
            }
            _ => 0,
        }
    }

    fn samples_since_epoch(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        (now.saturating_duration_since(epoch).as_micros() as i64) * 48 / 1000
    }
}

/// 32-bit RTP timestamps to growing ones; holds the last.
struct TimestampUnwrapper(i64);

impl TimestampUnwrapper {
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let step = timestamp.wrapping_sub(self.0 as u32) as i32;
        self.0 += i64::from(step);
        self.0
    }
}

/// How long an Opus packet plays, in samples at 48 kHz (RFC 6716 section 3.1). 20 ms for what
/// no decoder would take.
fn opus_samples(payload: &[u8]) -> u32 {
    let Some(&toc) = payload.first() else {
        return FRAME as u32;
    };
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => payload.get(1).map_or(1, |&count| u32::from(count & 0x3f)),
    };
    match frame * count {
        // RFC 6716 section 3.2.5: at most 120 ms.
        samples @ 1..=5760 => samples,
        _ => FRAME as u32,
    }
}

#[cfg(test)]
mod tests;
