//! This machine's addresses, as the system tells them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::invite::Candidate;

/// Every address of every interface that is up.
pub fn candidates() -> Vec<Candidate> {
    let leaving = [leaving_by("0.0.0.0:0", PROBE_V4), leaving_by("[::]:0", PROBE_V6)];
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "this machine's addresses cannot be listed");
            Vec::new()
        }
    };
    let mut candidates: Vec<Candidate> = interfaces
        .into_iter()
        .filter(|interface| interface.is_oper_up() || is_unclear(interface))
        .map(|interface| Candidate {
            address: interface.ip(),
            leads_out: leaving.contains(&Some(interface.ip())),
            point_to_point: interface.is_p2p(),
            interface: interface.name,
        })
        .collect();
    // Where listing fails, the address that packets leave from is still known.
    for address in leaving.into_iter().flatten() {
        if !candidates.iter().any(|candidate| candidate.address == address) {
            candidates.push(Candidate {
                interface: String::new(),
                address,
                leads_out: true,
                point_to_point: false,
            });
        }
    }
    candidates
}

/// This machine's name, where it has one that can stand in a certificate.
pub fn host_name() -> Option<String> {
    let name = gethostname::gethostname().into_string().ok()?.to_ascii_lowercase();
    let is_name = rustls::pki_types::DnsName::try_from(name.as_str()).is_ok();
    (is_name && name != "localhost" && name.parse::<IpAddr>().is_err()).then_some(name)
}

/// Virtual interfaces (bridges without a cable, tunnels, dummies) tell no state.
fn is_unclear(interface: &if_addrs::Interface) -> bool {
    interface.oper_status == if_addrs::IfOperStatus::Unknown
}

/// Addresses that no network routes specially (RFC 5737, RFC 3849).
const PROBE_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const PROBE_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);

/// The address from which packets to the world leave. Connecting a UDP socket sends nothing.
fn leaving_by(local: &str, remote: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(remote).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_always_among_them() {
        assert!(candidates().iter().any(|candidate| candidate.address.is_loopback()));
    }
}
