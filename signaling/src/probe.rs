//! Finds out what listens at an address: `GET /visavis` is a server's identification.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::{Stream, Trouble, Trust, open},
    fingerprint::Fingerprint,
    link::ServerUrl,
    protocol,
};

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
    /// Its TLS port, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_port: Option<u16>,
}

impl Identity {
    pub(crate) fn own(tls_port: Option<u16>) -> Self {
        let visavis = env!("CARGO_PKG_VERSION").into();
        Self { visavis, protocol: protocol::VERSION, tls_port }
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
        /// Its TLS port, if it has one.
        tls_port: Option<u16>,
    },
    /// A server that cannot be asked, since nobody the system trusts vouches for it. Its key has
    /// this fingerprint.
    Unknown(Fingerprint),
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
    answer(Box::new(stream), &address.to_string(), LIMIT / 2).await
}

/// Asks what is at `server`, over TLS if its address says so; takes two seconds at most.
pub async fn probe_server(server: &ServerUrl, trust: Trust) -> Probe {
    match timeout(LIMIT / 2, open(server, trust)).await {
        Ok(Ok(stream)) => answer(stream, &server.authority(), LIMIT / 2).await,
        Ok(Err(Trouble::UnknownCertificate { fingerprint, .. })) => Probe::Unknown(fingerprint),
        Ok(Err(
            Trouble::NotVisavis(_)
            | Trouble::WrongCertificate(_)
            | Trouble::ChangedCertificate { .. }
            | Trouble::BadCertificate { .. },
        )) => Probe::SomethingElse,
        Ok(Err(_)) | Err(_) => Probe::Nothing,
    }
}

async fn answer(stream: Box<dyn Stream>, host: &str, limit: Duration) -> Probe {
    match timeout(limit, ask(stream, host)).await {
        Ok(Some(Identity { visavis, protocol, tls_port })) => {
            Probe::Visavis { version: visavis, protocol, tls_port }
        }
        _ => Probe::SomethingElse,
    }
}

async fn ask(mut stream: Box<dyn Stream>, host: &str) -> Option<Identity> {
    // HTTP/1.0, so that the answer ends with the connection and is not in chunks.
    let request = format!("GET /visavis HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A TLS stream may end without saying so; what was read decides.
    let _ = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await;
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
        let own = Identity::own(Some(8443)).to_text();
        let answer = |status: &str, body: &str| {
            read_identity(format!("HTTP/1.0 {status}\r\nA: b\r\n\r\n{body}").as_bytes())
        };
        assert_eq!(answer("200 OK", &own), Some(Identity::own(Some(8443))));
        assert_eq!(answer("404 Not Found", &own), None);
        assert_eq!(answer("200 OK", "<html>"), None);
        assert_eq!(read_identity(b"SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(read_identity(&[0xff, 0xfe]), None);
    }
}
