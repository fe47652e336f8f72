//! What happens to the machine under a call: its addresses come and go, and it sleeps. Pure.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// A wall clock that runs ahead of the other by this much, or a pause of everything, means that
/// the machine has slept. A little above what corrections of the clock come to.
const NAP: Duration = Duration::from_secs(4);

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The addresses there are now.
    pub(super) addresses: Vec<IpAddr>,
    /// Connections that began at an address of before are dead.
    pub(super) lost: bool,
    /// All connections may be dead.
    pub(super) slept: bool,
}

impl Change {
    /// Whether a connection that begins at `base` is to look for a new path.
    pub(super) fn concerns(&self, base: Option<IpAddr>) -> bool {
        self.slept
            || match base {
                Some(base) => !base.is_loopback() && !self.addresses.contains(&base),
                None => self.lost,
            }
    }
}

/// The machine as it was when last looked at.
#[derive(Debug)]
pub(super) struct Surroundings {
    addresses: Vec<IpAddr>,
    at: (Instant, SystemTime),
}

impl Surroundings {
    pub(super) fn new(addresses: Vec<IpAddr>, at: (Instant, SystemTime)) -> Self {
        Self { addresses, at }
    }

    /// Looks again, once a second or so, and at once when the system says that something changed.
    pub(super) fn handle_look(
        &mut self,
        addresses: Vec<IpAddr>,
        at: (Instant, SystemTime),
    ) -> Option<Change> {
        let slept = self.slept(at);
        self.at = at;
        if addresses.is_empty() && !slept {
            // Kept: what comes next is compared with what there was.
            return None;
        }
        let before = std::mem::replace(&mut self.addresses, addresses);
        let addresses = self.addresses.clone();
        let lost = before.iter().any(|address| !addresses.contains(address));
        let gained = before.is_empty() && !addresses.is_empty();
        (slept || lost || gained).then_some(Change { addresses, lost, slept })
    }

    /// Either clock may stand still while the machine sleeps.
    fn slept(&self, (now, wall): (Instant, SystemTime)) -> bool {
        let passed = now.saturating_duration_since(self.at.0);
        let by_the_wall = wall.duration_since(self.at.1).unwrap_or_default();
        passed > NAP || by_the_wall > passed + NAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    struct Machine {
        surroundings: Surroundings,
        at: (Instant, SystemTime),
    }

    impl Machine {
        fn with(addresses: &[&str]) -> Self {
            let at = (Instant::now(), SystemTime::UNIX_EPOCH + 1000 * SECOND);
            Self { surroundings: Surroundings::new(ips(addresses), at), at }
        }

        fn after(&mut self, mono: Duration, wall: Duration, list: &[&str]) -> Option<Change> {
            self.at = (self.at.0 + mono, self.at.1 + wall);
            self.surroundings.handle_look(ips(list), self.at)
        }
    }

    #[test]
    fn a_replaced_address_concerns_what_began_there() {
        let mut machine = Machine::with(&["10.0.0.1", "10.1.0.1"]);
        assert_eq!(machine.after(SECOND, SECOND, &["10.0.0.1", "10.1.0.1"]), None);
        let change = machine.after(SECOND, SECOND, &["10.0.0.2", "10.1.0.1"]).expect("a change");
        assert!(change.lost && !change.slept);
        let base = |ip: &str| Some(ip.parse().expect("an address"));
        assert!(change.concerns(base("10.0.0.1")));
        assert!(!change.concerns(base("10.1.0.1")));
        assert!(!change.concerns(base("127.0.0.1")));
        assert!(change.concerns(None), "it may have begun there");
    }

    #[test]
    fn one_more_address_is_no_reason_to_move() {
        let mut machine = Machine::with(&["10.0.0.1"]);
        assert_eq!(machine.after(SECOND, SECOND, &["10.0.0.1", "10.1.0.1"]), None);
        // And it is known from then on.
        assert!(machine.after(SECOND, SECOND, &["10.0.0.1"]).expect("a change").lost);
    }

    #[test]
    fn a_network_that_is_gone_is_a_change_once_there_is_another() {
        let mut machine = Machine::with(&["10.0.0.1"]);
        assert_eq!(machine.after(SECOND, SECOND, &[]), None);
        assert!(machine.after(SECOND, SECOND, &["10.2.0.1"]).expect("a change").lost);
        let mut machine = Machine::with(&["10.0.0.1"]);
        machine.after(SECOND, SECOND, &[]);
        assert_eq!(machine.after(SECOND, SECOND, &["10.0.0.1"]), None, "back again");
        let mut machine = Machine::with(&[]);
        let change = machine.after(SECOND, SECOND, &["10.0.0.1"]).expect("a change");
        assert!(!change.lost, "nothing began anywhere");
    }

    #[test]
    fn sleep_shows_on_either_clock_and_corrections_do_not() {
        let mut machine = Machine::with(&["10.0.0.1"]);
        assert_eq!(machine.after(SECOND, 3 * SECOND, &["10.0.0.1"]), None);
        assert_eq!(machine.after(SECOND, Duration::ZERO, &["10.0.0.1"]), None);
        let change = machine.after(SECOND, 600 * SECOND, &["10.0.0.1"]).expect("a change");
        assert!(change.slept && !change.lost);
        let change = machine.after(600 * SECOND, 600 * SECOND, &["10.0.0.1"]).expect("a change");
        assert!(change.slept && change.concerns(None));
        let change = machine.after(SECOND, 60 * SECOND, &[]).expect("a change");
        assert!(change.slept && change.addresses.is_empty());
    }
}
