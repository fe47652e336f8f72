//! What devices, connections, the server and the machine tell.

use std::sync::Arc;

use visavis_media::local::LocalEvent;
use visavis_media::peer::PeerEvent;
use visavis_signaling::ClientUpdate;
use visavis_signaling::client::Trouble;

use super::surroundings::Change;
use super::{Engine, Event, Report};
use crate::call::Input;
use crate::snapshot::{Phase, Stranger};
use crate::text::Language;

impl Engine {
    pub(super) async fn event(&mut self, event: Event) {
        match event {
            Event::Local(event) => self.local_event(event).await,
            Event::Peer(id, event) => {
                let connected = event == PeerEvent::Connected;
                self.input(Input::Peer(id, event)).await;
                if connected {
                    self.look_up_pair(id);
                }
            }
            Event::Hosted(hosting, hosted) => {
                if let Some(input) = self.hosted(hosting, hosted) {
                    self.input(input).await;
                }
            }
            Event::Knock(line) => {
                if let Some((current, handle)) = &self.line
                    && *current == line
                    && let Err(error) = handle.join_again()
                {
                    tracing::debug!(%error, "asking for the seat again");
                }
            }
            Event::Network(change) => self.network_changed(change).await,
            Event::Devices(list) => {
                self.listing = false;
                self.devices.handle_list(&self.local, &self.snapshot.devices, &list);
                if *self.snapshot.devices != list {
                    self.snapshot.devices = Arc::new(list);
                }
            }
            Event::Pair(id, pair) => {
                if self.session.as_ref().is_some_and(|(current, _)| *current == id) {
                    self.pair = pair;
                }
            }
        }
    }

    async fn local_event(&mut self, event: LocalEvent) {
        let fault = self.devices.handle(&self.local, event);
        if let Some(news) = self.devices.take_news() {
            self.tell(news);
        }
        if let Some(fault) = fault {
            let sentence = fault.error.sentence(Language::English);
            let _ = self.reports.send(Report::Device { sentence, asked: fault.asked });
            // In the lobby the place of the picture says it.
            if *self.call.phase() != Phase::Lobby {
                self.push_notice(fault.error.sentence(self.language()), true);
            }
        }
        self.announce_state().await;
        if let Some(settled) = self.settled() {
            self.input(settled).await;
        }
    }

    pub(super) async fn line_update(&mut self, update: ClientUpdate) {
        match update {
            ClientUpdate::Event(event) => self.input(Input::Server(event)).await,
            ClientUpdate::Lost { reason, .. } => {
                self.input(Input::ServerLost(reason.to_string())).await;
            }
            ClientUpdate::Refused { reason } if is_distrust(&reason) => {
                self.distrust(reason).await;
            }
            ClientUpdate::Refused { reason } => {
                self.input(Input::ServerRefused(reason.to_string())).await;
            }
            ClientUpdate::Connecting { .. } | ClientUpdate::Connected => {}
        }
    }

    /// The server is not recognised. Where there is a window, the user decides about a stranger.
    async fn distrust(&mut self, reason: Trouble) {
        match reason {
            Trouble::UnknownCertificate { server, fingerprint } if self.pictures.is_some() => {
                self.input(Input::HangUp).await;
                self.snapshot.stranger = Some(Stranger { server: server.to_string(), fingerprint });
            }
            Trouble::UnknownCertificate { .. } => {
                let how = "If it is the right server, add --trust-fingerprint FINGERPRINT.";
                let _ = self.reports.send(Report::Said(how.to_owned()));
                self.input(Input::ServerUntrusted(reason)).await;
            }
            reason => self.input(Input::ServerUntrusted(reason)).await,
        }
    }

    /// The line to the server begins at an address too, and a new path needs it.
    async fn network_changed(&mut self, change: Change) {
        if (change.lost || change.slept)
            && let Some((_, line)) = &self.line
        {
            line.redial();
        }
        let base = self.pair.as_ref().and_then(|pair| pair.base);
        let broken = matches!(self.call.phase(), Phase::Reconnecting { .. });
        let anywhere = change.slept || !change.addresses.is_empty();
        if anywhere && (broken || change.concerns(base)) {
            self.input(Input::NetworkChanged).await;
        }
    }
}

/// Whether a server was refused for what it is, and not for what it does.
fn is_distrust(reason: &Trouble) -> bool {
    matches!(
        reason,
        Trouble::WrongCertificate(_)
            | Trouble::ChangedCertificate { .. }
            | Trouble::UnknownCertificate { .. }
            | Trouble::BadCertificate { .. }
            | Trouble::NotSecure(_)
    )
}
