//! Datagrams that anybody can send to an open port, and what a TURN server sends on a stream.

use std::time::{Duration, Instant};

use crate::peer::sockets::checks::Checks;
use crate::peer::sockets::hello::{Hello, Leaving};
use crate::peer::turn_bridge::frame::{is_message, next};

/// Panics if `data` breaks what looks into datagrams, or what cuts a stream into them.
pub fn check(data: &[u8]) {
    datagrams(data);
    stream(data);
}

/// Each piece is one: a byte for whence, and which way it goes; one for the time since the one
/// before; one for its length.
fn datagrams(data: &[u8]) {
    let (mut checks, mut now, mut rest) = (Checks::default(), Instant::now(), data);
    let mut hello = Hello::new([0; 20]);
    hello.set_theirs(Some([1; 20]));
    while let Some((&[control, wait, length], after)) = rest.split_first_chunk::<3>() {
        let (datagram, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        now += Duration::from_millis(u64::from(wait) * 10);
        let address = ([192, 0, 2, control & 3], 9).into();
        Checks::concern(datagram);
        is_message(datagram);
        if control & 4 == 0 {
            checks.handle_received(now, address, datagram);
            // What comes before is the same without a cookie.
            let before = hello.arrived(datagram);
            assert!(before.is_none_or(|before| before.len() < datagram.len()));
            assert!(Hello::concerns(datagram) || hello.arrived(datagram).is_none());
            continue;
        }
        if let Leaving::Answered(answer) = hello.leaving(datagram) {
            assert_eq!(hello.leaving(&answer), Leaving::Passes, "the other end's to ask");
        }
        if checks.admits(now, address, datagram) {
            checks.handle_sent(now, address, datagram);
            // All of it is fine after a while: nothing is held back for ever.
            assert!(checks.admits(now + Duration::from_secs(1), address, datagram));
        }
    }
}

/// The same frames come of it, however it is cut.
fn stream(data: &[u8]) {
    let frames = |piece: usize| {
        let (mut buffer, mut frames) = (Vec::new(), Vec::new());
        for piece in data.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match next(&mut buffer) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    };
    let whole = frames(data.len().max(1));
    assert!(whole.0.iter().all(|frame| !frame.is_empty()));
    assert_eq!(frames(1), whole);
    assert_eq!(frames(7), whole);
}
