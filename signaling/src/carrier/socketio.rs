//! Socket.IO at `/socket.io/`: the tutorial's page, and any socket.io-client from 1.4 to 4.x.
//!
//! Its rooms are not used: a socket is a connection of the hub's like any other, and meets
//! clients of `/ws` there.

mod intake;
mod words;

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::service::Service as _;
use socketioxide::{
    ProtocolVersion, SendError, SocketError, SocketIo, TransportType,
    extract::{Event, SocketRef, TryData},
    handler::ConnectHandler,
    socket::DisconnectReason,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use self::{
    intake::{Intake, Item, Outtake},
    words::{Arguments, AsciiTold, Told},
};
use super::{CarrierKind, Guest, Liveness};
use crate::{
    hub::{CloseReason, Connection, Hub, Outbound},
    protocol::{ByeReason, ServerEvent},
};

/// A payload longer than so many messages ends its session; a message that is too long by less
/// gets an error.
const PAYLOAD_FACTOR: usize = 4;

/// So many bytes of a client's events may wait for the hub, or one payload, whichever is more.
const WAITING_BYTES: usize = 1 << 20;

/// Packets that may wait to be written to a socket.
const BUFFER: usize = 256;

/// A full buffer is looked at again after this; nothing tells when there is room.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// After so many packets in a row the writer gets its turn.
const BURST: usize = 32;

/// What a client said before it went may take so long to be handed in.
const DRAIN: Duration = Duration::from_secs(2);

/// A session must be opened, and a request's body be there, within this.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Clients of Engine.IO 3 (socket.io-client 1.x and 2.x) keep the heartbeat by timers of their
/// own, which browsers slow down to one a minute in hidden tabs: they get so much more time.
const OLD_CLIENTS_PATIENCE: u32 = 5;

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The carrier. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Carrier {
    /// For Engine.IO 3.
    old: Engine,
    /// For Engine.IO 4.
    new: Engine,
}

#[derive(Clone)]
struct Engine {
    io: SocketIo,
    answer: Arc<dyn Fn(Request) -> Answer + Send + Sync>,
}

/// What the sockets share.
struct Shared {
    hub: Hub,
    liveness: Liveness,
    /// Held by every socket's task until its end. Weak, or the carrier would keep itself alive.
    alive: mpsc::WeakSender<()>,
}

/// Where a request comes from, as the server sees it.
#[derive(Debug, Clone, Copy)]
struct Origin(IpAddr);

/// The queue's far end, on its way from the handshake to the socket's task.
#[derive(Clone)]
struct Waiting(Arc<Mutex<Option<Outtake>>>);

impl Carrier {
    /// A carrier to `hub`. The tasks of its sockets hold `alive` until their very end.
    pub(crate) fn new(hub: Hub, liveness: Liveness, alive: &mpsc::Sender<()>) -> Self {
        let shared = Arc::new(Shared { hub, liveness, alive: alive.downgrade() });
        let Liveness { ping_every, answer_within, .. } = liveness;
        Self {
            old: Engine::new(
                &shared,
                ping_every * OLD_CLIENTS_PATIENCE,
                answer_within * OLD_CLIENTS_PATIENCE,
            ),
            new: Engine::new(&shared, ping_every, answer_within),
        }
    }

    /// Answers a request to `/socket.io/` from `address`.
    pub(crate) async fn answer(&self, address: IpAddr, mut request: Request) -> Response {
        let within = match *request.method() {
            // A long poll, or an upgrade: ended by the heartbeat.
            Method::GET => None,
            Method::POST => Some(HANDSHAKE_WITHIN),
            _ => {
                let allow = [(header::ALLOW, "GET,POST")];
                return (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
            }
        };
        request.extensions_mut().insert(Origin(address));
        keep_what_is_needed(request.headers_mut());
        let query = request.uri().query().unwrap_or_default();
        let is_old = query.split('&').any(|field| field == "EIO=3");
        let engine = if is_old { &self.old } else { &self.new };
        let answer = (engine.answer)(request);
        match within {
            None => answer.await,
            Some(within) => match timeout(within, answer).await {
                Ok(answer) => answer,
                Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
            },
        }
    }

    /// Whether anybody is there who hears only by asking.
    pub(crate) fn has_pollers(&self) -> bool {
        let sockets = self.old.io.sockets().into_iter().chain(self.new.io.sockets());
        sockets.into_iter().any(|socket| socket.transport_type() == TransportType::Polling)
    }

    /// Ends all sockets with their sessions. A session without a socket ends by itself.
    pub(crate) async fn close(&self) {
        tokio::join!(self.old.io.close(), self.new.io.close());
    }
}

/// The client that belongs to the tutorial's page, whatever version its `package.json` names.
pub(crate) async fn client() -> Response {
    let script = include_str!("../../vendor/socket.io-client-1.7.4/socket.io.min.js");
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], script).into_response()
}

