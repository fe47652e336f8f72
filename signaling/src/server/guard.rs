//! What is asked of every request before it gets anywhere: on whose behalf it comes, and at the
//! carriers' addresses whether its page, and its token, may.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::{accept::RemoteAddress, gate::Pass};
use crate::{
    access::AccessToken,
    admission::Refusal,
    metrics::Metrics,
    origin::{AllowedOrigin, Asker, asker},
    proxy::{Client, TrustedProxies},
};

/// What the guard goes by.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) proxies: Arc<TrustedProxies>,
    pub(super) origins: Vec<AllowedOrigin>,
    pub(super) token: Option<AccessToken>,
    /// A request's body must be there within this.
    pub(super) body_within: Duration,
    pub(super) metrics: Arc<Metrics>,
}

/// The outermost layer of all routes.
pub(super) async fn guard(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(RemoteAddress(peer)) = request.extensions().get().copied() else {
        return next.run(request).await;
    };
    let client = guard.proxies.client(peer.ip(), request.headers());
    let pass = request.extensions().get::<Arc<Pass>>().cloned();
    let borrowed = pass.filter(|_| guard.proxies.trust(peer.ip()));
    if let Some(pass) = &borrowed {
        if let Err(refusal) = pass.charge(client.address, is_upgrade(request.headers())) {
            return refused(refusal);
        }
        request.extensions_mut().insert(RemoteAddress(SocketAddr::new(client.address, 0)));
    }
    let response = guard.pass(client, request, next).await;
    // The proxy keeps the connection for other clients, unless it has become this one's.
    if let Some(pass) = borrowed
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        pass.discharge();
    }
    response
}

impl Guard {
    async fn pass(&self, client: Client, request: Request, next: Next) -> Response {
        let request = request.map(|body| Body::new(Timely::new(body, self.body_within)));
        if !is_carrier(request.uri().path()) {
            return next.run(request).await;
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        // One that is no text is nobody's own and nobody's friend.
        let text = origin.as_ref().map(|origin| origin.to_str().unwrap_or("null"));
        let asker = asker(text, client.host.as_deref(), client.https, &self.origins);
        let foreign = match asker {
            Asker::Native | Asker::OwnPage => None,
            Asker::AllowedPage => origin,
            Asker::Stranger => {
                self.metrics.count_refused("origin");
                return (
                    StatusCode::FORBIDDEN,
                    "Pages from elsewhere may not use this server: open its own page, or ask its \
                     operator to allow yours (--allow-origin).\n",
                )
                    .into_response();
            }
        };
        let is_preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let mut response = if foreign.is_some() && is_preflight {
            StatusCode::NO_CONTENT.into_response()
        } else if self
            .token
            .as_ref()
            .is_some_and(|token| !token.is_presented(request.uri(), request.headers()))
        {
            self.metrics.count_refused("token");
            (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Bearer")],
                "This server asks for an access token: use the whole link its operator gave you, \
                 or ask for a new one.\n",
            )
                .into_response()
        } else {
            next.run(request).await
        };
        if let Some(origin) = foreign {
            allow(response.headers_mut(), origin, is_preflight);
        }
        response
    }
}

/// The addresses where rooms are spoken of. The script of Socket.IO is a file like any other.
fn is_carrier(path: &str) -> bool {
    path == "/ws"
        || path == "/socket.io"
        || path.starts_with("/socket.io/") && !path.ends_with(".js") && !path.ends_with(".map")
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

fn refused(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let after = refusal.retry_after().as_secs().to_string();
    (status, [(header::RETRY_AFTER, after)], format!("{refusal}\n")).into_response()
}

/// Cross-origin resource sharing (the Fetch standard, section 3.3), for Socket.IO's polling.
/// Its client sends credentials, so the origin is named and never `*`.
fn allow(headers: &mut HeaderMap, origin: HeaderValue, preflight: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let mut add = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    add(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    if preflight {
        add(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
        add(header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type");
        add(header::ACCESS_CONTROL_MAX_AGE, "600");
    }
}

/// A request's body that fails when it does not come in time.
struct Timely {
    body: Body,
    within: Duration,
    /// From the first look at it on.
    late: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    fn new(body: Body, within: Duration) -> Self {
        Self { body, within, late: None }
    }
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let within = self.within;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(within)));
        match late.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the request's body did not come in time",
            ))))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_an_error_and_one_that_comes_is_whole() {
        let within = Duration::from_secs(10);
        let whole = Body::new(Timely::new(Body::from("all of it"), within));
        assert_eq!(axum::body::to_bytes(whole, 100).await.unwrap(), "all of it");
        let never =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());
        let started = tokio::time::Instant::now();
        let error = axum::body::to_bytes(Body::new(Timely::new(never, within)), 100).await;
        assert!(error.expect_err("too late").to_string().contains("in time"));
        assert_eq!(started.elapsed(), within);
    }

    #[test]
    fn only_the_addresses_of_rooms_are_guarded() {
        for path in ["/ws", "/socket.io/", "/socket.io/x"] {
            assert!(is_carrier(path), "{path}");
        }
        for path in ["/", "/room/tea", "/visavis", "/socket.io/socket.io.js", "/wsx", "/ws/"] {
            assert!(!is_carrier(path), "{path}");
        }
    }
}
