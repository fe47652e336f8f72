//! What the user wants done.

use visavis_signaling::{CallLink, LinkError, RoomName, ServerUrl, Target, link::pinned_in};

use super::{Engine, Joining, Report};
use crate::call::{End, Input};
use crate::news::News;
use crate::proposal;
use crate::settings::RecentRoom;
use crate::snapshot::Command;

impl Engine {
    pub(super) async fn command(&mut self, command: Command) {
        match command {
            Command::Host { room } => self.host(room).await,
            Command::Join { target, server } => self.join(&target, server.as_deref()).await,
            Command::TrustStranger => self.trust_stranger().await,
            Command::DistrustStranger => self.snapshot.stranger = None,
            Command::HangUp => self.input(Input::HangUp).await,
            Command::SetMicrophone(on) => {
                self.settings.microphone_on = on;
                self.devices.set_microphone(&self.local, on, self.call.phase());
                self.announce_state().await;
                self.save();
            }
            Command::SetCamera(on) => {
                self.settings.camera_on = on;
                self.devices.set_camera(&self.local, on);
                self.announce_state().await;
                self.save();
            }
            Command::ShareScreen(on) => {
                self.devices.share_screen(&self.local, on);
                self.announce_state().await;
            }
            Command::ChooseCamera(id) => {
                self.settings.camera.clone_from(&id);
                self.devices.choose_camera(&self.local, id);
                self.save();
            }
            Command::ChooseMicrophone(id) => {
                self.settings.microphone.clone_from(&id);
                self.devices.choose_microphone(&self.local, id);
                self.save();
            }
            Command::ChooseSpeaker(id) => {
                self.settings.speaker.clone_from(&id);
                self.devices.choose_speaker(&self.local, id);
                self.save();
            }
            Command::SetProcessing(processing) => {
                let channels = self.local.processing().stereo != processing.stereo;
                self.settings.processing = processing;
                self.local.set_processing(processing);
                if channels {
                    self.devices.restart_microphone(&self.local);
                }
                self.save();
            }
            Command::SetName(name) => {
                self.settings.name.clone_from(&name);
                self.input(Input::Name(name)).await;
                self.save();
            }
            Command::SetLanguage(language) => {
                self.settings.language = language;
                self.save();
            }
            Command::RefreshDevices => self.list_devices(),
            Command::ProposeRoom => {
                self.snapshot.proposed_room = proposal::room(&mut rand::rng());
            }
            Command::Dismiss(id) => self.notices.dismiss(id),
            Command::Quit => self.quit = true,
        }
    }

    async fn host(&mut self, room: String) {
        self.pinned = None;
        self.joining = None;
        self.snapshot.stranger = None;
        match RoomName::parse(&room) {
            Ok(name) => {
                self.entering = Some(RecentRoom {
                    target: name.as_str().to_owned(),
                    server: None,
                    hosted: true,
                    when: unix_seconds(),
                });
                self.input(Input::Host { room: name.as_str().to_owned() }).await;
            }
            Err(error) => {
                self.tell(News::HostFailed(error.to_string()));
                let _ = self.reports.send(Report::Ended(End::HostFailed));
            }
        }
    }

    async fn join(&mut self, target: &str, server: Option<&str>) {
        self.snapshot.stranger = None;
        match link(target, server) {
            Ok(link) => {
                self.pinned = link.fingerprint.or(self.trusted);
                self.joining = Some(Joining {
                    target: target.to_owned(),
                    server: server.map(str::to_owned),
                    dialled: link.server.to_string(),
                });
                self.entering = Some(RecentRoom {
                    target: target.to_owned(),
                    server: server.map(str::to_owned),
                    hosted: false,
                    when: unix_seconds(),
                });
                self.input(Input::Join {
                    server: link.server.to_string(),
                    room: link.room.as_str().to_owned(),
                    invite: Some(link.to_string()),
                })
                .await;
            }
            Err(error) => {
                self.tell(News::ServerRefused(error.to_string()));
                let _ = self.reports.send(Report::Ended(End::ServerRefused));
            }
        }
    }

    async fn trust_stranger(&mut self) {
        let (Some(stranger), Some(joining)) = (self.snapshot.stranger.take(), self.joining.take())
        else {
            return;
        };
        // Also under the address that led there, which may be one in the open.
        for server in [stranger.server, joining.dialled] {
            self.settings.trusted.insert(server, stranger.fingerprint);
        }
        self.save();
        self.join(&joining.target, joining.server.as_deref()).await;
    }
}

/// The room on a server that `target` and `server` name together.
fn link(target: &str, server: Option<&str>) -> Result<CallLink, LinkError> {
    match target.parse()? {
        Target::Link(link) => Ok(link),
        Target::Room(room) => {
            // Without a server the error says what an address looks like.
            let text = server.unwrap_or_default();
            Ok(CallLink::new(text.parse::<ServerUrl>()?, room, pinned_in(text)?))
        }
    }
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
