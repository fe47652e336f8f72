//! A DTLS handshake whose client knows the server's cookie beforehand. Pure.
//!
//! The crate's server asks every client for a cookie (RFC 6347 section 4.2.1) and cannot be told
//! not to: a round trip before anything else, to learn what ICE has shown already, that the
//! client is where it says. So the answer tells the cookie. On the client's side the crate's first
//! ClientHello is kept back and answered here, and what leaves is the second, with the cookie. On
//! the server's side the first is made of the second, and the question for a cookie kept back.
//!
//! The crate's server must never see the second without the first: it would wait for ever. So on
//! its side a relay is understood in all it says; on the client's, what would leave by another way
//! than a channel leaves as ever, without a cookie.

use super::checks::{
    CHANNEL, DATA, DATA_INDICATION, HEADER, XOR_PEER_ADDRESS, attribute, message_type,
};

/// What the crate's server asks for.
pub(in crate::peer) type Cookie = [u8; 20];

/// Content type and handshake types (RFC 6347 section 4.3).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const DTLS_1_2: [u8; 2] = [254, 253];

/// The headers of a record and of a handshake message.
const RECORD: usize = 13;
const MESSAGE: usize = 12;

/// Where a ClientHello's session id begins: behind its version and random.
const SESSION_ID: usize = 34;

/// Where a STUN message's magic cookie begins, behind type and length.
const MAGIC_COOKIE: usize = 4;

/// What becomes of a datagram that is to leave.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::peer) enum Leaving {
    /// It leaves.
    Passes,
    /// It does not, and this is its answer.
    Answered(Vec<u8>),
    /// It does not.
    Kept,
}

/// One connection's handshake, over whatever sockets.
#[derive(Debug)]
pub(in crate::peer) struct Hello {
    ours: Cookie,
    theirs: Option<Cookie>,
    state: State,
}

/// Of the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No client has been asked.
    New,
    /// One that knows the cookie is being asked.
    Known,
    /// One was asked.
    Asked,
}

impl Hello {
    /// Of an end whose own server asks for `ours`.
    pub fn new(ours: Cookie) -> Self {
        Self { ours, theirs: None, state: State::New }
    }

    /// What our server asks for.
    pub fn ours(&self) -> Cookie {
        self.ours
    }

    /// The other end told what its server asks for, or that it asks for none that is known.
    pub fn set_theirs(&mut self, theirs: Option<Cookie>) {
        self.theirs = theirs;
    }

    /// This is to leave.
    pub fn leaving(&mut self, datagram: &[u8]) -> Leaving {
        let (wrapping, record) = unwrapped(datagram);
        let Some(message) = Message::of(record) else {
            return Leaving::Passes;
        };
        match (message.kind, message.number, self.theirs) {
            (CLIENT_HELLO, 0, Some(theirs)) if message.cookie() == Some(&[]) => {
                Leaving::Answered(wrapping.wrap(&verify_request(&theirs)))
            }
            (HELLO_VERIFY_REQUEST, ..) => {
                let known = self.state == State::Known && message.body.ends_with(&self.ours);
                self.state = State::Asked;
                if known { Leaving::Kept } else { Leaving::Passes }
            }
            _ => Leaving::Passes,
        }
    }

    /// Whether this may hold a handshake, to spare media the look (RFC 7983 section 7).
    pub fn concerns(datagram: &[u8]) -> bool {
        datagram.first().is_some_and(|first| first <= CHANNEL.end())
    }

    /// This came: what is to come before it, if anything.
    pub fn arrived(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        if self.state == State::Asked {
            return None; // as most of the time
        }
        let (wrapping, record) = unwrapped(datagram);
        let message = Message::of(record)?;
        let knows = (message.kind, message.number) == (CLIENT_HELLO, 1)
            && message.cookie() == Some(&self.ours);
        if !knows {
            return None;
        }
        self.state = State::Known;
        Some(wrapping.wrap(&without_cookie(&message)?))
    }
}

