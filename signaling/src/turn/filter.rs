//! Which addresses the relay may be used to reach. Pure.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// Decides about addresses. Relayed addresses of the server itself are not its business: they
/// are reached without the network.
#[derive(Debug, Clone, Default)]
pub struct PeerFilter {
    deny: Vec<IpNet>,
    allow: Vec<IpNet>,
    own: HashSet<IpAddr>,
}

impl PeerFilter {
    /// Refuses what nobody should reach through a relay, and `deny` besides; `allow` wins over
    /// everything.
    pub fn new(deny: Vec<IpNet>, allow: Vec<IpNet>) -> Self {
        Self { deny, allow, own: HashSet::new() }
    }

    /// The server's own addresses, broadcast addresses of its networks included: services bound
    /// to them trust whoever comes from the machine itself.
    pub fn set_own(&mut self, own: impl IntoIterator<Item = IpAddr>) {
        self.own = own.into_iter().map(|ip| ip.to_canonical()).collect();
    }

    /// Whether `ip` is an address of the server itself.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip.to_canonical())
    }

    /// Whether packets may be sent to `ip`, and taken from it.
    pub fn permits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if self.allow.iter().any(|net| net.contains(&ip)) {
            return true;
        }
        // An address can be hidden in another: look at both.
        [Some(ip), embedded(ip).map(IpAddr::V4)].into_iter().flatten().all(|ip| {
            is_host(ip) && !self.own.contains(&ip) && !self.deny.iter().any(|net| net.contains(&ip))
        })
    }
}

/// Whether `ip` can be another machine's own address at all, and not the local link's only.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let first = ip.octets()[0];
            // 0/8 is this host (RFC 1122), 240/4 reserved, with the broadcast address.
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || first == 0
                || first >= 240)
        }
        IpAddr::V6(ip) => {
            let link_local = ip.is_unicast_link_local();
            // A cloud's metadata service, the one address of it that is not link-local.
            let metadata = ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            // Site-local: long deprecated (RFC 3879). `::/96` covers unspecified, loopback and
            // the deprecated embedding of IPv4.
            let site_local = ip.segments()[0] & 0xffc0 == 0xfec0;
            let compatible = ip.segments()[..6] == [0; 6];
            !(ip.is_multicast() || link_local || metadata || site_local || compatible)
        }
    }
}

/// The IPv4 address that a translator or a tunnel would reach for `ip`: NAT64 (RFC 6052,
/// RFC 8215), 6to4 (RFC 3056), IPv4-translated (RFC 2765), Teredo (RFC 4380).
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    let s = ip.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(from(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(deny: &[&str], allow: &[&str]) -> PeerFilter {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        let mut filter = PeerFilter::new(nets(deny), nets(allow));
        filter.set_own(["203.0.113.9", "10.0.0.9", "2001:db8::9"].map(|ip| ip.parse().unwrap()));
        filter
    }

    fn permits(filter: &PeerFilter, ip: &str) -> bool {
        filter.permits(ip.parse().unwrap())
    }

    #[test]
    fn nobody_reaches_the_machine_its_links_or_many_at_once() {
        let filter = filter(&[], &[]);
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "240.0.0.1",
            "203.0.113.9",
            "10.0.0.9",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.9",
            "fe80::1",
            "ff02::1",
            "2001:db8::9",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:9",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "::ffff:0:127.0.0.1",
            "fec0::1",
            "fd00:ec2::254",
            "2001:0:1::80ff:fffe",
        ] {
            assert!(!permits(&filter, ip), "{ip}");
        }
    }

    #[test]
    fn other_machines_are_reached_near_and_far() {
        let filter = filter(&[], &[]);
        for ip in [
            "198.51.100.7",
            "10.0.0.8",
            "192.168.1.7",
            "172.16.0.1",
            "100.64.0.1",
            "2001:db8::8",
            "fd12:3456::1",
            "::ffff:198.51.100.7",
            "64:ff9b::c633:6407",
            "2002:c633:6407::1",
        ] {
            assert!(permits(&filter, ip), "{ip}");
        }
    }

    #[test]
    fn an_operator_denies_more_and_allows_again() {
        let filter = filter(&["10.0.0.0/8", "2001:db8::/32"], &["10.1.0.0/16", "127.0.0.2/32"]);
        assert!(!permits(&filter, "10.0.0.8"));
        assert!(!permits(&filter, "::ffff:10.0.0.8"));
        assert!(!permits(&filter, "64:ff9b::a00:8"));
        assert!(!permits(&filter, "2001:db8::8"));
        assert!(permits(&filter, "10.1.2.3"));
        assert!(permits(&filter, "127.0.0.2"));
        assert!(!permits(&filter, "127.0.0.1"));
        assert!(filter.is_own("::ffff:203.0.113.9".parse().unwrap()));
    }
}
