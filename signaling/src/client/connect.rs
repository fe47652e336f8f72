//! Opens the WebSocket to a server, and says in words why not.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{self, HeaderValue, header::AUTHORIZATION},
        protocol::WebSocketConfig,
    },
};

use super::trust::{self, Refusal, Trust};
use crate::{
    fingerprint::Fingerprint,
    link::{Scheme, ServerUrl},
    protocol::RoomName,
};

/// For each address of a host.
const ADDRESS_LIMIT: Duration = Duration::from_secs(4);
/// For the name's look-up, and again for the handshake.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// More than a server relays.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A byte stream, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why there is no connection, or no longer one. [`std::fmt::Display`] is a sentence that says
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Trouble {
    /// The host's name is unknown.
    #[error("There is no computer named “{0}”: check the address and your connection.")]
    NoSuchHost(String),
    /// The port is closed.
    #[error("No server answers at {0}: check the address, and that the server is running.")]
    NothingThere(ServerUrl),
    /// No network leads there.
    #[error("{0} cannot be reached: check your network connection.")]
    NoRoute(ServerUrl),
    /// No answer in time.
    #[error("{0} does not answer: check the address, and that no firewall is in between.")]
    NoAnswer(ServerUrl),
    /// Something answers, but it is no such server.
    #[error("What answers at {0} is not a Visavis server: check the address and the port.")]
    NotVisavis(ServerUrl),
    /// The server, or a proxy before it, is in trouble itself.
    #[error("The server at {server} is in trouble (HTTP status {status}).")]
    InTrouble {
        /// The server.
        server: ServerUrl,
        /// The HTTP status.
        status: u16,
    },
    /// The connection broke.
    #[error("The connection to {0} broke.")]
    Broken(ServerUrl),
    /// The server says nothing any more.
    #[error("{0} no longer answers.")]
    Silent(ServerUrl),
    /// The server closed the connection.
    #[error("The server at {0} is stopping or restarting.")]
    Restarts(ServerUrl),
    /// The server closed the connection for another reason.
    #[error("The server at {server} ended the connection (code {code}).")]
    Ended {
        /// The server.
        server: ServerUrl,
        /// The close code (RFC 6455, section 7.4).
        code: u16,
    },
    /// The server does not serve the room, or no longer.
    #[error("{server} does not host the room “{room}”, or no longer: ask your host for the link.")]
    RoomNotHosted {
        /// The server.
        server: ServerUrl,
        /// The room.
        room: RoomName,
    },
    /// Not the key that the link names.
    #[error(
        "What answers at {0} is not the server that the link names: its certificate is another. \
         Somebody may be in between. Ask for the link again, in a way you trust."
    )]
    WrongCertificate(ServerUrl),
    /// Not the key that the user trusted before.
    #[error(
        "The certificate of {server} has changed since you trusted it. Somebody may be in \
         between. Ask whoever runs the server for a new link. (Fingerprint now: {})", .fingerprint.grouped()
    )]
    ChangedCertificate {
        /// The server.
        server: ServerUrl,
        /// Of its key now.
        fingerprint: Fingerprint,
    },
    /// Nobody the system trusts vouches for the server.
    #[error(
        "Nobody known vouches for {server}: ask for a link that ends in #fp=…, or compare the \
         server's fingerprint: {}", .fingerprint.grouped()
    )]
    UnknownCertificate {
        /// The server.
        server: ServerUrl,
        /// Of its key.
        fingerprint: Fingerprint,
    },
    /// It has to prove who it is, and speaks without TLS.
    #[error(
        "{0} has to prove who it is, but speaks without TLS: somebody may be in between. Ask \
         whoever runs the server for a link."
    )]
    NotSecure(ServerUrl),
    /// A certificate that no decision makes good.
    #[error("The certificate of {server} cannot be used ({reason}): tell whoever runs the server.")]
    BadCertificate {
        /// The server.
        server: ServerUrl,
        /// What is wrong with it.
        reason: String,
    },
    /// The server is for those who have its access token.
    #[error(
        "{0} lets only those in who have its access token: use the whole link you were given, or \
         ask for a new one."
    )]
    AccessDenied(ServerUrl),
    /// Too many connections come from here, or too fast.
    #[error("{0} takes no more connections from your network just now: wait a while.")]
    TooMany(ServerUrl),
    /// The seat was taken up by a newer connection.
    #[error("The call goes on in another window.")]
    Replaced,
}

