//! The crate's runtime, with sockets that send what a DTLS handshake is made of three times, checks
//! for a path less often, and spare it two round trips before media flows (`nomination`, `hello`).
//!
//! The crate's DTLS waits a second before it sends a flight again, and stops waiting when a part
//! of the answer comes: where a packet was lost, two ends connect late or never (seen in one of
//! eleven calls with 5 % loss). Repeats are dropped by whoever has them already (RFC 6347 section
//! 4.1.2.6), and a handshake is a dozen packets.

pub(super) mod checks;
pub(super) mod hello;
mod nomination;
mod round_trip;

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    Transmit, default_runtime,
};

use checks::Checks;
pub(super) use hello::Cookie;
use hello::{Hello, Leaving};
use nomination::{Nomination, Transaction};
use round_trip::RoundTrips;

use crate::stats::Counters;

/// When, after the first time: apart, since losses come in runs.
const REPEATED_AFTER: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(90)];

/// What is not larger than this is sent again; no flight has larger records.
const LARGEST: usize = 1500;

type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A runtime for a connection, or none where the crate was built without.
pub(super) fn runtime(dialogue: Arc<Dialogue>) -> Option<Arc<dyn Runtime>> {
    default_runtime().map(|inner| Arc::new(Considerate { inner, dialogue }) as Arc<dyn Runtime>)
}

/// What the two ends of a connection know of each other, whatever the socket.
pub(super) struct Dialogue {
    provider: Arc<dyn RTCCryptoProvider>,
    /// The other end's for ICE (RFC 8839 section 5.4).
    password: Mutex<Option<String>>,
    hello: Mutex<Hello>,
    counters: Arc<Counters>,
}

impl Dialogue {
    /// Where our DTLS server asks for this cookie, and nothing is known of the other end.
    pub fn new(
        provider: Arc<dyn RTCCryptoProvider>,
        cookie: Cookie,
        counters: Arc<Counters>,
    ) -> Self {
        let hello = Mutex::new(Hello::new(cookie));
        Self { provider, password: Mutex::default(), hello, counters }
    }

    /// The other end's password for ICE, and the cookie its DTLS server asks for, if it told one.
    pub fn meet(&self, password: Option<&str>, cookie: Option<Cookie>) {
        *locked(&self.password) = password.map(str::to_owned);
        locked(&self.hello).set_theirs(cookie);
    }

    /// What our DTLS server asks for.
    pub fn cookie(&self) -> Cookie {
        locked(&self.hello).ours()
    }
}

impl std::fmt::Debug for Dialogue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dialogue") // without its secrets
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a datagram is of a DTLS handshake (RFC 7983 section 7; RFC 6347 section 4.1: content
/// types 20 and 22), also inside a TURN channel (RFC 8656 section 12.4).
fn is_handshake(datagram: &[u8]) -> bool {
    let content = match datagram {
        [0x40..=0x4f, _, _, _, channel_data @ ..] => channel_data.first(),
        plain => plain.first(),
    };
    matches!(content, Some(20 | 22)) && datagram.len() <= LARGEST
}

#[derive(Debug)]
struct Considerate {
    inner: Arc<dyn Runtime>,
    dialogue: Arc<Dialogue>,
}

impl Considerate {
    fn wrap(&self, socket: UdpSocket) -> io::Result<ConsiderateSocket> {
        Ok(ConsiderateSocket {
            repeats: Arc::new(socket.try_clone()?),
            inner: self.inner.wrap_udp_socket(socket)?,
            runtime: Arc::clone(&self.inner),
            dialogue: Arc::clone(&self.dialogue),
            checks: Mutex::default(),
            nomination: Arc::default(),
            round_trips: Mutex::default(),
            last_handshake: Mutex::default(),
            handed_in: Mutex::default(),
        })
    }
}

impl Runtime for Considerate {
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(self.wrap(socket)?))
    }

    fn spawn(&self, future: Task<'static, ()>) -> Box<dyn JoinHandle> {
        self.inner.spawn(future)
    }

    fn spawn_reactor(&self, pool: usize, future: Task<'static, ()>) -> Box<dyn JoinHandle> {
        self.inner.spawn_reactor(pool, future)
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, to: SocketAddr) -> Task<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.inner.connect_tcp(to)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Task<'a, io::Result<Vec<SocketAddr>>> {
        self.inner.resolve_host(host)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn sleep(&self, duration: Duration) -> Task<'static, ()> {
        self.inner.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Task<'static, ()> {
        self.inner.yield_now()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

#[derive(Debug)]
struct ConsiderateSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same socket: repeats wait for no room in it, and take no one's place who does.
    repeats: Arc<UdpSocket>,
    runtime: Arc<dyn Runtime>,
    dialogue: Arc<Dialogue>,
    checks: Mutex<Checks>,
    nomination: Arc<Mutex<Nomination>>,
    round_trips: Mutex<RoundTrips>,
    last_handshake: Mutex<Option<(SocketAddr, Vec<u8>)>>,
    handed_in: Mutex<HandedIn>,
}

/// What the crate is to receive though it did not come, or not in this order.
#[derive(Debug, Default)]
struct HandedIn {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

impl ConsiderateSocket {
    fn hand_in(&self, from: SocketAddr, datagram: Vec<u8>) {
        let mut handed_in = locked(&self.handed_in);
        handed_in.datagrams.push_back((from, datagram));
        if let Some(reader) = handed_in.reader.take() {
            reader.wake();
        }
    }

