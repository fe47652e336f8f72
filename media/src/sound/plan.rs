//! How sound is sent: from what the network does to it, a bitrate, a packet length, and how much
//! travels twice. Pure; every step down needs less reason than the step back up.
//!
//! Measured with Opus at 32 kbit/s and continuous speech: of 4.5 % single losses in-band FEC
//! leaves 0.4 % to be concealed and one RED copy nothing; with pauses in it more, since Opus
//! copies only frames of voice; of 9 % in runs of three FEC leaves nearly all, copies two
//! and four packets later 0.8 %.

use std::time::{Duration, Instant};

use crate::rtp::loss_runs::Loss;
use crate::units::Bitrate;

/// How to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Opus' own rate, FEC included.
    pub bitrate: Bitrate,
    /// Frames of 20 ms in a packet: 1 or 3.
    pub packet_frames: usize,
    /// What Opus is told of the loss, percent: above 0 it sends copies in-band.
    pub fec_percent: u8,
    /// RED copies (RFC 2198): how many packets later each packet travels again. Empty: plain Opus.
    pub red: &'static [usize],
    /// Whether pauses of the voice are not sent.
    pub dtx: bool,
    /// Two channels of music instead of one voice.
    pub stereo: bool,
}

impl Plan {
    /// What congestion control sees of it: payload and about 40 bytes of headers a packet.
    pub fn wire_rate(&self) -> Bitrate {
        let packets_per_second = 50 / self.packet_frames.max(1) as u64;
        let copies = 1 + self.red.len() as u64;
        Bitrate::from_bps(
            self.bitrate.bps() * copies + packets_per_second * 8 * (40 + 4 * self.red.len() as u64),
        )
    }
}

/// A first loss comes unannounced: Opus always sends cheap copies, which at this figure are coarse
/// and take little of its rate.
const LEAST_FEC_PERCENT: u8 = 2;

/// More does not make Opus' copies better.
const MOST_FEC_PERCENT: u8 = 20;

/// Shares of lost packets from which each kind of protection is worth its rate.
const FEC_FROM: f64 = 0.01;
const RED_FROM: f64 = 0.02;
const MORE_RED_FROM: f64 = 0.10;

/// Longer runs than this take a packet and its copy together.
const LONG_RUN: f64 = 1.6;

/// Protection is taken back when the loss was below this part of its threshold for so long.
const CALM: f64 = 0.7;
const CALM_FOR: Duration = Duration::from_secs(10);

/// Below this target there is no room for copies beside Opus' own.
const RED_NEEDS: Bitrate = Bitrate::from_kbps(80);

/// Headers of 50 packets a second are an eighth of such a link: three frames share a packet, and
/// pauses are not sent.
const LONG_PACKETS_BELOW: Bitrate = Bitrate::from_kbps(190);

/// Back up needs so much more than the threshold.
const MARGIN: f64 = 1.3;

/// Opus' rate by target. Voice at full band wants 28 to 40 kbit/s (RFC 7587 section 3.1.1); at 16
/// it is wide-band.
const RATES: [(Bitrate, Bitrate); 5] = [
    (Bitrate::from_kbps(400), Bitrate::from_kbps(40)),
    (Bitrate::from_kbps(200), Bitrate::from_kbps(32)),
    (Bitrate::from_kbps(100), Bitrate::from_kbps(24)),
    (Bitrate::from_kbps(50), Bitrate::from_kbps(16)),
    (Bitrate::ZERO, Bitrate::from_kbps(12)),
];

