//! Finds out what listens at an address: `GET /visavis` is a server's identification.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::protocol;

/// For the whole exchange. What is asked is near.
const LIMIT: Duration = Duration::from_secs(2);

/// More than an identification needs.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

/// What a server says of itself at `/visavis`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The version of this crate.
    visavis: String,
    /// The version of the room protocol.
    protocol: u32,
}

impl Identity {
    pub(crate) fn own() -> Self {
        Self { visavis: env!("CARGO_PKG_VERSION").into(), protocol: protocol::VERSION }
    }

    pub(crate) fn to_text(&self) -> String {
        // Nothing in it can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What listens at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A server of ours.
    Visavis {
        /// Its version.
        version: String,
        /// The version of its room protocol; ours is [`protocol::VERSION`].
        protocol: u32,
    },
    /// Another program.
    SomethingElse,
    /// Nothing, or nothing that can be reached.
    Nothing,
}

/// Asks what listens at `address`; takes two seconds at most. For an unspecified address
/// (`0.0.0.0`) asks this machine.
pub async fn probe(address: SocketAddr) -> Probe {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let Ok(Ok(stream)) = timeout(LIMIT / 2, TcpStream::connect(address)).await else {
        return Probe::Nothing;
    };
    match timeout(LIMIT / 2, ask(stream, address)).await {
        Ok(Some(Identity { visavis, protocol })) => Probe::Visavis { version: visavis, protocol },
        _ => Probe::SomethingElse,
    }
}

async fn ask(mut stream: TcpStream, address: SocketAddr) -> Option<Identity> {
    // HTTP/1.0, so that the answer ends with the connection and is not in chunks.
    let request = format!("GET /visavis HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.ok()?;
    read_identity(&answer)
}

fn read_identity(answer: &[u8]) -> Option<Identity> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.split(' ').nth(1)?;
    if status != "200" {
        return None;
    }
    serde_json::from_str(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_identification_is_taken_for_one() {
        let own = Identity::own().to_text();
        let answer = |status: &str, body: &str| {
            read_identity(format!("HTTP/1.0 {status}\r\nA: b\r\n\r\n{body}").as_bytes())
        };
        assert_eq!(answer("200 OK", &own), Some(Identity::own()));
        assert_eq!(answer("404 Not Found", &own), None);
        assert_eq!(answer("200 OK", "<html>"), None);
        assert_eq!(read_identity(b"SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(read_identity(&[0xff, 0xfe]), None);
    }
}
