//! How often each address is checked for a path (RFC 8445 section 14). Pure.
//!
//! The crate sends a check for every pair of addresses each time it checks any: eight pairs every
//! 15 ms fill a link of 100 kbit/s or more, whose queue then holds up the very answers (measured: 2.4 s to
//! connect). So an address that does not answer is checked at growing intervals, and one that is
//! heard of at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between the first check of an address and the second; each further one takes twice as long, up
/// to the second.
const FIRST_AGAIN: Duration = Duration::from_millis(24);
const LONGEST: Duration = Duration::from_millis(400);

/// Who answered so lately is checked as often as the first time: what comes next decides.
const ANSWERED_LATELY: Duration = Duration::from_secs(3);

/// After so long a pause everything may be different.
const FORGOTTEN: Duration = Duration::from_secs(2);

/// Addresses remembered: more than there are candidates.
const MOST: usize = 256;

/// STUN message types (RFC 8489 section 5, RFC 8656 section 17).
pub(super) const BINDING_REQUEST: u16 = 0x0001;
pub(super) const BINDING_RESPONSE: u16 = 0x0101;
const SEND_INDICATION: u16 = 0x0016;
pub(super) const DATA_INDICATION: u16 = 0x0017;
pub(super) const XOR_PEER_ADDRESS: u16 = 0x0012;
pub(super) const DATA: u16 = 0x0013;
/// Names the pair to be used (RFC 8445 section 16.1).
pub(super) const USE_CANDIDATE: u16 = 0x0025;

/// First byte of what a relay's channel carries (RFC 8656 section 12).
pub(super) const CHANNEL: std::ops::RangeInclusive<u8> = 0x40..=0x4f;

/// Of a STUN message.
pub(super) const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Where a check goes: an address, or one behind a relay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    address: SocketAddr,
    behind: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    checked_at: Instant,
    again: Duration,
    answered_at: Option<Instant>,
}

/// Decides for one socket.
#[derive(Debug, Default)]
pub(in crate::peer) struct Checks {
    places: HashMap<Place, State>,
}

impl Checks {
    /// Whether this datagram may hold what is looked at here, to spare the rest the look.
    pub fn concern(datagram: &[u8]) -> bool {
        datagram.first().is_some_and(|first| *first <= 3 || CHANNEL.contains(first))
    }

    /// Whether this datagram should leave: anything but a check that comes too soon.
    pub fn admits(&self, now: Instant, to: SocketAddr, datagram: &[u8]) -> bool {
        let Some((BINDING_REQUEST, place, names)) = ice(to, datagram, SEND_INDICATION) else {
            return true;
        };
        let Some(state) = self.places.get(&place) else {
            return true;
        };
        let lately = |at: Instant| now.saturating_duration_since(at) < ANSWERED_LATELY;
        let again = if state.answered_at.is_some_and(lately) { FIRST_AGAIN } else { state.again };
        names || now.saturating_duration_since(state.checked_at) >= again
    }

    /// It has left.
    pub fn handle_sent(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) {
        let Some((BINDING_REQUEST, place, _)) = ice(to, datagram, SEND_INDICATION) else {
            return;
        };
        if self.places.len() >= MOST && !self.places.contains_key(&place) {
            self.places.clear();
        }
        let begun = State { checked_at: now, again: FIRST_AGAIN, answered_at: None };
        let state = self.places.entry(place).or_insert(State { again: Duration::ZERO, ..begun });
        if now.saturating_duration_since(state.checked_at) >= FORGOTTEN {
            *state = begun;
            return;
        }
        state.checked_at = now;
        state.again = (state.again * 2).clamp(FIRST_AGAIN, LONGEST);
    }

    /// Something came: an answer, or a check that shows that there is a way.
    pub fn handle_received(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some((kind, place, _)) = ice(from, datagram, DATA_INDICATION) else {
            return;
        };
        if let Some(state) = self.places.get_mut(&place) {
            match kind {
                BINDING_RESPONSE => state.answered_at = Some(now),
                // There is a way, and ours of before may have come too soon: one more at once
                // (RFC 8445 section 7.3.1.4), and the next ones as at first.
                BINDING_REQUEST => state.again = Duration::ZERO,
                _ => {}
            }
        }
    }
}