/// The same for two channels of music: good at 64, hard to tell from the original at 96 (RFC 7587
/// section 3.1.1 wants 64 to 128). Where packets are long it is one voice. The lower row is within
/// what a call without pictures begins with, since nothing there finds out that a link carries more.
const MUSIC: [(Bitrate, Bitrate); 2] = [
    (Bitrate::from_kbps(400), Bitrate::from_kbps(96)),
    (LONG_PACKETS_BELOW, Bitrate::from_kbps(64)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Clean,
    Fec,
    Red,
    MoreRed,
}

impl Level {
    fn of(loss: f64) -> Self {
        match loss {
            loss if loss >= MORE_RED_FROM => Self::MoreRed,
            loss if loss >= RED_FROM => Self::Red,
            loss if loss >= FEC_FROM => Self::Fec,
            _ => Self::Clean,
        }
    }
}

/// Decides how sound is sent.
#[derive(Debug)]
pub struct Planner {
    level: Level,
    bursty: bool,
    /// The worst that was seen since protection was last found too much.
    calm: Option<(Instant, Level, bool)>,
    fec_percent: u8,
    long_packets: bool,
    rate: usize,
    /// There are two channels to send, and the other end likes them.
    stereo: bool,
    /// Beyond `MUSIC`: too little for it.
    music_rate: usize,
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}

impl Planner {
    /// Nothing is known of the network.
    pub fn new() -> Self {
        Self {
            level: Level::Clean,
            bursty: false,
            calm: None,
            fec_percent: LEAST_FEC_PERCENT,
            long_packets: false,
            rate: 0,
            stereo: false,
            music_rate: 0,
        }
    }

    /// Whether there are two channels to send to an end that likes them.
    pub fn set_stereo(&mut self, stereo: bool) {
        self.stereo = stereo;
    }

    /// How to send now. `loss` is what happened to sound lately, `target` what congestion control
    /// allows for sound and pictures together; `red` whether the other end takes RED.
    pub fn plan(
        &mut self,
        now: Instant,
        loss: Option<Loss>,
        target: Option<Bitrate>,
        red: bool,
    ) -> Plan {
        self.handle_loss(now, loss.unwrap_or(Loss { rate: 0.0, mean_run: 1.0 }));
        // Before anything is known: as on a good link.
        let target = target.unwrap_or(RATES[0].0);
        self.handle_target(target);
        let copies: &'static [usize] = match (self.level, self.bursty) {
            _ if !red || target < RED_NEEDS => &[],
            (Level::Clean | Level::Fec, _) => &[],
            (Level::Red | Level::MoreRed, true) => &[2, 4],
            (Level::Red, false) => &[1],
            (Level::MoreRed, false) => &[1, 2],
        };
        let music = MUSIC.get(self.music_rate).filter(|_| self.stereo && !self.long_packets);
        let mut plan = Plan {
            bitrate: music.or(RATES.get(self.rate)).map_or(RATES[0].1, |(_, rate)| *rate),
            packet_frames: if self.long_packets { 3 } else { 1 },
            fec_percent: self.fec_percent,
            red: copies,
            dtx: self.long_packets,
            stereo: music.is_some(),
        };
        // Copies come out of what pictures get, but never most of it.
        while plan.wire_rate().bps() * 2 > target.bps() && !plan.red.is_empty() {
            plan.red = &plan.red[..plan.red.len() - 1];
        }
        plan
    }

    fn handle_loss(&mut self, now: Instant, loss: Loss) {
        let (level, bursty) = (Level::of(loss.rate), loss.mean_run >= LONG_RUN);
        if level >= self.level && bursty >= self.bursty {
            // Worse, or as bad: at once.
            (self.level, self.bursty, self.calm) = (level, bursty, None);
            self.fec_percent = self.fec_percent.max(percent(loss.rate));
            return;
        }
        if level > self.level || (bursty && !self.bursty) {
            (self.level, self.bursty) = (level.max(self.level), bursty || self.bursty);
            self.calm = None;
            return;
        }
        // Better: the level that fits with room to spare, if it stays so.
        let (level, bursty) =
            (Level::of(loss.rate / CALM), loss.mean_run >= LONG_RUN * CALM && self.bursty);
        let (since, worst, was_bursty) = self.calm.unwrap_or((now, level, bursty));
        let (worst, bursty) = (worst.max(level), was_bursty || bursty);
        self.calm = Some((since, worst, bursty));
        if now.saturating_duration_since(since) >= CALM_FOR {
            (self.level, self.bursty, self.calm) = (worst.min(self.level), bursty, None);
            self.fec_percent = percent(loss.rate);
        }
    }

    fn handle_target(&mut self, target: Bitrate) {
        self.long_packets = if self.long_packets {
            target < LONG_PACKETS_BELOW.scaled(MARGIN)
        } else {
            target < LONG_PACKETS_BELOW
        };
        self.rate = step(&RATES, self.rate, target);
        self.music_rate = step(&MUSIC, self.music_rate, target);
    }
}

