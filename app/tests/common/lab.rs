//! Two machines with a network between them: two network namespaces joined by a pair of virtual
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
