//! What a run was worth.

use super::call::Call;
use super::receiver::Media;
use super::scenario::{Logged, MOST_VIDEO};
use crate::rtp::sender::Kind;

/// The begin is scored on its own.
const BEGIN: f64 = 5.0;

/// Sound that waits longer in the path than that comes too late.
const LATE: f64 = 0.2;

#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// Media that arrived, of what the path carries or the encoder makes.
    pub used: f64,
    /// The wait in the queue that 95 % of packets did not exceed, ms.
    pub queue_p95: f64,
    /// When 85 % of what there is was reached, s.
    pub started: f64,
    pub audio_bad: usize,
    pub audio: usize,
    /// Longest time without a played frame after the start, s.
    pub longest_gap: f64,
    pub played: usize,
    pub flushes: usize,
    pub padding: f64,
}

/// What happens around a drop and a rise of the capacity.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepScore {
    /// Longest time without a frame after the drop, s.
    pub frozen: f64,
    /// Since the drop, until the path's delay stays below 250 ms.
    pub short_after: f64,
    /// Since the rise, until 1.5 Mbit/s arrive (or 80 % of what there is).
    pub risen_after: f64,
}

impl Call {
    pub fn score(&self, seconds: f64) -> Score {
        let first = |logged: &&Logged| logged.kind == Kind::First;
        let arrived = self.log.iter().filter(first).filter(|l| l.arrived.is_some());
        let begin = if self.tcp.is_some() { 30.0 } else { BEGIN };
        let bits: usize = arrived.filter(|l| l.at > begin).map(|l| 8 * l.bytes).sum();
        let steps = ((seconds - begin) * 100.0) as usize;
        let most = MOST_VIDEO * 1.04 + 63_200.0;
        let capacity = |i: usize| self.path.capacity(begin + i as f64 / 100.0).min(most);
        let there_was: f64 = (0..steps).map(capacity).sum::<f64>() / 100.0;
        let mut queues: Vec<f64> =
            self.log.iter().filter(|l| l.at > begin).filter_map(|l| l.queued).collect();
        queues.sort_by(f64::total_cmp);
        let is_audio = |media: &Media| matches!(media, Media::Audio { .. });
        let audio = self.log.iter().filter(|l| is_audio(&l.media) && l.at < seconds - 1.0);
        let is_late = |at: f64, sent: f64| at - sent - self.path.delay() > LATE;
        let bad = audio
            .clone()
            .filter(|l| l.overflow || l.arrived.is_some_and(|at| is_late(at, l.at)))
            .count();
        let played: Vec<f64> =
            self.receiver.played.iter().map(|(at, _)| *at).filter(|at| *at > 3.0).collect();
        let gaps = played.windows(2).map(|pair| pair[1] - pair[0]);
        let sent: usize = self.log.iter().map(|l| l.bytes).sum();
        Score {
            used: bits as f64 / there_was,
            queue_p95: queues.get(queues.len() * 95 / 100).copied().unwrap_or(0.0) * 1000.0,
            started: self.reached(0.0, 0.85 * most.min(self.path.capacity(0.0))),
            audio_bad: bad,
            audio: audio.count(),
            longest_gap: gaps.fold(0.0, f64::max),
            played: played.len(),
            flushes: self.flushes.len(),
            padding: self.padding_bytes as f64 / sent as f64,
        }
    }

    pub fn score_step(&self, drop: f64, rise: f64, end: f64) -> StepScore {
        let played: Vec<f64> = self.receiver.played.iter().map(|(at, _)| *at).collect();
        let gaps = played.windows(2).filter(|pair| pair[1] > drop && pair[1] < drop + 6.0);
        let until = if rise > drop { rise } else { end };
        let long = self.samples.iter().filter(|sample| {
            (drop..(drop + 10.0).min(until)).contains(&sample.at)
                && sample.queue + self.path.delay() > 0.25
        });
        let capacity = self.path.capacity(rise);
        let wanted = if capacity > 2e6 { 1.5e6 } else { 0.8 * capacity };
        StepScore {
            frozen: gaps.map(|pair| pair[1] - pair[0]).fold(0.0, f64::max),
            short_after: long.map(|sample| sample.at - drop).fold(0.0, f64::max),
            risen_after: self.reached(rise, wanted),
        }
    }

    /// How long after `from` so much media arrives over half a second.
    pub fn reached(&self, from: f64, rate: f64) -> f64 {
        let mut tenths = vec![0.0; 3000];
        let media = self.log.iter().filter(|logged| logged.kind == Kind::First);
        for logged in media {
            if let Some(at) = logged.arrived
                && let Some(bits) = tenths.get_mut((at * 10.0) as usize)
            {
                *bits += 8.0 * logged.bytes as f64;
            }
        }
        let begin = (from * 10.0) as usize;
        let reached =
            tenths.windows(5).skip(begin).position(|w| 2.0 * w.iter().sum::<f64>() >= rate);
        reached.map_or(f64::INFINITY, |after| (after as f64 + 3.0) / 10.0)
    }

    /// The call's share beside the TCP flow.
    pub fn share(&self, from: f64) -> f64 {
        let arrived = self.log.iter().filter(|l| l.at > from && l.arrived.is_some());
        let ours: usize = arrived.map(|logged| logged.bytes).sum();
        let tcp = self.tcp.iter().flat_map(|tcp| &tcp.delivered);
        let theirs: usize = tcp.filter(|(at, _)| *at > from).map(|(_, bytes)| bytes).sum();
        ours as f64 / (ours + theirs).max(1) as f64
    }
}