impl Trouble {
    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        !matches!(
            self,
            Self::NotVisavis(_)
                | Self::RoomNotHosted { .. }
                | Self::AccessDenied(_)
                | Self::Replaced
                | Self::WrongCertificate(_)
                | Self::ChangedCertificate { .. }
                | Self::UnknownCertificate { .. }
                | Self::BadCertificate { .. }
                | Self::NotSecure(_)
        )
    }
}

/// Opens the WebSocket. A server that sends plain HTTP to TLS is followed there, once.
pub(super) async fn connect(
    server: &ServerUrl,
    trust: Trust,
    access_token: Option<&str>,
) -> Result<Socket, Trouble> {
    match shake_hands(server, trust, access_token).await {
        Err(Refused::Moved(secure)) => {
            tracing::info!(from = %server, to = %secure, "the server asks for TLS");
            shake_hands(&secure, trust, access_token).await.map_err(|refused| match refused {
                Refused::Moved(_) => Trouble::NotVisavis(secure),
                Refused::Trouble(trouble) => trouble,
            })
        }
        Err(Refused::Trouble(trouble)) => Err(trouble),
        // Whoever is in between would take the TLS away, and with it the proof.
        Ok(_) if server.scheme() == Scheme::Http && trust != Trust::default() => {
            Err(Trouble::NotSecure(server.clone()))
        }
        Ok(socket) => Ok(socket),
    }
}

enum Refused {
    Trouble(Trouble),
    /// The same server over TLS is here.
    Moved(ServerUrl),
}

async fn shake_hands(
    server: &ServerUrl,
    trust: Trust,
    access_token: Option<&str>,
) -> Result<Socket, Refused> {
    let stream = open(server, trust).await.map_err(Refused::Trouble)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let scheme = match server.scheme() {
        Scheme::Http => "ws",
        Scheme::Https => "wss",
    };
    let address = format!("{scheme}://{}/ws", server.authority());
    let request = request(&address, access_token).map_err(|error| {
        tracing::debug!(%error, "no WebSocket request can be made");
        Refused::Trouble(Trouble::NotVisavis(server.clone()))
    })?;
    let handshake = client_async_with_config(request, stream, Some(config));
    match timeout(STEP_LIMIT, handshake).await {
        Ok(Ok((socket, _response))) => Ok(socket),
        Ok(Err(error)) => Err(match moved_to_tls(server, &error) {
            Some(secure) => Refused::Moved(secure),
            None => Refused::Trouble(trouble_of_handshake(server, &error)),
        }),
        Err(_) => Err(Refused::Trouble(Trouble::NoAnswer(server.clone()))),
    }
}

