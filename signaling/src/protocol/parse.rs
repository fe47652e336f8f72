//! Reads events. By hand for what clients send, so that an error can name the field.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};

use super::{ClientEvent, ErrorCode, EventError, MAX_EVENT_BYTES, PeerId, RoomName, ServerEvent};

/// A client's message in the words everybody uses. Nearly all that a server reads is this.
#[derive(Deserialize)]
struct PlainMessage<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    message: &'a RawValue,
    seq: Option<u64>,
}

/// A server's message, likewise.
#[derive(Deserialize)]
struct PlainRelayed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    from: &'a str,
    seq: u64,
    #[serde(borrow)]
    message: &'a RawValue,
}

/// An event without its message is hardly ever longer.
const REST_BYTES: usize = 128;

/// How much of a client's own words an error repeats.
const QUOTED_CHARS: usize = 40;

impl ClientEvent {
    /// Reads one text frame of at most [`MAX_EVENT_BYTES`].
    ///
    /// # Errors
    /// What is wrong with it, in words for the client's author.
    pub fn parse(text: &str) -> Result<Self, EventError> {
        Self::parse_within(text, MAX_EVENT_BYTES)
    }

    /// Reads one text frame of at most `limit` bytes.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client's author.
    pub fn parse_within(text: &str, limit: usize) -> Result<Self, EventError> {
        if text.len() > limit {
            return Err(EventError::too_large(text.len(), limit));
        }
        if let Ok(PlainMessage { kind: "message", message, seq }) = serde_json::from_str(text) {
            return Ok(Self::Message { message: message.into(), seq });
        }
        // Anything else, and whatever is wrong, field by field.
        let value: Value = serde_json::from_str(text).map_err(|error| {
            EventError::new(ErrorCode::MalformedJson, format!("This is not JSON: {error}."))
        })?;
        let Value::Object(mut fields) = value else {
            let text = "An event is a JSON object with a “type”.";
            return Err(EventError::new(ErrorCode::MalformedEvent, text));
        };
        let Some(Value::String(kind)) = fields.remove("type") else {
            let text = "The event has no “type” that is a string.";
            return Err(EventError::new(ErrorCode::MalformedEvent, text));
        };
        match kind.as_str() {
            "create or join" => Ok(Self::CreateOrJoin {
                room: room(&mut fields, &kind)?,
                resume: optional(&mut fields, &kind, "resume")?,
                last_seq: optional(&mut fields, &kind, "last_seq")?,
            }),
            "message" => Ok(Self::Message {
                message: present(&mut fields, &kind, "message")?.into(),
                seq: optional(&mut fields, &kind, "seq")?,
            }),
            "bye" => Ok(Self::Bye),
            "ipaddr" => Ok(Self::IpAddr),
            "ping" => Ok(Self::Ping),
            unknown => Err(EventError::new(
                ErrorCode::UnknownEvent,
                format!(
                    "There is no event “{}”: use create or join, message, bye, ipaddr or ping.",
                    quoted(unknown)
                ),
            )),
        }
    }

    /// The event as one text frame.
    pub fn to_text(&self) -> String {
        // Only maps with keys other than strings fail to serialise, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl ServerEvent {
    /// Reads one text frame.
    ///
    /// # Errors
    /// When it is not an event of this protocol.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        match serde_json::from_str(text) {
            Ok(PlainRelayed { kind: "message", from, seq, message }) => {
                Ok(Self::Message { from: PeerId::from(from), seq, message: message.into() })
            }
            _ => serde_json::from_str(text),
        }
    }

    /// The event as one text frame.
    pub fn to_text(&self) -> String {
        let message = match self {
            Self::Message { message, .. } => message.as_str().len(),
            _ => 0,
        };
        let mut text = Vec::with_capacity(REST_BYTES + message);
        // Only maps with keys other than strings fail to serialise, and there are none.
        if serde_json::to_writer(&mut text, self).is_err() {
            return String::new();
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// Whose words a message or a `bye` is about.
    pub fn peer(&self) -> Option<&PeerId> {
        match self {
            Self::Join { id, .. } | Self::Bye { id, .. } | Self::Message { from: id, .. } => {
                Some(id)
            }
            Self::Joined { peer, .. } => Some(peer),
            _ => None,
        }
    }
}

fn room(fields: &mut Map<String, Value>, event: &str) -> Result<RoomName, EventError> {
    let name: String = required(fields, event, "room")?;
    RoomName::parse(&name)
        .map_err(|error| EventError::new(ErrorCode::BadRoomName, error.to_string()))
}

fn required<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    event: &str,
    name: &str,
) -> Result<T, EventError> {
    typed(present(fields, event, name)?, event, name)
}

fn present(fields: &mut Map<String, Value>, event: &str, name: &str) -> Result<Value, EventError> {
    fields.remove(name).ok_or_else(|| {
        let text = format!("“{event}” lacks its field “{name}”.");
        EventError::new(ErrorCode::BadField, text)
    })
}

fn optional<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    event: &str,
    name: &str,
) -> Result<Option<T>, EventError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => typed(value, event, name).map(Some),
    }
}

fn typed<T: DeserializeOwned>(value: Value, event: &str, name: &str) -> Result<T, EventError> {
    serde_json::from_value(value).map_err(|error| {
        let text = format!("The field “{name}” of “{event}”: {}.", quoted(&error.to_string()));
        EventError::new(ErrorCode::BadField, text)
    })
}

fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARS * 2).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> ErrorCode {
        ClientEvent::parse(text).expect_err(text).code
    }

    #[test]
    fn every_event_survives_the_wire() {
        let room = RoomName::parse("tea").unwrap();
        for event in [
            ClientEvent::CreateOrJoin { room: room.clone(), resume: None, last_seq: None },
            ClientEvent::CreateOrJoin { room, resume: Some("t".into()), last_seq: Some(7) },
            ClientEvent::Message {
                message: serde_json::json!({"type": "offer"}).into(),
                seq: Some(1),
            },
            ClientEvent::Message { message: Value::Null.into(), seq: None },
            ClientEvent::Bye,
            ClientEvent::IpAddr,
            ClientEvent::Ping,
        ] {
            assert_eq!(ClientEvent::parse(&event.to_text()), Ok(event));
        }
    }

    #[test]
    fn the_join_reads_as_the_protocol_writes_it() {
        let event = ClientEvent::parse(r#"{"type":"create or join","room":"Tea"}"#).unwrap();
        assert!(matches!(event, ClientEvent::CreateOrJoin { room, .. } if room.as_str() == "tea"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(code("{"), ErrorCode::MalformedJson);
        assert_eq!(code(&"[".repeat(5000)), ErrorCode::MalformedJson);
        assert_eq!(code("[]"), ErrorCode::MalformedEvent);
        assert_eq!(code("{}"), ErrorCode::MalformedEvent);
        assert_eq!(code(r#"{"type":1}"#), ErrorCode::MalformedEvent);
        assert_eq!(code(r#"{"type":"toString"}"#), ErrorCode::UnknownEvent);
        assert_eq!(code(r#"{"type":"create or join"}"#), ErrorCode::BadField);
        assert_eq!(code(r#"{"type":"create or join","room":5}"#), ErrorCode::BadField);
        assert_eq!(code(r#"{"type":"create or join","room":"a b"}"#), ErrorCode::BadRoomName);
        assert_eq!(code(r#"{"type":"message"}"#), ErrorCode::BadField);
        assert_eq!(code(r#"{"type":"message","message":1,"seq":-1}"#), ErrorCode::BadField);
        assert_eq!(code(&"x".repeat(MAX_EVENT_BYTES + 1)), ErrorCode::TooLarge);
        let wrong = ClientEvent::parse(r#"{"type":"message","message":1,"seq":"a"}"#);
        assert!(wrong.expect_err("seq").message.contains("“seq”"));
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(60_000));
        assert!(ClientEvent::parse(&long).expect_err("long").message.len() < 300);
    }

    #[test]
    fn a_message_passes_as_it_was_written() {
        for message in [
            r#"{"b": 1.50, "a":[ 1e2,"\u00e9\ud83c\udf75"],"a":null}"#,
            "1e999",
            r#""\ud800""#,
            &format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
        ] {
            for text in [
                format!(r#"{{"type":"message","message":{message},"seq":3}}"#),
                format!(r#" {{ "seq" : 3, "message" : {message} , "x": {{}}, "type":"message" }}"#),
            ] {
                let Ok(ClientEvent::Message { message: heard, seq: Some(3) }) =
                    ClientEvent::parse(&text)
                else {
                    panic!("{text}");
                };
                assert_eq!(heard.as_str(), message);
                let told = ServerEvent::Message { from: "p".into(), seq: 3, message: heard };
                assert!(told.to_text().contains(message));
                assert_eq!(ServerEvent::parse(&told.to_text()).unwrap(), told);
            }
        }
    }

    #[test]
    fn a_message_in_unusual_words_is_one() {
        let odd = r#"{"type":"m\u0065ssage","message":"bye"}"#;
        let event = ClientEvent::parse(odd).unwrap();
        assert!(matches!(event, ClientEvent::Message { message, seq: None } if message.is_bye()));
        assert_eq!(code(r#"{"type":"message","message":{"a":}}"#), ErrorCode::MalformedJson);
        assert_eq!(code(r#"{"type":"message","message":1} x"#), ErrorCode::MalformedJson);
        let no_number = r#"{"type":"message","message":1,"seq":null}"#;
        assert!(matches!(
            ClientEvent::parse(no_number),
            Ok(ClientEvent::Message { seq: None, .. })
        ));
    }

    #[test]
    fn events_and_codes_of_a_newer_server_are_no_error() {
        assert_eq!(ServerEvent::parse(r#"{"type":"news","x":1}"#).unwrap(), ServerEvent::Unknown);
        let event = ServerEvent::parse(r#"{"type":"error","code":"new","message":"m"}"#).unwrap();
        assert!(matches!(event, ServerEvent::Error { code: ErrorCode::Other, .. }));
    }

    #[test]
    fn the_server_writes_what_the_protocol_says() {
        let full =
            |held| ServerEvent::Full { room: RoomName::parse("tea").unwrap(), retry_ms: 5, held };
        assert_eq!(full(false).to_text(), r#"{"type":"full","room":"tea","retry_ms":5}"#);
        let held = r#"{"type":"full","room":"tea","retry_ms":5,"held":true}"#;
        assert_eq!(full(true).to_text(), held);
        let bye = ServerEvent::Bye { id: PeerId::from("p"), reason: ByeReason::Lost };
        assert_eq!(bye.to_text(), r#"{"type":"bye","id":"p","reason":"lost"}"#);
        let error = ServerEvent::from(EventError::new(ErrorCode::NotInRoom, "m"));
        assert_eq!(error.to_text(), r#"{"type":"error","code":"not-in-room","message":"m"}"#);
    }

    use super::super::ByeReason;
}
