//! The buffer's other side: what comes next.

use std::time::Instant;

use super::packet;
use super::{FRAME, JitterBuffer, Playout, State, Stretch, ms};

/// After so many frames in a row without anything to play, the sender is taken to pause.
const MAX_CONCEALED: u32 = 6;

/// A longer hole in RTP time is a pause, whatever the sequence numbers say.
const MAX_GAP: i64 = 48_000;

/// Further above the target than this: shorten. One step is at most 15 ms, so that a correction
/// never calls for the opposite one. On a path with jitter the rest is a reserve.
fn accelerate_above(target: i64) -> i64 {
    ((target - ms(10)) / 2).clamp(0, ms(4)) + ms(12)
}

/// Below the target by this part of it, at most 10 ms: lengthen.
const fn slack(target: i64) -> i64 {
    let part = target / 4;
    if part < ms(10) { part } else { ms(10) }
}

/// The last packet is lengthened when the next one is later than this and three times the jitter: a
/// hole is about to come.
const OVERDUE: i64 = ms(10);

/// Further above the target than this: skip packets instead.
const JUMP_ABOVE: i64 = ms(150);

impl JitterBuffer {
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
            Playout::Fec { samples, .. } => self.stats.recovered_ms += *samples as u64 / 48,
            Playout::Conceal => {
                self.concealed_run += 1;
                self.stats.concealed_ms += 20;
            }
            Playout::Comfort | Playout::Silence => {}
        }
        played
    }

    fn poll_buffering(&mut self, now: i64) -> Playout {
        let Some((_, first)) = self.packets.first_key_value() else {
            return if self.played.is_some() { Playout::Comfort } else { Playout::Silence };
        };
        let timestamp = first.timestamp;
        // A little early, so that the delay comes out around the target and not above it.
        let target = self.delay.target();
        let age = self.delay.age(now, timestamp);
        if age < target - slack(target) && self.packets.len() < super::MAX_PACKETS {
            return if self.played.is_some() { Playout::Comfort } else { Playout::Silence };
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
            return self.conceal_or_pause();
        }
        if self.extended > 0 {
            // Part of the hole was concealed while it could not be seen.
            self.next_timestamp += self.extended;
            self.extended = 0;
        }
        let samples = packet::fec_samples(&first.payload);
        if samples > 0 && uncovered <= samples + FRAME / 2 && self.fec_used != Some(index) {
            let payload = first.payload.clone();
            self.next_timestamp = first.timestamp;
            self.fec_used = Some(index);
            return Playout::Fec { payload, samples: samples.unsigned_abs() as usize };
        }
        self.next_timestamp += FRAME;
        Playout::Conceal
    }

    /// Plays the oldest packet.
    fn play_first(&mut self, now: i64) -> Playout {
        let stretch = self.stretch(now);
        let Some((index, stored)) = self.packets.pop_first() else {
            return Playout::Comfort;
        };
        if let Some(next) = self.next_index {
            self.stats.lost += index.saturating_sub(next);
        }
        self.next_index = Some(index + 1);
        self.played = Some(stored.timestamp);
        self.next_timestamp = stored.timestamp + packet::duration(&stored.payload);
        self.pausing = packet::is_pause(&stored.payload);
        self.extended = 0;
        Playout::Play { payload: stored.payload, stretch }
    }

    /// Nothing is there. Late or lost? The timeline waits, so that a late packet still plays.
    fn run_dry(&mut self) -> Playout {
        self.extended += FRAME;
        self.level.clear();
        self.conceal_or_pause()
    }

    fn conceal_or_pause(&mut self) -> Playout {
        if self.concealed_run < MAX_CONCEALED && !self.pausing {
            return Playout::Conceal;
        }
        self.pause()
    }

    fn pause(&mut self) -> Playout {
        self.state = State::Buffering;
        self.concealed_run = 0;
        Playout::Comfort
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

    pub(super) fn skip_first(&mut self) {
        let Some((index, stored)) = self.packets.pop_first() else {
            return;
        };
        self.stats.skipped += 1;
        if self.state == State::Playing {
            self.next_index = Some(index + 1);
            self.next_timestamp = stored.timestamp + packet::duration(&stored.payload);
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
        if self.packets.len() == 1 && !packet::is_pause(&first.payload) {
            let next_age = age - packet::duration(&first.payload);
            if next_age > OVERDUE + 3 * self.delay.jitter() as i64 {
                self.level.clear();
                return Stretch::Expand;
            }
        }
        let Some(level) = self.level.add(age, age.min(self.span())) else {
            return Stretch::None;
        };
        let target = self.delay.target();
        let stretch = if level.waiting > target + accelerate_above(target) {
            Stretch::Accelerate
        } else if level.age < target - slack(target) {
            Stretch::Expand
        } else {
            return Stretch::None;
        };
        self.level.clear();
        stretch
    }

    /// Sound in the buffer, in samples.
    pub(super) fn span(&self) -> i64 {
        match (self.packets.first_key_value(), self.packets.last_key_value()) {
            (Some((_, first)), Some((_, last))) => {
                (last.timestamp - first.timestamp).clamp(0, 10 * MAX_GAP)
                    + packet::duration(&last.payload)
            }
            _ => 0,
        }
    }
}