/// A handshake message that is all of a datagram, outside of encryption.
#[derive(Debug)]
struct Message<'a> {
    kind: u8,
    number: u16,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn of(record: &'a [u8]) -> Option<Self> {
        let (header, message) = record.split_at_checked(RECORD)?;
        let (message, body) = message.split_at_checked(MESSAGE)?;
        let [HANDSHAKE, _, _, 0, 0, .., high, low] = *header else {
            return None;
        };
        let [kind, l0, l1, l2, n0, n1, 0, 0, 0, f0, f1, f2] = *message else {
            return None;
        };
        let whole = usize::from(u16::from_be_bytes([high, low])) == MESSAGE + body.len()
            && number([l0, l1, l2]) == body.len()
            && number([f0, f1, f2]) == body.len();
        whole.then_some(Self { kind, number: u16::from_be_bytes([n0, n1]), body })
    }

    /// A ClientHello's.
    fn cookie(&self) -> Option<&'a [u8]> {
        let (_, rest) = self.at_cookie()?;
        rest.split_first().and_then(|(length, rest)| rest.get(..usize::from(*length)))
    }

    /// What is before a ClientHello's cookie, and the rest.
    fn at_cookie(&self) -> Option<(&'a [u8], &'a [u8])> {
        let session = usize::from(*self.body.get(SESSION_ID)?);
        self.body.split_at_checked(SESSION_ID + 1 + session)
    }
}

/// The first ClientHello of a client that sent this one second.
fn without_cookie(second: &Message<'_>) -> Option<Vec<u8>> {
    let (before, rest) = second.at_cookie()?;
    let (cookie, after) = rest.split_first()?;
    let after = after.get(usize::from(*cookie)..)?;
    Some(record(CLIENT_HELLO, &[before, &[0], after].concat()))
}

fn verify_request(cookie: &Cookie) -> Vec<u8> {
    record(HELLO_VERIFY_REQUEST, &[&DTLS_1_2[..], &[cookie.len() as u8], cookie].concat())
}

/// The first message of an end, in its first record.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    let size = ((MESSAGE + body.len()) as u16).to_be_bytes();
    [
        &[HANDSHAKE][..],
        &DTLS_1_2,
        &[0; 8], // epoch and sequence number
        &size,
        &[kind],
        &length,
        &[0; 5], // number, and where the fragment begins
        &length,
        body,
    ]
    .concat()
}

/// What a relay has put around a datagram.
#[derive(Clone, Copy, Debug)]
enum Wrapping<'a> {
    Nothing,
    /// With its number.
    Channel([u8; 2]),
    /// A Data indication (RFC 8656 section 11.6): its header behind the length, and the peer.
    Indication(&'a [u8], &'a [u8]),
}

fn unwrapped(datagram: &[u8]) -> (Wrapping<'_>, &[u8]) {
    match *datagram {
        [first, second, high, low, ref data @ ..] if CHANNEL.contains(&first) => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            (Wrapping::Channel([first, second]), data.get(..length).unwrap_or_default())
        }
        _ => indicated(datagram).unwrap_or((Wrapping::Nothing, datagram)),
    }
}

fn indicated(datagram: &[u8]) -> Option<(Wrapping<'_>, &[u8])> {
    if message_type(datagram)? != DATA_INDICATION {
        return None;
    }
    let peer = attribute(datagram, XOR_PEER_ADDRESS)?;
    let header = datagram.get(MAGIC_COOKIE..HEADER)?;
    Some((Wrapping::Indication(header, peer), attribute(datagram, DATA)?))
}

impl Wrapping<'_> {
    fn wrap(self, data: &[u8]) -> Vec<u8> {
        let size = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
        match self {
            Self::Nothing => data.to_vec(),
            Self::Channel(number) => [&number[..], &size(data), data].concat(),
            Self::Indication(header, peer) => {
                let mut attributes = Vec::new();
                for (kind, value) in [(XOR_PEER_ADDRESS, peer), (DATA, data)] {
                    attributes.extend(kind.to_be_bytes());
                    attributes.extend(size(value));
                    attributes.extend(value);
                    attributes.resize(attributes.len().next_multiple_of(4), 0);
                }
                let kind = DATA_INDICATION.to_be_bytes();
                [&kind, &size(&attributes), header, &attributes].concat()
            }
        }
    }
}

fn number([a, b, c]: [u8; 3]) -> usize {
    u32::from_be_bytes([0, a, b, c]) as usize
}

#[cfg(test)]
mod tests;
