//! Two connections find each other through a wire that is listened to: how often they ask before
//! media flows.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use visavis_media::peer::{Ice, Inlets, Peer, PeerEvent, first_lan_address};
use visavis_media::stats::Counters;

const LIMIT: Duration = Duration::from_secs(60);

/// What passed, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// A check that names the pair to use.
    Naming,
    /// The answer to it.
    Named,
    /// A ClientHello, and whether it brings a cookie.
    ClientHello(bool),
    /// The server asks for a cookie.
    VerifyRequest,
    ServerHello,
}

struct End {
    peer: Peer,
    counters: Arc<Counters>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
}

impl End {
    async fn new() -> Self {
        let inlets = Inlets { video: Box::new(|_, _, _| {}), audio: Box::new(|_, _, _| {}) };
        let (sender, events) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::new());
        let peer = Peer::new(Ice::default(), inlets, Arc::clone(&counters), sender).await;
        Self { peer: peer.expect("a connection"), counters, events }
    }

    /// Candidates that follow are not passed on: there is one wire.
    async fn connected(&mut self) {
        loop {
            match self.events.recv().await.expect("a living connection") {
                PeerEvent::Connected => return,
                PeerEvent::Candidate(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Carries datagrams between two ends, each of which sees the other at one of its own addresses.
struct Wire {
    sockets: [Arc<UdpSocket>; 2],
    state: Arc<Mutex<State>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    ends: [Option<SocketAddr>; 2],
    passed: Vec<Passed>,
    /// The transactions of checks that name a pair.
    naming: Vec<Vec<u8>>,
    /// How many answers to them are still to be lost.
    lost: usize,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Wire {
    /// Loses the first `lost` answers to checks that name a pair.
    async fn new(lost: usize) -> Self {
        // An address that the ends bind, too.
        let here = first_lan_address().unwrap_or(Ipv4Addr::LOCALHOST.into());
        let bind = || async { Arc::new(UdpSocket::bind((here, 0)).await.expect("a socket")) };
        let sockets = [bind().await, bind().await];
        let state = Arc::new(Mutex::new(State { lost, ..State::default() }));
        let carry = |from: usize| {
            let (sockets, state) = (sockets.clone(), Arc::clone(&state));
            async move {
                let mut buffer = [0; 2048];
                loop {
                    // An end that is closed may refuse, which is told here.
                    let Ok((size, _)) = sockets[from].recv_from(&mut buffer).await else {
                        continue;
                    };
                    let datagram = &buffer[..size];
                    let to = state.lock().expect("no panic").pass(1 - from, datagram);
                    if let Some(to) = to {
                        let _ = sockets[1 - from].send_to(datagram, to).await;
                    }
                }
            }
        };
        let tasks = [0, 1].map(|from| tokio::spawn(carry(from))).into();
        Self { sockets, state, tasks }
    }

    /// The description of one end (0 or 1) as the other is to see it.
    fn through(&self, end: usize, sdp: &str) -> String {
        let wire = self.sockets[1 - end].local_addr().expect("an address");
        let mut address = None;
        let others = |line: &&str| {
            let Some(candidate) = line.strip_prefix("a=candidate:") else { return true };
            let fields: Vec<&str> = candidate.split(' ').collect();
            if fields[2].eq_ignore_ascii_case("udp") && fields[4] == wire.ip().to_string() {
                address = fields[5].parse::<u16>().ok().map(|port| (wire.ip(), port).into());
            }
            false
        };
        let mut lines: Vec<&str> = sdp.lines().filter(others).collect();
        assert!(address.is_some(), "{sdp}");
        self.state.lock().expect("no panic").ends[end] = address;
        let (ip, port) = (wire.ip(), wire.port());
        let candidate = format!("a=candidate:1 1 udp 2130706431 {ip} {port} typ host");
        let first = lines.iter().position(|line| line.starts_with("a=ice-ufrag:"));
        lines.insert(first.expect("credentials"), &candidate);
        lines.join("\r\n") + "\r\n"
    }

    fn passed(&self) -> Vec<Passed> {
        self.state.lock().expect("no panic").passed.clone()
    }
}

impl State {
    /// Where this goes on its way to an end, if it is not lost.
    fn pass(&mut self, end: usize, datagram: &[u8]) -> Option<SocketAddr> {
        let kind = kind(datagram, &mut self.naming);
        self.passed.extend(kind);
        if kind == Some(Passed::Named) && self.lost > 0 {
            self.lost -= 1;
            return None;
        }
        self.ends[end]
    }
}

fn kind(datagram: &[u8], naming: &mut Vec<Vec<u8>>) -> Option<Passed> {
    match *datagram {
        [0, 1, ..] if datagram.windows(4).any(|bytes| bytes == [0, 0x25, 0, 0]) => {
            naming.push(datagram[8..20].to_vec());
            Some(Passed::Naming)
        }
        [1, 1, ..] if naming.iter().any(|naming| *naming == datagram[8..20]) => Some(Passed::Named),
        // A plain handshake message: a header of 13 bytes and one of 12, then version, random and
        // session id, which is empty, before the cookie's length.
        [22, _, _, 0, 0, ..] => match datagram[13] {
            1 => Some(Passed::ClientHello(datagram[25 + 35] > 0)),
            3 => Some(Passed::VerifyRequest),
            2 => Some(Passed::ServerHello),
            _ => None,
        },
        _ => None,
    }
}

/// Connects two ends until `enough` has passed; `told` is what the offering one reads of the answer.
async fn connect(
    wire: &Wire,
    told: impl Fn(&str) -> String,
    enough: impl Fn(&[Passed]) -> bool,
) -> Vec<Passed> {
    let (mut a, mut b) = (End::new().await, End::new().await);
    let offer = a.peer.offer().await.expect("an offer");
    let answer = b.peer.answer(&wire.through(0, &offer)).await.expect("an answer");
    a.peer.accept_answer(&told(&wire.through(1, &answer))).await.expect("accepted");
    let connected = async { tokio::join!(a.connected(), b.connected()) };
    tokio::time::timeout(LIMIT, connected).await.expect("connected in time");
    assert!(a.counters.rtt().is_some() && b.counters.rtt().is_some(), "the checks tell");
    let passing = async {
        while !enough(&wire.passed()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(LIMIT, passing).await.is_ok();
    a.peer.close().await;
    b.peer.close().await;
    assert!(in_time, "{:?}", wire.passed());
    wire.passed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_that_the_answer_told_is_not_asked_for() {
    let wire = Wire::new(0).await;
    let passed = connect(&wire, str::to_owned, |_| true).await;
    assert!(passed.contains(&Passed::ClientHello(true)), "{passed:?}");
    assert!(passed.contains(&Passed::ServerHello), "{passed:?}");
    assert!(!passed.contains(&Passed::ClientHello(false)), "{passed:?}");
    assert!(!passed.contains(&Passed::VerifyRequest), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_it_did_not_tell_is() {
    let wire = Wire::new(0).await;
    let without = |sdp: &str| {
        sdp.split_inclusive('\n').filter(|line| !line.contains("cookie")).collect::<String>()
    };
    let passed = connect(&wire, without, |_| true).await;
    let at = |wanted| passed.iter().position(|passed| *passed == wanted);
    let order = [
        at(Passed::ClientHello(false)),
        at(Passed::VerifyRequest),
        at(Passed::ClientHello(true)),
        at(Passed::ServerHello),
    ];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_pair_is_in_use_before_the_other_end_answers_and_named_until_it_does() {
    let wire = Wire::new(2).await;
    let count = |passed: &[Passed], wanted| passed.iter().filter(|one| **one == wanted).count();
    let answered = |passed: &[Passed]| count(passed, Passed::Named) > 2;
    let passed = connect(&wire, str::to_owned, answered).await;
    assert!(count(&passed, Passed::Naming) >= 3, "{passed:?}");
    let hello = passed.iter().position(|passed| *passed == Passed::ClientHello(true));
    let named = passed.iter().rposition(|passed| *passed == Passed::Named);
    assert!(hello.is_some() && hello < named, "{passed:?}");
}
