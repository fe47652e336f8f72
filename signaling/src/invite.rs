//! Which of this machine's addresses goes into a link for others.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use url::Host;

use crate::{
    fingerprint::Fingerprint,
    interfaces,
    link::{CallLink, Scheme, ServerUrl},
    protocol::RoomName,
};

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The interface's name; empty where unknown.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Whether packets to the world leave from it.
    pub leads_out: bool,
    /// Whether the interface leads to one other machine only, as a tunnel's does.
    pub point_to_point: bool,
}

/// Names of interfaces that lead nowhere but to containers and virtual machines of this one.
const INSIDE: [&str; 11] =
    ["docker", "br-", "virbr", "veth", "vnet", "lxc", "lxd", "cni", "flannel", "cali", "podman"];
/// The same, but of programs whose names come with blanks and case.
const INSIDE_TOO: [&str; 4] = ["vboxnet", "vmnet", "vethernet", "virtualbox"];
/// Names of tunnels: whoever is in the same private network may reach us there.
const TUNNELS: [&str; 7] = ["tun", "tap", "wg", "ppp", "tailscale", "zt", "utun"];

/// The addresses others may reach this machine at, the likeliest first.
///
/// Left out are loopback, link-local addresses (a browser has no use for one) and networks
/// inside this machine. Before all comes the private IPv4 address of a wire or Wi-Fi, above all
/// the one that packets to the world leave from: the other one is most often on the same network.
/// Tunnels come last, whatever leaves through them.
pub fn rank(candidates: &[Candidate]) -> Vec<IpAddr> {
    let mut ranked: Vec<(u8, &Candidate)> =
        candidates.iter().filter_map(|candidate| Some((class(candidate)?, candidate))).collect();
    // Stable: what is alike keeps the system's order.
    ranked.sort_by_key(|(class, _)| *class);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (_, candidate) in ranked {
        if !addresses.contains(&candidate.address) {
            addresses.push(candidate.address);
        }
    }
    addresses
}

/// Lower is likelier; `None`: nobody else reaches us there.
fn class(candidate: &Candidate) -> Option<u8> {
    let name = candidate.interface.to_lowercase();
    let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
    let inside = begins(&INSIDE) || begins(&INSIDE_TOO);
    let address = candidate.address.to_canonical();
    let useless = address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
    if inside || useless {
        return None;
    }
    let tunnel = candidate.point_to_point || begins(&TUNNELS);
    let class = match address {
        _ if tunnel => 5,
        IpAddr::V4(address) if is_shared(address) => 4,
        IpAddr::V4(address) if address.is_private() => 0,
        IpAddr::V4(_) => 1,
        IpAddr::V6(address) if address.is_unique_local() => 3,
        IpAddr::V6(_) => 2,
    };
    Some(2 * class + u8::from(!candidate.leads_out))
}

/// The address space behind a carrier's NAT (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && (64..128).contains(&second)
}

/// An address to be reached at, as the operator gives it: `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicAddress {
    host: Host,
    port: Option<u16>,
}

impl PublicAddress {
    /// A name or an address.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The same as it stands in a certificate: IPv6 without brackets.
    pub fn name(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }
}

impl FromStr for PublicAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = |why: &dyn fmt::Display| {
            format!("“{text}” is no public address ({why}): write HOST or HOST:PORT")
        };
        // IPv6 without brackets leaves no place for a port.
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Ipv6(address), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port: u16 = port.parse().map_err(|error| wrong(&error))?;
                if port == 0 {
                    return Err(wrong(&"port 0 is none"));
                }
                (host, Some(port))
            }
            _ => (text, None),
        };
        let host = Host::parse(host).map_err(|error| wrong(&error))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for PublicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl TryFrom<String> for PublicAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PublicAddress> for String {
    fn from(address: PublicAddress) -> Self {
        address.to_string()
    }
}

/// Where a server can be reached, to make links from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// The server, as others reach it.
    pub server: ServerUrl,
    /// Its key, where its certificate alone proves nothing.
    pub fingerprint: Option<Fingerprint>,
}

impl Invite {
    /// For a server that listens on `addresses` with `scheme`; `public`, if the operator said it,
    /// comes before what the machine's interfaces say. `None` where no other machine gets through.
    pub fn find(
        scheme: Scheme,
        addresses: &[SocketAddr],
        public: Option<&PublicAddress>,
        fingerprint: Option<Fingerprint>,
    ) -> Option<Self> {
        Self::choose(scheme, addresses, public, fingerprint, &interfaces::candidates())
    }

