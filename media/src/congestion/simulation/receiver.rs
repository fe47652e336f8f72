//! The other end: frames, feedback, requests for repairs and key frames.

use std::collections::{BTreeMap, BTreeSet};

/// A packet of the simulated call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Media {
    Audio { born: f64 },
    Video { number: u16, frame: u64, index: u32, count: u32, key: bool, born: f64 },
}

struct Frame {
    got: BTreeSet<u32>,
    count: u32,
    key: bool,
    born: f64,
}

struct Missing {
    noticed: f64,
    asked: Option<f64>,
    tries: u32,
}

/// Frames are played as soon as they and all before them, or a key frame, are complete.
#[derive(Default)]
pub struct Receiver {
    /// Transport-wide numbers and arrivals since the last feedback, by the receiver's clock.
    pub fresh: Vec<(u64, f64)>,
    pub next_feedback: u64,
    frames: BTreeMap<u64, Frame>,
    next_frame: u64,
    newest_frame: u64,
    /// When each frame was played, and captured.
    pub played: Vec<(f64, f64)>,
    last_played: f64,
    asked_key: f64,
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
}

impl Receiver {
    pub fn handle_packet(&mut self, t: f64, media: Media) {
        let Media::Video { number, frame, index, count, key, born } = media else {
            return;
        };
        self.note_number(t, number);
        self.newest_frame = self.newest_frame.max(frame);
        if frame < self.next_frame {
            return;
        }
        let entry = self.frames.entry(frame).or_insert_with(|| Frame {
            got: BTreeSet::new(),
            count,
            key,
            born,
        });
        entry.got.insert(index);
        self.play(t);
    }

    fn note_number(&mut self, t: f64, number: u16) {
        let highest = self.highest.unwrap_or(u64::from(number).wrapping_sub(1));
        let step = i64::from(number.wrapping_sub(highest as u16) as i16);
        let number = highest.wrapping_add_signed(step);
        if step > 0 {
            for lost in highest.wrapping_add(1)..number {
                self.missing.insert(lost, Missing { noticed: t, asked: None, tries: 0 });
            }
            self.highest = Some(number);
        } else {
            self.missing.remove(&number);
        }
    }

    fn play(&mut self, t: f64) {
        let complete = |frame: &Frame| frame.got.len() as u32 == frame.count;
        loop {
            if let Some(frame) = self.frames.get(&self.next_frame)
                && complete(frame)
            {
                self.played.push((t, frame.born));
                self.last_played = t;
                self.frames.remove(&self.next_frame);
                self.next_frame += 1;
                continue;
            }
            let key = self.frames.iter().rev().find(|(_, frame)| frame.key && complete(frame));
            let Some(key) = key.map(|(id, _)| *id) else {
                return;
            };
            self.next_frame = key;
            self.frames.retain(|id, _| *id >= key);
        }
    }

    /// Whether to ask for a key frame: nothing moves.
    pub fn wants_key(&mut self, t: f64, rtt: f64) -> bool {
        let stuck = t - self.last_played > (0.85 * rtt).max(0.4);
        let wants = stuck && self.newest_frame >= self.next_frame && t - self.asked_key > 0.5;
        if wants && t > 1.0 {
            self.asked_key = t;
        }
        wants && t > 1.0
    }

    /// Which numbers to ask for again.
    pub fn nacks(&mut self, t: f64, rtt: f64) -> Vec<u16> {
        self.missing.retain(|_, missing| t - missing.noticed < 1.0 && missing.tries < 10);
        let due = |missing: &Missing| missing.asked.is_none_or(|at| t - at > rtt + 0.02);
        let wanted = self.missing.iter_mut().filter(|(_, missing)| due(missing));
        let ask = |(number, missing): (&u64, &mut Missing)| {
            missing.asked = Some(t);
            missing.tries += 1;
            *number as u16
        };
        wanted.map(ask).collect()
    }
}
