//! What is said over Socket.IO: the tutorial's argument lists instead of objects. Pure.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
    ser::SerializeTuple,
};
use serde_json::{Value, json, value::RawValue};

use crate::protocol::{ClientEvent, ErrorCode, EventError, Payload, RoomName, ServerEvent};

/// So much of a client's own words is repeated to it.
const QUOTED_CHARS: usize = 40;

/// More arguments than any event has are not kept.
const MAX_ARGUMENTS: usize = 8;

/// How the tutorial's server begins what it logs.
const LOG_FROM: &str = "Message from server:";

/// What a client says in one event, however much.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arguments(pub(super) Vec<Value>);

// As a tuple of unknown length, which is what Socket.IO's parser takes for an argument list; it
// would take a `Vec` for one argument that is an array.
impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an argument list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Arguments, A::Error> {
                let mut arguments = Vec::new();
                while let Some(argument) = list.next_element()? {
                    if arguments.len() < MAX_ARGUMENTS {
                        arguments.push(argument);
                    }
                }
                Ok(Arguments(arguments))
            }
        }
        deserializer.deserialize_tuple(MAX_ARGUMENTS, All)
    }
}

/// What a client is told in one event.
#[derive(Debug)]
pub(super) struct Told(Vec<Payload>);

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_list(&self.0, serializer)
    }
}

/// The same, in ASCII alone: the other characters are escaped as JSON has it (RFC 8259, 7).
///
/// Over polling, socket.io-client 1.x expects texts encoded in UTF-8 twice, 2.x once; neither
/// can tell, and both understand this.
#[derive(Debug)]
pub(super) struct AsciiTold(Vec<Box<RawValue>>);

impl From<&Told> for AsciiTold {
    fn from(Told(arguments): &Told) -> Self {
        let escape = |argument: &Payload| {
            let mut text = String::new();
            for c in argument.as_str().chars() {
                if c.is_ascii() {
                    text.push(c);
                    continue;
                }
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            // It is JSON still; were it not, nothing is better said than nonsense.
            RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
        };
        Self(arguments.iter().map(escape).collect())
    }
}

impl Serialize for AsciiTold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_list(&self.0, serializer)
    }
}

fn write_list<S: Serializer, T: Serialize>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(list.len())?;
    for argument in list {
        tuple.serialize_element(argument)?;
    }
    tuple.end()
}

