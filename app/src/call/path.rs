//! How media gets to the other end, and what is to be done where it does not: pure.
//!
//! A path that goes silent, or whose network is gone, is looked for anew on the same connection
//! (ICE restart, RFC 8445 section 9); where that leads to nothing, a new connection is begun in
//! the same call; and at some point it is given up. Either end may restart. Only the initiator
//! begins anew, and it goes first, so that offers seldom cross.

use std::time::{Duration, Instant};

/// An offer that nobody answers is made anew after this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A first connection that is described at both ends is up after this long, or never: the crate's
/// DTLS stops its timer when a part of what it waits for comes, so two ends that each lack a packet
/// may wait for ever (seen in one of eleven calls with 5 % loss). By satellite it takes four seconds;
/// whose path is slower still gets more the second time, and the third.
const CONNECT_WITHIN: Duration = Duration::from_secs(6);

/// At most so many times that.
const MOST_PATIENCE: u32 = 3;

/// What failed at our end is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// A restarted path is up after this long, or will not be.
const RESTART_WITHIN: Duration = Duration::from_secs(5);

/// In a call the other end is there to answer: a new connection that is not up then never is.
const ANEW_WITHIN: Duration = Duration::from_secs(12);

/// So much of a start the initiator gets.
const RESPONDER_WAITS: Duration = Duration::from_secs(2);

/// A path that is down for so long is given up.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Look for a new path on the same connection.
    Restart,
    /// Begin a new connection.
    Anew,
    /// The first connection never came to be: say so, and begin another.
    Failed,
    /// The other end is gone for good.
    GiveUp,
}

/// The path of one call to one other person.
#[derive(Debug, Default)]
pub(super) struct Path {
    state: State,
    initiator: bool,
    /// The next remedy and when it is due.
    next: Option<(Instant, Remedy)>,
    /// The first one has been tried since the path was last up.
    tried: bool,
    /// First connections that came to nothing.
    failed: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There was none yet.
    #[default]
    Unknown,
    Up,
    Down {
        since: Instant,
    },
}

