//! Two hosts on one machine with an emulated network between them: two network namespaces, each with a
//! TUN interface whose packets a thread of ours carries across, late, limited and with losses.
//!
//! The namespaces live as long as processes whose standard input we hold: they are gone whenever this
//! process is, however it ended.

pub mod forward;
pub mod link;
pub mod profile;
mod tun;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netns::Host;
use forward::{Control, Forwarder};
use link::Counters;
use profile::Profile;

/// The left host's address.
pub const LEFT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The right host's address.
pub const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The interface's name on either.
pub const INTERFACE: &str = "net0";

/// The two hosts and what lies between them.
pub struct NetLab {
    pub left: Host,
    pub right: Host,
    control: Control,
    carrier: Option<JoinHandle<Result<()>>>,
}

/// What each way of the link has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Both {
    pub left_to_right: Counters,
    pub right_to_left: Counters,
}

impl NetLab {
    /// Makes the hosts and joins them. Wants to be root, be it of a user namespace (`unshare --user
    /// --map-root-user`). The same `seed` gives the same fate to the same sequence of packets.
    pub fn new(profile: Profile, seed: u64) -> Result<Self> {
        let (left, right) = (Host::new(&[])?, Host::new(&[])?);
        let mut tuns = Vec::new();
        for (host, address) in [(&left, LEFT), (&right, RIGHT)] {
            tuns.push(on(host, || tun::open(INTERFACE))?);
            // No IPv6: a second set of candidates would only make runs differ.
            host.ip("link set net0 addrgenmode none")?;
            host.ip(&format!("address add {address}/24 dev {INTERFACE}"))?;
            host.ip("link set lo up")?;
            host.ip("link set net0 txqueuelen 1000 up")?;
        }
        let (Some(right_tun), Some(left_tun)) = (tuns.pop(), tuns.pop()) else {
            return Err(anyhow!("no interfaces"));
        };
        let (forwarder, control) = Forwarder::new([left_tun, right_tun], profile, seed)?;
        let carrier =
            std::thread::Builder::new().name("netlab".to_owned()).spawn(move || forwarder.run())?;
        Ok(Self { left, right, control, carrier: Some(carrier) })
    }

    /// From now on the network is like this, both ways.
    pub fn set(&self, profile: Profile) -> Result<()> {
        self.control.set(profile)
    }

    /// Changes to these profiles at these moments.
    pub fn steps(&self, steps: Vec<(Instant, Profile)>) -> Result<()> {
        self.control.steps(steps)
    }

    pub fn counters(&self) -> Both {
        self.control.counters()
    }
}

impl Drop for NetLab {
    fn drop(&mut self) {
        self.control.stop();
        if let Some(carrier) = self.carrier.take()
            && let Ok(Err(error)) = carrier.join()
        {
            eprintln!("the emulated network failed: {error:#}");
        }
    }
}

/// Runs `act` on a thread that stands on the host; sockets and devices it opens belong there.
pub fn on<T: Send>(host: &Host, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let space = std::fs::File::open(format!("/proc/{}/ns/net", host.pid()))?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                use std::os::fd::AsFd;
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("entering a host's network: be root, or use `unshare -Ur`")?;
                act()
            })
            .join()
            .map_err(|_| anyhow!("what should run on a host panicked"))?
    })
}

/// A connection as made by a program on that host.
pub fn connect(host: &Host, to: SocketAddr) -> Result<TcpStream> {
    on(host, || TcpStream::connect(to).with_context(|| to.to_string()))
}
