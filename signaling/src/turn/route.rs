//! Which of this machine's addresses leads where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address from which packets to `remote` leave. Connecting a UDP socket sends nothing.
pub(super) fn local_toward(remote: IpAddr) -> Option<IpAddr> {
    let unspecified: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((unspecified, 0)).ok()?;
    socket.connect(SocketAddr::new(remote, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// The address others reach this machine by, if it has any but loopback: the one that leads out
/// (to an address for documentation: RFC 5737, RFC 3849), else the first of an interface.
pub(super) fn outward(ipv6: bool) -> Option<IpAddr> {
    let outside: IpAddr = if ipv6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(192, 0, 2, 1).into()
    };
    let usable = |ip: &IpAddr| {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        ip.is_ipv6() == ipv6 && !ip.is_loopback() && !link_local
    };
    let listed = || own_addresses().into_iter().find(usable);
    local_toward(outside).filter(usable).or_else(listed)
}

/// The address by which the client at `remote` reaches a server that listens on all of them. A
/// client on this very machine gets one that others can be told of.
pub(super) fn toward_client(remote: IpAddr) -> Option<IpAddr> {
    let local = local_toward(remote);
    match local {
        Some(ip) if !ip.is_loopback() => Some(ip),
        _ => outward(remote.is_ipv6()).or_else(|| outward(!remote.is_ipv6())).or(local),
    }
}

/// Every address of this machine.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    interfaces().into_iter().map(|interface| interface.ip()).collect()
}

/// Every address of this machine, and the broadcast addresses of its networks.
pub(super) fn own_and_broadcast() -> Vec<IpAddr> {
    let mut found = Vec::new();
    for interface in interfaces() {
        found.push(interface.ip());
        if let if_addrs::IfAddr::V4(v4) = interface.addr {
            // A /31 or /32 has none, whatever the system calls so.
            found.extend(v4.broadcast.filter(|_| v4.prefixlen < 31).map(IpAddr::V4));
        }
    }
    found
}

fn interfaces() -> Vec<if_addrs::Interface> {
    match if_addrs::get_if_addrs() {
        Ok(list) => list,
        Err(error) => {
            tracing::warn!(%error, "this machine's addresses cannot be listed");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_leads_to_loopback() {
        assert_eq!(local_toward(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
        assert!(own_and_broadcast().contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
