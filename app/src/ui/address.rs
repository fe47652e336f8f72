//! What people type to be brought together, as the lobby tells it apart while they type. The
//! rules are the signaling crate's.

use visavis_signaling::{RoomName, ServerUrl};

/// The longest room name of the room protocol, in characters.
pub const ROOM_LIMIT: usize = 64;

/// What the words in the join field mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Nothing yet.
    Nothing,
    /// A link to a room.
    Link(String),
    /// A room's name, without its server.
    Room(String),
    /// A link that names no room.
    BadLink,
    /// No possible name of a room.
    BadRoom,
}

/// Whether the server would accept this name.
pub fn valid_room(room: &str) -> bool {
    RoomName::parse(room).is_ok()
}

impl Target {
    /// What `text` means.
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        match text.parse() {
            _ if text.is_empty() => Self::Nothing,
            Ok(visavis_signaling::Target::Link(link)) => Self::Link(link.to_string()),
            Ok(visavis_signaling::Target::Room(room)) => Self::Room(room.to_string()),
            Err(_) if text.contains(['/', ':']) => Self::BadLink,
            Err(_) => Self::BadRoom,
        }
    }
}

/// A server's address with its scheme, or `None` if this is none.
pub fn server_address(text: &str) -> Option<String> {
    let server: ServerUrl = text.trim().parse().ok()?;
    Some(server.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_rooms_are_told_apart() {
        let link = Target::Link("http://10.0.0.2:8080/room/tea".to_owned());
        assert_eq!(Target::of(" http://10.0.0.2:8080/room/tea "), link);
        assert_eq!(Target::of("10.0.0.2:8080/room/Tea?join"), link);
        assert_eq!(Target::of("maple-river"), Target::Room("maple-river".into()));
        assert_eq!(Target::of("two words"), Target::Room("two-words".into()));
        assert_eq!(Target::of("茶室"), Target::Room("茶室".into()));
        assert_eq!(Target::of("  "), Target::Nothing);
        for bad in ["http://10.0.0.2:8080/", "http://h/room/", "ftp://h/room/a", "10.0.0.2:8080"] {
            assert_eq!(Target::of(bad), Target::BadLink, "{bad}");
        }
        for bad in ["a?b", &"x".repeat(65)] {
            assert_eq!(Target::of(bad), Target::BadRoom, "{bad}");
        }
    }

    #[test]
    fn a_server_may_be_typed_without_its_scheme() {
        let address = server_address("192.168.1.7:8080");
        assert_eq!(address.as_deref(), Some("http://192.168.1.7:8080"));
        assert_eq!(server_address(" "), None);
        assert_eq!(server_address("http://"), None);
        assert_eq!(server_address("gopher://x"), None);
    }
}
