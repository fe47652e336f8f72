//! Restores lost packets out of repair packets.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{HEADER, MAX_WINDOW, Media, PREFIX, VERSION, coefficient, field};
use crate::rtp::sequence::{SequenceUnwrapper, Unwrapped};

/// Media packets kept, counted back from the newest: several windows.
const KEPT: u64 = 256;

/// Repairs that wait for more of their like. Older ones are dropped.
const MAX_WAITING: usize = 32;

/// Larger payloads do not come from an RTP packet.
const MAX_BYTES: usize = 2048;

/// A packet that was lost and is there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// RTP sequence number.
    pub sequence_number: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// RTP payload type.
    pub payload_type: u8,
    /// What follows the RTP header.
    pub payload: Bytes,
}

/// Counters since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FecStats {
    /// Repair packets that came.
    pub repairs: u64,
    /// Media packets restored.
    pub recovered: u64,
    /// Repair packets that made no sense.
    pub malformed: u64,
}

/// A repair from which everything known was taken away: what remains is the same combination of
/// the packets in `unknown`.
struct Waiting {
    row: u8,
    unknown: Vec<u64>,
    rest: Vec<u8>,
}

/// Watches one media stream and its repairs.
pub struct FecDecoder {
    ssrc: u32,
    sequence: SequenceUnwrapper,
    known: BTreeMap<u64, Vec<u8>>,
    waiting: Vec<Waiting>,
    stats: FecStats,
}

