//! What must hold for whatever a Socket.IO client says: an event's name, a line break, its
//! arguments. Run by the fuzzer and by `tests/corpora.rs`.

use serde_json::Value;
use visavis_signaling::protocol::{ClientEvent, MAX_EVENT_BYTES, ServerEvent};

use crate::socketio_words::{
    Arguments, AsciiTold, bytes, decode_twice_encoded, hear, say, unreadable,
};

/// Panics if `data` cannot be refused, or is told otherwise than it was said.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (event, list) = text.split_once('\n').unwrap_or(("message", &text));
    let Ok(mut arguments) = serde_json::from_str::<Arguments>(list) else {
        let message = unreadable(event).message;
        return assert!(!message.is_empty() && message.len() < 1000);
    };
    assert!(arguments.0.len() <= 8);
    let size = bytes(&arguments.0);
    arguments.0.iter_mut().for_each(decode_twice_encoded);
    match hear(event, arguments, size, MAX_EVENT_BYTES) {
        Ok(ClientEvent::Message { message, .. }) => {
            told(ServerEvent::Message { from: "p".into(), seq: 1, message });
        }
        Ok(_) => {}
        Err(error) => {
            assert!(!error.message.is_empty() && error.message.len() < 1000);
            told(error.into());
        }
    }
}

/// Old clients are told the same, in ASCII.
fn told(event: ServerEvent) {
    let (_, told) = say(event).expect("there is a word for it");
    let ascii = serde_json::to_string(&AsciiTold::from(&told)).expect("JSON");
    assert!(ascii.is_ascii(), "{ascii}");
    let plain = serde_json::to_string(&told).expect("JSON");
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(read(&ascii), read(&plain));
}
