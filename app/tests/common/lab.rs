//! Two machines with a network between them: network namespaces joined by pairs of virtual
//! Ethernet interfaces.

use anyhow::Result;

use super::netns::{Host, if_possible, may_without};

/// Two hosts on one cable, without a gateway: neither has a default route.
pub struct Lab {
    pub left: Host,
    pub right: Host,
}

impl Lab {
    fn new() -> Result<Self> {
        let left = Host::new(&[])?;
        // Within the user namespace of the first, so that one of them may hand the other its interface.
        let enter: Vec<String> = if may_without() { vec![] } else { left.enter() };
        let right = Host::new(&enter)?;
        left.ip(&format!("link add cable type veth peer name cable netns {}", right.pid()))?;
        for (host, address) in [(&left, "10.77.0.1/24"), (&right, "10.77.0.2/24")] {
            host.ip(&format!("address add {address} dev cable"))?;
            host.ip("link set lo up")?;
            host.ip("link set cable up")?;
        }
        Ok(Self { left, right })
    }
}

/// The hosts, where the system lets us have them.
pub fn lab() -> Result<Option<Lab>> {
    if_possible(Lab::new())
}

/// Two hosts in networks of their own, 10.78.1.0/24 and 10.78.2.0/24, and a third one between
/// them, which has the first address of both. They are 10.78.1.2 and 10.78.2.2.
pub struct Routed {
    pub middle: Host,
    pub left: Host,
    pub right: Host,
}

impl Routed {
    fn new(forwards: bool) -> Result<Self> {
        let middle = Host::new(&[])?;
        let enter: Vec<String> = if may_without() { vec![] } else { middle.enter() };
        let (left, right) = (Host::new(&enter)?, Host::new(&enter)?);
        middle.ip("link set lo up")?;
        if forwards {
            middle.run(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
        }
        for (name, host, net) in [("left", &left, "10.78.1"), ("right", &right, "10.78.2")] {
            let pid = host.pid();
            middle.ip(&format!("link add {name} type veth peer name cable netns {pid}"))?;
            middle.ip(&format!("address add {net}.1/24 dev {name}"))?;
            middle.ip(&format!("link set {name} up"))?;
            host.ip(&format!("address add {net}.2/24 dev cable"))?;
            host.ip("link set lo up")?;
            host.ip("link set cable up")?;
            // As behind a router: the way leads on.
            host.ip(&format!("route add default via {net}.1"))?;
        }
        Ok(Self { middle, left, right })
    }
}

/// The hosts, where the system lets us have them; the one in the middle forwards or does not.
pub fn routed(forwards: bool) -> Result<Option<Routed>> {
    if_possible(Routed::new(forwards))
}
