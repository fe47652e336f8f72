//! RTP packets to encoded pictures.
//!
//! Delivers whole frames in decoding order whose predecessors were delivered, too. A gap that is
//! not repaired in time asks for a key frame, while repairs may still come; a little later,
//! everything up to the next key frame is dropped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::h264_depacketize::Depacketized;
use super::nack::give_up_after;
use super::payload::{depacketize, inspect};
use super::sequence::{SequenceUnwrapper, Unwrapped};
use crate::video_codec::VideoCodec;

/// How long a gap may stay open before a key frame is asked for, on a path with a short round
/// trip or an unknown one.
const DEFAULT_REPAIR_TIME: Duration = Duration::from_millis(200);

/// On longer ones it is one round trip and this: the first repairs are late by then.
const REPAIR_RESERVE: Duration = Duration::from_millis(50);

/// While a key frame is awaited it is asked for again this often: requests get lost, too.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A stream whose first packets are of no key frame was joined late.
const FIRST_ASK: Duration = Duration::from_millis(100);

/// Far above any frame at our rates; a peer that sends one endless frame is cut here.
const MAX_PACKETS: usize = 4096;
const MAX_BYTES: usize = 4 << 20;

/// Older packets than the first one that arrived may still come before it.
const REORDER_AT_START: u64 = 32;

/// One received packet of the stream, also one that was sent again (as it was before RTX).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPacket {
    /// RTP sequence number.
    pub sequence_number: u16,
    /// RTP timestamp, 90 kHz.
    pub timestamp: u32,
    /// The marker bit: last packet of its frame.
    pub marker: bool,
    /// What follows the RTP header, without padding. Empty in packets that only pad.
    pub payload: Bytes,
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssembledFrame {
    /// What the decoder takes; for H.264 Annex B.
    pub data: Vec<u8>,
    /// RTP timestamp, 90 kHz.
    pub rtp_timestamp: u32,
    /// Can be decoded without any frame before it.
    pub key_frame: bool,
    /// When the first of its packets arrived.
    pub first_arrival: Instant,
    /// When the last of its packets arrived.
    pub last_arrival: Instant,
    /// Packets with a payload.
    pub packets: usize,
}

/// What an [`Assembler`] wants of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssemblerEvent {
    /// A key frame would help: send a PLI. Nothing more comes out before it, or before the
    /// repairs that are late.
    KeyFrameNeeded,
}

/// Counters since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AssemblerStats {
    /// Packets accepted.
    pub packets: u64,
    /// Packets that were there already.
    pub duplicates: u64,
    /// Packets whose frame had been delivered or given up.
    pub late: u64,
    /// Payloads that ended early or made no sense.
    pub malformed: u64,
    /// Payloads of types outside H.264's packetization mode 1.
    pub unsupported: u64,
    /// Frames delivered.
    pub frames: u64,
    /// Frames of which something arrived but which were not delivered.
    pub frames_dropped: u64,
    /// Gaps that no repair closed in time.
    pub gaps_given_up: u64,
    /// Times the bounds on memory were hit.
    pub overflows: u64,
}

struct Stored {
    timestamp: u32,
    marker: bool,
    payload: Bytes,
    arrival: Instant,
    key: bool,
    starts_frame: bool,
}

impl Stored {
    fn is_padding(&self) -> bool {
        self.payload.is_empty()
    }
}

/// Packets `start..end` are one whole frame.
struct Found {
    start: u64,
    end: u64,
    timestamp: u32,
}

/// Puts the frames of one SSRC together.
pub struct Assembler {
    codec: VideoCodec,
    sequence: SequenceUnwrapper,
    packets: BTreeMap<u64, Stored>,
    bytes: usize,
    /// Everything below is delivered or given up.
    next: Option<u64>,
    /// A frame is known to begin at `next`.
    next_starts_frame: bool,
    /// Nothing but a key frame is of use.
    awaiting_key: bool,
    ask_at: Option<Instant>,
    event: Option<AssemblerEvent>,
    /// The missing index and when the first packet behind it came.
    gap: Option<(u64, Instant)>,
    /// A key frame was asked for because of that gap.
    gap_asked: bool,
    repair_time: Duration,
    give_up_time: Duration,
    stats: AssemblerStats,
}

impl Default for Assembler {
    fn default() -> Self {
        Self::new()
    }
}

