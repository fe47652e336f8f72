//! The page, embedded: `index.html` at `/` and `/room/NAME`, its own files at their names, and
//! nothing else. With the headers that keep it to itself.

mod folder;

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;

pub use self::folder::{PageError, PageFolder};
use crate::protocol::RoomName;

/// One of the page's files.
struct Asset {
    /// From `/`.
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

/// The page's entrance.
pub(crate) async fn index() -> Response {
    file("/index.html").unwrap_or_else(not_found)
}

/// The same page in a room, if the path names one.
pub(crate) async fn room(uri: Uri) -> Response {
    let name = uri.path().strip_prefix("/room/").unwrap_or_default();
    match percent_decode_str(name).decode_utf8() {
        Ok(name) => match RoomName::parse(&name) {
            Ok(_) => index().await,
            Err(error) => (StatusCode::NOT_FOUND, format!("{error}\n")).into_response(),
        },
        Err(_) => not_found(),
    }
}

/// The page's own files; every other path ends here too.
pub(crate) async fn asset(method: Method, uri: Uri) -> Response {
    match file(uri.path()) {
        None => not_found(),
        Some(response) if matches!(method, Method::GET | Method::HEAD) => response,
        Some(_) => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")]).into_response(),
    }
}

/// Adds to every answer what a browser needs to know to keep the page to itself.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let policy = content_security_policy(request.headers().get(header::HOST));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (PERMISSIONS_POLICY, "camera=(self), microphone=(self), display-capture=(self)"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // A folder of the operator's brings its own.
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    response
}

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Only this server. Older Safari does not count `ws:` as `'self'`, so the host is named too,
/// as far as the policy's grammar has names for it (none for IPv6 addresses).
fn content_security_policy(host: Option<&HeaderValue>) -> HeaderValue {
    let is_plain = |host: &&str| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'))
    };
    let sockets = host
        .and_then(|host| host.to_str().ok())
        .filter(is_plain)
        .map(|host| format!(" ws://{host} wss://{host}"))
        .unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
         font-src 'self'; manifest-src 'self'; media-src 'self' blob: mediastream:; \
         worker-src 'self' blob:; connect-src 'self'{sockets}; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

fn file(path: &str) -> Option<Response> {
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    Some(([(header::CONTENT_TYPE, asset.content_type)], asset.body).into_response())
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "There is nothing at this address.\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_embedded() {
        assert!(ASSETS.iter().any(|asset| asset.path == "/index.html" && !asset.body.is_empty()));
        assert!(ASSETS.iter().all(|asset| asset.path.starts_with('/')));
    }

    #[test]
    fn a_strange_host_adds_nothing_to_the_policy() {
        let policy = |host: &'static str| {
            let policy = content_security_policy(Some(&HeaderValue::from_static(host)));
            policy.to_str().unwrap().to_owned()
        };
        assert!(
            policy("tea.example:8080").contains("connect-src 'self' ws://tea.example:8080 wss")
        );
        for host in ["[::1]:8080", "a; script-src *", ""] {
            assert!(policy(host).contains("connect-src 'self';"), "{host}");
        }
    }
}
