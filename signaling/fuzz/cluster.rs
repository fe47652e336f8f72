//! What must hold for whatever another node, or whoever can write to Redis, publishes. Run by the
//! fuzzer and by `tests/random.rs`.

use std::time::{Duration, Instant};

use visavis_signaling::cluster::{
    link::{Link, LinkTimes},
    wire::{Message, NodeId, parse_frame, to_frame},
};

/// A frame with a message in it, to be spoiled.
pub fn genuine(message: &[u8]) -> Vec<u8> {
    let now = Instant::now();
    let mut link = Link::new(LinkTimes::default(), 7, true, now);
    link.send(message.to_vec()).expect("there is room for one");
    to_frame(NodeId::new([1; 16]), &link.poll_transmit(now).expect("something to say"))
}

/// Panics if `data` cannot be refused, or is read as something it is not: as a frame and, since few
/// bytes get through a frame's head by chance, as a message by itself and in a genuine frame.
pub fn check(data: &[u8]) {
    read(data);
    frame(data);
    if !data.is_empty() {
        frame(&genuine(data));
    }
}

fn frame(data: &[u8]) {
    let (from, packet) = match parse_frame(data) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(to_frame(from, &packet), data);
    let now = Instant::now();
    let mut link = Link::new(LinkTimes::default(), 7, true, now);
    for payload in link.handle_packet(packet, now).payloads {
        read(&payload);
    }
    while link.poll_transmit(now).is_some() {}
    link.handle_timeout(now + Duration::from_secs(60));
}

fn read(payload: &[u8]) {
    match Message::parse(payload) {
        Ok(message) => {
            let again = Message::parse(&message.to_payload()).expect("what was read can be read");
            assert_eq!(again.to_payload(), message.to_payload());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
