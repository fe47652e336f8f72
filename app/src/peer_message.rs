//! What two ends say to each other inside `message`: the tutorial's shapes, and ours in
//! addition. Pure; the page's twin is `signaling/web/negotiation.js`.

use serde_json::{Map, Value, json};
use visavis_signaling::protocol::Payload;

/// Names longer than this are cut: they come from a stranger and go into a window.
const MAX_NAME_CHARS: usize = 40;

/// A message from one end to the other.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerMessage {
    /// The tutorial's: sources are ready, or known to be absent.
    GotUserMedia,
    /// The tutorial's: leaving.
    Bye,
    /// Ours: who speaks.
    Hello {
        /// The name to show; may be empty.
        name: String,
    },
    /// Ours: what is switched on, so that a camera that is off is not taken for a freeze.
    State {
        /// The microphone.
        audio: bool,
        /// The camera.
        video: bool,
        /// The screen.
        screen: bool,
    },
    /// Ours: whether the link is too narrow for pictures just now; sound goes on.
    Pictures {
        /// They are paused.
        paused: bool,
    },
    /// A session description to be answered.
    Offer {
        /// SDP (RFC 8866).
        sdp: String,
        /// The connection it belongs to; the tutorial's page sends none.
        call: Option<String>,
    },
    /// The answer.
    Answer {
        /// SDP (RFC 8866).
        sdp: String,
        /// The connection it belongs to.
        call: Option<String>,
    },
    /// An ICE candidate.
    Candidate {
        /// The `candidate:` attribute (RFC 8839).
        candidate: String,
        /// `sdpMid`.
        id: Option<String>,
        /// `sdpMLineIndex`.
        label: Option<u16>,
        /// The connection it belongs to.
        call: Option<String>,
    },
}

/// Why a message was not understood. A newer version's types are no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerMessageError {
    /// A type we do not know.
    #[error("unknown message type \"{0}\"")]
    Unknown(String),
    /// A field is missing or of the wrong kind.
    #[error("a message \"{kind}\" without a usable \"{field}\"")]
    Field {
        /// The message's type.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// JSON, or it would not have come; but nothing that can be taken apart.
    #[error("a message that cannot be read: {0}")]
    Json(String),
    /// Neither one of the tutorial's strings nor an object with a type.
    #[error("a message that is neither a known word nor an object with a type")]
    Shape,
}

impl PeerMessage {
    /// Reads what the other end sent, as the server passed it on.
    ///
    /// # Errors
    /// What is wrong with it; the call goes on.
    pub fn read(message: &Payload) -> Result<Self, PeerMessageError> {
        let value =
            message.to_value().map_err(|error| PeerMessageError::Json(error.to_string()))?;
        Self::parse(&value)
    }

    /// Reads what the other end sent.
    ///
    /// # Errors
    /// What is wrong with it; the call goes on.
    pub fn parse(value: &Value) -> Result<Self, PeerMessageError> {
        match value {
            Value::String(word) => match word.as_str() {
                "got user media" => Ok(Self::GotUserMedia),
                "bye" => Ok(Self::Bye),
                _ => Err(PeerMessageError::Shape),
            },
            Value::Object(fields) => Self::parse_object(fields),
            _ => Err(PeerMessageError::Shape),
        }
    }

