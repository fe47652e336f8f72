//! What a plain HTTP port does beside TLS: it serves this machine, and sends others to TLS.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::accept::RemoteAddress;

/// Told in the open to whoever asks: who is here and where the TLS port is, and whether all is
/// well, which watchdogs ask without TLS. No secret, nothing of a user's.
const OPEN: [&str; 3] = ["/visavis", "/healthz", "/readyz"];

/// Where those who are sent away are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecurePort {
    /// The TLS port.
    pub(super) port: u16,
    /// Where this plain port is, for requests that name no host.
    pub(super) local: SocketAddr,
}

/// Answers with a redirect (308: the method stays) what is not to be served in the open.
pub(super) async fn to_tls(
    State(secure): State<SecurePort>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get().map(|RemoteAddress(address)| address.ip());
    if peer.is_some_and(is_here) || OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = location(secure, host, path);
    match HeaderValue::from_str(&location) {
        Ok(location) => {
            let text = "This server speaks TLS: use https.\n";
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)], text).into_response()
        }
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Whoever is on this machine needs no TLS to reach it; browsers think so too (W3C Secure
/// Contexts, section 3.1). A proxy on this machine does TLS itself.
fn is_here(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// The same place over TLS. The host is the one the client named, since that is where it found
/// us; by lying it misleads nobody but itself.
fn location(secure: SecurePort, host: Option<&str>, path: &str) -> String {
    let named = host.and_then(|host| host.parse::<Authority>().ok());
    let host = match &named {
        Some(authority) if !authority.host().is_empty() => authority.host().to_owned(),
        _ => match secure.local.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        },
    };
    // What begins with two slashes would name another host.
    let path = format!("/{}", path.trim_start_matches('/'));
    match secure.port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURE: SecurePort = SecurePort {
        port: 8443,
        local: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 8080),
    };

    #[test]
    fn a_visitor_keeps_host_path_and_query() {
        let to = |host: Option<&str>, path: &str| location(SECURE, host, path);
        assert_eq!(
            to(Some("tea.example:8080"), "/room/tea?join"),
            "https://tea.example:8443/room/tea?join"
        );
        assert_eq!(to(Some("[2001:db8::1]:8080"), "/"), "https://[2001:db8::1]:8443/");
        assert_eq!(to(Some("user@tea.example"), "/"), "https://tea.example:8443/");
        for none in [None, Some(""), Some("a b"), Some("a/b")] {
            assert_eq!(to(none, "/x"), "https://192.0.2.7:8443/x", "{none:?}");
        }
        assert_eq!(
            to(Some("tea.example"), "//evil.example/x"),
            "https://tea.example:8443/evil.example/x"
        );
        let usual = SecurePort { port: 443, ..SECURE };
        assert_eq!(location(usual, Some("tea.example:80"), "/"), "https://tea.example/");
    }

    #[test]
    fn only_this_machine_is_served_in_the_open() {
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_here(here.parse().unwrap()), "{here}");
        }
        for elsewhere in ["192.168.1.5", "10.0.0.1", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0"] {
            assert!(!is_here(elsewhere.parse().unwrap()), "{elsewhere}");
        }
    }
}