impl Assembler {
    /// Has seen nothing and starts with a key frame. H.264 is expected.
    pub fn new() -> Self {
        Self::of(VideoCodec::H264)
    }

    /// As [`new`](Self::new), for a codec.
    pub fn of(codec: VideoCodec) -> Self {
        Self {
            codec,
            sequence: SequenceUnwrapper::new(),
            packets: BTreeMap::new(),
            bytes: 0,
            next: None,
            next_starts_frame: false,
            awaiting_key: true,
            ask_at: None,
            event: None,
            gap: None,
            gap_asked: false,
            repair_time: DEFAULT_REPAIR_TIME,
            give_up_time: give_up_after(Duration::ZERO),
            stats: AssemblerStats::default(),
        }
    }

    /// The path's round trip, by which repairs are waited for.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.repair_time = DEFAULT_REPAIR_TIME.max(rtt * 5 / 4 + REPAIR_RESERVE);
        self.give_up_time = self.repair_time.max(give_up_after(rtt));
    }

    /// Takes one packet, in any order.
    pub fn handle_packet(&mut self, now: Instant, packet: RtpPacket) {
        let index = match self.sequence.unwrap(packet.sequence_number) {
            Unwrapped::Index(index) => index,
            Unwrapped::Suspect => return,
            Unwrapped::Restarted(index) => {
                self.drop_before(u64::MAX);
                self.next = None;
                self.await_key(now, true);
                index
            }
        };
        let next = *self.next.get_or_insert(index.saturating_sub(REORDER_AT_START));
        if index < next {
            self.stats.late += 1;
            return;
        }
        if self.packets.contains_key(&index) {
            self.stats.duplicates += 1;
            return;
        }
        self.stats.packets += 1;
        self.bytes += packet.payload.len();
        let contents = inspect(self.codec, &packet.payload);
        self.packets.insert(
            index,
            Stored {
                timestamp: packet.timestamp,
                marker: packet.marker,
                payload: packet.payload,
                arrival: now,
                key: contents.key,
                starts_frame: contents.starts_frame,
            },
        );
        if self.packets.len() > MAX_PACKETS {
            // A long queue of it may come between two looks for frames.
            self.skip_padding();
        }
        if self.packets.len() > MAX_PACKETS || self.bytes > MAX_BYTES {
            self.stats.overflows += 1;
            self.drop_before(u64::MAX);
            self.await_key(now, true);
        }
    }

    /// The next frame, if one is whole. To be called after each packet and at
    /// [`poll_timeout`](Self::poll_timeout) until it returns `None`.
    pub fn poll_frame(&mut self, now: Instant) -> Option<AssembledFrame> {
        loop {
            self.skip_padding();
            let found = self.find_next().or_else(|| self.find_key());
            let Some(found) = found else {
                if self.give_up_overdue(now) {
                    continue;
                }
                self.ask_again(now);
                return None;
            };
            if let Some(frame) = self.take(now, &found) {
                return Some(frame);
            }
        }
    }

    /// When to call [`poll_frame`](Self::poll_frame) although no packet came.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.awaiting_key {
            let wait = if self.gap_asked { self.give_up_time } else { self.repair_time };
            return self.gap.map(|(_, since)| since + wait);
        }
        // While nothing arrives there is nobody to ask.
        self.ask_at.filter(|_| self.wants_key_request())
    }

    /// What the owner should do.
    pub fn poll_event(&mut self) -> Option<AssemblerEvent> {
        self.event.take()
    }

    /// The decoder could not use what it got: deliver nothing until a key frame.
    pub fn require_key_frame(&mut self, now: Instant) {
        self.await_key(now, false);
    }

    /// Whether nothing comes out before a key frame.
    pub fn is_awaiting_key(&self) -> bool {
        self.awaiting_key
    }

    /// Since when packets are missing without which nothing comes out.
    pub fn gap_since(&self) -> Option<Instant> {
        self.gap.map(|(_, since)| since)
    }

    /// Gives the present gap up without waiting for a key frame: what follows comes out, for a
    /// decoder that tells for itself which pictures are damaged.
    pub fn skip_gap(&mut self) {
        if self.awaiting_key {
            return;
        }
        let Some((missing, _)) = self.gap else {
            return;
        };
        self.stats.gaps_given_up += 1;
        self.drop_before(missing);
        let behind = self.packets.keys().next().copied();
        self.next = behind.or(self.next);
        // Where the frame begins is not known, unless one ends in between.
        self.next_starts_frame = false;
        self.close_gap();
    }

    /// Counters since the beginning.
    pub fn stats(&self) -> AssemblerStats {
        self.stats
    }

    /// Padding fills sequence numbers between frames and belongs to none.
    fn skip_padding(&mut self) {
        while let Some(mut entry) = self.packets.first_entry() {
            if Some(*entry.key()) != self.next || !entry.get_mut().is_padding() {
                return;
            }
            entry.remove();
            self.next = self.next.map(|next| next + 1);
        }
    }

    /// The frame that follows the last one delivered, if it is whole.
    fn find_next(&mut self) -> Option<Found> {
        if self.awaiting_key {
            return None;
        }
        let found = self.walk(false);
        match &found {
            Ok(_) | Err(None) => self.close_gap(),
            Err(Some((missing, behind))) if self.gap.is_none_or(|(known, _)| known != *missing) => {
                // Repairs of one frame come one by one: what was asked for because of the
                // first missing packet need not be asked for because of the second.
                let asked = self.gap_asked;
                self.gap = Some((*missing, *behind));
                self.gap_asked = asked;
            }
            Err(Some(_)) => {}
        }
        found.ok()
    }

    /// The oldest whole key frame: it makes everything before it unnecessary.
    fn find_key(&self) -> Option<Found> {
        if !self.awaiting_key && self.gap.is_none() {
            return None;
        }
        self.walk(true).ok()
    }

    /// Walks the stored packets and stops at the first whole frame, or with `key` at the first
    /// whole key frame behind any gaps. Without one, tells the first missing index and when a
    /// packet behind it arrived first.
    fn walk(&self, key: bool) -> Result<Found, Option<(u64, Instant)>> {
        struct Open {
            start: u64,
            key: bool,
        }
        let mut last = self.next.map(|next| next.wrapping_sub(1));
        let mut boundary = self.next_starts_frame;
        let mut timestamp: Option<u32> = None;
        let mut open: Option<Open> = None;
        for (&index, packet) in &self.packets {
            let expected = last.map_or(index, |last| last.wrapping_add(1));
            if expected != index {
                if !key {
                    let behind = self.packets.range(index..).map(|(_, p)| p.arrival).min();
                    return Err(behind.map(|behind| (expected, behind)));
                }
                open = None;
                boundary = false;
                timestamp = None;
            }
            last = Some(index);
            if packet.is_padding() {
                continue;
            }
            if timestamp.is_some_and(|timestamp| timestamp != packet.timestamp) {
                // The frame before ended without a marker.
                if let (Some(open), Some(timestamp)) = (open.take(), timestamp)
                    && (open.key || !key)
                {
                    return Ok(Found { start: open.start, end: index, timestamp });
                }
                boundary = true;
            }
            timestamp = Some(packet.timestamp);
            if open.is_none() && (boundary || packet.starts_frame) {
                open = Some(Open { start: index, key: false });
            }
            boundary = false;
            if let Some(open) = &mut open {
                open.key |= packet.key;
            }
            if packet.marker {
                if let Some(open) = open.take()
                    && (open.key || !key)
                {
                    let (start, end) = (open.start, index + 1);
                    return Ok(Found { start, end, timestamp: packet.timestamp });
                }
                boundary = true;
                timestamp = None;
            }
        }
        Err(None)
    }

    /// Takes a frame out. `None` if it turns out to be of no use.
    fn take(&mut self, now: Instant, found: &Found) -> Option<AssembledFrame> {
        self.drop_before(found.start);
        let behind = self.packets.split_off(&found.end);
        let parts = std::mem::replace(&mut self.packets, behind);
        self.bytes = self.bytes.saturating_sub(parts.values().map(|p| p.payload.len()).sum());
        self.next = Some(found.end);
        self.next_starts_frame = true;
        self.close_gap();
        let Depacketized { data, key, unsupported, malformed, broken } =
            depacketize(self.codec, parts.values().map(|part| &part.payload[..]));
        self.stats.unsupported += u64::from(unsupported);
        self.stats.malformed += u64::from(malformed);
        if broken {
            self.stats.frames_dropped += 1;
            self.await_key(now, true);
            return None;
        }
        if data.is_empty() || (self.awaiting_key && !key) {
            self.stats.frames_dropped += 1;
            return None;
        }
        // Whatever was to be asked for: the stream goes on without it.
        self.event = None;
        if key {
            self.awaiting_key = false;
            self.ask_at = None;
        }
        self.stats.frames += 1;
        let media = || parts.values().filter(|part| !part.is_padding());
        Some(AssembledFrame {
            data,
            rtp_timestamp: found.timestamp,
            key_frame: key,
            first_arrival: media().map(|part| part.arrival).min().unwrap_or(now),
            last_arrival: media().map(|part| part.arrival).max().unwrap_or(now),
            packets: media().count(),
        })
    }

    /// Gives up what was not repaired in time. True if anything changed.
    fn give_up_overdue(&mut self, now: Instant) -> bool {
        if !self.awaiting_key {
            let Some((_, since)) = self.gap else {
                return false;
            };
            if !self.gap_asked && now >= since + self.repair_time {
                self.gap_asked = true;
                self.event = Some(AssemblerEvent::KeyFrameNeeded);
            }
            let overdue = now >= since + self.give_up_time;
            if overdue {
                self.stats.gaps_given_up += 1;
                self.await_key(now, false);
            }
            return overdue;
        }
        // Only a key frame is awaited. A frame that is not the newest grows by repairs alone:
        // once those stopped, it never becomes whole.
        let Some((end, last_arrival, key)) = self.oldest_group() else {
            return false;
        };
        if end.is_none() || now < last_arrival + self.repair_time {
            return false;
        }
        let end = end.unwrap_or(u64::MAX);
        self.drop_before(end);
        if key {
            self.await_key(now, true);
        }
        true
    }

    /// The oldest packets of one timestamp: where the next timestamp begins (if one does), when
    /// the last of them came, and whether they are of a key frame.
    fn oldest_group(&self) -> Option<(Option<u64>, Instant, bool)> {
        let mut media = self.packets.iter().filter(|(_, packet)| !packet.is_padding());
        let (_, first) = media.next()?;
        let (mut last_arrival, mut key) = (first.arrival, first.key);
        for (&index, packet) in media {
            if packet.timestamp != first.timestamp {
                return Some((Some(index), last_arrival, key));
            }
            last_arrival = last_arrival.max(packet.arrival);
            key |= packet.key;
        }
        Some((None, last_arrival, key))
    }

    /// Forgets everything below `end` and counts the frames that are lost with it.
    fn drop_before(&mut self, end: u64) {
        let behind = self.packets.split_off(&end);
        let dropped = std::mem::replace(&mut self.packets, behind);
        let mut timestamp = None;
        for packet in dropped.values().filter(|packet| !packet.is_padding()) {
            self.bytes = self.bytes.saturating_sub(packet.payload.len());
            if timestamp != Some(packet.timestamp) {
                timestamp = Some(packet.timestamp);
                self.stats.frames_dropped += 1;
            }
        }
        let Some((&last, packet)) = dropped.last_key_value() else {
            return;
        };
        let next = if end == u64::MAX { last + 1 } else { end };
        // A change of timestamp is a beginning only where no packet is missing at it.
        let changes = self.packets.get(&next).is_some_and(|p| p.timestamp != packet.timestamp);
        self.next_starts_frame = last + 1 == next && (packet.marker || changes);
        self.next = Some(next);
        self.close_gap();
    }

    fn close_gap(&mut self) {
        self.gap = None;
        self.gap_asked = false;
    }

    fn await_key(&mut self, now: Instant, ask_anew: bool) {
        let first = !self.awaiting_key;
        if first {
            self.awaiting_key = true;
            self.close_gap();
        }
        if first || ask_anew {
            self.ask(now);
        }
    }

    fn ask(&mut self, now: Instant) {
        self.event = Some(AssemblerEvent::KeyFrameNeeded);
        self.ask_at = Some(now + ASK_AGAIN);
    }

    /// Packets come in, but no part of a key frame is among them.
    fn wants_key_request(&self) -> bool {
        !self.packets.is_empty() && !self.packets.values().any(|packet| packet.key)
    }

    fn ask_again(&mut self, now: Instant) {
        if !self.awaiting_key || !self.wants_key_request() {
            return;
        }
        if now >= *self.ask_at.get_or_insert(now + FIRST_ASK) {
            self.ask(now);
        }
    }
}

#[cfg(test)]
mod tests;
