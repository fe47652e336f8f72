//! Performs what the call decides: our server, the line to a server, connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use visavis_media::peer::{Ice, IceServer, PeerError};
use visavis_media::pipeline::video_receive::PictureSink;
use visavis_media::session::Session;
use visavis_signaling::{
    BindError, Client, ClientOptions, Fingerprint, RoomName, ServerUrl, Trust,
};

use super::{Engine, Event, Report};
use crate::call::{ConnectionId, Effect, Input};
use crate::host::{self, Hosted};
use crate::peer_message::PeerMessage;
use crate::snapshot::Phase;
use crate::text::Language;

impl Engine {
    pub(super) async fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::StartServer(room) => return self.start_server(&room),
            Effect::Knock(after) => self.knock(after),
            Effect::Dial { server, room, greeting } => return self.dial(&server, &room, &greeting),
            Effect::HangUpLine => {
                // In this order, so that our `bye` still gets through.
                let (line, hosting) = (self.line.take(), self.hosting.take());
                self.leaving.spawn(async move {
                    if let Some((_, line)) = line {
                        line.close().await;
                    }
                    if let Some(hosting) = hosting {
                        hosting.stop().await;
                    }
                });
            }
            Effect::Send(message) => {
                if let Some((_, line)) = &self.line
                    && let Err(error) = line.send(message.to_json())
                {
                    tracing::warn!(%error, "a message to the other end");
                }
            }
            Effect::Open(id, ice_servers) => return self.open(id, ice_servers).await,
            Effect::Close(id) => {
                if let Some((_, session)) = self.session.take_if(|(current, _)| *current == id) {
                    session.close();
                    self.local.log().flush();
                }
                self.pair = None;
            }
            Effect::Tell(news) => self.tell(news),
            Effect::Ended(end) => {
                let _ = self.reports.send(Report::Ended(end));
            }
            effect => return self.perform_on_session(effect).await,
        }
        None
    }

    async fn perform_on_session(&mut self, effect: Effect) -> Option<Input> {
        let (current, session) = self.session.as_ref()?;
        match effect {
            Effect::Offer(id) if id == *current => Some(match session.offer().await {
                Ok(sdp) => Input::OfferMade(id, sdp),
                Err(error) => failed(id, &error),
            }),
            Effect::Restart(id) if id == *current => Some(match session.restart().await {
                Ok(sdp) => Input::OfferMade(id, sdp),
                Err(error) => failed(id, &error),
            }),
            Effect::Answer(id, sdp) if id == *current => Some(match session.answer(&sdp).await {
                Ok(sdp) => Input::AnswerMade(id, sdp),
                Err(error) => failed(id, &error),
            }),
            Effect::AcceptAnswer(id, sdp) if id == *current => {
                Some(match session.accept_answer(&sdp).await {
                    Ok(()) => Input::AnswerAccepted(id),
                    Err(error) => failed(id, &error),
                })
            }
            Effect::Rollback(id) if id == *current => {
                let error = session.rollback().await.err()?;
                Some(failed(id, &error))
            }
            Effect::AddCandidate(id, candidate) if id == *current => {
                // One of many: the others may do, so it is no news.
                if let Err(error) = session.add_candidate(candidate).await {
                    tracing::warn!(%error, "ignored");
                }
                None
            }
            Effect::StartSending(id) if id == *current => {
                session.start_sending().await;
                None
            }
            Effect::UseIceServers(id, servers) if id == *current => {
                // The connection stands or falls without: only a later restart would miss them.
                if let Err(error) = session.set_ice_servers(servers).await {
                    tracing::warn!(%error, "renewed STUN and TURN servers");
                }
                None
            }
            Effect::PeerSendsVideo(id, sends) if id == *current => {
                session.set_peer_sends_video(sends);
                None
            }
            _ => None,
        }
    }

    /// Starts our server in the background; [`Event::Hosted`] tells how it went.
    fn start_server(&mut self, room: &str) -> Option<Input> {
        let room = match RoomName::parse(room) {
            Ok(room) => room,
            Err(error) => return Some(Input::HostFailed(error.to_string())),
        };
        self.hostings += 1;
        let (hosting, events) = (self.hostings, self.events.clone());
        let mut leaving = std::mem::take(&mut self.leaving);
        let (may_join, public) = (self.join_running_server, self.public_address.clone());
        tokio::spawn(async move {
            // The last call's port is free once its server has stopped.
            while leaving.join_next().await.is_some() {}
            let hosted = host::host(&room, may_join, public).await;
            let _ = events.send(Event::Hosted(hosting, hosted));
        });
        None
    }

    /// Our server runs, or does not; nobody may be waiting for it any more.
    pub(super) fn hosted(
        &mut self,
        hosting: u64,
        hosted: Result<Hosted, BindError>,
    ) -> Option<Input> {
        let wanted = hosting == self.hostings && matches!(self.call.phase(), Phase::Joining { .. });
        match hosted {
            Ok(Hosted::Here(hosting)) if !wanted => {
                self.leaving.spawn(hosting.stop());
                None
            }
            _ if !wanted => None,
            Ok(Hosted::Here(hosting)) => {
                let (server, invite) = (hosting.server.to_string(), hosting.invite.to_string());
                if let Some(port) = hosting.moved_from {
                    self.push_notice(moved(self.language(), port, &server), false);
                    let said = moved(Language::English, port, &server);
                    let _ = self.reports.send(Report::Said(said));
                }
                self.hosting = Some(hosting);
                Some(Input::Hosted { server, invite: Some(invite) })
            }
            Ok(Hosted::Elsewhere(server, invite)) => {
                let said = format!("a Visavis server runs at {server} already: joining there");
                let _ = self.reports.send(Report::Said(said));
                Some(Input::Hosted { server: server.to_string(), invite: Some(invite.to_string()) })
            }
            Err(error) => Some(Input::HostFailed(error.to_string())),
        }
    }

    fn knock(&self, after: Duration) {
        let Some((line, _)) = &self.line else { return };
        let (line, events) = (*line, self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = events.send(Event::Knock(line));
        });
    }

    fn dial(&mut self, server: &str, room: &str, greeting: &[PeerMessage]) -> Option<Input> {
        let server = server.parse::<ServerUrl>().map_err(|error| error.to_string());
        let room = RoomName::parse(room).map_err(|error| error.to_string());
        let (server, room) = match server.and_then(|server| Ok((server, room?))) {
            Ok(both) => both,
            Err(reason) => return Some(Input::ServerRefused(reason)),
        };
        let trust = Trust {
            pinned: self.pinned,
            remembered: self.settings.trusted.get(&server.to_string()).copied(),
        };
        self.server_key = trust.pinned.or(trust.remembered);
        let give_up_after = self.give_up_after;
        let greeting = greeting.iter().map(PeerMessage::to_json).collect();
        let options =
            ClientOptions { server, trust, room, give_up_after, access_token: None, greeting };
        let (handle, mut updates) = Client::start(options);
        self.lines += 1;
        let line = self.lines;
        self.line = Some((line, handle));
        // Bounded: a peer that floods is slowed by its server, down to its own socket.
        let line_updates = self.line_updates.clone();
        tokio::spawn(async move {
            while let Some(update) = updates.recv().await {
                if line_updates.send((line, update)).await.is_err() {
                    return;
                }
            }
        });
        None
    }

    async fn open(&mut self, id: ConnectionId, servers: Vec<IceServer>) -> Option<Input> {
        let pin = self.server_key.map(Fingerprint::into_bytes);
        let ice = Ice { servers, relay_only: self.relay_only, pin };
        let (sender, mut peer_events) = mpsc::unbounded_channel();
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(event) = peer_events.recv().await {
                if events.send(Event::Peer(id, event)).is_err() {
                    return;
                }
            }
        });
        let shown = Arc::clone(&self.shown);
        shown.expect_first();
        let pictures: PictureSink = match &self.pictures {
            Some(pictures) => {
                let remote = Arc::clone(&pictures.remote);
                Arc::new(move |frame| remote.put(frame))
            }
            None => Arc::new(move |frame| shown.sink(&frame)),
        };
        let session = Session::new(ice, Arc::clone(&self.local), pictures, sender).await;
        match session {
            Ok(session) => {
                self.session = Some((id, session));
                None
            }
            Err(error) => Some(failed(id, &error)),
        }
    }

    /// The pair is nominated a little after the connection is up.
    pub(super) fn look_up_pair(&self, id: ConnectionId) {
        let Some((_, session)) = &self.session else {
            return;
        };
        let (peer, events) = (Arc::clone(session.peer()), self.events.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                if let Some(pair) = peer.selected_pair().await {
                    let _ = events.send(Event::Pair(id, Some(pair)));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
    }
}

fn moved(language: Language, port: u16, server: &str) -> String {
    match language {
        Language::English => {
            format!("port {port} is in use by another program: this call is at {server}")
        }
        Language::Chinese => format!("端口 {port} 被其他程序占用：本次通话使用 {server}"),
    }
}

/// Whose fault it is decides what the user is told.
fn failed(id: ConnectionId, error: &PeerError) -> Input {
    match error {
        PeerError::Description(_) | PeerError::Candidate(_) => {
            Input::ConnectionRefused(id, error.to_string())
        }
        PeerError::Setup(_) | PeerError::Local(_) => Input::SetupFailed(id, error.to_string()),
    }
}
