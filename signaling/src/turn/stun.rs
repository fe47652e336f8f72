//! STUN messages (RFC 8489) with the attributes of TURN (RFC 8656), read and written. Pure.
//!
//! Only what a server needs: the classic long-term credentials with HMAC-SHA1, which is what
//! browsers use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use md5::{Digest, Md5};
use ring::hmac;

/// Bytes before the attributes.
pub const HEADER: usize = 20;

/// Marks a STUN message (RFC 8489 section 5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Attributes in one message; more is nothing an honest client sends.
const MAX_ATTRIBUTES: usize = 64;

/// `MESSAGE-INTEGRITY`'s length: HMAC-SHA1.
const INTEGRITY: usize = 20;

/// What FINGERPRINT's checksum is combined with (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Numbers of attributes (RFC 8489 section 18.3, RFC 8656 section 18).
pub mod attribute {
    #![allow(missing_docs)] // The names are the standard's.
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub const CHANNEL_NUMBER: u16 = 0x000C;
    pub const LIFETIME: u16 = 0x000D;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001A;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const SOFTWARE: u16 = 0x8022;
    pub const FINGERPRINT: u16 = 0x8028;
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the standard's.
pub enum Method {
    Binding,
    Allocate,
    Refresh,
    Send,
    Data,
    CreatePermission,
    ChannelBind,
    Other(u16),
}

impl Method {
    const fn from_number(number: u16) -> Self {
        match number {
            0x001 => Self::Binding,
            0x003 => Self::Allocate,
            0x004 => Self::Refresh,
            0x006 => Self::Send,
            0x007 => Self::Data,
            0x008 => Self::CreatePermission,
            0x009 => Self::ChannelBind,
            other => Self::Other(other),
        }
    }

    const fn number(self) -> u16 {
        match self {
            Self::Binding => 0x001,
            Self::Allocate => 0x003,
            Self::Refresh => 0x004,
            Self::Send => 0x006,
            Self::Data => 0x007,
            Self::CreatePermission => 0x008,
            Self::ChannelBind => 0x009,
            Self::Other(number) => number & 0xFFF,
        }
    }
}

/// Question, answer or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the standard's.
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A message read from bytes, which it borrows.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// What it is about.
    pub method: Method,
    /// Question, answer or neither.
    pub class: Class,
    /// Ties an answer to its question.
    pub transaction: [u8; 12],
    bytes: &'a [u8],
    /// Number, position of the value, length; in order.
    attributes: Vec<(u16, usize, usize)>,
}

/// Why bytes are no STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a STUN message")]
pub struct NotStun;

/// The key of a user (RFC 8489 section 9.2.2).
pub fn long_term_key(username: &str, realm: &str, password: &str) -> [u8; 16] {
    Md5::digest(format!("{username}:{realm}:{password}")).into()
}