    fn repeat(&self, datagram: &[u8], to: SocketAddr) {
        let (socket, runtime) = (Arc::downgrade(&self.repeats), Arc::clone(&self.runtime));
        let datagram = datagram.to_vec();
        self.runtime.spawn(Box::pin(async move {
            let mut passed = Duration::ZERO;
            for after in REPEATED_AFTER {
                runtime.sleep(after.saturating_sub(passed)).await;
                passed = after;
                let Some(socket) = socket.upgrade() else { return };
                // Lost like any other datagram where it cannot be sent.
                let _ = socket.send_to(&datagram, to);
            }
        }));
    }

    /// Sends a check again until the other end has answered it.
    fn insist(&self, transaction: Transaction, datagram: &[u8], to: SocketAddr) {
        let (socket, runtime) = (Arc::downgrade(&self.repeats), Arc::clone(&self.runtime));
        let (nomination, datagram) = (Arc::clone(&self.nomination), datagram.to_vec());
        self.runtime.spawn(Box::pin(async move {
            for wait in nomination::again() {
                runtime.sleep(wait).await;
                let Some(socket) = socket.upgrade() else { return };
                if !locked(&nomination).is_unanswered(&transaction) {
                    return;
                }
                let _ = socket.send_to(&datagram, to);
            }
        }));
    }

    /// Whether what was to leave is not to.
    fn keeps(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        if Checks::concern(datagram) && !locked(&self.checks).admits(Instant::now(), to, datagram) {
            return true;
        }
        if !is_handshake(datagram) {
            return false;
        }
        match locked(&self.dialogue.hello).leaving(datagram) {
            Leaving::Passes => false,
            Leaving::Kept => true,
            Leaving::Answered(answer) => {
                self.hand_in(to, answer);
                true
            }
        }
    }

    fn handle_sent(&self, to: SocketAddr, datagram: &[u8]) {
        if Checks::concern(datagram) {
            let now = Instant::now();
            locked(&self.checks).handle_sent(now, to, datagram);
            locked(&self.round_trips).handle_sent(now, datagram);
            let Dialogue { password, provider, .. } = &*self.dialogue;
            let password = || locked(password).clone();
            let named = locked(&self.nomination).handle_sent(datagram, password, provider);
            if let Some((transaction, answer)) = named {
                self.hand_in(to, answer);
                self.insist(transaction, datagram, to);
            }
        }
        if is_handshake(datagram) {
            *locked(&self.last_handshake) = Some((to, datagram.to_vec()));
            self.repeat(datagram, to);
        }
    }

    /// Looks at what came in `buffer`, one datagram or several of a size, and may put something
    /// else there first.
    fn handle_received(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let size = if meta.stride == 0 { meta.len } else { meta.stride }.max(1);
        let Some(datagrams) = buffer.get(..meta.len) else { return };
        let mut to_crate = Vec::new();
        for (number, datagram) in datagrams.chunks(size).enumerate() {
            self.handle_datagram(meta.addr, datagram);
            if Hello::concerns(datagram)
                && let Some(before) = locked(&self.dialogue.hello).arrived(datagram)
            {
                to_crate.extend(datagrams.chunks(size).take(number).map(<[u8]>::to_vec));
                to_crate.push(before);
                to_crate.extend(datagrams.chunks(size).skip(number).map(<[u8]>::to_vec));
                break;
            }
        }
        let mut to_crate = to_crate.into_iter();
        if let Some(first) = to_crate.next()
            && let Some(place) = buffer.get_mut(..first.len())
        {
            place.copy_from_slice(&first);
            (meta.len, meta.stride) = (first.len(), first.len());
            to_crate.for_each(|datagram| self.hand_in(meta.addr, datagram));
        }
    }

    fn handle_datagram(&self, from: SocketAddr, datagram: &[u8]) {
        if !Checks::concern(datagram) {
            return;
        }
        let now = Instant::now();
        locked(&self.checks).handle_received(now, from, datagram);
        if let Some(rtt) = locked(&self.round_trips).handle_received(now, datagram) {
            self.dialogue.counters.handle_check_answered(rtt);
        }
        // Until it knew which pair is in use, the other end took no handshake.
        if locked(&self.nomination).handle_received(datagram)
            && let Some((to, last)) = &*locked(&self.last_handshake)
        {
            let _ = self.repeats.send_to(last, to);
        }
    }
}

impl AsyncUdpSocket for ConsiderateSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let (to, contents) = (transmit.destination, transmit.contents);
        let size = transmit.segment_size.unwrap_or(contents.len()).max(1);
        let single = contents.len() <= size;
        if single && self.keeps(to, contents) {
            return Poll::Ready(Ok(contents.len()));
        }
        let sent = self.inner.poll_send(cx, transmit);
        if let Poll::Ready(Ok(_)) = sent {
            contents.chunks(size).for_each(|datagram| self.handle_sent(to, datagram));
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        {
            let mut handed_in = locked(&self.handed_in);
            if let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut())
                && let Some((addr, datagram)) = handed_in.datagrams.pop_front()
            {
                let len = datagram.len().min(buffer.len());
                buffer.iter_mut().zip(datagram).for_each(|(place, byte)| *place = byte);
                *meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (addr, len, len);
                return Poll::Ready(Ok(1));
            }
            handed_in.reader = Some(cx.waker().clone());
        }
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
                self.handle_received(buffer, meta);
            }
        }
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

#[cfg(test)]
mod tests;
