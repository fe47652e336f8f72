//! How many repairs a frame gets, from what the other end says about losses.

use std::time::Duration;

use crate::units::Bitrate;

/// Below this round trip a retransmission is soon enough, and cheaper.
const SHORT_TRIP: Duration = Duration::from_millis(60);

/// Above this one a picture that waits for a retransmission is a freeze (W3C webrtc-stats,
/// `freezeCount`: 150 ms more than between two others).
const LONG_TRIP: Duration = Duration::from_millis(120);

/// Assumed until a round trip was measured.
const FIRST_TRIP: Duration = Duration::from_millis(100);

/// With so much allowed, two repairs a frame take nothing from pictures. Where they are asked for instead,
/// one in a hundred is lost a second time, which is a freeze (lte).
const ROOM: Bitrate = Bitrate::from_kbps(2_500);
const WITH_ROOM: usize = 2;

/// A mean loss run above this is a burst and no chance.
const BURST: f64 = 1.6;

/// Of a burst this multiple of the mean run is to be repaired: runs are about geometric.
const RUN_RESERVE: f64 = 5.0;

/// The same where a retransmission comes too late even for slow motion, and a picture that is not
/// mended freezes for a round trip.
const FAR_RESERVE: f64 = 6.0;

/// There so many runs of such a length are taken for seen, and such a share of packets for lost until
/// enough were watched: ten bursts a minute say too late how long the next one will be.
const FAR_RUNS: f64 = 4.0;
const FAR_RUN: f64 = 3.0;
const FAR_LOSS: f64 = 0.008;
const WATCHED: f64 = 2_000.0;

/// A frame of so few packets on a path that seldom loses one gets no repairs while its retransmission
/// is soon enough for the receiver to slow motion down over the gap: half of what is sent would be
/// repairs (3g: 56 % of the link for media, 67 % with one repair for two frames, 80 % without).
const SMALL: std::ops::RangeInclusive<usize> = 1..=4;
const BRIDGED_TRIP: Duration = Duration::from_millis(350);

/// Where so much is allowed sound can well go twice, and does if one packet in ten thousand was lost
/// lately: a copy that comes with the next packet (RED, Opus' own) would be 20 ms too late for the
/// short buffer of a good path.
const WIDE: Bitrate = Bitrate::from_kbps(1_000);
const SOUND_LOSS: f64 = 0.0001;

/// Losses are remembered over so many packets: what happens now, and what happens now and then.
const SHORT_MEMORY: f64 = 400.0;
const LONG_MEMORY: f64 = 3_000.0;

/// Fewer packets tell nothing.
const ENOUGH: f64 = 60.0;

/// How a frame is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strength {
    /// Repair packets.
    pub repairs: usize,
    /// Frames that each of them covers: the frame itself and those before it.
    pub frames: usize,
}

/// What the other end reported of losses, smoothed.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathLoss {
    short: Sums,
    long: Sums,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    expected: f64,
    lost: f64,
    runs: f64,
}

impl Sums {
    fn add(&mut self, memory: f64, expected: f64, lost: f64, runs: f64) {
        let kept = (-expected / memory).exp();
        self.expected = self.expected * kept + expected;
        self.lost = self.lost * kept + lost;
        self.runs = self.runs * kept + runs;
    }

    fn loss(&self) -> f64 {
        if self.expected < ENOUGH { 0.0 } else { (self.lost / self.expected).clamp(0.0, 1.0) }
    }
}

impl PathLoss {
    /// Of `expected` packets `lost` did not come, in `runs` of neighbours.
    pub fn handle_report(&mut self, expected: u16, lost: u16, runs: u16) {
        let expected = f64::from(expected);
        let lost = f64::from(lost).min(expected);
        let runs = f64::from(runs).min(lost);
        self.short.add(SHORT_MEMORY, expected, lost, runs);
        self.long.add(LONG_MEMORY, expected, lost, runs);
    }

