//! Reads what proxies write into a request: `X-Forwarded-*`, and `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

/// What one proxy says of whoever asked it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// Who that was; `None` if it does not tell, or tells something else.
    pub address: Option<IpAddr>,
    /// What it was asked for by `Host`.
    pub host: Option<String>,
    /// Whether it was asked over TLS.
    pub https: Option<bool>,
}

/// The farthest first, as in the header.
pub(super) fn hops_of_x_headers(headers: &HeaderMap) -> Vec<Hop> {
    let mut hops: Vec<Hop> = values(headers, "x-forwarded-for")
        .flat_map(|value| value.split(','))
        .map(|node| Hop { address: parse_node(node), ..Hop::default() })
        .collect();
    // Proxies replace these rather than add to them; where several added, the last is nearest.
    let nearest = |name| {
        values(headers, name).last().and_then(|value| value.rsplit(',').next()).map(str::trim)
    };
    let host = nearest("x-forwarded-host").filter(|host| !host.is_empty()).map(str::to_owned);
    let https = nearest("x-forwarded-proto").and_then(parse_scheme);
    if host.is_some() || https.is_some() {
        if hops.is_empty() {
            hops.push(Hop::default());
        }
        if let Some(last) = hops.last_mut() {
            (last.host, last.https) = (host, https);
        }
    }
    hops
}

/// The farthest first, as in the header.
pub(super) fn hops_of_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    values(headers, "forwarded").flat_map(parse_forwarded).collect()
}

/// The fields of that name, in order. One that is not ASCII stands for itself as nonsense.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"))
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
pub fn parse_node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .or_else(|| {
            // RFC 7239 allows a port that is a word: `192.0.2.1:_x`, `[2001:db8::1]:_x`.
            let (address, _port) = text.rsplit_once(":_")?;
            match address.strip_prefix('[') {
                Some(bracketed) => bracketed.strip_suffix(']')?.parse().ok(),
                None => address.parse().ok().filter(IpAddr::is_ipv4),
            }
        })?;
    Some(address.to_canonical())
}

/// The elements of one `Forwarded` field (RFC 7239, section 4), the farthest first. An element
/// that is malformed tells nothing, but keeps its place.
pub fn parse_forwarded(value: &str) -> Vec<Hop> {
    split(value, ',').into_iter().map(parse_element).collect()
}

fn parse_element(element: &str) -> Hop {
    let mut hop = Hop::default();
    for pair in split(element, ';') {
        let Some((name, value)) = pair.split_once('=') else {
            if pair.trim().is_empty() {
                continue;
            }
            return Hop::default();
        };
        let Some(value) = unquote(value.trim()) else {
            return Hop::default();
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.address = parse_node(&value),
            "host" if !value.is_empty() => hop.host = Some(value),
            "proto" => hop.https = parse_scheme(&value),
            _ => {}
        }
    }
    hop
}

fn parse_scheme(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

/// Splits where `separator` stands outside of quotes (RFC 9110, section 5.6.4).
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A token as it stands, a quoted string without its quotes; `None` for a broken one.
fn unquote(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else {
        return (!text.contains('"')).then(|| text.to_owned());
    };
    let mut plain = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(plain),
            '\\' => plain.push(chars.next()?),
            c => plain.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(value: &str) -> Vec<Option<String>> {
        let hops = parse_forwarded(value);
        hops.into_iter().map(|hop| hop.address.map(|address| address.to_string())).collect()
    }

    fn some(address: &str) -> Option<String> {
        Some(address.into())
    }

    #[test]
    fn the_forms_of_rfc_7239_are_read() {
        assert_eq!(addresses("for=192.0.2.43"), [some("192.0.2.43")]);
        assert_eq!(
            addresses("for=192.0.2.43, for=\"[2001:db8:cafe::17]\""),
            [some("192.0.2.43"), some("2001:db8:cafe::17")]
        );
        assert_eq!(
            addresses("For=\"[2001:db8:cafe::17]:4711\";proto=http;by=203.0.113.43"),
            [some("2001:db8:cafe::17")]
        );
        assert_eq!(addresses("for=\"192.0.2.43:_port\""), [some("192.0.2.43")]);
        assert_eq!(addresses("for=unknown, for=_hidden"), [None, None]);
        let hop = parse_forwarded("host=\"a,b;c\\\"d\";proto=https;for=192.0.2.1").remove(0);
        assert_eq!((hop.host.as_deref(), hop.https), (Some("a,b;c\"d"), Some(true)));
    }

    #[test]
    fn what_is_broken_tells_nothing_but_keeps_its_place() {
        assert_eq!(addresses("for=\"192.0.2.1, for=192.0.2.2"), [None]);
        assert_eq!(addresses("for=\"192.0.2.1\"x, for=192.0.2.2"), [None, some("192.0.2.2")]);
        assert_eq!(addresses("nonsense, for=192.0.2.2"), [None, some("192.0.2.2")]);
        assert_eq!(addresses("for=a\"b"), [None]);
        assert_eq!(addresses(""), [None]);
        assert_eq!(addresses("for=\"\\"), [None]);
    }
}
