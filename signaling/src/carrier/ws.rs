//! JSON over WebSocket (RFC 6455) at `/ws`.

use std::{pin::pin, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Message, Utf8Bytes,
        error::{CapacityError, Error, ProtocolError},
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{Guest, Liveness};
use crate::{
    hub::{CloseReason, Connection, Hub, Outbound},
    metrics::{Metrics, seconds},
    protocol::{ByeReason, ClientEvent, ErrorCode, EventError, ServerEvent},
};

/// Kept by every connection, however idle; longer frames get room of their own while they are
/// read. Holds any candidate.
const READ_BUFFER: usize = 1024;

/// Frames longer than an event may be are still read up to here, so that the error leaves the
/// connection alive; a longer one ends it.
const FRAME_FACTOR: usize = 4;

/// After a frame too long to be read, so much of what follows is thrown away while the client
/// takes note: closing at once would reset the connection, and the reason with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 << 20;

/// When writing fails, what came before may still be read for so long: a client that said
/// goodbye and is gone has left, and is not lost.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Answers the upgrade and serves the connection on a task of its own, which drops `alive` at
/// its very end.
pub(crate) fn upgrade(
    hub: Hub,
    guest: Guest,
    liveness: Liveness,
    alive: mpsc::Sender<()>,
    mut request: Request,
) -> Response {
    let response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(error) => {
            let text = format!("This address speaks WebSocket only: {error}.\n");
            let mut refusal = (StatusCode::UPGRADE_REQUIRED, text).into_response();
            let value = axum::http::HeaderValue::from_static("websocket");
            refusal.headers_mut().insert(axum::http::header::UPGRADE, value);
            return refusal;
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = match upgrade.await {
            Ok(stream) => TokioIo::new(stream),
            Err(error) => return tracing::debug!(%error, "a WebSocket handshake broke off"),
        };
        let limit = hub.limits().message_bytes.saturating_mul(FRAME_FACTOR);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        serve(socket, &hub, guest, liveness).await;
        drop(alive);
    });
    response
}

/// How a connection ended.
enum End {
    /// The client closed it.
    ByClient(ByeReason),
    /// The client is gone, or as good as gone.
    Lost(&'static str),
    /// Nothing can be written any more.
    Unwritable,
    /// The client broke the rules of WebSocket.
    Broken(CloseCode, EventError),
    /// The hub wants it closed; without a reason, at once.
    ByHub(Option<CloseReason>),
}

impl End {
    /// One word or two, for the log and for `/metrics`.
    fn name(&self) -> &'static str {
        match self {
            Self::ByClient(ByeReason::Left) => "left",
            Self::ByClient(_) => "closed with an error",
            Self::Lost(why) => why,
            Self::Unwritable => "connection broken",
            Self::Broken(..) => "bad frame",
            Self::ByHub(Some(CloseReason::Idle)) => "no seat taken",
            Self::ByHub(Some(CloseReason::Restart)) => "server stops",
            Self::ByHub(Some(CloseReason::Replaced)) => "replaced",
            Self::ByHub(Some(CloseReason::Limit)) => "over a limit",
            Self::ByHub(None) => "dropped",
        }
    }
}

async fn serve<S>(socket: WebSocketStream<S>, hub: &Hub, guest: Guest, liveness: Liveness)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok((connection, mut outbound)) = hub.open(guest).await else {
        return;
    };
    let id = connection.id();
    let since = std::time::Instant::now();
    tracing::info!(connection = id, carrier = "websocket", "opened");
    tracing::debug!(connection = id, address = %guest.address, "opened");
    let (mut sink, mut stream) = socket.split();
    let end = tokio::select! {
        end = read(&mut stream, &connection, hub.limits().message_bytes, liveness) => end,
        end = write(&mut sink, &mut outbound, liveness, hub.metrics()) => end,
    };
    let end = match end {
        End::Unwritable => {
            let rest = read(&mut stream, &connection, hub.limits().message_bytes, liveness);
            timeout(LAST_WORDS, rest).await.unwrap_or(End::Unwritable)
        }
        end => end,
    };
    let why = end.name();
    hub.metrics().count_ending(why);
    tracing::info!(connection = id, why, seconds = seconds(since), "ended");
    // The seat first: the other end should not wait for the courtesies.
    match &end {
        End::ByClient(reason) => connection.close(*reason).await,
        End::Broken(..) => connection.expel().await,
        End::Lost(_) | End::Unwritable | End::ByHub(_) => connection.close(ByeReason::Lost).await,
    }
    drop(outbound);
    if let Ok(socket) = sink.reunite(stream) {
        // Boxed: an open connection need not keep room for its end.
        Box::pin(say_goodbye(socket, end, liveness.write_within)).await;
    }
}