    /// Share of packets lost: the higher of lately and over a longer time, since what comes in
    /// rare bursts comes again.
    pub fn loss(&self) -> f64 {
        self.short.loss().max(self.long.loss())
    }

    /// Mean number of neighbours lost together, at least 1.
    pub fn mean_run(&self) -> f64 {
        if self.long.runs < 1.0 { 1.0 } else { (self.long.lost / self.long.runs).max(1.0) }
    }

    /// Share lost and mean run to be prepared for where a loss that is not repaired costs most.
    fn feared(&self) -> (f64, f64) {
        let watched = self.long.expected >= WATCHED;
        let loss = if watched { self.loss() } else { self.loss().max(FAR_LOSS) };
        let runs = self.long.runs + FAR_RUNS;
        (loss, ((self.long.lost + FAR_RUNS * FAR_RUN) / runs).max(1.0))
    }
}

/// The protection of a frame of `packets` packets; `seldom`: not one of many a second, over whose loss
/// motion could slow down; `target`: what congestion control allows.
pub fn strength(
    packets: usize,
    key_frame: bool,
    seldom: bool,
    path: &PathLoss,
    rtt: Option<Duration>,
    target: Bitrate,
) -> Strength {
    let rtt = rtt.unwrap_or(FIRST_TRIP);
    // Of a small frame's packets repairs are half of what is sent, as it is.
    let far = rtt >= BRIDGED_TRIP && !SMALL.contains(&packets);
    let (loss, mean_run, reserve) = if far {
        let (loss, mean_run) = path.feared();
        (loss, mean_run, FAR_RESERVE)
    } else {
        (path.loss(), path.mean_run(), RUN_RESERVE)
    };
    let bridged = (LONG_TRIP..BRIDGED_TRIP).contains(&rtt) && !seldom;
    if bridged && SMALL.contains(&packets) && loss < 0.02 && !key_frame {
        return Strength::default();
    }
    let bursty = mean_run > BURST;
    let room = target >= ROOM && rtt >= SHORT_TRIP && loss >= 0.001;
    let frames = if bursty || room { 4 } else { 3 };
    let by_room = if room { WITH_ROOM } else { 0 };
    let by_chance = if rtt < SHORT_TRIP {
        usize::from(loss > 0.07 && key_frame)
    } else {
        match loss {
            ..0.001 => 0,
            ..0.008 => usize::from(rtt > LONG_TRIP || key_frame),
            ..0.02 => 1 + packets / 24,
            ..0.07 => medium(packets),
            _ => high(packets),
        }
    };
    let worthwhile = loss >= 0.02 || rtt > LONG_TRIP && loss >= 0.001;
    let by_burst = if bursty && worthwhile && rtt >= SHORT_TRIP {
        (mean_run * reserve / frames as f64).ceil() as usize
    } else {
        0
    };
    // At most half of what is sent.
    let repairs = by_chance.max(by_burst).max(by_room).min(packets);
    Strength { repairs, frames }
}

/// The protection of one packet of sound on a path that loses `loss` of its packets and where congestion
/// control allows `target`.
pub fn sound_strength(loss: f64, target: Bitrate) -> Strength {
    // Each repair covers the packet before, too, whose own repair may be lost.
    let twice = loss >= SOUND_LOSS && target >= WIDE;
    Strength { repairs: usize::from(twice), frames: 2 }
}

/// One frame in a hundred or fewer stays unrepaired by its own repairs at 5 % loss.
fn medium(packets: usize) -> usize {
    match packets {
        0..=2 => 1,
        3..=5 => 2,
        6..=11 => 3,
        12..=17 => 4,
        _ => packets.div_ceil(5),
    }
}

/// The same at 10 %.
fn high(packets: usize) -> usize {
    match packets {
        0..=1 => 1,
        2..=3 => 2,
        4..=6 => 3,
        7..=11 => 4,
        12..=17 => 5,
        _ => (packets * 3).div_ceil(10),
    }
}