impl<'a> Message<'a> {
    /// Reads a message that fills `bytes`, all of it.
    ///
    /// # Errors
    /// [`NotStun`] for anything else; a wrong FINGERPRINT counts as that.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotStun> {
        let header = bytes.first_chunk::<HEADER>().ok_or(NotStun)?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let cookie = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if kind & 0xC000 != 0
            || cookie != MAGIC_COOKIE
            || !length.is_multiple_of(4)
            || bytes.len() != HEADER + length
        {
            return Err(NotStun);
        }
        let class = match kind & 0x0110 {
            0x0000 => Class::Request,
            0x0010 => Class::Indication,
            0x0100 => Class::Success,
            _ => Class::Error,
        };
        let method = (kind & 0x000F) | ((kind & 0x00E0) >> 1) | ((kind & 0x3E00) >> 2);
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        let mut attributes = Vec::new();
        let mut at = HEADER;
        while at < bytes.len() {
            let head = bytes.get(at..at + 4).ok_or(NotStun)?;
            let number = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = at + 4;
            at = value + length.next_multiple_of(4);
            if at > bytes.len() || attributes.len() == MAX_ATTRIBUTES {
                return Err(NotStun);
            }
            attributes.push((number, value, length));
        }
        let method = Method::from_number(method);
        let message = Self { method, class, transaction, bytes, attributes };
        if message.fingerprint_is_wrong() { Err(NotStun) } else { Ok(message) }
    }

    /// The value of the first attribute `number`. After MESSAGE-INTEGRITY only FINGERPRINT
    /// counts (RFC 8489 section 14.5).
    pub fn get(&self, number: u16) -> Option<&'a [u8]> {
        self.covered()
            .find(|(n, ..)| *n == number)
            .map(|(_, at, length)| &self.bytes[at..][..length])
    }

    /// The text of attribute `number`, if it is text.
    pub fn text(&self, number: u16) -> Option<&'a str> {
        self.get(number).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The number in attribute `number`, if it is four bytes long.
    pub fn number(&self, number: u16) -> Option<u32> {
        self.get(number)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The addresses in all attributes `number`, each unless it is malformed.
    pub fn xor_addresses(&self, number: u16) -> impl Iterator<Item = Option<SocketAddr>> + '_ {
        self.covered()
            .filter(move |(n, ..)| *n == number)
            .map(|(_, at, length)| self.xor_address(&self.bytes[at..][..length]))
    }

    /// Attributes that must be understood (RFC 8489 section 14) and are not among `known`.
    pub fn not_understood(&self, known: &[u16]) -> Vec<u16> {
        let numbers = self.covered().map(|(number, ..)| number);
        numbers.filter(|number| *number < 0x8000 && !known.contains(number)).collect()
    }

    /// Whether there is a MESSAGE-INTEGRITY made with `key`.
    pub fn is_authentic(&self, key: &[u8]) -> bool {
        let Some(&(_, at, length)) =
            self.attributes.iter().find(|(number, ..)| *number == attribute::MESSAGE_INTEGRITY)
        else {
            return false;
        };
        if length != INTEGRITY {
            return false;
        }
        let covered = with_length(&self.bytes[..at - 4], at + INTEGRITY - HEADER);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        hmac::verify(&key, &covered, &self.bytes[at..][..INTEGRITY]).is_ok()
    }

    /// Attributes up to and with MESSAGE-INTEGRITY: what follows is not protected by it.
    fn covered(&self) -> impl Iterator<Item = (u16, usize, usize)> + '_ {
        let end = self
            .attributes
            .iter()
            .position(|(number, ..)| *number == attribute::MESSAGE_INTEGRITY)
            .map_or(self.attributes.len(), |at| at + 1);
        self.attributes[..end].iter().copied()
    }

    fn fingerprint_is_wrong(&self) -> bool {
        match self.attributes.iter().find(|(number, ..)| *number == attribute::FINGERPRINT) {
            None => false,
            // Last of all, or it is none.
            Some(&(_, at, 4)) if at + 4 == self.bytes.len() => {
                let expected = crc32(&self.bytes[..at - 4]) ^ FINGERPRINT_XOR;
                self.bytes[at..] != expected.to_be_bytes()
            }
            Some(_) => true,
        }
    }

    fn xor_address(&self, value: &[u8]) -> Option<SocketAddr> {
        let (head, address) = value.split_first_chunk::<4>()?;
        let port = u16::from_be_bytes([head[2], head[3]]) ^ (MAGIC_COOKIE >> 16) as u16;
        let ip = match (head[1], address.len()) {
            (1, 4) => {
                let bits = u32::from_be_bytes(address.try_into().ok()?);
                IpAddr::V4(Ipv4Addr::from_bits(bits ^ MAGIC_COOKIE))
            }
            (2, 16) => {
                let bits = u128::from_be_bytes(address.try_into().ok()?);
                IpAddr::V6(Ipv6Addr::from_bits(bits ^ xor_mask(self.transaction)))
            }
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// Writes a message.
#[derive(Debug, Clone)]
pub struct Builder {
    bytes: Vec<u8>,
    transaction: [u8; 12],
}

impl Builder {
    /// A message without attributes yet.
    pub fn new(method: Method, class: Class, transaction: [u8; 12]) -> Self {
        let number = method.number();
        let class = match class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        let kind = (number & 0x000F) | ((number & 0x0070) << 1) | ((number & 0x0F80) << 2) | class;
        let mut bytes = Vec::with_capacity(160);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend(transaction);
        Self { bytes, transaction }
    }

    /// Adds an attribute. A value that no longer fits the message's 65,535 bytes is cut.
    #[must_use]
    pub fn attribute(mut self, number: u16, value: &[u8]) -> Self {
        let room = usize::from(u16::MAX).saturating_sub(self.bytes.len() + 64);
        let value = &value[..value.len().min(room)];
        self.bytes.extend(number.to_be_bytes());
        self.bytes.extend((value.len() as u16).to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.settle()
    }

    /// Adds an address, combined with the cookie as XOR-MAPPED-ADDRESS is.
    #[must_use]
    pub fn xor_address(self, number: u16, address: SocketAddr) -> Self {
        let mut value = vec![0];
        let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
        match address.ip() {
            IpAddr::V4(ip) => {
                value.push(1);
                value.extend(port.to_be_bytes());
                value.extend((ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
            }
            IpAddr::V6(ip) => {
                value.push(2);
                value.extend(port.to_be_bytes());
                value.extend((ip.to_bits() ^ xor_mask(self.transaction)).to_be_bytes());
            }
        }
        self.attribute(number, &value)
    }

    /// Adds ERROR-CODE.
    #[must_use]
    pub fn error(self, code: u16, reason: &str) -> Self {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend(reason.as_bytes());
        self.attribute(attribute::ERROR_CODE, &value)
    }

    /// Adds MESSAGE-INTEGRITY over all before it.
    #[must_use]
    pub fn integrity(self, key: &[u8]) -> Self {
        let covered = with_length(&self.bytes, self.bytes.len() + 4 + INTEGRITY - HEADER);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        self.attribute(attribute::MESSAGE_INTEGRITY, hmac::sign(&key, &covered).as_ref())
    }

    /// Adds FINGERPRINT over all before it; nothing may follow.
    #[must_use]
    pub fn fingerprint(self) -> Self {
        let covered = with_length(&self.bytes, self.bytes.len() + 8 - HEADER);
        let value = crc32(&covered) ^ FINGERPRINT_XOR;
        self.attribute(attribute::FINGERPRINT, &value.to_be_bytes())
    }

    /// The message's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn settle(mut self) -> Self {
        let length = (self.bytes.len() - HEADER) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
        self
    }
}

/// `bytes` with another length in the header: a checksum counts the attribute it stands in.
fn with_length(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    bytes
}

fn xor_mask(transaction: [u8; 12]) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&transaction);
    u128::from_be_bytes(mask)
}

/// CRC-32 as in ITU V.42; STUN messages are short, a table would not pay.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2.1: a request with username, integrity and fingerprint.
    const SAMPLE: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\
        \x00\x24\x00\x04\x6e\x00\x01\xff\
        \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

    #[test]
    fn the_standard_s_sample_request_is_read_and_authentic() {
        let message = Message::parse(SAMPLE).unwrap();
        assert_eq!((message.method, message.class), (Method::Binding, Class::Request));
        assert_eq!(message.text(attribute::USERNAME), Some("evtj:h6vY"));
        assert!(message.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBt"));
        assert!(!message.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBu"));
        assert_eq!(message.not_understood(&[]).len(), 3);
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        for bit in 0..SAMPLE.len() * 8 {
            let mut bytes = SAMPLE.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(message) = Message::parse(&bytes) {
                // Only where the fingerprint is no longer recognised as one: behind the integrity,
                // or swallowed by another attribute, and the integrity with it.
                let behind = bit / 8 >= SAMPLE.len() - 8;
                assert_eq!(message.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBt"), behind, "{bit}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let v4: SocketAddr = "192.0.2.1:32853".parse().unwrap();
        let v6: SocketAddr = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let bytes = Builder::new(Method::CreatePermission, Class::Error, *b"abcdefghijkl")
            .xor_address(attribute::XOR_PEER_ADDRESS, v4)
            .xor_address(attribute::XOR_PEER_ADDRESS, v6)
            .error(486, "no")
            .attribute(attribute::LIFETIME, &600u32.to_be_bytes())
            .integrity(b"key")
            .fingerprint()
            .finish();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.method, message.class), (Method::CreatePermission, Class::Error));
        let peers: Vec<_> = message.xor_addresses(attribute::XOR_PEER_ADDRESS).collect();
        assert_eq!(peers, [Some(v4), Some(v6)]);
        assert_eq!(message.number(attribute::LIFETIME), Some(600));
        assert_eq!(message.get(attribute::ERROR_CODE), Some(&b"\0\0\x04\x56no"[..]));
        assert!(message.is_authentic(b"key") && !message.is_authentic(b"kex"));
    }

    #[test]
    fn what_follows_the_integrity_does_not_count() {
        let bytes = Builder::new(Method::Allocate, Class::Request, [7; 12])
            .integrity(b"key")
            .attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .finish();
        let message = Message::parse(&bytes).unwrap();
        assert!(message.is_authentic(b"key"));
        assert_eq!(message.get(attribute::REQUESTED_TRANSPORT), None);
    }

    #[test]
    fn every_method_survives_its_number() {
        for number in 0..0x1000 {
            for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
                let method = Method::from_number(number);
                let bytes = Builder::new(method, class, [0; 12]).finish();
                let message = Message::parse(&bytes).unwrap();
                assert_eq!((message.method, message.class), (method, class));
            }
        }
    }

    #[test]
    fn the_key_is_the_standard_s() {
        // RFC 8489 section 9.2.2.
        let key = long_term_key("user", "realm", "pass");
        assert_eq!(key, *b"\x84\x93\xfb\xc5\x3b\xa5\x82\xfb\x4c\x04\x4c\x45\x6b\xdc\x40\xeb");
    }
}