/// A session keeps the head of the request that opened it for as long as it lasts.
fn keep_what_is_needed(headers: &mut HeaderMap) {
    const NEEDED: [HeaderName; 7] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let mut kept = HeaderMap::with_capacity(NEEDED.len());
    for name in NEEDED {
        if let Some(value) = headers.remove(&name) {
            kept.insert(name, value);
        }
    }
    *headers = kept;
}

impl Engine {
    fn new(shared: &Arc<Shared>, ping_interval: Duration, ping_timeout: Duration) -> Self {
        let limit = shared.hub.limits().message_bytes;
        let payload = limit.saturating_mul(PAYLOAD_FACTOR);
        let (service, io) = SocketIo::builder()
            .ping_interval(ping_interval)
            .ping_timeout(ping_timeout)
            .connect_timeout(HANDSHAKE_WITHIN)
            .max_payload(payload as u64)
            .ws_max_message_size(payload)
            .ws_max_frame_size(payload)
            .max_buffer_size(BUFFER)
            .with_parser(socketioxide::ParserConfig::common().max_incoming_binary_buf_size(payload))
            .build_svc();
        let shared = Arc::clone(shared);
        let serve = move |socket: SocketRef| -> Ready<()> {
            let waiting = socket.extensions.remove::<Waiting>();
            let outtake = waiting.and_then(|Waiting(outtake)| {
                outtake.lock().unwrap_or_else(PoisonError::into_inner).take()
            });
            if let (Some(outtake), Some(alive)) = (outtake, shared.alive.upgrade()) {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    serve(&socket, &shared, outtake).await;
                    drop(alive);
                });
            }
            ready(())
        };
        io.ns("/", serve.with(move |socket: SocketRef| listen(&socket, limit)));
        let answer = move |request: Request| -> Answer {
            let answer = service.call(request);
            Box::pin(async move {
                match answer.await {
                    Ok(response) => response.map(Body::new),
                    Err(never) => match never {},
                }
            })
        };
        Self { io, answer: Arc::new(answer) }
    }
}

/// Listens to a socket, before it is told that it is connected: else its first words could be
/// missed. All is done before the futures are returned, because those run in any order.
fn listen(socket: &SocketRef, limit: usize) -> Ready<Result<(), Infallible>> {
    let capacity = WAITING_BYTES.max(limit.saturating_mul(PAYLOAD_FACTOR));
    let (intake, outtake) = intake::queue(capacity);
    socket.extensions.insert(Waiting(Arc::new(Mutex::new(Some(outtake)))));
    let hear = intake.clone();
    socket.on_fallback(
        move |socket: SocketRef, Event(name): Event, TryData(arguments): TryData<Arguments>| {
            let mut arguments = arguments.ok();
            if is_old(&socket) && socket.transport_type() == TransportType::Polling {
                let list = arguments.iter_mut().flat_map(|Arguments(list)| list);
                list.for_each(words::decode_twice_encoded);
            }
            take(&hear, &name, arguments, limit);
            ready(())
        },
    );
    socket.on_disconnect(move |reason: DisconnectReason| {
        intake.gone(match reason {
            DisconnectReason::ClientNSDisconnect | DisconnectReason::TransportClose => {
                ByeReason::Left
            }
            _ => ByeReason::Lost,
        });
        ready(())
    });
    ready(Ok(()))
}

/// Speaks Engine.IO 3: socket.io-client before 3.0.
fn is_old(socket: &SocketRef) -> bool {
    socket.protocol() == ProtocolVersion::V4
}

/// Tells a socket something.
fn tell(socket: &SocketRef, name: &str, arguments: &Told) -> Result<(), SendError> {
    if is_old(socket) {
        socket.emit(name, &AsciiTold::from(arguments))
    } else {
        socket.emit(name, arguments)
    }
}