/// Undoes the second UTF-8 encoding of socket.io-client 1.x, in texts that show the signs of it:
/// no character beyond U+00FF, and as bytes well-formed UTF-8.
pub(super) fn decode_twice_encoded(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(decoded) = once_encoded(text) {
                *text = decoded;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(decode_twice_encoded),
        Value::Object(fields) => {
            fields.values_mut().for_each(decode_twice_encoded);
            if fields.keys().any(|key| once_encoded(key).is_some()) {
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, value)| (once_encoded(&key).unwrap_or(key), value))
                    .collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn once_encoded(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    String::from_utf8(bytes?).ok()
}

/// What a client says, in so many `bytes` of JSON, `limit` at most.
///
/// # Errors
/// What is wrong with it, in words for the client's author.
pub(super) fn hear(
    event: &str,
    Arguments(arguments): Arguments,
    bytes: usize,
    limit: usize,
) -> Result<ClientEvent, EventError> {
    if bytes > limit {
        return Err(EventError::too_large(bytes, limit));
    }
    let count = arguments.len();
    let mut arguments = arguments.into_iter();
    match (event, arguments.next()) {
        ("create or join", Some(Value::String(room))) => match RoomName::parse(&room) {
            Ok(room) => Ok(ClientEvent::CreateOrJoin { room, resume: None, last_seq: None }),
            Err(error) => Err(EventError::new(ErrorCode::BadRoomName, error.to_string())),
        },
        ("create or join", _) => Err(bad("“create or join” wants the room's name, a string.")),
        ("message", Some(message)) if count == 1 => {
            Ok(ClientEvent::Message { message: message.into(), seq: None })
        }
        ("message", _) => Err(bad(&format!(
            "“message” wants one argument, not {count}: put everything into one object."
        ))),
        ("bye", _) => Ok(ClientEvent::Bye),
        ("ipaddr", _) => Ok(ClientEvent::IpAddr),
        (unknown, _) => {
            let name: String = unknown.chars().take(QUOTED_CHARS).collect();
            let text =
                format!("There is no event “{name}”: use create or join, message, bye or ipaddr.");
            Err(EventError::new(ErrorCode::UnknownEvent, text))
        }
    }
}

/// What cannot be read: binary attachments, mostly.
pub(super) fn unreadable(event: &str) -> EventError {
    let name: String = event.chars().take(QUOTED_CHARS).collect();
    bad(&format!("The arguments of “{name}” cannot be read: send plain JSON, no binary data."))
}

/// How the server says it: the event's name and its arguments. Nothing, where the tutorial has
/// no word for it.
pub(super) fn say(event: ServerEvent) -> Option<(&'static str, Told)> {
    let (name, arguments) = match event {
        ServerEvent::Created { room, id, .. } => {
            ("created", vec![json!(room).into(), json!(id).into()])
        }
        ServerEvent::Join { room, .. } => ("join", vec![json!(room).into()]),
        ServerEvent::Joined { room, id, .. } => {
            ("joined", vec![json!(room).into(), json!(id).into()])
        }
        ServerEvent::Ready { .. } => ("ready", vec![]),
        ServerEvent::Full { room, .. } => ("full", vec![json!(room).into()]),
        ServerEvent::Message { message, .. } => ("message", vec![message]),
        // The message `'bye'` is never relayed: it frees the seat, and this is what comes of it.
        // So whoever stays hears it once, however the other one left.
        ServerEvent::Bye { .. } => ("message", vec!["bye".into()]),
        // `error` is a reserved name in Socket.IO.
        ServerEvent::Log { message } | ServerEvent::Error { message, .. } => {
            ("log", vec![json!([LOG_FROM, message]).into()])
        }
        ServerEvent::IpAddr { address } => ("ipaddr", vec![address.into()]),
        ServerEvent::Resumed { .. } | ServerEvent::Pong | ServerEvent::Unknown => return None,
    };
    Some((name, Told(arguments)))
}

/// What an argument list weighs as JSON.
pub(super) fn bytes(arguments: &[Value]) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and a `Value` can always be written.
    let _ = serde_json::to_writer(&mut count, arguments);
    count.0
}

fn bad(text: &str) -> EventError {
    EventError::new(ErrorCode::BadField, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ByeReason, MAX_EVENT_BYTES, PeerId};

    fn heard(event: &str, arguments: Value) -> Result<ClientEvent, ErrorCode> {
        let Value::Array(arguments) = arguments else { panic!("no list: {arguments}") };
        let bytes = bytes(&arguments);
        hear(event, Arguments(arguments), bytes, MAX_EVENT_BYTES).map_err(|error| error.code)
    }

    fn said(event: ServerEvent) -> Value {
        let (name, told) = say(event).unwrap();
        json!([name, serde_json::to_value(told).unwrap()])
    }

    #[test]
    fn the_tutorials_words_are_understood() {
        let join = heard("create or join", json!(["Foo"])).unwrap();
        assert!(matches!(join, ClientEvent::CreateOrJoin { room, .. } if room.as_str() == "foo"));
        for message in [json!("got user media"), json!({"type": "offer"}), json!([1]), json!(null)]
        {
            let event = ClientEvent::Message { message: message.clone().into(), seq: None };
            assert_eq!(heard("message", json!([message])), Ok(event));
        }
        assert_eq!(heard("bye", json!([])), Ok(ClientEvent::Bye));
        assert_eq!(heard("ipaddr", json!([])), Ok(ClientEvent::IpAddr));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for room in [json!([]), json!([5]), json!([null]), json!([["foo"]]), json!([{}])] {
            assert_eq!(heard("create or join", room), Err(ErrorCode::BadField));
        }
        assert_eq!(heard("create or join", json!(["a b"])), Err(ErrorCode::BadRoomName));
        assert_eq!(heard("message", json!([])), Err(ErrorCode::BadField));
        assert_eq!(heard("message", json!([1, 2])), Err(ErrorCode::BadField));
        assert_eq!(heard("__proto__", json!([])), Err(ErrorCode::UnknownEvent));
        let long = hear(&"x".repeat(100_000), Arguments(vec![]), 2, 100).expect_err("unknown");
        assert!(long.message.len() < 200);
    }

    #[test]
    fn a_message_may_weigh_64_kib() {
        let of = |bytes: usize| json!(["x".repeat(bytes - 4)]);
        assert!(heard("message", of(MAX_EVENT_BYTES)).is_ok());
        assert_eq!(heard("message", of(MAX_EVENT_BYTES + 1)), Err(ErrorCode::TooLarge));
    }

    #[test]
    fn the_server_says_it_as_the_tutorial_did() {
        let room = RoomName::parse("foo").unwrap();
        let id = PeerId::from("p");
        let created =
            ServerEvent::Created { room: room.clone(), id: id.clone(), resume: Some("t".into()) };
        assert_eq!(said(created), json!(["created", ["foo", "p"]]));
        let join = ServerEvent::Join { room: room.clone(), id: id.clone(), resume: None };
        assert_eq!(said(join), json!(["join", ["foo"]]));
        assert_eq!(said(ServerEvent::Ready { ice_servers: vec![] }), json!(["ready", []]));
        assert_eq!(
            said(ServerEvent::Full { room, retry_ms: 1, held: false }),
            json!(["full", ["foo"]])
        );
        let message =
            ServerEvent::Message { from: id.clone(), seq: 3, message: json!(["a", "b"]).into() };
        assert_eq!(said(message), json!(["message", [["a", "b"]]]));
        let bye = ServerEvent::Bye { id, reason: ByeReason::Lost };
        assert_eq!(said(bye), json!(["message", ["bye"]]));
        let error = ServerEvent::from(EventError::new(ErrorCode::NotInRoom, "Enter first."));
        assert_eq!(said(error), json!(["log", [["Message from server:", "Enter first."]]]));
        assert!(say(ServerEvent::Pong).is_none());
    }

    #[test]
    fn what_old_clients_are_told_is_ascii() {
        let said = [json!(["“茶”", {"é": "🍵\n"}]), json!("foo")];
        let told = Told(said.iter().cloned().map(Payload::from).collect());
        let text = serde_json::to_string(&AsciiTold::from(&told)).unwrap();
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<Arguments>(&text).unwrap().0, said);
    }

    #[test]
    fn what_old_clients_encode_twice_is_decoded_once() {
        let twice = |text: &str| text.bytes().map(char::from).collect::<String>();
        let mut value = json!({ twice("é"): [twice("茶室 🍵"), "plain", 5], "sdp": "v=0\r\n" });
        decode_twice_encoded(&mut value);
        assert_eq!(value, json!({ "é": ["茶室 🍵", "plain", 5], "sdp": "v=0\r\n" }));
        // Of clients that encode once: left as it is.
        for text in ["é", "Zoë", "茶室", "“”", "🍵"] {
            let mut value = json!(text);
            decode_twice_encoded(&mut value);
            assert_eq!(value, text);
        }
    }

    #[test]
    fn an_argument_list_is_written_and_read_as_a_list() {
        let list = [json!(["a"]), json!({"b": 1, "a": 2}), json!(null)];
        let told = Told(list.iter().cloned().map(Payload::from).collect());
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(text, r#"[["a"],{"b":1,"a":2},null]"#);
        assert_eq!(serde_json::from_str::<Arguments>(&text).unwrap().0, list);
    }
}
