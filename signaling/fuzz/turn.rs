//! What must hold for any bytes on the TURN port. Run by the fuzzer and by `tests/turn_random.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use visavis_signaling::turn::{
    Authority, Limits, TurnStats,
    allocations::{Allocations, Client, NoRelay, Now, OpenRelay, Path, RelayId, Relayed},
    filter::PeerFilter,
    frame::{MAX_FRAME, next_frame},
    stun::{Builder, Class, Message, Method, attribute, long_term_key},
};

struct Ports(u16);

impl OpenRelay for Ports {
    fn open(&mut self, _: RelayId, _: &Client, ipv6: bool) -> Result<Relayed, NoRelay> {
        if ipv6 {
            return Err(NoRelay::Family);
        }
        self.0 = self.0.checked_add(1).ok_or(NoRelay::Capacity)?;
        let address = ([192, 0, 2, 9], self.0).into();
        Ok(Relayed { bound: address, told: address })
    }
}

/// Panics if `data` breaks the parser, the framing or the allocations.
pub fn check(data: &[u8]) {
    framing(data);
    let authority = Authority::new(b"north");
    let stats = Arc::new(TurnStats::default());
    let limits = Limits { user: 3, address: 4, total: 5, ..Limits::default() };
    let filter = PeerFilter::new(Vec::new(), Vec::new());
    let mut allocations =
        Allocations::new(authority.clone(), "r".into(), limits, filter, Arc::clone(&stats));
    let mut ports = Ports(50_000);
    let (start, wall) = (Instant::now(), SystemTime::now());
    let credential = authority.mint("me", wall + Duration::from_secs(600));
    let key = long_term_key(&credential.username, "r", &credential.password);
    let mut passed = Duration::ZERO;
    // Each piece is a packet; its first byte says whose it is, and whether it is signed.
    for piece in data.chunks(48) {
        let Some((&control, rest)) = piece.split_first() else { continue };
        let remote = ([198, 51, 100, control & 3], 1000).into();
        let client = Client { path: Path::Udp(0), remote };
        let now = Now { instant: start + passed, wall: wall + passed };
        let bytes = if control & 4 == 0 {
            rest.to_vec()
        } else {
            let method =
                [Method::Allocate, Method::Refresh, Method::CreatePermission, Method::ChannelBind]
                    [usize::from(control >> 3 & 3)];
            let mut request = Builder::new(method, Class::Request, [control; 12])
                .attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
            let numbers = [
                attribute::LIFETIME,
                attribute::CHANNEL_NUMBER,
                attribute::XOR_PEER_ADDRESS,
                attribute::REQUESTED_ADDRESS_FAMILY,
            ];
            if let Some((&which, value)) = rest.split_first() {
                request = request.attribute(numbers[usize::from(which & 3)], value);
            }
            request
                .attribute(attribute::USERNAME, credential.username.as_bytes())
                .attribute(attribute::NONCE, authority.nonce(remote.ip(), now.wall).as_bytes())
                .integrity(&key)
                .finish()
        };
        for action in allocations.handle_client(client, &bytes, now, &mut ports) {
            if let visavis_signaling::turn::allocations::Action::ToClient(_, bytes) = action {
                assert!(bytes[0] >> 6 == 1 || Message::parse(&bytes).is_ok());
            }
        }
        allocations.handle_peer(RelayId(u64::from(control)), remote, rest, now.instant);
        passed += Duration::from_secs(u64::from(control >> 5));
        allocations.handle_timeout(start + passed);
        let live = stats.allocations.load(std::sync::atomic::Ordering::Relaxed);
        assert!(live <= 3, "beyond the user's quota: {live}");
    }
    passed += Duration::from_secs(4000);
    allocations.handle_timeout(start + passed);
    assert_eq!(stats.allocations.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(allocations.poll_timeout(), None);
}

fn framing(data: &[u8]) {
    let mut whole = BytesMut::from(data);
    let mut frames = Vec::new();
    let end = loop {
        match next_frame(&mut whole) {
            Ok(Some(frame)) => {
                assert!(!frame.is_empty() && frame.len() <= MAX_FRAME);
                // Whatever it is, reading it only succeeds or fails.
                drop(Message::parse(&frame));
                frames.push(frame);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    // Byte by byte it is the same.
    let (mut buffer, mut again) = (BytesMut::new(), Vec::new());
    let mut failed = None;
    'bytes: for byte in data {
        buffer.extend_from_slice(&[*byte]);
        loop {
            match next_frame(&mut buffer) {
                Ok(Some(frame)) => again.push(frame),
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break 'bytes;
                }
            }
        }
    }
    assert_eq!(again, frames);
    assert_eq!(failed.is_some(), end.is_some());
}
