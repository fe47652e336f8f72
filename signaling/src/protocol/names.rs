//! What a room and the one in a seat are called.

use std::{fmt, sync::Arc};

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// The longest room name, in characters.
const MAX_CHARS: usize = 64;

/// A room's name as it is compared: in Unicode's composed form (NFC) and lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// Why a text cannot name a room.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoomNameError {
    /// Nothing there.
    #[error("The room's name is empty: give it 1 to {MAX_CHARS} letters or digits.")]
    Empty,
    /// Too many characters.
    #[error("The room's name is too long: the limit is {MAX_CHARS} characters.")]
    TooLong,
    /// A character that is not allowed.
    #[error("A room's name cannot contain {0:?}: use letters, digits, “-”, “_” and “.”.")]
    BadCharacter(char),
    /// Such a name vanishes from a link.
    #[error("A room's name cannot be dots alone: use letters or digits too.")]
    OnlyDots,
}

impl RoomName {
    /// The room that `text` names: 1 to 64 letters and digits of any script (with the marks
    /// that belong to them), `-`, `_` and `.`.
    ///
    /// # Errors
    /// Why it names none.
    pub fn parse(text: &str) -> Result<Self, RoomNameError> {
        // No character of a name grows to more than 16 bytes on the way, so this only spares work.
        if text.len() > MAX_CHARS * 16 {
            return Err(RoomNameError::TooLong);
        }
        let composed: String = text.nfc().collect();
        let name: String = composed.to_lowercase().nfc().collect();
        let allowed =
            |c: char| c.is_alphanumeric() || is_combining_mark(c) || matches!(c, '-' | '_' | '.');
        if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
            return Err(RoomNameError::BadCharacter(bad));
        }
        match name.chars().count() {
            0 => Err(RoomNameError::Empty),
            count if count > MAX_CHARS => Err(RoomNameError::TooLong),
            _ if name.chars().all(|c| c == '.') => Err(RoomNameError::OnlyDots),
            _ => Ok(Self(name.into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for RoomName {
    type Err = RoomNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoomName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Names whoever sits in a seat, from taking it to leaving it: random, never used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(Arc<str>);

impl PeerId {
    /// A new one.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(format!("{:016x}", rng.random::<u64>()).into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PeerId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        RoomName::parse(text).unwrap().as_str().to_owned()
    }

    #[test]
    fn a_room_is_the_same_however_it_is_typed() {
        assert_eq!(name("Tea"), "tea");
        assert_eq!(name("Cafe\u{301}"), name("CAFÉ"));
        assert_eq!(name("ÉTÉ-2_1.0"), "été-2_1.0");
    }

    #[test]
    fn every_script_names_rooms() {
        for text in ["茶室", "чай", "नमस्ते", "ชา", "שלום", "٣", "__proto__", "constructor"]
        {
            assert_eq!(name(text), text);
        }
    }

    #[test]
    fn a_name_stays_what_it_is_when_parsed_again() {
        for text in ["İstanbul", "ΑΣ", "ǅ", "Straße", "Å", "ﬁ"] {
            assert_eq!(name(&name(text)), name(text));
        }
    }

    #[test]
    fn other_names_are_refused_with_the_reason() {
        assert_eq!(RoomName::parse(""), Err(RoomNameError::Empty));
        assert_eq!(RoomName::parse(".."), Err(RoomNameError::OnlyDots));
        assert_eq!(RoomName::parse(&"a".repeat(65)), Err(RoomNameError::TooLong));
        assert_eq!(RoomName::parse(&"a".repeat(70_000)), Err(RoomNameError::TooLong));
        assert!(RoomName::parse(&"茶".repeat(64)).is_ok());
        for (text, bad) in [("a b", ' '), ("a/b", '/'), ("a\0", '\0'), ("<b>", '<'), ("🍵", '🍵')]
        {
            assert_eq!(RoomName::parse(text), Err(RoomNameError::BadCharacter(bad)));
        }
    }
}