impl Path {
    /// None yet, to someone opposite whom we are the initiator or not.
    pub(super) fn new(initiator: bool) -> Self {
        Self { initiator, ..Self::default() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// There was none yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.state == State::Unknown
    }

    /// Media can flow.
    pub(super) fn handle_connected(&mut self) {
        self.state = State::Up;
        self.next = None;
        self.tried = false;
    }

    /// Nothing comes from the other end any more.
    pub(super) fn handle_silent(&mut self, now: Instant) {
        if self.state == State::Up {
            self.state = State::Down { since: now };
        }
        // What is under way already takes its course.
        if self.next.is_none() && !self.is_unknown() {
            self.next = Some((self.first_move(now), Remedy::Restart));
        }
    }

    /// The connection says that it is dead, or it never came to be.
    pub(super) fn handle_failed(&mut self, now: Instant) {
        if self.state == State::Up {
            self.state = State::Down { since: now };
        }
        self.next = match self.initiator {
            true if self.is_unknown() => Some((now, Remedy::Failed)),
            true => Some((now, Remedy::Anew)),
            // It did come to be once: the initiator may not know that it is dead.
            false if !self.is_unknown() => Some((self.first_move(now), Remedy::Restart)),
            false => None,
        };
    }

    /// The address that the path begins at is gone, or the machine has slept.
    pub(super) fn handle_network_changed(&mut self, now: Instant) {
        if !self.is_unknown() {
            self.next = Some((now, Remedy::Restart));
        }
    }

    /// The connection cannot be restarted: only a new one may help.
    pub(super) fn handle_no_restart(&mut self, now: Instant) {
        if self.initiator && !self.is_unknown() {
            self.next = Some((now, Remedy::Anew));
        }
    }

    /// A first offer is on its way.
    pub(super) fn handle_offered(&mut self, now: Instant) {
        if self.is_unknown() {
            self.next = Some((now + ANSWER_WITHIN, Remedy::Anew));
        }
    }

    /// It was answered.
    pub(super) fn handle_answered(&mut self, now: Instant) {
        if self.is_unknown() {
            let within = CONNECT_WITHIN * (self.failed + 1).min(MOST_PATIENCE);
            self.next = Some((now + within, Remedy::Failed));
        }
    }

    /// We answer an offer of the other end: what it tries takes its course first.
    pub(super) fn handle_answering(&mut self, now: Instant) {
        if let State::Down { .. } = self.state {
            self.next = Some((now + ANEW_WITHIN, Remedy::Restart));
        }
    }

    /// Nothing came of the connection, for a reason that may pass.
    pub(super) fn handle_refused(&mut self, now: Instant) {
        self.next = Some((now + RETRY_AFTER, Remedy::Anew));
    }

    /// When [`Self::handle_timeout`] is due. `seated`: whether there is a server to tell the
    /// other end through.
    pub(super) fn poll_timeout(&self, seated: bool) -> Option<Instant> {
        let next = self.next.filter(|_| seated).map(|(at, _)| at);
        [next, self.give_up_at()].into_iter().flatten().min()
    }

    /// What is to be done now.
    pub(super) fn handle_timeout(&mut self, now: Instant, seated: bool) -> Option<Remedy> {
        if self.give_up_at().is_some_and(|at| at <= now) {
            *self = Self::new(self.initiator);
            return Some(Remedy::GiveUp);
        }
        let (_, remedy) = self.next.filter(|(at, _)| seated && *at <= now)?;
        self.failed = self.failed.saturating_add(u32::from(remedy == Remedy::Failed));
        if self.state == State::Up && std::mem::replace(&mut self.tried, true) {
            // A restart of a path that seemed up led to nothing.
            self.state = State::Down { since: now };
        }
        self.next = match (remedy, self.initiator) {
            (Remedy::Restart, true) => Some((now + RESTART_WITHIN, Remedy::Anew)),
            (Remedy::Restart, false) => Some((now + RESTART_WITHIN, Remedy::Restart)),
            _ if self.is_unknown() => None, // until it is offered
            _ => Some((now + ANEW_WITHIN, Remedy::Anew)),
        };
        Some(remedy)
    }

    fn give_up_at(&self) -> Option<Instant> {
        match self.state {
            State::Down { since } => Some(since + GIVE_UP_AFTER),
            _ => None,
        }
    }

    fn first_move(&self, now: Instant) -> Instant {
        if self.initiator { now } else { now + RESPONDER_WAITS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(initiator: bool) -> (Path, Instant) {
        let mut path = Path::new(initiator);
        path.handle_connected();
        (path, Instant::now())
    }

    fn due(path: &Path) -> Instant {
        path.poll_timeout(true).expect("something is due")
    }

    #[test]
    fn a_silent_path_is_restarted_then_begun_anew_then_given_up() {
        let (mut path, start) = up(true);
        path.handle_silent(start);
        assert!(!path.is_up());
        assert_eq!(path.handle_timeout(start, true), Some(Remedy::Restart));
        assert_eq!(path.handle_timeout(start, true), None);
        assert_eq!(due(&path), start + RESTART_WITHIN);
        assert_eq!(path.handle_timeout(due(&path), true), Some(Remedy::Anew));
        let mut remedies = vec![];
        while due(&path) < start + GIVE_UP_AFTER {
            remedies.extend(path.handle_timeout(due(&path), true));
        }
        assert_eq!(remedies, [Remedy::Anew; 2]);
        assert_eq!(due(&path), start + GIVE_UP_AFTER);
        assert_eq!(path.handle_timeout(due(&path), true), Some(Remedy::GiveUp));
        assert_eq!(path.poll_timeout(true), None);
    }

    #[test]
    fn the_responder_leaves_the_first_move_to_the_initiator_and_never_begins_anew() {
        let (mut path, start) = up(false);
        path.handle_silent(start);
        assert_eq!(path.handle_timeout(start, true), None);
        let mut remedies = vec![];
        while due(&path) < start + GIVE_UP_AFTER {
            remedies.extend(path.handle_timeout(due(&path), true));
        }
        assert_eq!(remedies, [Remedy::Restart; 6]);
    }

    #[test]
    fn a_path_that_is_back_needs_nothing() {
        let (mut path, start) = up(true);
        path.handle_silent(start);
        path.handle_timeout(start, true);
        path.handle_connected();
        assert!(path.is_up());
        assert_eq!(path.poll_timeout(true), None);
    }

    #[test]
    fn without_a_server_only_giving_up_is_possible_and_with_it_the_rest_comes_at_once() {
        let (mut path, start) = up(true);
        path.handle_silent(start);
        assert_eq!(path.poll_timeout(false), Some(start + GIVE_UP_AFTER));
        assert_eq!(path.handle_timeout(start, false), None);
        let back = start + Duration::from_secs(9);
        assert_eq!(path.handle_timeout(back, true), Some(Remedy::Restart));
        assert_eq!(due(&path), back + RESTART_WITHIN);
    }

    #[test]
    fn a_new_network_is_no_silence_unless_the_restart_leads_to_nothing() {
        for initiator in [true, false] {
            let (mut path, start) = up(initiator);
            path.handle_network_changed(start);
            assert_eq!(path.handle_timeout(start, true), Some(Remedy::Restart));
            assert!(path.is_up(), "it may be back before anybody notices");
            let remedy = path.handle_timeout(due(&path), true);
            assert_eq!(remedy, Some(if initiator { Remedy::Anew } else { Remedy::Restart }));
            assert!(!path.is_up());
            let (mut path, start) = up(initiator);
            path.handle_network_changed(start);
            path.handle_timeout(start, true);
            path.handle_connected();
            assert_eq!(path.poll_timeout(true), None);
        }
    }

    #[test]
    fn silence_during_a_restart_does_not_begin_another() {
        let (mut path, start) = up(true);
        path.handle_network_changed(start);
        path.handle_timeout(start, true);
        path.handle_silent(start + Duration::from_secs(1));
        assert!(!path.is_up());
        assert_eq!(due(&path), start + RESTART_WITHIN);
    }

    #[test]
    fn what_never_was_up_is_no_path_to_restart() {
        let mut path = Path::new(false);
        let now = Instant::now();
        path.handle_network_changed(now);
        path.handle_silent(now);
        path.handle_failed(now);
        assert_eq!(path.poll_timeout(true), None);
        let mut path = Path::new(true);
        path.handle_offered(now);
        assert_eq!(path.handle_timeout(now + ANSWER_WITHIN, true), Some(Remedy::Anew));
        path.handle_offered(now);
        path.handle_answered(now);
        assert_eq!(path.handle_timeout(now + CONNECT_WITHIN, true), Some(Remedy::Failed));
        assert_eq!(path.poll_timeout(true), None, "until the next offer");
        path.handle_failed(now);
        assert_eq!(path.handle_timeout(now, true), Some(Remedy::Failed));
        path.handle_offered(now);
        path.handle_answered(now);
        assert_eq!(path.handle_timeout(now + CONNECT_WITHIN, true), None, "patience grows");
        assert_eq!(path.handle_timeout(now + 3 * CONNECT_WITHIN, true), Some(Remedy::Failed));
    }
}