/// The type of a STUN message of ICE, where it belongs, also inside what a relay is sent or sends
/// (`wrapped`), and whether it names the pair to use. Requests without attributes are for STUN
/// servers.
fn ice(address: SocketAddr, datagram: &[u8], wrapped: u16) -> Option<(u16, Place, bool)> {
    if let [first, number, _, _, inner @ ..] = datagram
        && CHANNEL.contains(first)
    {
        let kind = message_type(inner)?; // first of all: in a relayed call, media comes here, too
        let names = attribute(inner, USE_CANDIDATE).is_some();
        return Some((kind, Place { address, behind: vec![*first, *number] }, names));
    }
    let kind = message_type(datagram)?;
    if kind != wrapped {
        let names = attribute(datagram, USE_CANDIDATE).is_some();
        return Some((kind, Place { address, behind: Vec::new() }, names));
    }
    let peer = attribute(datagram, XOR_PEER_ADDRESS)?;
    let data = attribute(datagram, DATA)?;
    let kind = message_type(data)?;
    // Its coding depends on the transaction only for IPv6; the first bytes are enough there.
    let behind = peer.get(..8)?.to_vec();
    Some((kind, Place { address, behind }, attribute(data, USE_CANDIDATE).is_some()))
}

pub(super) fn message_type(datagram: &[u8]) -> Option<u16> {
    let [first @ 0..=3, second, _, _, cookie @ ..] = datagram else {
        return None;
    };
    let with_attributes = datagram.len() > HEADER && cookie.starts_with(&MAGIC_COOKIE);
    with_attributes.then_some(u16::from_be_bytes([*first, *second]))
}