    fn parse_object(fields: &Map<String, Value>) -> Result<Self, PeerMessageError> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
        let need = |kind, field| text(field).ok_or(PeerMessageError::Field { kind, field });
        let kind = text("type").ok_or(PeerMessageError::Shape)?;
        match kind.as_str() {
            "hello" => Ok(Self::Hello { name: clean_name(&text("name").unwrap_or_default()) }),
            "state" => Ok(Self::State {
                audio: flag("audio"),
                video: flag("video"),
                screen: flag("screen"),
            }),
            "pictures" => Ok(Self::Pictures { paused: flag("paused") }),
            "offer" => Ok(Self::Offer { sdp: need("offer", "sdp")?, call: text("call") }),
            "answer" => Ok(Self::Answer { sdp: need("answer", "sdp")?, call: text("call") }),
            "candidate" => Ok(Self::Candidate {
                candidate: need("candidate", "candidate")?,
                id: text("id"),
                label: fields
                    .get("label")
                    .and_then(Value::as_u64)
                    .and_then(|label| u16::try_from(label).ok()),
                call: text("call"),
            }),
            _ => Err(PeerMessageError::Unknown(kind.chars().take(40).collect())),
        }
    }

    /// As it goes onto the wire.
    pub fn to_json(&self) -> Value {
        let stamped = |mut value: Value, call: &Option<String>| {
            if let (Some(call), Value::Object(fields)) = (call, &mut value) {
                fields.insert("call".to_owned(), json!(call));
            }
            value
        };
        match self {
            Self::GotUserMedia => json!("got user media"),
            Self::Bye => json!("bye"),
            Self::Hello { name } => json!({
                "type": "hello",
                "app": "visavis",
                "version": env!("CARGO_PKG_VERSION"),
                "name": name,
                "features": [],
            }),
            Self::State { audio, video, screen } => {
                json!({ "type": "state", "audio": audio, "video": video, "screen": screen })
            }
            Self::Pictures { paused } => json!({ "type": "pictures", "paused": paused }),
            Self::Offer { sdp, call } => stamped(json!({ "type": "offer", "sdp": sdp }), call),
            Self::Answer { sdp, call } => stamped(json!({ "type": "answer", "sdp": sdp }), call),
            Self::Candidate { candidate, id, label, call } => stamped(
                json!({ "type": "candidate", "label": label, "id": id, "candidate": candidate }),
                call,
            ),
        }
    }
}

/// A stranger's name as it may be shown: no control or direction-changing characters, no more
/// than a line holds.
fn clean_name(name: &str) -> String {
    let hidden = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let cleaned: String = name.chars().filter(hidden).take(MAX_NAME_CHARS).collect();
    cleaned.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_cannot_be_taken_apart_is_an_error_and_no_more() {
        let said = |message: &str| {
            let text = format!(r#"{{"type":"message","from":"p","seq":1,"message":{message}}}"#);
            match visavis_signaling::protocol::ServerEvent::parse(&text) {
                Ok(visavis_signaling::protocol::ServerEvent::Message { message, .. }) => {
                    PeerMessage::read(&message)
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(said(r#" "bye" "#), Ok(PeerMessage::Bye));
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for odd in [deep.as_str(), "1e999", r#""\ud800""#] {
            assert!(matches!(said(odd), Err(PeerMessageError::Json(_))), "{odd}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let call = Some("c1".to_owned());
        for message in [
            PeerMessage::GotUserMedia,
            PeerMessage::Bye,
            PeerMessage::Hello { name: "韩梅梅".to_owned() },
            PeerMessage::State { audio: true, video: false, screen: false },
            PeerMessage::Pictures { paused: true },
            PeerMessage::Offer { sdp: "v=0".to_owned(), call: call.clone() },
            PeerMessage::Answer { sdp: "v=0".to_owned(), call: None },
            PeerMessage::Candidate {
                candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host".to_owned(),
                id: Some("0".to_owned()),
                label: Some(0),
                call,
            },
        ] {
            assert_eq!(PeerMessage::parse(&message.to_json()), Ok(message));
        }
    }

    #[test]
    fn the_tutorials_shapes_are_kept() {
        let offer = PeerMessage::Offer { sdp: "v=0".to_owned(), call: None };
        assert_eq!(offer.to_json(), json!({ "type": "offer", "sdp": "v=0" }));
        assert_eq!(PeerMessage::GotUserMedia.to_json(), json!("got user media"));
    }

    #[test]
    fn nonsense_names_what_is_wrong() {
        let parse = |value: Value| PeerMessage::parse(&value).expect_err("nonsense").to_string();
        assert!(parse(json!({ "type": "offer" })).contains("sdp"));
        assert!(parse(json!({ "type": "offer", "sdp": 7 })).contains("sdp"));
        assert!(parse(json!({ "type": "dance" })).contains("dance"));
        for value in [json!(null), json!(7), json!([]), json!({}), json!("hi"), json!({"type": 1})]
        {
            assert_eq!(PeerMessage::parse(&value), Err(PeerMessageError::Shape));
        }
    }

    #[test]
    fn a_strangers_name_cannot_disturb_the_window() {
        let name = |raw: &str| match PeerMessage::parse(&json!({ "type": "hello", "name": raw })) {
            Ok(PeerMessage::Hello { name }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name("  Li\u{202e} Lei\n\t\u{0} "), "Li Lei");
        assert_eq!(name(&"x".repeat(500)).chars().count(), MAX_NAME_CHARS);
    }
}