fn request(address: &str, access_token: Option<&str>) -> Result<Request, tungstenite::Error> {
    let mut request = address.into_client_request()?;
    if let Some(token) = access_token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|error| tungstenite::Error::HttpFormat(error.into()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Where a plain server wants to be asked instead; never from TLS back to the open.
fn moved_to_tls(server: &ServerUrl, error: &tungstenite::Error) -> Option<ServerUrl> {
    let tungstenite::Error::Http(response) = error else { return None };
    if server.scheme() == Scheme::Https || !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(http::header::LOCATION)?.to_str().ok()?;
    let secure: ServerUrl = location.parse().ok()?;
    (location.contains("://") && secure.scheme() == Scheme::Https).then_some(secure)
}

/// Connects, with TLS if the address says so.
pub(crate) async fn open(server: &ServerUrl, trust: Trust) -> Result<Box<dyn Stream>, Trouble> {
    let stream = connect_tcp(server).await?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    match server.scheme() {
        Scheme::Http => Ok(Box::new(stream)),
        Scheme::Https => secure(server, trust, stream).await,
    }
}

async fn secure(
    server: &ServerUrl,
    trust: Trust,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, Trouble> {
    let unusable = |reason: String| Trouble::BadCertificate { server: server.clone(), reason };
    // Reads files the first time.
    let config = tokio::task::spawn_blocking(move || trust::config(trust)).await;
    let (config, refused) = match config {
        Ok(Ok(ready)) => ready,
        Ok(Err(error)) => return Err(unusable(error.to_string())),
        Err(error) => return Err(unusable(error.to_string())),
    };
    let Ok(name) = ServerName::try_from(server.host()) else {
        return Err(Trouble::NoSuchHost(server.host()));
    };
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let error = match timeout(STEP_LIMIT, handshake).await {
        Ok(Ok(stream)) => return Ok(Box::new(stream)),
        Ok(Err(error)) => error,
        Err(_) => return Err(Trouble::NoAnswer(server.clone())),
    };
    tracing::debug!(%error, "the TLS handshake failed");
    let refusal = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
    let server = server.clone();
    Err(match refusal {
        Some(Refusal::NotPinned) => Trouble::WrongCertificate(server),
        Some(Refusal::NotRemembered(fingerprint)) => {
            Trouble::ChangedCertificate { server, fingerprint }
        }
        Some(Refusal::Unknown(fingerprint)) => Trouble::UnknownCertificate { server, fingerprint },
        Some(Refusal::Bad(reason)) => Trouble::BadCertificate { server, reason },
        // What rustls says of what it was sent; anything else is the network's doing.
        None => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => Trouble::NotVisavis(server),
            // The server shows a certificate to nobody yet, or takes no handshakes.
            Some(rustls::Error::AlertReceived(_)) | None => Trouble::Broken(server),
            Some(error) => Trouble::BadCertificate { server, reason: error.to_string() },
        },
    })
}

async fn connect_tcp(server: &ServerUrl) -> Result<TcpStream, Trouble> {
    let look_up = lookup_host((server.host(), server.port()));
    let addresses: Vec<SocketAddr> = match timeout(STEP_LIMIT, look_up).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) => Vec::new(),
        Err(_) => return Err(Trouble::NoAnswer(server.clone())),
    };
    let mut trouble = Trouble::NoSuchHost(server.host());
    for address in addresses {
        trouble = match timeout(ADDRESS_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Trouble::NothingThere(server.clone()),
                io::ErrorKind::TimedOut => Trouble::NoAnswer(server.clone()),
                _ => Trouble::NoRoute(server.clone()),
            },
            Err(_) => Trouble::NoAnswer(server.clone()),
        };
    }
    Err(trouble)
}

fn trouble_of_handshake(server: &ServerUrl, error: &tungstenite::Error) -> Trouble {
    tracing::debug!(%error, "the WebSocket handshake failed");
    match error {
        tungstenite::Error::Http(response) if response.status() == 401 => {
            Trouble::AccessDenied(server.clone())
        }
        tungstenite::Error::Http(response) if response.status() == 429 => {
            Trouble::TooMany(server.clone())
        }
        tungstenite::Error::Http(response) if response.status().is_server_error() => {
            Trouble::InTrouble { server: server.clone(), status: response.status().as_u16() }
        }
        tungstenite::Error::Io(_)
        | tungstenite::Error::Protocol(tungstenite::error::ProtocolError::HandshakeIncomplete) => {
            Trouble::Broken(server.clone())
        }
        _ => Trouble::NotVisavis(server.clone()),
    }
}