fn take(intake: &Intake, name: &str, arguments: Option<Arguments>, limit: usize) {
    match arguments {
        Some(arguments) => {
            let bytes = words::bytes(&arguments.0);
            intake.event(words::hear(name, arguments, bytes, limit), bytes);
        }
        None => intake.event(Err(words::unreadable(name)), 0),
    }
}

/// How a socket's service ended.
#[derive(Debug)]
enum End {
    ByClient(ByeReason),
    /// Said more than could be handed in.
    Overflow,
    /// Takes nothing of what it is told.
    Deaf,
    /// The hub wants it closed; without a reason, at once.
    ByHub(Option<CloseReason>),
}

async fn serve(socket: &SocketRef, shared: &Shared, outtake: Outtake) {
    let Some(Origin(address)) = socket.req_parts().extensions.get().copied() else {
        return;
    };
    let guest = Guest { address, carrier: CarrierKind::SocketIo };
    let Ok((connection, mut outbound)) = shared.hub.open(guest).await else {
        // Its client shall not wait for an answer. An error: it is gone already.
        let _ = socket.clone().disconnect();
        return;
    };
    let id = connection.id();
    tracing::debug!(connection = id, "opened");
    let mut gone = outtake.gone();
    let end = tokio::select! {
        end = read(outtake, &connection) => end,
        end = write(socket, &mut outbound, shared.liveness.write_within) => end,
        reason = async {
            let reason = gone.wait_for(Option::is_some).await.map_or(None, |reason| *reason);
            sleep(DRAIN).await;
            reason.unwrap_or(ByeReason::Lost)
        } => End::ByClient(reason),
    };
    tracing::debug!(connection = id, ?end, "ended");
    // The seat first: the other end should not wait for the courtesies.
    match &end {
        End::ByClient(reason) => connection.close(*reason).await,
        End::Overflow => connection.expel().await,
        End::Deaf | End::ByHub(_) => connection.close(ByeReason::Lost).await,
    }
    drop(outbound);
    say_goodbye(socket, &end);
}

/// Hands in what the client says until it is gone.
async fn read(mut outtake: Outtake, connection: &Connection) -> End {
    while let Some(item) = outtake.next().await {
        match item {
            Item::Event(event) => {
                if connection.hand_in(event).await.is_err() {
                    return End::ByHub(None);
                }
            }
            Item::Overflow => return End::Overflow,
            Item::Gone(reason) => return End::ByClient(reason),
        }
    }
    End::ByClient(ByeReason::Lost)
}

/// Writes until the hub has no more to say.
async fn write(
    socket: &SocketRef,
    outbound: &mut mpsc::Receiver<Outbound>,
    within: Duration,
) -> End {
    let mut in_a_row = 0;
    loop {
        // The credit lives until its event is in the socket's buffer.
        let (event, _credit) = match outbound.recv().await {
            Some(Outbound::Event(event, credit)) => (event, credit),
            Some(Outbound::Close(reason)) => return End::ByHub(Some(reason)),
            None => return End::ByHub(None),
        };
        let Some((name, arguments)) = words::say(*event) else {
            continue;
        };
        let emit = async {
            while let Err(SendError::Socket(SocketError::InternalChannelFull)) =
                tell(socket, name, &arguments)
            {
                sleep(FULL_PAUSE).await;
            }
        };
        // A socket that is closed is not told, and its end comes in through `read`.
        if timeout(within, emit).await.is_err() {
            return End::Deaf;
        }
        in_a_row += 1;
        if in_a_row == BURST {
            in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Tells the client why, and closes. A client that does not go by itself loses its session with
/// the next thing it says, or by the heartbeat.
fn say_goodbye(socket: &SocketRef, end: &End) {
    let why = match end {
        End::ByClient(_) => return,
        // Everybody is told, and what is still connected is closed with the session below.
        End::ByHub(Some(CloseReason::Restart)) => return,
        // It was told.
        End::ByHub(Some(CloseReason::Limit | CloseReason::Replaced)) => None,
        End::Overflow => Some("you send faster than your messages can be delivered"),
        End::Deaf | End::ByHub(None) => Some("you do not read what you are sent"),
        End::ByHub(Some(CloseReason::Idle)) => Some("you took no seat for too long"),
    };
    let log = why.map(|why| ServerEvent::Log { message: format!("You were disconnected: {why}.") });
    // Errors: it does not read, or is gone already.
    if let Some((name, arguments)) = log.and_then(words::say) {
        let _ = tell(socket, name, &arguments);
    }
    let _ = socket.clone().disconnect();
}