impl FecDecoder {
    /// For the media stream `ssrc`.
    pub fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            sequence: SequenceUnwrapper::new(),
            known: BTreeMap::new(),
            waiting: Vec::new(),
            stats: FecStats::default(),
        }
    }

    /// A media packet came, or came again. Returns what it made known, in order.
    pub fn handle_media(&mut self, media: &Media<'_>) -> Vec<Recovered> {
        let index = match self.sequence.unwrap(media.sequence_number) {
            Unwrapped::Index(index) => index,
            Unwrapped::Suspect => return Vec::new(),
            Unwrapped::Restarted(index) => {
                self.known.clear();
                self.waiting.clear();
                index
            }
        };
        let Some(bytes) = media.protected().filter(|bytes| bytes.len() <= MAX_BYTES) else {
            return Vec::new();
        };
        if self.known.contains_key(&index) || index + KEPT < self.highest() {
            return Vec::new();
        }
        let changed = self.learn(index, bytes);
        self.forget();
        if changed { self.solve() } else { Vec::new() }
    }

    /// A repair packet came; `payload` is what follows its RTP header. Returns what it made
    /// known, in order.
    pub fn handle_repair(&mut self, payload: &[u8]) -> Vec<Recovered> {
        self.stats.repairs += 1;
        let Some((row, first, count, sum)) = self.parse(payload) else {
            self.stats.malformed += 1;
            return Vec::new();
        };
        let highest = self.highest();
        let Some(_) = self.sequence.highest() else {
            return Vec::new();
        };
        let back = i64::from(first.wrapping_sub(highest as u16) as i16);
        let first = highest.saturating_add_signed(back);
        let indices = first..first + count as u64;
        // What it covers is forgotten, or far from the stream.
        if indices.start + KEPT <= highest || indices.start > highest + MAX_WINDOW as u64 {
            return Vec::new();
        }
        let mut waiting = Waiting { row, unknown: Vec::new(), rest: sum.to_vec() };
        for index in indices {
            match self.known.get(&index) {
                Some(bytes) => waiting.subtract(index, bytes),
                None => waiting.unknown.push(index),
            }
        }
        if waiting.unknown.is_empty() {
            return Vec::new();
        }
        if self.waiting.len() == MAX_WAITING {
            self.waiting.remove(0);
        }
        self.waiting.push(waiting);
        self.solve()
    }

    /// Counters since the beginning.
    pub fn stats(&self) -> FecStats {
        self.stats
    }

    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.waiting.len()
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.known.len()
    }

    fn parse<'a>(&self, payload: &'a [u8]) -> Option<(u8, u16, usize, &'a [u8])> {
        let (&[version, row, s0, s1, s2, s3, n0, n1, count], sum) =
            payload.split_first_chunk::<HEADER>()?;
        let count = usize::from(count);
        let fits = version == VERSION
            && u32::from_be_bytes([s0, s1, s2, s3]) == self.ssrc
            && (1..=MAX_WINDOW).contains(&count)
            && (PREFIX..=MAX_BYTES).contains(&sum.len());
        fits.then_some((row, u16::from_be_bytes([n0, n1]), count, sum))
    }

    fn highest(&self) -> u64 {
        self.sequence.highest().unwrap_or(0)
    }

    /// Takes a packet that is known now out of all that waits. True if anything waited for it.
    fn learn(&mut self, index: u64, bytes: Vec<u8>) -> bool {
        let mut changed = false;
        self.waiting.retain_mut(|waiting| {
            if let Ok(at) = waiting.unknown.binary_search(&index) {
                waiting.unknown.remove(at);
                waiting.subtract(index, &bytes);
                changed = true;
            }
            !waiting.unknown.is_empty()
        });
        self.known.insert(index, bytes);
        changed
    }

    fn forget(&mut self) {
        let oldest = self.highest().saturating_sub(KEPT);
        self.known = self.known.split_off(&oldest);
        self.waiting
            .retain(|waiting| waiting.unknown.first().is_some_and(|first| *first >= oldest));
    }

    /// Finds the packets that what waits determines.
    fn solve(&mut self) -> Vec<Recovered> {
        let mut recovered = Vec::new();
        loop {
            let found = self.eliminate();
            if found.is_empty() {
                break;
            }
            for (index, bytes) in found {
                let Some(packet) = parse_protected(index, &bytes) else {
                    // Somebody combined wrongly: none of it can be trusted.
                    self.stats.malformed += 1;
                    self.waiting.clear();
                    return recovered;
                };
                let length = PREFIX + packet.payload.len();
                self.learn(index, bytes.get(..length).unwrap_or(&bytes).to_vec());
                self.stats.recovered += 1;
                recovered.push(packet);
            }
        }
        recovered.sort_by_key(|packet| {
            packet.sequence_number.wrapping_sub(self.highest() as u16) as i16
        });
        recovered
    }

    /// Gauss-Jordan elimination over the coefficients, with the way each row came about; the
    /// long sums are touched only for what is solved.
    fn eliminate(&self) -> Vec<(u64, Vec<u8>)> {
        let mut columns: Vec<u64> =
            self.waiting.iter().flat_map(|waiting| waiting.unknown.iter().copied()).collect();
        columns.sort_unstable();
        columns.dedup();
        let rows = self.waiting.len();
        let mut matrix: Vec<Row> = Vec::with_capacity(rows);
        for (number, waiting) in self.waiting.iter().enumerate() {
            let mut row = Row { left: vec![0; columns.len()], way: vec![0; rows] };
            for index in &waiting.unknown {
                if let Ok(column) = columns.binary_search(index) {
                    row.left[column] = coefficient(waiting.row, *index as u16);
                }
            }
            row.way[number] = 1;
            matrix.push(row);
        }
        let mut rank = 0;
        for column in 0..columns.len() {
            let Some(pivot) = (rank..rows).find(|row| matrix[*row].left[column] != 0) else {
                continue;
            };
            matrix.swap(rank, pivot);
            let factor = field::inverse(matrix[rank].left[column]);
            matrix[rank].scale(factor);
            let (before, rest) = matrix.split_at_mut(rank);
            let Some((pivot, after)) = rest.split_first_mut() else {
                break;
            };
            for row in before.iter_mut().chain(after) {
                let factor = row.left[column];
                if factor != 0 {
                    row.add(factor, pivot);
                }
            }
            rank += 1;
        }
        let mut found = Vec::new();
        for row in matrix.iter().take(rank) {
            let mut unknown = row.left.iter().enumerate().filter(|(_, factor)| **factor != 0);
            let (Some((column, _)), None) = (unknown.next(), unknown.next()) else {
                continue;
            };
            let mut bytes = Vec::new();
            for (factor, waiting) in row.way.iter().zip(&self.waiting) {
                if *factor != 0 {
                    field::add_scaled(&mut bytes, *factor, &waiting.rest);
                }
            }
            found.push((columns[column], bytes));
        }
        found
    }
}

impl Waiting {
    fn subtract(&mut self, index: u64, bytes: &[u8]) {
        field::add_scaled(&mut self.rest, coefficient(self.row, index as u16), bytes);
    }
}

struct Row {
    left: Vec<u8>,
    way: Vec<u8>,
}

impl Row {
    fn scale(&mut self, factor: u8) {
        for value in self.left.iter_mut().chain(&mut self.way) {
            *value = field::multiply(*value, factor);
        }
    }

    fn add(&mut self, factor: u8, other: &Self) {
        field::add_scaled(&mut self.left, factor, &other.left);
        field::add_scaled(&mut self.way, factor, &other.way);
    }
}

fn parse_protected(index: u64, bytes: &[u8]) -> Option<Recovered> {
    let (&[l0, l1, kind, t0, t1, t2, t3], payload) = bytes.split_first_chunk::<PREFIX>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let (payload, zeros) = payload.split_at_checked(length)?;
    if zeros.iter().any(|byte| *byte != 0) {
        return None;
    }
    Some(Recovered {
        sequence_number: index as u16,
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        marker: kind & 0x80 != 0,
        payload_type: kind & 0x7f,
        payload: Bytes::copy_from_slice(payload),
    })
}