    fn choose(
        scheme: Scheme,
        addresses: &[SocketAddr],
        public: Option<&PublicAddress>,
        fingerprint: Option<Fingerprint>,
        candidates: &[Candidate],
    ) -> Option<Self> {
        if let Some(public) = public {
            let port = public.port.or_else(|| addresses.first().map(SocketAddr::port))?;
            let server = ServerUrl::new(scheme, public.host.clone(), port);
            return Some(Self { server, fingerprint });
        }
        let reaches = |ip: IpAddr| {
            addresses.iter().find(|listening| {
                let all = listening.ip().is_unspecified();
                listening.ip() == ip || (all && listening.is_ipv4() == ip.is_ipv4())
                    // Alone, `[::]` stands for IPv4 too.
                    || (all && listening.is_ipv6() && !addresses.iter().any(SocketAddr::is_ipv4))
            })
        };
        rank(candidates).into_iter().find_map(|ip| {
            let address = SocketAddr::new(ip, reaches(ip)?.port());
            Some(Self { server: ServerUrl::at(scheme, address), fingerprint })
        })
    }

    /// The link to a room there.
    pub fn link(&self, room: RoomName) -> CallLink {
        CallLink::new(self.server.clone(), room, self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(interface: &str, address: &str, leads_out: bool) -> Candidate {
        let address = address.parse().unwrap();
        Candidate { interface: interface.into(), address, leads_out, point_to_point: false }
    }

    fn ranked(candidates: &[Candidate]) -> Vec<String> {
        rank(candidates).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_laptop_with_docker_and_a_vpn_is_found_on_its_wifi() {
        let found = ranked(&[
            candidate("lo", "127.0.0.1", false),
            candidate("docker0", "172.17.0.1", false),
            candidate("br-5f2c", "172.18.0.1", false),
            candidate("virbr0", "192.168.122.1", false),
            candidate("vEthernet (WSL)", "172.20.0.1", false),
            candidate("tun0", "10.8.0.6", true),
            candidate("wlp3s0", "192.168.1.5", false),
            candidate("wlp3s0", "fe80::1", false),
            candidate("wlp3s0", "2a01:db8::5", true),
        ]);
        assert_eq!(found, ["192.168.1.5", "2a01:db8::5", "10.8.0.6"]);
    }

    #[test]
    fn the_interface_that_leads_out_comes_first() {
        let found = ranked(&[
            candidate("eth1", "10.0.0.1", false),
            candidate("eth0", "192.168.1.5", true),
            candidate("eth0", "192.168.1.5", true),
            candidate("eth2", "203.0.113.9", false),
        ]);
        assert_eq!(found, ["192.168.1.5", "10.0.0.1", "203.0.113.9"]);
    }

    #[test]
    fn a_server_in_a_data_centre_is_found_at_its_public_address() {
        let found = ranked(&[
            candidate("eth0", "203.0.113.9", true),
            candidate("eth0", "2001:db8::9", true),
            candidate("wg0", "10.66.0.1", false),
        ]);
        assert_eq!(found, ["203.0.113.9", "2001:db8::9", "10.66.0.1"]);
    }

    #[test]
    fn without_a_network_there_is_nothing_to_tell() {
        let inside = [
            candidate("lo", "::1", false),
            candidate("docker0", "172.17.0.1", true),
            candidate("eth0", "169.254.7.7", false),
        ];
        assert!(rank(&inside).is_empty());
        let all = ["0.0.0.0:8443".parse().unwrap()];
        assert_eq!(Invite::choose(Scheme::Https, &all, None, None, &inside), None);
    }

    #[test]
    fn only_an_address_that_is_listened_on_is_told() {
        let both = [candidate("eth0", "192.168.1.5", true), candidate("eth1", "10.0.0.1", false)];
        let invite = |listen: &str, public: Option<&str>| {
            let public = public.map(|public| public.parse().unwrap());
            Invite::choose(Scheme::Https, &[listen.parse().unwrap()], public.as_ref(), None, &both)
                .map(|invite| invite.server.to_string())
        };
        assert_eq!(invite("10.0.0.1:9", None).unwrap(), "https://10.0.0.1:9");
        assert_eq!(invite("0.0.0.0:9", None).unwrap(), "https://192.168.1.5:9");
        assert_eq!(invite("[::]:9", None).unwrap(), "https://192.168.1.5:9");
        assert_eq!(invite("127.0.0.1:9", None), None);
        assert_eq!(invite("127.0.0.1:9", Some("tea.example")).unwrap(), "https://tea.example:9");
        assert_eq!(
            invite("127.0.0.1:9", Some("[2001:db8::1]:443")).unwrap(),
            "https://[2001:db8::1]"
        );
    }

    #[test]
    fn a_public_address_is_read_and_written() {
        for (text, written) in [
            ("tea.example", "tea.example"),
            ("tea.example:443", "tea.example:443"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            assert_eq!(text.parse::<PublicAddress>().unwrap().to_string(), written, "{text}");
        }
        for text in ["", "a b", "tea.example:", "tea.example:0", "tea.example:99999", "https://x"] {
            let error = text.parse::<PublicAddress>().expect_err(text);
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }
}
