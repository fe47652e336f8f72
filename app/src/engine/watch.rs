//! Watches the machine: looks at its addresses and clocks once a second, and at once where the
//! system says that a network changed (Linux: rtnetlink).

use std::time::{Duration, Instant, SystemTime};

use tokio::time::MissedTickBehavior;
use visavis_media::peer::local_addresses;

use super::surroundings::{Change, Surroundings};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A replaced address is first gone, then there is another: one change, not two.
const SETTLE: Duration = Duration::from_millis(100);

/// Calls back at every change, until that says `false`.
pub(super) async fn watch(mut tell: impl FnMut(Change) -> bool) {
    let mut surroundings = Surroundings::new(local_addresses(), clocks());
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stirs = stirs::Stirs::new();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stirs.next() => tokio::time::sleep(SETTLE).await,
        }
        if let Some(change) = surroundings.handle_look(local_addresses(), clocks()) {
            tracing::debug!(?change, "the machine's network");
            if !tell(change) {
                return;
            }
        }
    }
}

fn clocks() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

#[cfg(target_os = "linux")]
mod stirs {
    use std::io;
    use std::os::unix::net;

    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    use tokio::net::UnixDatagram;

    /// Groups of `linux/rtnetlink.h`: links, IPv4 and IPv6 addresses.
    const GROUPS: u32 = 0x1 | 0x10 | 0x100;

    /// The kernel's word that a link or an address changed. A netlink socket is a datagram socket
    /// like others to whoever only receives.
    pub(super) struct Stirs(Option<UnixDatagram>);

    impl Stirs {
        pub(super) fn new() -> Self {
            Self(open().inspect_err(|error| tracing::debug!(%error, "rtnetlink")).ok())
        }

        /// Waits for one; what it says is looked up, so nothing is kept.
        pub(super) async fn next(&mut self) {
            let Some(socket) = &self.0 else {
                return std::future::pending().await;
            };
            let mut buffer = [0; 4096];
            match socket.recv(&mut buffer).await {
                Ok(_) => while socket.try_recv(&mut buffer).is_ok() {},
                // More than the kernel keeps for us: something did change.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {}
                Err(error) => {
                    tracing::debug!(%error, "rtnetlink");
                    self.0 = None;
                }
            }
        }
    }

    fn open() -> io::Result<UnixDatagram> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol it is rtnetlink.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        UnixDatagram::from_std(net::UnixDatagram::from(socket))
    }
}

#[cfg(not(target_os = "linux"))]
mod stirs {
    /// Elsewhere looking once a second has to do.
    pub(super) struct Stirs;

    impl Stirs {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) async fn next(&mut self) {
            std::future::pending().await
        }
    }
}
