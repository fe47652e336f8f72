use std::{
    net::IpAddr,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::turn::{credentials::Credential, stun::long_term_key};

const REALM: &str = "visavis";

/// Sockets that are only numbers.
struct Ports {
    next: u16,
    last: u16,
    ipv6: bool,
}

impl OpenRelay for Ports {
    fn open(&mut self, _: RelayId, _: &Client, ipv6: bool) -> Result<Relayed, NoRelay> {
        if ipv6 && !self.ipv6 {
            return Err(NoRelay::Family);
        }
        if self.next > self.last {
            return Err(NoRelay::Capacity);
        }
        let port = self.next;
        self.next += 1;
        let bound: IpAddr = if ipv6 { "fd00::9" } else { "10.0.0.9" }.parse().unwrap();
        let told: IpAddr = if ipv6 { "fd00::9" } else { "203.0.113.9" }.parse().unwrap();
        Ok(Relayed { bound: (bound, port).into(), told: (told, port).into() })
    }
}

struct World {
    allocations: Allocations,
    authority: Authority,
    stats: Arc<TurnStats>,
    ports: Ports,
    start: Instant,
    passed: Duration,
}

/// An answer, taken apart.
#[derive(Debug)]
struct Answer {
    code: u16,
    relayed: Option<SocketAddr>,
    lifetime: Option<u32>,
    nonce: Vec<u8>,
    authentic: bool,
}

struct User {
    client: Client,
    credential: Credential,
    nonce: Vec<u8>,
    transactions: u8,
}

impl World {
    fn new(limits: Limits) -> Self {
        let stats = Arc::new(TurnStats::default());
        let authority = Authority::new(b"north");
        let mut filter = PeerFilter::new(Vec::new(), Vec::new());
        filter.set_own(["203.0.113.9", "10.0.0.9", "fd00::9"].map(|ip| ip.parse().unwrap()));
        let allocations =
            Allocations::new(authority.clone(), REALM.into(), limits, filter, Arc::clone(&stats));
        let ports = Ports { next: 50_000, last: 50_100, ipv6: true };
        let start = Instant::now();
        Self { allocations, authority, stats, ports, start, passed: Duration::ZERO }
    }

    fn now(&self) -> Now {
        let day = Duration::from_secs(1_800_000_000);
        Now { instant: self.start + self.passed, wall: UNIX_EPOCH + day + self.passed }
    }

    fn pass(&mut self, seconds: u64) -> Vec<Action> {
        self.passed += Duration::from_secs(seconds);
        self.allocations.handle_timeout(self.start + self.passed)
    }

    fn user(&self, name: &str, client: &str) -> User {
        let client = Client { path: Path::Udp(0), remote: client.parse().unwrap() };
        let credential = self.authority.mint(name, self.now().wall + Duration::from_secs(600));
        let nonce = self.authority.nonce(client.remote.ip(), self.now().wall).into_bytes();
        User { client, credential, nonce, transactions: 0 }
    }

    fn allocated(&mut self, name: &str, client: &str) -> (User, SocketAddr) {
        let mut user = self.user(name, client);
        let answer = user.allocate(self);
        assert_eq!(answer.code, 0, "{answer:?}");
        (user, answer.relayed.unwrap())
    }

    fn hand_in(&mut self, client: Client, bytes: &[u8]) -> Vec<Action> {
        let now = self.now();
        self.allocations.handle_client(client, bytes, now, &mut self.ports)
    }
}

impl User {
    fn ask(&mut self, world: &mut World, request: Builder) -> Answer {
        let Credential { username, password } = &self.credential;
        let key = long_term_key(username, REALM, password);
        let bytes = request
            .attribute(attribute::USERNAME, username.as_bytes())
            .attribute(attribute::REALM, REALM.as_bytes())
            .attribute(attribute::NONCE, &self.nonce)
            .integrity(&key)
            .finish();
        self.bytes(world, &bytes)
    }

    fn bytes(&mut self, world: &mut World, bytes: &[u8]) -> Answer {
        let Credential { username, password } = &self.credential;
        let key = long_term_key(username, REALM, password);
        let actions = world.hand_in(self.client, bytes);
        let Some(Action::ToClient(to, bytes)) = actions.first() else {
            panic!("{actions:?}");
        };
        assert_eq!(*to, self.client);
        let message = Message::parse(bytes).unwrap();
        let code = message.get(attribute::ERROR_CODE);
        let code = code.map_or(0, |value| u16::from(value[2]) * 100 + u16::from(value[3]));
        assert_eq!(code == 0, message.class == Class::Success);
        let relayed = message.xor_addresses(attribute::XOR_RELAYED_ADDRESS).next().flatten();
        Answer {
            code,
            relayed,
            lifetime: message.number(attribute::LIFETIME),
            nonce: message.get(attribute::NONCE).unwrap_or_default().to_vec(),
            authentic: message.is_authentic(&key),
        }
    }

    fn request(&mut self, method: Method) -> Builder {
        self.transactions += 1;
        Builder::new(method, Class::Request, [self.transactions; 12])
    }

    fn allocate(&mut self, world: &mut World) -> Answer {
        let request = self
            .request(Method::Allocate)
            .attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        self.ask(world, request)
    }

    fn refresh(&mut self, world: &mut World, lifetime: u32) -> Answer {
        let request =
            self.request(Method::Refresh).attribute(attribute::LIFETIME, &lifetime.to_be_bytes());
        self.ask(world, request)
    }

    fn permit(&mut self, world: &mut World, peer: &str) -> u16 {
        let request = self
            .request(Method::CreatePermission)
            .xor_address(attribute::XOR_PEER_ADDRESS, peer.parse().unwrap());
        self.ask(world, request).code
    }

    fn bind(&mut self, world: &mut World, channel: u16, peer: &str) -> u16 {
        let request = self
            .request(Method::ChannelBind)
            .attribute(attribute::CHANNEL_NUMBER, &(u32::from(channel) << 16).to_be_bytes())
            .xor_address(attribute::XOR_PEER_ADDRESS, peer.parse().unwrap());
        self.ask(world, request).code
    }

    fn send(&self, world: &mut World, peer: &str, data: &[u8]) -> Vec<Action> {
        let bytes = Builder::new(Method::Send, Class::Indication, [0; 12])
            .xor_address(attribute::XOR_PEER_ADDRESS, peer.parse().unwrap())
            .attribute(attribute::DATA, data)
            .finish();
        world.hand_in(self.client, &bytes)
    }
}

const PEER: &str = "198.51.100.7:4000";

#[test]
fn anyone_learns_its_address_and_only_a_user_gets_a_relay() {
    let mut world = World::new(Limits::default());
    let mut user = world.user("me", "192.0.2.1:1000");
    let bytes = Builder::new(Method::Binding, Class::Request, [9; 12]).finish();
    let actions = world.hand_in(user.client, &bytes);
    let Action::ToClient(_, bytes) = &actions[0] else { panic!("{actions:?}") };
    let message = Message::parse(bytes).unwrap();
    let mapped = message.xor_addresses(attribute::XOR_MAPPED_ADDRESS).next();
    assert_eq!(mapped, Some(Some(user.client.remote)));
    // Without credentials: what to make them with.
    let bare = user.request(Method::Allocate).finish();
    let answer = user.bytes(&mut world, &bare);
    assert_eq!(answer.code, 401);
    user.nonce = answer.nonce;
    let answer = user.allocate(&mut world);
    assert_eq!((answer.code, answer.lifetime, answer.authentic), (0, Some(600), true));
    assert_eq!(answer.relayed, Some("203.0.113.9:50000".parse().unwrap()));
    assert_eq!(world.stats.allocations.load(Relaxed), 1);
}

#[test]
fn forged_and_expired_credentials_and_stale_nonces_are_told_apart() {
    let mut world = World::new(Limits::default());
    let mut forged = world.user("me", "192.0.2.1:1000");
    forged.credential.password = "secret".into();
    assert_eq!(forged.allocate(&mut world).code, 401);
    let mut longer = world.user("me", "192.0.2.1:1000");
    longer.credential.username = "1900000000:me".into();
    assert_eq!(longer.allocate(&mut world).code, 401);
    assert_eq!(world.stats.refused_forged.load(Relaxed), 2);
    let mut late = world.user("me", "192.0.2.1:1000");
    world.pass(600);
    assert_eq!(late.allocate(&mut world).code, 401);
    assert_eq!(world.stats.refused_expired.load(Relaxed), 1);
    let mut stale = world.user("me", "192.0.2.1:1000");
    stale.nonce = world.user("me", "192.0.2.2:1000").nonce;
    let answer = stale.allocate(&mut world);
    assert_eq!(answer.code, 438);
    stale.nonce = answer.nonce;
    assert_eq!(stale.allocate(&mut world).code, 0);
}

#[test]
fn an_allocation_outlives_its_credentials_and_takes_renewed_ones() {
    let mut world = World::new(Limits { age: Duration::from_secs(1000), ..Limits::default() });
    let (mut user, _) = world.allocated("me", "192.0.2.1:1000");
    world.pass(599);
    assert_eq!(user.refresh(&mut world, 600).lifetime, Some(401));
    world.pass(300);
    assert_eq!(user.refresh(&mut world, 600).lifetime, Some(101));
    assert_eq!(user.permit(&mut world, PEER), 0);
    user.credential = world.user("me", "192.0.2.1:1000").credential;
    assert_eq!(user.permit(&mut world, PEER), 0);
    user.credential = world.user("you", "192.0.2.1:1000").credential;
    assert_eq!(user.permit(&mut world, PEER), 441);
    // No refresh goes beyond the greatest age.
    assert!(matches!(world.pass(101)[..], [Action::Close(RelayId(1), _)]));
    user.credential = world.user("me", "192.0.2.1:1000").credential;
    assert_eq!(user.refresh(&mut world, 600).code, 437);
}

#[test]
fn a_lost_answer_is_given_again_and_a_second_allocation_refused() {
    let mut world = World::new(Limits::default());
    let (mut user, relayed) = world.allocated("me", "192.0.2.1:1000");
    user.transactions = 0;
    let again = user.allocate(&mut world);
    assert_eq!((again.code, again.relayed), (0, Some(relayed)));
    assert_eq!(user.allocate(&mut world).code, 437);
    assert_eq!(user.refresh(&mut world, 0).lifetime, Some(0));
    assert_eq!(user.allocate(&mut world).code, 0);
}

#[test]
fn what_is_missing_or_not_offered_is_named() {
    let mut world = World::new(Limits::default());
    let mut user = world.user("me", "192.0.2.1:1000");
    let bare = user.request(Method::Allocate);
    assert_eq!(user.ask(&mut world, bare).code, 400);
    let tcp =
        user.request(Method::Allocate).attribute(attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    assert_eq!(user.ask(&mut world, tcp).code, 442);
    let udp = |user: &mut User| {
        user.request(Method::Allocate).attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
    };
    let third = udp(&mut user).attribute(attribute::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0]);
    assert_eq!(user.ask(&mut world, third).code, 440);
    // EVEN-PORT: an option that is not offered here.
    let even = udp(&mut user).attribute(0x0018, &[0x80, 0, 0, 0]);
    assert_eq!(user.ask(&mut world, even).code, 420);
    assert_eq!(user.permit(&mut world, PEER), 437);
    world.ports.ipv6 = false;
    let six = udp(&mut user).attribute(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    assert_eq!(user.ask(&mut world, six).code, 440);
    world.ports.last = 0;
    assert_eq!(user.allocate(&mut world).code, 508);
    world.ports.last = u16::MAX;
    world.ports.ipv6 = true;
    let six = udp(&mut user).attribute(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    assert_eq!(user.ask(&mut world, six).relayed, Some("[fd00::9]:50000".parse().unwrap()));
    assert_eq!(user.permit(&mut world, PEER), 443);
    assert_eq!(user.permit(&mut world, "[2001:db8::1]:1"), 0);
}

#[test]
fn quotas_hold_for_a_user_an_address_and_in_all() {
    let limits = Limits { user: 1, address: 2, total: 3, ..Limits::default() };
    let mut world = World::new(limits);
    let (mut first, _) = world.allocated("a", "192.0.2.1:1");
    assert_eq!(world.user("a", "192.0.2.2:1").allocate(&mut world).code, 486);
    world.allocated("b", "192.0.2.1:2");
    assert_eq!(world.user("c", "192.0.2.1:3").allocate(&mut world).code, 486);
    world.allocated("c", "192.0.2.2:1");
    assert_eq!(world.user("d", "192.0.2.3:1").allocate(&mut world).code, 508);
    assert_eq!(first.refresh(&mut world, 0).code, 0);
    assert_eq!(world.user("d", "192.0.2.3:1").allocate(&mut world).code, 0);
    assert_eq!(world.pass(600).len(), 3);
    assert_eq!(world.stats.allocations.load(Relaxed), 0);
}

#[test]
fn only_permitted_peers_are_reached_and_heard_and_not_for_ever() {
    let mut world = World::new(Limits::default());
    let (mut user, _) = world.allocated("me", "192.0.2.1:1000");
    let from_peer = |world: &mut World| {
        let now = world.now().instant;
        world.allocations.handle_peer(RelayId(1), PEER.parse().unwrap(), b"hi", now)
    };
    assert_eq!(user.send(&mut world, PEER, b"hi"), []);
    assert_eq!(from_peer(&mut world), []);
    assert_eq!(user.permit(&mut world, PEER), 0);
    let sent = user.send(&mut world, PEER, b"hi");
    assert_eq!(sent, [Action::ToPeer(RelayId(1), PEER.parse().unwrap(), b"hi".to_vec())]);
    let heard = from_peer(&mut world);
    let Action::ToClient(to, bytes) = &heard[0] else { panic!("{heard:?}") };
    let message = Message::parse(bytes).unwrap();
    assert_eq!((*to, message.method), (user.client, Method::Data));
    assert_eq!(message.get(attribute::DATA), Some(&b"hi"[..]));
    world.pass(300);
    assert_eq!(from_peer(&mut world), []);
    assert_eq!(user.send(&mut world, PEER, b"hi"), []);
}

#[test]
fn a_channel_carries_data_both_ways_and_stands_for_one_peer() {
    let mut world = World::new(Limits::default());
    let (mut user, _) = world.allocated("me", "192.0.2.1:1000");
    assert_eq!(user.bind(&mut world, 0x3FFF, PEER), 400);
    assert_eq!(user.bind(&mut world, 0x5000, PEER), 400);
    assert_eq!(user.bind(&mut world, 0x4001, PEER), 0);
    assert_eq!(user.bind(&mut world, 0x4001, PEER), 0);
    assert_eq!(user.bind(&mut world, 0x4002, PEER), 400);
    assert_eq!(user.bind(&mut world, 0x4001, "198.51.100.8:4000"), 400);
    let sent = world.hand_in(user.client, b"\x40\x01\x00\x02hi\0\0");
    assert_eq!(sent, [Action::ToPeer(RelayId(1), PEER.parse().unwrap(), b"hi".to_vec())]);
    for wrong in [&b"\x40\x02\x00\x02hi"[..], b"\x40\x01\x00\x03hi", b"\x40\x01", b"\x40"] {
        assert_eq!(world.hand_in(user.client, wrong), []);
    }
    let now = world.now().instant;
    let heard = world.allocations.handle_peer(RelayId(1), PEER.parse().unwrap(), b"hi", now);
    assert_eq!(heard, [Action::ToClient(user.client, b"\x40\x01\x00\x02hi".to_vec())]);
}

#[test]
fn forbidden_addresses_are_refused_by_every_way() {
    let mut world = World::new(Limits::default());
    let (mut user, relayed) = world.allocated("me", "192.0.2.1:1000");
    for peer in
        ["127.0.0.1:1", "10.0.0.9:50001", "203.0.113.9:22", "169.254.169.254:80", "224.0.0.1:1"]
    {
        assert_eq!(user.permit(&mut world, peer), 403, "{peer}");
        assert_eq!(user.bind(&mut world, 0x4000, peer), 403, "{peer}");
    }
    assert_eq!(user.permit(&mut world, "[::ffff:127.0.0.1]:1"), 443);
    assert_eq!(world.stats.refused_peers.load(Relaxed), 10);
    // A relayed address of the server gives a permission for the machine's address, but still
    // nothing else on it is reached or heard.
    assert_eq!(user.permit(&mut world, &relayed.to_string()), 0);
    assert_eq!(user.send(&mut world, "203.0.113.9:22", b"x"), []);
    let now = world.now().instant;
    let ssh = "203.0.113.9:22".parse().unwrap();
    assert_eq!(world.allocations.handle_peer(RelayId(1), ssh, b"x", now), []);
    assert_eq!(world.stats.bytes_to_peers.load(Relaxed), 0);
}

#[test]
fn two_relayed_ends_meet_inside_the_server() {
    let mut world = World::new(Limits::default());
    let (mut a, at_a) = world.allocated("a", "192.0.2.1:1000");
    let (mut b, at_b) = world.allocated("b", "192.0.2.2:1000");
    assert_eq!(a.permit(&mut world, &at_b.to_string()), 0);
    // The other end has not permitted this one yet.
    assert_eq!(a.send(&mut world, &at_b.to_string(), b"early"), []);
    assert_eq!(b.bind(&mut world, 0x4000, &at_a.to_string()), 0);
    let heard = a.send(&mut world, &at_b.to_string(), b"hi");
    assert_eq!(heard, [Action::ToClient(b.client, b"\x40\x00\x00\x02hi".to_vec())]);
    let heard = world.hand_in(b.client, b"\x40\x00\x00\x02yo");
    let [Action::ToClient(to, bytes)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(*to, a.client);
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.xor_addresses(attribute::XOR_PEER_ADDRESS).next(), Some(Some(at_b)));
    // Once it is gone, its address is one of the machine's like any other.
    assert_eq!(b.refresh(&mut world, 0).code, 0);
    assert_eq!(a.send(&mut world, &at_b.to_string(), b"hi"), []);
    assert_eq!(a.permit(&mut world, &at_b.to_string()), 403);
}

#[test]
fn the_bandwidth_limit_drops_and_counts() {
    let limits = Limits { bytes_per_second: Some(1000), ..Limits::default() };
    let mut world = World::new(limits);
    let (mut user, _) = world.allocated("me", "192.0.2.1:1000");
    assert_eq!(user.permit(&mut world, PEER), 0);
    let passed = (0..20).filter(|_| !user.send(&mut world, PEER, &[0; 100]).is_empty()).count();
    assert_eq!(passed, 10);
    assert_eq!(world.stats.dropped_bandwidth.load(Relaxed), 10);
    world.pass(1);
    assert_eq!(user.send(&mut world, PEER, &[0; 100]).len(), 1);
}

#[test]
fn a_closed_connection_ends_its_allocation() {
    let mut world = World::new(Limits::default());
    let (user, relayed) = world.allocated("me", "192.0.2.1:1000");
    let closed = world.allocations.handle_closed(&user.client);
    assert_eq!(closed, [Action::Close(RelayId(1), user.client)]);
    assert_eq!(world.allocations.handle_closed(&user.client), []);
    assert!(!world.allocations.relayed.contains_key(&relayed));
    assert_eq!(world.allocations.poll_timeout(), None);
}

#[test]
fn an_allocation_has_room_for_a_call_s_peers_and_no_more() {
    let mut world = World::new(Limits::default());
    let (mut user, _) = world.allocated("me", "192.0.2.1:1000");
    for last in 0..64 {
        assert_eq!(user.permit(&mut world, &format!("198.51.100.{last}:1")), 0);
    }
    assert_eq!(user.permit(&mut world, "198.51.100.200:1"), 508);
    assert_eq!(user.permit(&mut world, "198.51.100.1:1"), 0);
    world.pass(301);
    assert_eq!(user.permit(&mut world, "198.51.100.200:1"), 0);
}
