//! The sending side between numbering and the wire: congestion controller, pacer, repairs and
//! history put together. Pure; the stack's part is in `peer/interceptors/sender.rs`.

mod ahead;
mod shares;

use std::time::{Duration, Instant};

use super::pacer::{Allowance, Class, Departure, Pacer};
use super::repeat::Repeater;
use super::send_history::{SendHistory, Status};
use crate::congestion::{Controller, Limits, State};
use crate::units::Bitrate;
use ahead::Ahead;
use shares::Shares;

/// Repairs that wait; more are not taken from a peer that asks, it asks again.
const MAX_REPAIR_BACKLOG: usize = 64_000;

/// A retransmission's original number (RFC 4588 section 4).
const RTX_BYTES: usize = 2;

/// What the other end agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Transport-wide feedback: without it nothing is known of the path.
    pub feedback: bool,
    /// Retransmissions in a stream of their own (RFC 4588), which alone can be padding.
    pub rtx: bool,
}

/// Why a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is its turn.
    First,
    /// The other end lacks it.
    Repair,
    /// The other end may come to lack it.
    Ahead,
    /// To probe the path.
    Padding,
}

/// A packet that leaves now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent<P> {
    /// As it was put in.
    pub packet: P,
    /// Why.
    pub kind: Kind,
    /// Its transport-wide number, if it has one.
    pub number: Option<u16>,
}

/// A packet to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing<P> {
    /// Of which class.
    pub class: Class,
    /// Of pictures: its RTP sequence number, by which it is asked for. `None`: never repaired.
    pub number: Option<u16>,
    /// On the wire, with all headers.
    pub bytes: usize,
    /// Of these, headers.
    pub overhead: usize,
    /// The other end gives feedback about it.
    pub numbered: bool,
    /// The packet.
    pub packet: P,
}

struct Waiting<P> {
    outgoing: Outgoing<P>,
    kind: Kind,
    /// Flushes when it was put in: what was flushed meanwhile is not repaired.
    flushes: u32,
}

/// One transport's sending side.
pub struct Sender<P> {
    controller: Controller,
    pacer: Pacer<Waiting<P>>,
    repeater: Repeater<Outgoing<P>>,
    ahead: Ahead<Outgoing<P>>,
    history: SendHistory,
    shares: Shares,
    agreed: Agreed,
    /// The other end restores what is lost from repairs of another kind.
    has_fec: bool,
    flushes: u32,
    flush: bool,
    /// A lower limit from elsewhere (the circuit breaker).
    limit: Option<Bitrate>,
    /// Bytes that wait before the pacer, not yet numbered.
    upstream: usize,
}

impl<P: Clone> Sender<P> {
    /// Nothing sent so far.
    pub fn new(now: Instant, limits: Limits) -> Self {
        Self {
            controller: Controller::new(now, limits),
            pacer: Pacer::new(now),
            repeater: Repeater::new(now),
            ahead: Ahead::new(now),
            history: SendHistory::new(),
            shares: Shares::new(now),
            agreed: Agreed::default(),
            has_fec: false,
            flushes: 0,
            flush: false,
            limit: None,
            upstream: 0,
        }
    }

    /// What the other end agreed to.
    pub fn set_agreed(&mut self, agreed: Agreed) {
        self.agreed = agreed;
    }

    /// Whether the other end takes forward error correction: packets sent twice are for those that
    /// do not.
    pub fn set_has_fec(&mut self, has_fec: bool) {
        self.has_fec = has_fec;
    }

    /// Never more than this; `None`: as the congestion controller says.
    pub fn set_limit(&mut self, limit: Option<Bitrate>) {
        self.limit = limit;
    }

    /// Bytes of pictures that wait to be put in.
    pub fn set_upstream(&mut self, bytes: usize) {
        self.upstream = bytes;
    }

    /// A packet that wants to leave.
    pub fn push(&mut self, outgoing: Outgoing<P>) {
        let (class, bytes) = (outgoing.class, outgoing.bytes);
        self.pacer.push(
            class,
            Waiting { outgoing, kind: Kind::First, flushes: self.flushes },
            bytes,
        );
    }

    /// The other end lacks these packets of the pictures' stream. Returns how many it will get.
    pub fn handle_nack(&mut self, now: Instant, numbers: impl IntoIterator<Item = u16>) -> usize {
        let (rtt, target) = (self.controller.rtt(), self.target());
        let mut taken = 0;
        for number in numbers {
            if self.pacer.repair_backlog() > MAX_REPAIR_BACKLOG || self.controller.repairs_wait() {
                break;
            }
            if let Some((mut outgoing, bytes)) = self.repeater.repair(now, number, rtt, target) {
                taken += 1;
                outgoing.class = Class::Repair;
                outgoing.bytes = bytes + RTX_BYTES;
                let bytes = outgoing.bytes;
                // Another loss would be a freeze.
                self.ahead.add_repair(now, bytes, || outgoing.clone());
                let waiting = Waiting { outgoing, kind: Kind::Repair, flushes: self.flushes };
                self.pacer.push(Class::Repair, waiting, bytes);
            }
        }
        taken
    }

