//! The PROXY protocol: what a proxy that does not look into the connection puts before it
//! (HAProxy's `proxy-protocol.txt`, versions 1 and 2).

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use thiserror::Error as ThisError;

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// `PROXY UNKNOWN` and the end of the line.
const SHORTEST_1: usize = 15;
const LONGEST_1: usize = 107;
/// Signature, command, family, length.
const HEAD_2: usize = 16;
/// Addresses and the extensions in use take some hundred bytes.
const LONGEST_2: usize = HEAD_2 + 2048;

/// How far the preamble has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preamble {
    /// At least so many more bytes belong to it.
    More(usize),
    /// It is complete, and says who the client is; `None` if the proxy speaks for itself (a
    /// health check) or does not know.
    Done(Option<SocketAddr>),
}

/// Not a preamble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum PreambleError {
    /// It begins with something else.
    #[error("the connection does not begin with the PROXY protocol")]
    Missing,
    /// Version 1 or 2 it is, but broken.
    #[error("the PROXY protocol's preamble is malformed")]
    Malformed,
    /// Longer than any in use.
    #[error("the PROXY protocol's preamble is too long")]
    TooLong,
}

/// Looks at the first bytes of a connection. To be called again with more as long as it asks
/// for more: it never asks for a byte beyond the preamble.
///
/// # Errors
/// When the connection does not begin with a preamble.
pub fn read_preamble(bytes: &[u8]) -> Result<Preamble, PreambleError> {
    let begins = |signature: &[u8]| {
        let known = bytes.len().min(signature.len());
        bytes[..known] == signature[..known]
    };
    if begins(SIGNATURE_1) {
        if bytes.len() < SHORTEST_1 {
            return Ok(Preamble::More(SHORTEST_1 - bytes.len()));
        }
        if !bytes.ends_with(b"\r\n") {
            let complete = bytes.len() >= LONGEST_1 || bytes.contains(&b'\n');
            return if complete { Err(PreambleError::Malformed) } else { Ok(Preamble::More(1)) };
        }
    } else if begins(SIGNATURE_2) {
        let Some(length) = bytes.get(HEAD_2 - 2..HEAD_2) else {
            return Ok(Preamble::More(HEAD_2 - bytes.len()));
        };
        let whole = HEAD_2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if whole > LONGEST_2 {
            return Err(PreambleError::TooLong);
        }
        if bytes.len() < whole {
            return Ok(Preamble::More(whole - bytes.len()));
        }
    } else {
        return Err(PreambleError::Missing);
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(bytes, config) {
        Ok((header, used)) if used == bytes.len() => {
            Ok(Preamble::Done(header.proxied_address().map(|address| address.source)))
        }
        Ok(_) | Err(Error::Invalid | _) => Err(PreambleError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds it as it asks, and returns what it makes of it and how much it took.
    fn read(bytes: &[u8]) -> Result<(Option<SocketAddr>, usize), PreambleError> {
        let mut known = 0;
        loop {
            match read_preamble(&bytes[..known])? {
                Preamble::Done(address) => return Ok((address, known)),
                Preamble::More(more) => {
                    assert!(more > 0);
                    known += more;
                    assert!(known <= bytes.len(), "asks for more than there is");
                }
            }
        }
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE_2, &[command, family], &length, rest].concat()
    }

    #[test]
    fn version_1_is_read_and_nothing_of_what_follows() {
        for (line, address) in [
            ("PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\r\n", Some("198.51.100.1:4711")),
            ("PROXY TCP6 2001:db8::1 ::1 4711 80\r\n", Some("[2001:db8::1]:4711")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN whatever it is\r\n", None),
        ] {
            let address = address.map(|address| address.parse().unwrap());
            let bytes = [line.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(read(&bytes), Ok((address, line.len())), "{line}");
        }
    }

    #[test]
    fn version_2_is_read_and_nothing_of_what_follows() {
        let addresses = [198, 51, 100, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
        let address = Some("198.51.100.1:4711".parse().unwrap());
        let extension = [&addresses[..], &[4, 0, 2, 0, 0]].concat();
        for (bytes, address) in [
            (version_2(0x21, 0x11, &addresses), address),
            (version_2(0x21, 0x11, &extension), address),
            (version_2(0x20, 0x00, &[]), None),
            (version_2(0x20, 0x11, &addresses), None),
        ] {
            let with_more = [&bytes[..], b"GET /"].concat();
            assert_eq!(read(&with_more), Ok((address, bytes.len())));
        }
    }

    #[test]
    fn anything_else_is_refused_at_the_first_wrong_byte() {
        assert_eq!(read_preamble(b""), Ok(Preamble::More(15)));
        assert_eq!(read_preamble(b"GET / HTTP/1.1"), Err(PreambleError::Missing));
        assert_eq!(read_preamble(b"P0"), Err(PreambleError::Missing));
        assert_eq!(read_preamble(b"\r\n\r\n\r"), Err(PreambleError::Missing));
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(read(&long), Err(PreambleError::Malformed));
        for line in [
            "PROXY TCP4 1.2.3.4\r\n.......",
            "PROXY TCP4 a b c d\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWN\n\n\r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Err(PreambleError::Malformed), "{line}");
        }
        assert_eq!(read(&version_2(0x22, 0x11, &[0; 12])), Err(PreambleError::Malformed));
        assert_eq!(read(&version_2(0x21, 0x11, &[0; 3])), Err(PreambleError::Malformed));
        assert_eq!(read(&version_2(0x21, 0x11, &[0; 9000])), Err(PreambleError::TooLong));
    }
}
