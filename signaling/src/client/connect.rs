//! Opens the WebSocket to a server, and says in words why not.

use std::{io, net::SocketAddr, time::Duration};

use thiserror::Error;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, header::AUTHORIZATION},
        protocol::WebSocketConfig,
    },
};

use crate::{link::ServerUrl, protocol::RoomName};

/// For each address of a host.
const ADDRESS_LIMIT: Duration = Duration::from_secs(4);
/// For the name's look-up, and again for the handshake.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// More than a server relays.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Today a plain TCP connection; TLS would be another arm of an enum here.
pub(super) type Socket = WebSocketStream<TcpStream>;

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
        )
    }
}

pub(super) async fn connect(
    server: &ServerUrl,
    access_token: Option<&str>,
) -> Result<Socket, Trouble> {
    let stream = connect_tcp(server).await?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let address = format!("ws://{}/ws", server.authority());
    let request = request(&address, access_token).map_err(|error| {
        tracing::debug!(%error, "no WebSocket request can be made");
        Trouble::NotVisavis(server.clone())
    })?;
    let handshake = client_async_with_config(request, stream, Some(config));
    match timeout(STEP_LIMIT, handshake).await {
        Ok(Ok((socket, _response))) => Ok(socket),
        Ok(Err(error)) => Err(trouble_of_handshake(server, &error)),
        Err(_) => Err(Trouble::NoAnswer(server.clone())),
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
