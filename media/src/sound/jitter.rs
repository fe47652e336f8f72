//! The audio jitter buffer: packets in as they come, one answer for each 20 ms played.
//!
//! It keeps a timeline in RTP time and a target delay taken from how late packets are against
//! the fastest ones of the last seconds. On a steady network it neither drops nor stretches.
//! Copies that travel in later packets (RED, in-band FEC) count as late packets: where they
//! come, the delay grows until they come in time.

mod arrivals;
mod delay;
mod level;
mod packet;
mod playout;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::rtp::sequence::{SequenceUnwrapper, Unwrapped};
use arrivals::{Arrivals, TimestampUnwrapper};
use delay::DelayEstimator;
use level::LevelFilter;

/// One frame of 20 ms in RTP time (48 kHz, RFC 7587).
const FRAME: i64 = 960;

/// Packets kept at most: two seconds of 20 ms frames.
const MAX_PACKETS: usize = 100;

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
    /// Decode the in-band FEC of this packet for exactly so many samples: it describes the lost
    /// frame before it. The packet itself is played next.
    Fec {
        /// The packet's payload.
        payload: Bytes,
        /// Samples at 48 kHz.
        samples: usize,
    },
    /// Let the decoder conceal 20 ms.
    Conceal,
    /// The sender pauses: let the decoder go on with the noise behind the voice.
    Comfort,
    /// Nothing has come yet.
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
    /// Lost sound that came in a later packet, milliseconds.
    pub recovered_ms: u64,
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
    arrivals: Arrivals,
    /// The first packet of the stream: what lay before it is not missing.
    first: Option<u64>,
    /// Where the newest packet belongs, for the copies in it.
    placed: Option<(u64, i64)>,
    packets: BTreeMap<u64, Stored>,
    epoch: Option<Instant>,
    delay: DelayEstimator,
    level: LevelFilter,
    state: State,
    /// RTP time of the next sample to be played.
    next_timestamp: i64,
    /// RTP time of the last packet played.
    played: Option<i64>,
    /// The last packet played said that the sender pauses.
    pausing: bool,
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
            arrivals: Arrivals::default(),
            first: None,
            placed: None,
            packets: BTreeMap::new(),
            epoch: None,
            delay: DelayEstimator::new(),
            level: LevelFilter::default(),
            state: State::Buffering,
            next_timestamp: 0,
            played: None,
            pausing: false,
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
        self.placed = None;
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
            none => {
                *none = Some(TimestampUnwrapper::new(rtp_timestamp));
                i64::from(rtp_timestamp)
            }
        };
        self.placed = Some((index, timestamp));
        let arrival = self.samples_since_epoch(now);
        if self.arrivals.contains(index) {
            self.stats.duplicates += 1;
            return;
        }
        self.arrivals.add(index);
        let first = *self.first.get_or_insert(index);
        self.delay.handle_packet(arrival, timestamp);
        if payload.is_empty() {
            return;
        }
        self.delay.set_length(packet::duration(&payload));
        let fec = packet::fec_samples(&payload);
        if fec > 0 && index > first && !self.arrivals.contains(index - 1) {
            self.delay.handle_copy(arrival, timestamp - fec);
        }
        // Where the newest packet is overdue, the sender's clock was set back.
        let newest = self.sequence.highest() == Some(index);
        let over = self.is_over(index) || (self.is_overdue(timestamp) && !newest);
        if over || (self.extended > 0 && timestamp == self.next_timestamp) {
            self.stats.late += 1;
            self.delay.handle_missed(arrival, timestamp);
        }
        if over {
            return;
        }
        self.insert(index, timestamp, payload);
    }

    /// Takes the round trip to the other end: on a long way lost packets' copies are waited for
    /// sooner.
    pub fn set_round_trip(&mut self, rtt: Duration) {
        self.delay.set_round_trip(rtt);
    }

    /// Takes a copy that came in the packet handled last, of one that was sent `offset` (RTP
    /// time) before it (RFC 2198).
    pub fn handle_copy(&mut self, now: Instant, offset: u32, payload: Bytes) {
        let (Some((index, timestamp)), Some(first)) = (self.placed, self.first) else {
            return;
        };
        // Without pauses between, the distance in time is that in packets.
        let duration = packet::duration(&payload);
        let distance = u64::from(offset) / duration.unsigned_abs().max(1);
        let exact = distance > 0 && distance * duration.unsigned_abs() == u64::from(offset);
        let index = index.saturating_sub(distance);
        if !exact || payload.is_empty() || index < first || self.arrivals.contains(index) {
            return;
        }
        self.arrivals.add(index);
        let arrival = self.samples_since_epoch(now);
        let timestamp = timestamp - i64::from(offset);
        self.delay.handle_copy(arrival, timestamp);
        if self.is_over(index) || self.is_overdue(timestamp) {
            return;
        }
        self.stats.recovered_ms += duration.unsigned_abs() / 48;
        self.insert(index, timestamp, payload);
    }

    /// Its turn is over: it, or a later one, was played.
    fn is_over(&self, index: u64) -> bool {
        self.next_index.is_some_and(|next| index < next)
    }

    /// Its turn was concealed although its sequence number was not passed yet.
    fn is_overdue(&self, timestamp: i64) -> bool {
        timestamp < self.next_timestamp && self.state == State::Playing
    }

    fn insert(&mut self, index: u64, timestamp: i64, payload: Bytes) {
        self.packets.insert(index, Stored { timestamp, payload });
        if self.packets.len() > MAX_PACKETS {
            self.skip_first();
        }
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

    fn samples_since_epoch(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        (now.saturating_duration_since(epoch).as_micros() as i64) * 48 / 1000
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod traces;