/// The place in a table that falls: down as soon as the target is below, up when it is well above.
fn step(table: &[(Bitrate, Bitrate)], old: usize, target: Bitrate) -> usize {
    let fits = |margin: f64| {
        let fit = |(from, _): &(Bitrate, Bitrate)| target >= from.scaled(margin);
        table.iter().position(fit).unwrap_or(table.len())
    };
    old.clamp(fits(1.0), fits(MARGIN).max(fits(1.0)))
}

fn percent(loss: f64) -> u8 {
    ((loss * 100.0).ceil() as u8).clamp(LEAST_FEC_PERCENT, MOST_FEC_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wide() -> Option<Bitrate> {
        Some(Bitrate::from_kbps(2000))
    }

    fn loss(percent: f64, mean_run: f64) -> Option<Loss> {
        Some(Loss { rate: percent / 100.0, mean_run })
    }

    #[test]
    fn protection_follows_the_loss_and_its_runs() {
        let now = Instant::now();
        for (percent, mean_run, fec, red) in [
            (0.0, 1.0, 2, &[][..]),
            (1.5, 1.0, 2, &[]),
            (2.0, 1.0, 2, &[1]),
            (5.0, 1.0, 5, &[1]),
            (5.0, 2.0, 5, &[2, 4]),
            (12.0, 1.0, 12, &[1, 2]),
            (10.0, 3.0, 10, &[2, 4]),
            (60.0, 3.0, 20, &[2, 4]),
        ] {
            let plan = Planner::new().plan(now, loss(percent, mean_run), wide(), true);
            assert_eq!((plan.fec_percent, plan.red), (fec, red), "{percent} % in {mean_run}");
            assert_eq!((plan.bitrate, plan.packet_frames), (Bitrate::from_kbps(40), 1));
            let plain = Planner::new().plan(now, loss(percent, mean_run), wide(), false);
            assert_eq!((plain.fec_percent, plain.red), (fec, &[][..]));
        }
        let plan = Planner::new().plan(now, None, None, true);
        assert_eq!((plan.red, plan.fec_percent, plan.packet_frames), (&[][..], 2, 1));
    }

    #[test]
    fn it_comes_at_once_and_goes_after_ten_calm_seconds() {
        let mut planner = Planner::new();
        let begin = Instant::now();
        assert_eq!(planner.plan(begin, loss(5.0, 1.0), wide(), true).red, [1]);
        // Just below the threshold is no calm.
        for second in 1..60 {
            let plan = planner.plan(begin + second * SECOND, loss(1.9, 1.0), wide(), true);
            assert_eq!(plan.red, [1], "after {second} s");
        }
        let mut gone = None;
        for second in 60..80 {
            let plan = planner.plan(begin + second * SECOND, loss(0.0, 1.0), wide(), true);
            if plan.red.is_empty() {
                gone.get_or_insert(second);
            }
        }
        // The ten seconds before the last look were not calm: they are over at 60, 70 at the latest.
        assert!(gone.is_some_and(|second| (60..=79).contains(&second)), "{gone:?}");
        let plan = planner.plan(begin + 100 * SECOND, loss(0.0, 1.0), wide(), true);
        assert_eq!((plan.red, plan.fec_percent), (&[][..], 2));
    }

    #[test]
    fn one_bad_moment_among_good_ones_keeps_protection() {
        let mut planner = Planner::new();
        let begin = Instant::now();
        for second in 0..120 {
            let bad = second % 8 == 0;
            let plan = planner.plan(
                begin + second * SECOND,
                loss(if bad { 4.0 } else { 0.0 }, 1.0),
                wide(),
                true,
            );
            assert_eq!(plan.red, [1], "after {second} s");
        }
    }

    #[test]
    fn a_narrow_link_gets_fewer_headers_and_lower_rates() {
        let mut planner = Planner::new();
        let now = Instant::now();
        let mut at = |kbps| planner.plan(now, None, Some(Bitrate::from_kbps(kbps)), true);
        let shown = |plan: Plan| (plan.bitrate.bps() / 1000, plan.packet_frames, plan.dtx);
        assert_eq!(shown(at(450)), (40, 1, false));
        assert_eq!(shown(at(300)), (32, 1, false));
        assert_eq!(shown(at(180)), (24, 3, true));
        // Back only with some room.
        assert_eq!(shown(at(230)), (24, 3, true));
        assert_eq!(shown(at(290)), (32, 1, false));
        assert_eq!(shown(at(60)), (16, 3, true));
        assert_eq!(shown(at(30)), (12, 3, true));
        assert_eq!(shown(at(2000)), (40, 1, false));
    }

    #[test]
    fn music_needs_a_link_that_carries_it_and_an_end_that_likes_it() {
        let mut planner = Planner::new();
        let now = Instant::now();
        let mut at = |stereo, kbps| {
            planner.set_stereo(stereo);
            let plan = planner.plan(now, None, Some(Bitrate::from_kbps(kbps)), true);
            assert!(!plan.stereo || (plan.packet_frames == 1 && !plan.dtx), "{plan:?}");
            (plan.stereo, plan.bitrate.bps() / 1000)
        };
        assert_eq!(at(true, 2000), (true, 96));
        assert_eq!(at(false, 2000), (false, 40));
        assert_eq!(at(true, 390), (true, 64));
        assert_eq!(at(true, 450), (true, 64), "back only with some room");
        assert_eq!(at(true, 200), (true, 64));
        assert_eq!(at(true, 180), (false, 24));
        assert_eq!(at(true, 230), (false, 24));
        assert_eq!(at(true, 250), (true, 64));
        assert_eq!(at(true, 100), (false, 24));
        assert_eq!(at(true, 10), (false, 12));
        assert_eq!(at(true, 2000), (true, 96));
        planner.set_stereo(true);
        let lossy = planner.plan(now, loss(5.0, 1.0), wide(), true);
        assert_eq!((lossy.stereo, lossy.red), (true, &[1][..]));
    }

    #[test]
    fn copies_never_take_most_of_a_narrow_link() {
        let now = Instant::now();
        for kbps in (20..3000).step_by(7) {
            let target = Bitrate::from_kbps(kbps);
            let plan = Planner::new().plan(now, loss(10.0, 3.0), Some(target), true);
            let half = plan.wire_rate().bps() * 2 <= target.bps();
            assert!(half || plan.red.is_empty(), "{plan:?} of {target}");
            assert!(kbps >= 80 || plan.red.is_empty());
        }
    }

    #[test]
    fn the_wire_carries_headers_and_copies() {
        let plan = Plan {
            bitrate: Bitrate::from_kbps(40),
            packet_frames: 1,
            fec_percent: 0,
            red: &[],
            dtx: false,
            stereo: false,
        };
        assert_eq!(plan.wire_rate(), Bitrate::from_kbps(56));
        let doubled = Plan { red: &[1], ..plan };
        assert_eq!(doubled.wire_rate(), Bitrate::from_bps(80_000 + 50 * 44 * 8));
        let long = Plan { packet_frames: 3, ..plan };
        assert_eq!(long.wire_rate(), Bitrate::from_bps(40_000 + 16 * 40 * 8));
    }
}