pub(super) fn attribute(datagram: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = datagram.get(HEADER..)?;
    loop {
        let [a, b, c, d, after @ ..] = rest else {
            return None;
        };
        let (kind, length) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let length = usize::from(length);
        if kind == wanted {
            return after.get(..length);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, RngCore, SeedableRng};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE);
        bytes.extend([7; 12]);
        for (kind, value) in attributes {
            bytes.extend(kind.to_be_bytes());
            bytes.extend((value.len() as u16).to_be_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn check() -> Vec<u8> {
        message(BINDING_REQUEST, &[(6, b"user")])
    }

    fn place(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn leaves(checks: &mut Checks, now: Instant, to: SocketAddr, datagram: &[u8]) -> bool {
        let admitted = checks.admits(now, to, datagram);
        if admitted {
            checks.handle_sent(now, to, datagram);
        }
        admitted
    }

    /// How many of the crate's checks every 25 ms leave within a second.
    fn sent(checks: &mut Checks, begin: Instant, to: SocketAddr, datagram: &[u8]) -> usize {
        (0..40).filter(|tick| leaves(checks, begin + *tick * 25 * MS, to, datagram)).count()
    }

    #[test]
    fn a_silent_address_is_checked_at_growing_intervals() {
        let (mut checks, begin) = (Checks::default(), Instant::now());
        let at: Vec<u32> = (0..40)
            .filter(|tick| leaves(&mut checks, begin + *tick * 25 * MS, place(1), &check()))
            .map(|tick| tick * 25)
            .collect();
        assert_eq!(at, [0, 25, 75, 175, 375, 775]);
        assert_eq!(sent(&mut checks, begin, place(2), &check()), 6, "each on its own");
        assert!(leaves(&mut checks, begin + 3000 * MS, place(1), &check()));
        assert!(leaves(&mut checks, begin + 3025 * MS, place(1), &check()), "begun anew");
    }

    #[test]
    fn one_that_answers_is_checked_each_time_and_named_at_once() {
        let (mut checks, begin) = (Checks::default(), Instant::now());
        sent(&mut checks, begin, place(1), &check());
        let answer = message(BINDING_RESPONSE, &[(0x20, &[0; 8])]);
        checks.handle_received(begin + 1000 * MS, place(1), &answer);
        assert_eq!(sent(&mut checks, begin + 1001 * MS, place(1), &check()), 40);
        assert!(!checks.admits(begin + 1976 * MS, place(1), &check()), "not twice at a time");
        let naming = message(BINDING_REQUEST, &[(6, b"user"), (USE_CANDIDATE, &[])]);
        assert!(checks.admits(begin + 1976 * MS, place(1), &naming));
        // Who checks us is there, too.
        let (mut checks, begin) = (Checks::default(), Instant::now());
        sent(&mut checks, begin, place(1), &check());
        checks.handle_received(begin + 900 * MS, place(1), &check());
        assert!(leaves(&mut checks, begin + 901 * MS, place(1), &check()));
        assert!(!leaves(&mut checks, begin + 902 * MS, place(1), &check()), "once");
    }

    #[test]
    fn behind_a_relay_each_address_counts_for_itself() {
        let (mut checks, begin) = (Checks::default(), Instant::now());
        let relayed = |peer: u8, kind, inner: &[u8]| {
            message(kind, &[(XOR_PEER_ADDRESS, &[0, 1, peer, 4, 5, 6, 7, 8]), (DATA, inner)])
        };
        let out = |peer| relayed(peer, SEND_INDICATION, &check());
        assert_eq!(sent(&mut checks, begin, place(3478), &out(1)), 6);
        assert_eq!(sent(&mut checks, begin, place(3478), &out(2)), 6);
        let channel = |number, inner: &[u8]| [&[0x40, number, 0, 100], inner].concat();
        assert_eq!(sent(&mut checks, begin, place(3478), &channel(1, &check())), 6);
        assert_eq!(sent(&mut checks, begin, place(3478), &channel(2, &check())), 6);
        assert_eq!(sent(&mut checks, begin, place(3478), &channel(2, &[0x80, 96, 0, 1])), 40);
        let answer = message(BINDING_RESPONSE, &[(0x20, &[0; 8])]);
        checks.handle_received(begin + 999 * MS, place(3478), &channel(2, &answer));
        assert_eq!(sent(&mut checks, begin + 1000 * MS, place(3478), &channel(2, &check())), 40);
        let answer = relayed(1, DATA_INDICATION, &answer);
        checks.handle_received(begin + 999 * MS, place(3478), &answer);
        assert!(sent(&mut checks, begin + 1000 * MS, place(3478), &out(1)) == 40);
        assert!(sent(&mut checks, begin + 1000 * MS, place(3478), &out(2)) < 10);
    }

    #[test]
    fn all_else_passes() {
        let (mut checks, begin) = (Checks::default(), Instant::now());
        let others = [
            message(BINDING_REQUEST, &[]),
            message(BINDING_RESPONSE, &[(0x20, &[0; 8])]),
            message(3, &[(0x19, &[17, 0, 0, 0])]),
            vec![0x80, 96, 0, 1],
            vec![22, 254, 253],
            vec![],
        ];
        for other in others {
            assert_eq!(sent(&mut checks, begin, place(1), &other), 40, "{other:?}");
        }
    }

    #[test]
    fn any_bytes_are_bounded_work() {
        let mut random = StdRng::seed_from_u64(1);
        let (mut checks, now) = (Checks::default(), Instant::now());
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.random_range(0..80)];
            random.fill_bytes(&mut bytes);
            if random.random_bool(0.7) && bytes.len() > 8 {
                let kinds = [[0, 1], [0, 0x16], [0, 0x17], [0x40, 9]];
                bytes[..2].copy_from_slice(&kinds[random.random_range(0..4)]);
                bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
            }
            let address = place(random.random());
            leaves(&mut checks, now, address, &bytes);
            checks.handle_received(now, address, &bytes);
        }
        assert!(checks.places.len() <= MOST);
    }
}
