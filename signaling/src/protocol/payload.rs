//! What two ends say to each other, which a server passes on and does not look into.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, value::RawValue};

/// Any JSON, kept as it was written: a server that took it apart to put it together again would
/// spend a third of its time so. Cheap to clone.
#[derive(Clone)]
pub struct Payload(Arc<Box<RawValue>>);

impl Payload {
    /// The JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Takes it apart.
    ///
    /// # Errors
    /// JSON may hold what no [`Value`] can: numbers beyond any, half a surrogate pair, nesting
    /// deeper than 128.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Whether it is the tutorial's goodbye, the string `"bye"`.
    pub fn is_bye(&self) -> bool {
        self.as_str() == r#""bye""#
    }
}

impl From<&RawValue> for Payload {
    fn from(json: &RawValue) -> Self {
        Self(Arc::new(json.to_owned()))
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        // A `Value` can always be written, and what is written is JSON.
        let json = RawValue::from_string(value.to_string());
        Self(Arc::new(json.unwrap_or_else(|_| RawValue::NULL.to_owned())))
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Value::from(text).into()
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Value::from(text).into()
    }
}

impl From<u64> for Payload {
    fn from(number: u64) -> Self {
        Value::from(number).into()
    }
}

/// Of two that are written alike; whitespace and order count.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Whatever way it is written.
impl PartialEq<Value> for Payload {
    fn eq(&self, other: &Value) -> bool {
        self.to_value().is_ok_and(|value| value == *other)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

// By way of a `Value`, since fields of a tagged enum are no longer text when they get here.
impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}
