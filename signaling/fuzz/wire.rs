//! What must hold for any text frame. Run by the fuzzer and by `tests/random.rs`.

use visavis_signaling::{
    CallLink, RoomName, Target,
    protocol::{ClientEvent, MAX_EVENT_BYTES, ServerEvent},
};

/// Panics if `data` breaks the wire.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match ClientEvent::parse(&text) {
        Ok(event) => {
            let written = event.to_text();
            // A number may be written at more length than it was read.
            if written.len() <= MAX_EVENT_BYTES {
                let again = ClientEvent::parse(&written).expect("what was read can be read again");
                assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&event));
            }
        }
        Err(error) => {
            assert!(!error.message.is_empty() && error.message.len() < 1000);
            let told = ServerEvent::from(error);
            let again = ServerEvent::parse(&told.to_text()).expect("an error can be read");
            assert_eq!(again, told);
        }
    }
    if let Ok(event) = ServerEvent::parse(&text) {
        ServerEvent::parse(&event.to_text()).expect("what was read can be read again");
    }
    if let Ok(room) = RoomName::parse(&text) {
        assert_eq!(RoomName::parse(room.as_str()).as_ref(), Ok(&room));
        let link = format!("http://h:1/room/{room}").parse::<CallLink>();
        let link = link.expect("a room has a link");
        assert_eq!(link.room, room);
        assert_eq!(link.to_string().parse::<CallLink>().as_ref(), Ok(&link));
    }
    // Only that it comes back.
    drop(text.parse::<Target>());
}