    /// Transport-wide feedback about consecutive packets from number `base` on.
    pub fn handle_feedback(
        &mut self,
        now: Instant,
        base: u16,
        statuses: impl IntoIterator<Item = Status>,
    ) {
        let reports = self.history.handle_feedback(base, statuses);
        self.controller.handle_backlog(self.pacer.backlog() + self.upstream);
        self.controller.handle_reports(now, &reports, self.history.in_flight());
        if self.controller.take_flush() {
            self.flushes = self.flushes.wrapping_add(1);
            self.flush = true;
            self.repeater.clear();
            self.ahead.clear();
            self.pacer.clear_repairs(|waiting| waiting.kind == Kind::First);
        }
        if self.controller.probes_cancelled() {
            self.pacer.cancel_probe();
        }
        let calm = matches!(self.controller.state(), State::Normal | State::LossTest);
        if self.has_fec || !self.agreed.rtx || !calm {
            self.ahead.stop();
        } else {
            self.ahead.handle_path(self.controller.loss(), self.controller.rtt());
        }
    }

    /// What leaves now; call it until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Sent<P>> {
        if self.agreed.feedback && self.pacer.backlog() > 0 {
            // With the first picture there is something to probe with.
            self.controller.start_probing(now);
        }
        while let Some(mut outgoing) = self.ahead.poll(now) {
            if outgoing.class != Class::Repair {
                outgoing.class = Class::Repair;
                outgoing.bytes += RTX_BYTES;
            }
            let bytes = outgoing.bytes;
            let waiting = Waiting { outgoing, kind: Kind::Ahead, flushes: self.flushes };
            self.pacer.push(Class::Repair, waiting, bytes);
        }
        loop {
            if !self.pacer.is_probing()
                && self.limit.is_none()
                && let Some(probe) = self.controller.poll_probe()
            {
                self.pacer.start_probe(now, probe, self.controller.pacing_rate());
            }
            let departure = self.pacer.poll(now, self.allowance(now))?;
            match departure {
                Departure::Packet(waiting, class, probe) => {
                    return Some(self.depart(now, waiting, class, probe));
                }
                Departure::Padding(bytes, probe) => {
                    let found = if self.agreed.rtx { self.repeater.padding(bytes) } else { None };
                    let size = found.as_ref().map(|(_, bytes)| bytes + RTX_BYTES);
                    self.pacer.handle_padding(now, size);
                    if let (Some((outgoing, _)), Some(bytes)) = (found, size) {
                        let number = Some(self.record(now, bytes, Some(probe), Kind::Padding));
                        let packet = outgoing.packet;
                        return Some(Sent { packet, kind: Kind::Padding, number });
                    }
                }
            }
        }
    }

    fn depart(
        &mut self,
        now: Instant,
        waiting: Waiting<P>,
        class: Class,
        probe: Option<u32>,
    ) -> Sent<P> {
        let Waiting { outgoing, kind, flushes } = waiting;
        if kind != Kind::Ahead {
            // Those take only what nobody else uses.
            self.shares.add(now, class, outgoing.bytes, outgoing.overhead);
        }
        self.ahead.handle_sent(now, outgoing.bytes, self.target());
        if let (Some(number), Kind::First) = (outgoing.number, kind)
            && flushes == self.flushes
        {
            self.repeater.add(now, number, outgoing.clone(), outgoing.bytes);
            self.ahead.add(now, outgoing.bytes, || outgoing.clone());
        }
        let number = outgoing.numbered.then(|| self.record(now, outgoing.bytes, probe, kind));
        Sent { packet: outgoing.packet, kind, number }
    }

    fn record(&mut self, now: Instant, bytes: usize, probe: Option<u32>, kind: Kind) -> u16 {
        self.controller.handle_sent(now, bytes, kind == Kind::Padding);
        self.history.add(now, bytes, probe)
    }

    fn in_flight(&self) -> usize {
        // Without feedback everything would be in flight for ever.
        if self.agreed.feedback { self.history.in_flight() } else { 0 }
    }

    fn allowance(&self, now: Instant) -> Allowance {
        let open = self.controller.may_send(now, self.in_flight());
        Allowance { rate: self.controller.pacing_rate(), open }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and to poll again.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let paced = self.pacer.poll_timeout(now, self.allowance(now));
        let silent = self.controller.poll_timeout(self.in_flight());
        paced.into_iter().chain(silent).chain(self.ahead.poll_timeout()).min()
    }

    /// Lowers the rate where feedback stopped.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.controller.handle_timeout(now, self.in_flight());
    }

    /// True once after what waits before the pacer became worthless: it is to be dropped, if it
    /// carries no number yet, and a small key frame is to be sent.
    pub fn take_flush(&mut self) -> bool {
        std::mem::take(&mut self.flush)
    }

    /// What congestion control allows, with everything.
    pub fn target(&self) -> Bitrate {
        let target = self.controller.target();
        self.limit.map_or(target, |limit| limit.min(target))
    }

    /// What of it is left for pictures: without sound, repairs, and the headers of pictures.
    pub fn video_budget(&self) -> Bitrate {
        self.ahead.leave_room(self.shares.video(self.target()))
    }

    /// Whether a picture encoded now would leave soon.
    pub fn may_encode(&self, now: Instant) -> bool {
        self.controller.may_encode(now, self.in_flight())
    }

    /// Bytes of pictures and repairs that wait here.
    pub fn backlog(&self) -> usize {
        self.pacer.backlog()
    }

    /// At which rate they leave.
    pub fn pacing_rate(&self) -> Bitrate {
        self.controller.pacing_rate()
    }

    /// The queue that stands in the path.
    pub fn queue(&self) -> Duration {
        self.controller.queue()
    }

    /// What congestion control is doing.
    pub fn state(&self) -> State {
        self.controller.state()
    }

    /// The controller, to look at.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }
}

#[cfg(test)]
mod tests;
