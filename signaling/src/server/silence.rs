//! Notices, below every carrier, that the other host is gone without a word.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::carrier::Liveness;

/// Probes that may stay unanswered.
const PROBES: u32 = 2;

/// Asks the operating system to probe a silent connection as often as carriers ping. A carrier's
/// own heartbeat may be slower: that of old Socket.IO clients takes more than a minute.
pub(super) fn probe(stream: &TcpStream, liveness: Liveness) -> io::Result<()> {
    // The system counts in seconds.
    let seconds = |time: Duration| Duration::from_secs(time.as_secs().max(1));
    let rest = liveness.answer_within.saturating_sub(liveness.ping_every) / PROBES;
    let keepalive =
        TcpKeepalive::new().with_time(seconds(liveness.ping_every)).with_interval(seconds(rest));
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
