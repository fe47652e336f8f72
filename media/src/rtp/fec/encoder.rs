//! Makes repair packets.

use std::collections::VecDeque;

use super::{HEADER, MAX_WINDOW, Media, PREFIX, Strength, VERSION, coefficient, field};

/// Remembers the frames sent last and combines them.
pub struct FecEncoder {
    ssrc: u32,
    /// The packets that repairs may cover, without a hole in their numbers.
    window: VecDeque<Protected>,
    /// How many packets each of the last frames has, the newest at the end.
    frames: VecDeque<usize>,
    row: u8,
}

struct Protected {
    sequence_number: u16,
    bytes: Vec<u8>,
}

impl FecEncoder {
    /// For the media stream `ssrc`.
    pub fn new(ssrc: u32) -> Self {
        Self { ssrc, window: VecDeque::new(), frames: VecDeque::from([0]), row: 0 }
    }

    /// A media packet leaves.
    pub fn handle_media(&mut self, media: &Media<'_>) {
        let Some(bytes) = media.protected() else {
            return;
        };
        let follows = self.window.back().map(|last| last.sequence_number.wrapping_add(1));
        if follows.is_some_and(|next| next != media.sequence_number) {
            self.window.clear();
            self.frames = VecDeque::from([0]);
        }
        let sequence_number = media.sequence_number;
        self.window.push_back(Protected { sequence_number, bytes });
        if let Some(newest) = self.frames.back_mut() {
            *newest += 1;
        }
        self.keep(usize::MAX);
    }

    /// Packets of the frame that is under way: since repairs were last made.
    pub fn open_packets(&self) -> usize {
        self.frames.back().copied().unwrap_or(0)
    }

    /// The frame, or a good part of a large one, is complete: payloads of the repair packets that
    /// cover it and those before it.
    pub fn finish_frame(&mut self, strength: Strength) -> Vec<Vec<u8>> {
        self.keep(strength.frames.max(1));
        let made = (0..strength.repairs).filter_map(|_| self.combine()).collect();
        self.frames.push_back(0);
        made
    }

    fn combine(&mut self) -> Option<Vec<u8>> {
        let first = self.window.front()?.sequence_number;
        let row = self.row;
        self.row = (self.row + 1) & 0x7f;
        let longest = self.window.iter().map(|packet| packet.bytes.len()).max()?;
        let mut sum = Vec::with_capacity(longest.max(PREFIX));
        for packet in &self.window {
            field::add_scaled(&mut sum, coefficient(row, packet.sequence_number), &packet.bytes);
        }
        let mut payload = Vec::with_capacity(HEADER + sum.len());
        payload.extend_from_slice(&[VERSION, row]);
        payload.extend_from_slice(&self.ssrc.to_be_bytes());
        payload.extend_from_slice(&first.to_be_bytes());
        payload.push(self.window.len() as u8);
        payload.extend_from_slice(&sum);
        Some(payload)
    }

    /// Forgets older frames than the last `frames`, and packets beyond the largest window.
    fn keep(&mut self, frames: usize) {
        let older: usize = self.frames.iter().rev().skip(frames).sum();
        let mut surplus = older.max(self.window.len().saturating_sub(MAX_WINDOW));
        self.window.drain(..surplus);
        while let Some(oldest) = self.frames.front_mut() {
            let gone = surplus.min(*oldest);
            *oldest -= gone;
            surplus -= gone;
            if *oldest > 0 || self.frames.len() == 1 {
                return;
            }
            self.frames.pop_front();
        }
    }
}
