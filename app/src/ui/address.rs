//! What people type to be brought together: links, room names, servers.

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

/// Whether the server could accept this name. It has the last word about letters of other
/// scripts; here only what can never be part of a name is refused.
pub fn valid_room(room: &str) -> bool {
    let count = room.chars().count();
    (1..=ROOM_LIMIT).contains(&count)
        && room.chars().all(|letter| match letter {
            '-' | '_' | '.' => true,
            _ if letter.is_ascii() => letter.is_ascii_alphanumeric(),
            _ => !letter.is_whitespace() && !letter.is_control(),
        })
}

impl Target {
    /// What `text` means.
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Nothing;
        }
        if !text.contains(['/', ':']) {
            return if valid_room(text) {
                Self::Room(text.to_owned())
            } else {
                Self::BadRoom
            };
        }
        let link = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        match url::Url::parse(&link) {
            Ok(url) if names_a_room(&url) => Self::Link(link),
            _ => Self::BadLink,
        }
    }
}

fn names_a_room(url: &url::Url) -> bool {
    let mut parts = url.path_segments().into_iter().flatten();
    let room = parts
        .by_ref()
        .find(|part| *part == "room")
        .and_then(|_| parts.next());
    matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && room.is_some_and(|room| !room.is_empty())
}

/// A server's address with its scheme, or `None` if this is none.
pub fn server_address(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let address = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = url::Url::parse(&address).ok()?;
    let usable = matches!(url.scheme(), "http" | "https" | "ws" | "wss") && url.host().is_some();
    usable.then(|| address.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_rooms_are_told_apart() {
        let link = |text: &str| Target::Link(text.to_owned());
        assert_eq!(
            Target::of(" http://10.0.0.2:8080/room/tea "),
            link("http://10.0.0.2:8080/room/tea")
        );
        assert_eq!(
            Target::of("10.0.0.2:8080/room/tea"),
            link("http://10.0.0.2:8080/room/tea")
        );
        assert_eq!(
            Target::of("https://[::1]:8443/room/茶"),
            link("https://[::1]:8443/room/茶")
        );
        assert_eq!(
            Target::of("maple-river"),
            Target::Room("maple-river".into())
        );
        assert_eq!(Target::of("茶室"), Target::Room("茶室".into()));
        assert_eq!(Target::of("  "), Target::Nothing);
        for bad in [
            "http://10.0.0.2:8080/",
            "http://h/room/",
            "ftp://h/room/a",
            "http:///room/a",
        ] {
            assert_eq!(Target::of(bad), Target::BadLink, "{bad}");
        }
        for bad in ["two words", "a?b", &"x".repeat(65)] {
            assert_eq!(Target::of(bad), Target::BadRoom, "{bad}");
        }
    }

    #[test]
    fn a_server_may_be_typed_without_its_scheme() {
        assert_eq!(
            server_address("192.168.1.7:8080").as_deref(),
            Some("http://192.168.1.7:8080")
        );
        assert_eq!(
            server_address("https://calls.example/").as_deref(),
            Some("https://calls.example")
        );
        assert_eq!(server_address(" "), None);
        assert_eq!(server_address("http://"), None);
        assert_eq!(server_address("gopher://x"), None);
    }
}