/// Reads until the connection ends.
async fn read<S>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    connection: &Connection,
    limit: usize,
    liveness: Liveness,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut lost_at = Instant::now() + liveness.answer_within;
    // Set anew only when it fires: a timer costs more than a message.
    let mut alarm = pin!(sleep_until(lost_at));
    loop {
        let message = tokio::select! {
            // The alarm first, or a flood would keep it waiting.
            biased;
            () = alarm.as_mut() => {
                if Instant::now() >= lost_at {
                    return End::Lost("does not answer pings");
                }
                alarm.as_mut().reset(lost_at);
                continue;
            }
            message = stream.next() => message,
        };
        let event = match message {
            Some(Ok(Message::Text(text))) => ClientEvent::parse_within(text.as_str(), limit),
            Some(Ok(Message::Binary(_))) => Err(EventError::new(
                ErrorCode::BinaryFrame,
                "Binary frames are not understood: send JSON in text frames.",
            )),
            Some(Ok(Message::Pong(_))) => {
                lost_at = Instant::now() + liveness.answer_within;
                continue;
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => continue,
            Some(Ok(Message::Close(frame))) => return End::ByClient(reason_of(frame.as_ref())),
            Some(Err(error)) => return end_of(&error, limit),
            None => return End::Lost("connection closed without goodbye"),
        };
        let since = Instant::now();
        if connection.hand_in(event).await.is_err() {
            return End::ByHub(None);
        }
        // Answers were not read meanwhile; that is no fault of the client's.
        lost_at += since.elapsed();
    }
}

/// Writes, and pings, until the connection ends.
async fn write<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    outbound: &mut mpsc::Receiver<Outbound>,
    liveness: Liveness,
    metrics: &Metrics,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pings = interval(liveness.ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // The credit lives until its event is written.
        let (message, credit, relayed) = tokio::select! {
            // Pings first, or a talkative peer would keep them waiting.
            biased;
            _ = pings.tick() => (Message::Ping(Bytes::new()), None, false),
            next = outbound.recv() => match next {
                Some(Outbound::Event(event, credit)) => {
                    (text(&event), credit, matches!(*event, ServerEvent::Message { .. }))
                }
                Some(Outbound::Close(reason)) => return End::ByHub(Some(reason)),
                None => return End::ByHub(None),
            },
        };
        let bytes = message.len();
        match timeout(liveness.write_within, sink.send(message)).await {
            Ok(Ok(())) => {
                if relayed {
                    metrics.count_relayed(bytes, credit.map(|credit| credit.received));
                }
            }
            Ok(Err(_)) => return End::Unwritable,
            Err(_) => return End::Lost("does not read"),
        }
    }
}

fn text(event: &ServerEvent) -> Message {
    Message::Text(event.to_text().into())
}

/// A close without a status is as deliberate as one with 1000 or 1001.
fn reason_of(frame: Option<&CloseFrame>) -> ByeReason {
    match frame.map(|frame| frame.code) {
        None | Some(CloseCode::Normal | CloseCode::Away | CloseCode::Status) => ByeReason::Left,
        Some(_) => ByeReason::Lost,
    }
}

fn end_of(error: &Error, limit: usize) -> End {
    let bad = |code, text: String| End::Broken(code, EventError::new(ErrorCode::BadFrame, text));
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            End::Broken(CloseCode::Size, EventError::too_large(*size, limit))
        }
        Error::Capacity(error) => bad(CloseCode::Size, format!("The frame is too large: {error}.")),
        Error::Utf8(_) => bad(CloseCode::Invalid, "The text frame is not UTF-8.".into()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_) => End::Lost("connection broken"),
        Error::Protocol(error) => {
            bad(CloseCode::Protocol, format!("The frame breaks the rules of WebSocket: {error}."))
        }
        _ => End::Lost("connection failed"),
    }
}

/// Tells the client why, as far as it still listens, within a time limit.
async fn say_goodbye<S>(mut socket: WebSocketStream<S>, end: End, limit: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (code, error) = match end {
        End::Lost(_) | End::Unwritable | End::ByHub(None) => return,
        // The answer to its close frame waits to be flushed.
        End::ByClient(_) => {
            let _ = timeout(limit.min(LINGER), socket.flush()).await;
            return;
        }
        End::ByHub(Some(CloseReason::Idle | CloseReason::Replaced)) => (CloseCode::Normal, None),
        End::ByHub(Some(CloseReason::Limit)) => (CloseCode::Policy, None),
        End::ByHub(Some(CloseReason::Restart)) => (CloseCode::Restart, None),
        End::Broken(code, error) => (code, Some(error)),
    };
    let reason = Utf8Bytes::from_static(match code {
        CloseCode::Normal => "no seat",
        CloseCode::Policy => "over a limit",
        CloseCode::Restart => "server stops",
        CloseCode::Size => "frame too large",
        _ => "bad frame",
    });
    let broken = error.is_some();
    let goodbye = async {
        if let Some(error) = error {
            socket.feed(text(&error.into())).await?;
        }
        socket.close(Some(CloseFrame { code, reason })).await
    };
    // Errors: the client is gone already, and nothing is left to be told.
    if !matches!(timeout(limit.min(LINGER), goodbye).await, Ok(Ok(()))) {
        return;
    }
    let _ = timeout(LINGER, async {
        if broken {
            discard(socket.get_mut()).await;
        } else {
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await;
}

/// Reads and forgets until the client closes its side.
async fn discard<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut buffer = vec![0; 16 * 1024];
    let mut left = LINGER_BYTES;
    while let Ok(read) = stream.read(&mut buffer).await {
        left = left.saturating_sub(read);
        if read == 0 || left == 0 {
            return;
        }
    }
}
