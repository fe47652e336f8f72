//! Which addresses a connection binds, so that it works on a host with several interfaces, with
//! IPv6, and with nothing but loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtc::ice::mdns::MulticastDnsMode;
use rtc::mdns::MulticastSocket;
use rtc::shared::ifaces::ifaces;

/// How a connection reaches the network.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Addresses to bind, with port 0; a wildcard stands for every interface of its family.
    pub(super) udp: Vec<String>,
    /// Whether names such as Chromium's `.local` candidates can be asked for.
    pub(super) multicast_dns: MulticastDnsMode,
}

/// Looks at the interfaces there are now.
pub(super) fn addresses() -> Network {
    choose(&interfaces(), multicast_works())
}

/// Opens the very socket the crate would: a machine without a route for multicast (a cable between
/// two machines, no gateway) refuses the group with ENODEV, another program may hold the port, and
/// the crate then fails to build the whole connection.
fn multicast_works() -> bool {
    match MulticastSocket::new().into_std() {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, "no multicast DNS on this machine");
            false
        }
    }
}

fn interfaces() -> Vec<IpAddr> {
    ifaces()
        .map(|list| list.iter().filter_map(|iface| iface.addr).map(|addr| addr.ip()).collect())
        .unwrap_or_default()
}

/// The addresses of this machine that others can reach, in no particular order.
pub fn local_addresses() -> Vec<IpAddr> {
    let mut found = interfaces();
    found.retain(usable);
    found
}

/// An address of this machine that others on its network can reach, if there is one; IPv4 first.
pub fn first_lan_address() -> Option<IpAddr> {
    let found = local_addresses();
    found.iter().find(|ip| ip.is_ipv4()).or(found.first()).copied()
}

/// The crate expands a wildcard to the family's usable addresses, but keeps it (and offers the
/// candidate `0.0.0.0`) where there is none, and fails to build where multicast cannot be
/// joined: a host with only `lo` needs loopback by name and no multicast DNS.
fn choose(found: &[IpAddr], multicast_works: bool) -> Network {
    let mut udp = Vec::new();
    if found.iter().any(|ip| ip.is_ipv4() && usable(ip)) {
        udp.push(format!("{}:0", Ipv4Addr::UNSPECIFIED));
    }
    if found.iter().any(|ip| ip.is_ipv6() && usable(ip)) {
        udp.push(format!("[{}]:0", Ipv6Addr::UNSPECIFIED));
    }
    let has_ipv4 = udp.iter().any(|address| address.starts_with('0'));
    let multicast_dns = if has_ipv4 && multicast_works {
        MulticastDnsMode::QueryOnly
    } else {
        MulticastDnsMode::Disabled
    };
    if udp.is_empty() {
        udp.push(format!("{}:0", Ipv4Addr::LOCALHOST));
        if found.contains(&IpAddr::V6(Ipv6Addr::LOCALHOST)) {
            udp.push(format!("[{}]:0", Ipv6Addr::LOCALHOST));
        }
    }
    Network { udp, multicast_dns }
}

/// The crate skips the same ones when it expands a wildcard.
fn usable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_unspecified() && !link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    #[test]
    fn a_host_with_only_loopback_binds_it_by_name() {
        let network = choose(&ips(&["127.0.0.1", "::1"]), true);
        assert_eq!(network.udp, ["127.0.0.1:0", "[::1]:0"]);
        assert_eq!(network.multicast_dns, MulticastDnsMode::Disabled);
        assert_eq!(choose(&ips(&["127.0.0.1"]), true).udp, ["127.0.0.1:0"]);
        assert_eq!(choose(&[], true).udp, ["127.0.0.1:0"]);
    }

    #[test]
    fn both_families_are_bound_where_both_are_usable() {
        let found = ips(&["127.0.0.1", "192.168.1.7", "10.0.0.2", "2001:db8::1", "fe80::1"]);
        let network = choose(&found, true);
        assert_eq!(network.udp, ["0.0.0.0:0", "[::]:0"]);
        assert_eq!(network.multicast_dns, MulticastDnsMode::QueryOnly);
    }

    #[test]
    fn link_local_addresses_alone_do_not_count() {
        assert_eq!(
            choose(&ips(&["127.0.0.1", "169.254.1.1", "fe80::1"]), true).udp,
            ["127.0.0.1:0"]
        );
    }

    #[test]
    fn a_host_with_only_ipv6_asks_no_ipv4_multicast() {
        let network = choose(&ips(&["127.0.0.1", "2001:db8::1"]), true);
        assert_eq!(network.udp, ["[::]:0"]);
        assert_eq!(network.multicast_dns, MulticastDnsMode::Disabled);
    }

    #[test]
    fn a_host_without_a_route_for_multicast_does_without_it() {
        let network = choose(&ips(&["127.0.0.1", "10.77.0.1"]), false);
        assert_eq!(network.udp, ["0.0.0.0:0"]);
        assert_eq!(network.multicast_dns, MulticastDnsMode::Disabled);
    }
}
