//! How much sound waits to be played, without the saw tooth that blocks make of it.

use std::collections::VecDeque;

/// The lowest level of the last frames: a sound card that fetches several frames at once makes
/// a saw tooth of it, and only its low points are short of sound.
#[derive(Default)]
pub(super) struct LevelFilter {
    levels: VecDeque<Level>,
}

/// What lies between now and running dry, in samples.
#[derive(Clone, Copy)]
pub(super) struct Level {
    /// How far playing is behind the fastest packets.
    pub age: i64,
    /// The same, but at most what is buffered.
    pub waiting: i64,
}

const FILTERED: usize = 10;

impl LevelFilter {
    pub fn clear(&mut self) {
        self.levels.clear();
    }

    /// `None` until there is enough to judge by.
    pub fn add(&mut self, age: i64, waiting: i64) -> Option<Level> {
        if self.levels.len() == FILTERED {
            self.levels.pop_front();
        }
        self.levels.push_back(Level { age, waiting });
        (self.levels.len() == FILTERED).then(|| Level {
            age: self.levels.iter().map(|level| level.age).min().unwrap_or(age),
            waiting: self.levels.iter().map(|level| level.waiting).min().unwrap_or(waiting),
        })
    }
}
